"""Adam whose update of a row_sparse weight is one compiled loop over the rows in the gradient.

For dense weights it is MXNet's own Adam with lazy_update. For row_sparse weights it computes the
same: only rows that a batch touched change, and their means and variances with them. MXNet's own
loop over such rows is not vectorised and takes about five times as long. The loop here waits until
MXNet's engine is done with the arrays, and then runs in place on MXNet's memory: nothing is copied
but the row numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.mxnet_memory import memory_to_read, memory_to_write
from stream_scorer.runtime import usable_cores

NAME = "lazyadam"


class StepNumbers(NamedTuple):
    """The scalars of one step, as float32: the weights are, and a wider one would widen the sum."""

    rate: np.float32
    beta1: np.float32
    beta2: np.float32
    epsilon: np.float32
    rescale: np.float32


@mx.optimizer.register
class LazyAdam(mx.optimizer.Adam):  # type: ignore[misc]
    """mx.optimizer.Adam with lazy updates; a row_sparse weight must have a value in every row.

    row_decay: by the name of a row_sparse weight (F, H), the decay (F,) float32 of each of its
    rows, in place of the optimizer's own.
    """

    def __init__(self, row_decay: Mapping[str, Float32], **options: Any) -> None:
        super().__init__(lazy_update=True, **options)
        self._row_decay = row_decay
        self._threads = usable_cores()
        self._pool = ThreadPoolExecutor(self._threads)

    def create_state(self, index: int, weight: Any) -> Any:
        """Mean and variance: numpy's for a row_sparse weight, MXNet's for others."""
        if weight.stype != "row_sparse":
            return super().create_state(index, weight)
        # Only then is row i of its memory row i of the matrix.
        if len(weight.indices) != weight.shape[0]:
            raise ValueError("a row_sparse weight must have a value in every row")
        return np.zeros(weight.shape, np.float32), np.zeros(weight.shape, np.float32)

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """One step of `weight` (F, H)."""
        if weight.stype != "row_sparse":
            super().update(index, weight, grad, state)
            return
        self._update_count(index)
        step = self._index_update_count[index]
        # Kingma and Ba 2015, end of section 2: both bias corrections folded into the rate.
        rate = self._get_lr(index) * math.sqrt(1 - self.beta2**step) / (1 - self.beta1**step)
        # This waits until MXNet has computed the gradient.
        touched = grad.indices.asnumpy()
        # Earlier forward passes may still be reading the weight on MXNet's threads.
        values, gradients = memory_to_write(weight), memory_to_read(grad, len(touched))
        mean, variance = state
        numbers = StepNumbers(
            rate=np.float32(rate), beta1=np.float32(self.beta1), beta2=np.float32(self.beta2),
            epsilon=np.float32(self.epsilon), rescale=np.float32(self.rescale_grad),
        )  # fmt: skip
        decay = self._row_decay.get(self.idx2name[index])
        if decay is None:
            decay = np.full(len(values), self._get_wd(index), np.float32)

        # The rows of a gradient are all different, so no two threads write to the same row.
        def work(part: tuple[int, int]) -> None:
            _step(*part, values, mean, variance, gradients, touched, decay, numbers)

        ends = np.linspace(0, len(touched), self._threads + 1).astype(np.int64).tolist()
        list(self._pool.map(work, pairwise(ends)))


# With Python's error model every division checks for 0, and the loop, no longer vectorised, took
# more than twice as long (24 instead of 10 ms for 20,000 rows of 256).
@kernel(error_model="numpy")
def _step(
    first: int, last: int, weight: Float32, mean: Float32, variance: Float32, grad: Float32,
    touched: Int64, decay: Float32, numbers: StepNumbers,
) -> None:  # fmt: skip
    """Rows touched[first : last] of weight, mean and variance (F, H); grad (R, H); decay (F,)."""
    rate, epsilon = numbers.rate, numbers.epsilon
    rescale = numbers.rescale
    beta1, beta2 = numbers.beta1, numbers.beta2
    # A plain 1 would be an int64, and the difference, then the whole sum, float64.
    rest1, rest2 = np.float32(1) - beta1, np.float32(1) - beta2
    for i in range(first, last):
        w, m, v, g = weight[touched[i]], mean[touched[i]], variance[touched[i]], grad[i]
        pull = decay[touched[i]]
        for k in range(len(g)):
            gradient = rescale * g[k] + pull * w[k]
            m[k] = beta1 * m[k] + rest1 * gradient
            v[k] = beta2 * v[k] + rest2 * gradient * gradient
            w[k] -= rate * m[k] / (np.sqrt(v[k]) + epsilon)
