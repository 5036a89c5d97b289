"""What meets the CSR matrix in training: the first hidden layer and the linear path, outside MXNet.

Their weights lie side by side, so that an entry of the matrix fetches one row of memory. A step
changes only the rows of columns that its batch has, by Adam with lazy updates: means and variances
of other rows stay as they are. MXNet has both as operators on row_sparse arrays, which
write a gradient out, convert it and read it again, for each of both weights. Here one walk over a
column's entries adds up its gradient and applies it at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int32
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel
from stream_scorer.runtime import usable_cores

# The weights that meet the matrix, in the order in which they lie side by side.
NAMES = ("input_weight", "linear_weight")
# Adam's, as MXNet has them by default.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Entries(NamedTuple):
    """A CSR matrix (B, F): row b has the columns indices[indptr[b]:indptr[b + 1]] with `data`."""

    indptr: Int32
    indices: Int32
    data: Float32


class StepNumbers(NamedTuple):
    """The scalars of one step, as float32: the weights are, and a wider one would widen the sum."""

    rate: np.float32
    beta1: np.float32
    beta2: np.float32
    epsilon: np.float32
    rescale: np.float32


class GatheredLayer:
    """Weights by name (F, their outputs), with Adam's means and variances.

    rescale: what gradients are multiplied by. decay: by name, how strongly a step pulls each row it
    changes towards 0, (F,); none where a weight is not named.
    """

    def __init__(
        self, weights: Mapping[str, Float32], rescale: float, decay: Mapping[str, Float32]
    ) -> None:
        self._names = tuple(name for name in NAMES if name in weights)
        parts = [weights[name] for name in self._names]
        self._stops = np.cumsum([part.shape[1] for part in parts]).tolist()
        columns = len(parts[0])
        # (F, 3, width): weights, means and variances of a column in one place of memory.
        self._state = np.zeros((columns, 3, self._stops[-1]), np.float32)
        np.concatenate(parts, axis=1, out=self._state[:, 0])
        nothing = np.zeros(columns, np.float32)
        # (F, 2): of the first weight and of the second.
        self._decay = np.stack([decay.get(name, nothing) for name in NAMES], axis=1)
        self._decay = np.ascontiguousarray(self._decay, np.float32)
        self._first = self._stops[0] if self._names[0] == NAMES[0] else 0
        self._rescale, self._steps = rescale, 0
        self._threads = usable_cores()
        self._pool = ThreadPoolExecutor(self._threads)

    @property
    def width(self) -> int:
        """Of all weights together."""
        return int(self._stops[-1])

    def gather(self, matrix: sparse.csr_matrix, out: Float32) -> None:
        """out (B, width) = matrix (B, F) times the weights."""
        entries = _entries(matrix)

        def work(part: tuple[int, int]) -> None:
            _gather(*part, entries, self._state, out)

        self._shared(len(out), work)

    def update(self, matrix: sparse.csr_matrix, gradient: Float32, rate: float) -> None:
        """One step, by the gradient (B, width) of what was gathered of `matrix`."""
        self._steps += 1
        # Kingma and Ba 2015, end of section 2: both bias corrections folded into the rate.
        rate *= math.sqrt(1 - BETA2**self._steps) / (1 - BETA1**self._steps)
        numbers = StepNumbers(
            rate=np.float32(rate), beta1=np.float32(BETA1), beta2=np.float32(BETA2),
            epsilon=np.float32(EPSILON), rescale=np.float32(self._rescale),
        )  # fmt: skip
        # By column, in order, so that memory is walked through from one end to the other.
        entries = _entries(matrix.tocsc())
        filled = np.flatnonzero(np.diff(entries.indptr)).astype(np.int32)

        # Columns are all different, so no two threads write to the same row.
        def work(part: tuple[int, int]) -> None:
            columns = filled[part[0] : part[1]]
            _step(columns, entries, gradient, self._state, self._decay, self._first, numbers)

        self._shared(len(filled), work)

    def weights(self) -> dict[str, Float32]:
        """Copies of the weights, by name."""
        parts = np.split(self._state[:, 0], self._stops[:-1], axis=1)
        return {name: part.copy() for name, part in zip(self._names, parts, strict=True)}

    def finish(self) -> None:
        """Give up means and variances, two thirds of the memory: no step follows."""
        self._state = self._state[:, :1].copy()

    def restore(self, weights: Mapping[str, Float32]) -> None:
        """Put back what `weights` gave; means and variances stay."""
        np.concatenate([weights[name] for name in self._names], axis=1, out=self._state[:, 0])

    def _shared(self, count: int, work) -> None:  # type: ignore[no-untyped-def]
        ends = np.linspace(0, count, self._threads + 1).astype(np.int64).tolist()
        list(self._pool.map(work, pairwise(ends)))


def _entries(matrix: sparse.csr_matrix) -> Entries:
    indptr, indices = (a.astype(np.int32, copy=False) for a in (matrix.indptr, matrix.indices))
    return Entries(indptr, indices, matrix.data)


@kernel(fastmath={"contract"})
def _gather(first: int, last: int, entries: Entries, state: Float32, out: Float32) -> None:
    """Rows [first, last) of out (B, H); state (F, 3, H) has the weights first. Four entries at a
    time, so that four rows are on their way from memory at once."""
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    width = state.shape[2]
    for row in range(first, last):
        line = out[row]
        line[:] = np.float32(0)
        start, stop = indptr[row], indptr[row + 1]
        whole = stop - (stop - start) % 4
        for at in range(start, whole, 4):
            a, b = state[indices[at], 0], state[indices[at + 1], 0]
            c, d = state[indices[at + 2], 0], state[indices[at + 3], 0]
            va, vb, vc, vd = data[at], data[at + 1], data[at + 2], data[at + 3]
            for j in range(width):
                line[j] += va * a[j] + vb * b[j] + vc * c[j] + vd * d[j]
        for at in range(whole, stop):
            a, va = state[indices[at], 0], data[at]
            for j in range(width):
                line[j] += va * a[j]


# With Python's error model every division checks for 0, and the loop, no longer vectorised, took
# more than twice as long.
@kernel(error_model="numpy")
def _step(
    columns: Int32, entries: Entries, gradient: Float32, state: Float32, decay: Float32,
    split: int, numbers: StepNumbers,
) -> None:  # fmt: skip
    """The rows `columns` (T,) of state (F, 3, H): weight, mean, variance; gradient (B, H).

    entries: of the matrix, column by column. decay (F, 2): of the outputs before `split`, and of
    the others.
    """
    rate, epsilon, rescale = numbers.rate, numbers.epsilon, numbers.rescale
    beta1, beta2 = numbers.beta1, numbers.beta2
    # A plain 1 would be an int64, and the difference, then the whole sum, float64.
    rest1, rest2 = np.float32(1) - beta1, np.float32(1) - beta2
    width = state.shape[2]
    total, pull = np.empty(width, np.float32), np.empty(width, np.float32)
    for column in columns:
        total[:] = np.float32(0)
        for at in range(entries.indptr[column], entries.indptr[column + 1]):
            value, part = entries.data[at], gradient[entries.indices[at]]
            for k in range(width):
                total[k] += value * part[k]
        pull[:split], pull[split:] = decay[column, 0], decay[column, 1]
        w, m, v = state[column, 0], state[column, 1], state[column, 2]
        for k in range(width):
            g = rescale * total[k] + pull[k] * w[k]
            m[k] = beta1 * m[k] + rest1 * g
            v[k] = beta2 * v[k] + rest2 * g * g
            w[k] -= rate * m[k] / (np.sqrt(v[k]) + epsilon)
