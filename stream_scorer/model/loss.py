"""The cross entropy's gradients by the network's outputs, outside MXNet.

The symbol that is trained ends in logits: dense ones (B, N * M) of what is computed for all
categories, and those of the P listed pairs (P, M). Here pairs are added to the dense ones, and both
get their gradient in one pass over (B, N). In MXNet that was a dense array of labels, a scatter, a
slice, and a sigmoid that is not vectorised, each with passes of its own.

With probabilities p of a row (softmax over its C classes, class 0's logit is 0), the gradient of
logit m is weight of the row * weight of the true class * (p_m - [m is the true class]).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Int32, Int64, UInt8
from stream_scorer.core.features.state import Float32, UInt32
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.jit import kernel
from stream_scorer.model.inputs import NO_ROLE, PairList
from stream_scorer.runtime import Threads, usable_cores


class _Labels(NamedTuple):
    """As in LabelledRows; position (V,): the category n of a vocabulary entry, or NO_ROLE."""

    indptr: Int64
    category: UInt32
    action_class: UInt8
    position: Int32


class Loss:
    """Of N categories, category_index (N,) of `vocabulary` entries, and C classes.

    class_weights: one for each class, () for 1 each.
    """

    def __init__(
        self,
        category_index: Int64,
        vocabulary: int,
        classes: int,
        class_weights: tuple[float, ...] = (),
    ) -> None:
        self._position = np.full(vocabulary, NO_ROLE, np.int32)
        self._position[category_index] = np.arange(len(category_index))
        self._weights = np.array(class_weights or (1.0,) * classes, np.float32)
        self._categories = len(category_index)
        self._threads = Threads(usable_cores())

    def add_pairs(self, dense: Float32, of_pair: Float32, pairs: PairList) -> None:
        """dense (B, N * M) += of_pair (P, M) at each pair's row and category."""
        shaped = dense.reshape(len(dense), self._categories, -1)
        self._shared(
            len(dense),
            lambda first, last: _add_pairs(
                first, last, shaped, of_pair, pairs.start, pairs.category
            ),
        )

    def gradients(
        self, dense: Float32, rows: LabelledRows, pairs: PairList | None,
        out: Float32, of_pair: Float32 | None,
    ) -> None:  # fmt: skip
        """Write the gradients of dense (B, N * M), which has the pairs, into out (B, N * M), and
        those of the pairs into of_pair (P, M)."""
        labels = _Labels(rows.label_indptr, rows.label_category, rows.label_class, self._position)
        shape = len(dense), self._categories, -1
        logits, gradient = dense.reshape(shape), out.reshape(shape)

        # exp may overflow to infinity, whose probability is rightly 0. A thread has numpy's
        # settings of its own.
        @np.errstate(over="ignore", invalid="ignore")
        def work(first: int, last: int) -> None:
            some = gradient[first:last]
            if logits.shape[2] == 1:
                # numpy's exp is vectorised; the kernel turns exp(-z) into probabilities.
                np.negative(logits[first:last], out=some)
                np.exp(some, out=some)
                _two_classes(first, last, gradient, rows.weight, labels, self._weights)
            else:
                _classes(first, last, logits, gradient, rows.weight, labels, self._weights)
            if pairs is not None and of_pair is not None:
                _of_pairs(first, last, gradient, pairs.start, pairs.category, of_pair)

        self._shared(len(dense), work)
        if pairs is not None and of_pair is not None:
            of_pair[pairs.start[-1] :] = 0  # those that fill the list up

    def _shared(self, rows: int, work) -> None:  # type: ignore[no-untyped-def]
        ends = np.linspace(0, rows, self._threads.count + 1).astype(np.int64).tolist()
        list(self._threads.map(work, ends[:-1], ends[1:]))


@kernel
def _add_pairs(
    first: int, last: int, dense: Float32, of_pair: Float32, start: Int64, category: Int32
) -> None:
    for row in range(first, last):
        for at in range(start[row], start[row + 1]):
            for m in range(dense.shape[2]):
                dense[row, category[at], m] += of_pair[at, m]


@kernel
def _of_pairs(
    first: int, last: int, gradient: Float32, start: Int64, category: Int32, of_pair: Float32
) -> None:
    for row in range(first, last):
        for at in range(start[row], start[row + 1]):
            for m in range(gradient.shape[2]):
                of_pair[at, m] = gradient[row, category[at], m]


@kernel(error_model="numpy")
def _two_classes(
    first: int, last: int, gradient: Float32, weight: Float32, labels: _Labels, weights: Float32
) -> None:
    """gradient (B, N, 1), exp(-logit) until then, of rows [first, last)."""
    one = np.float32(1)
    for row in range(first, last):
        line = gradient[row, :, 0]
        for n in range(len(line)):
            line[n] = one / (one + line[n])
        for at in range(labels.indptr[row], labels.indptr[row + 1]):
            n = labels.position[labels.category[at]]
            if n >= 0:
                line[n] = (line[n] - one) * (weights[1] / weights[0])
        scale = weight[row] * weights[0]
        for n in range(len(line)):
            line[n] *= scale


@kernel(error_model="numpy")
def _classes(
    first: int, last: int, logits: Float32, gradient: Float32, weight: Float32,
    labels: _Labels, weights: Float32,
) -> None:  # fmt: skip
    """gradient (B, N, M) of logits (B, N, M), rows [first, last)."""
    categories, actions = logits.shape[1], logits.shape[2]
    truth = np.zeros(categories, np.uint8)
    for row in range(first, last):
        for at in range(labels.indptr[row], labels.indptr[row + 1]):
            n = labels.position[labels.category[at]]
            if n >= 0:
                truth[n] = labels.action_class[at]
        for n in range(categories):
            top = np.float32(0)
            for m in range(actions):
                top = max(top, logits[row, n, m])
            total = np.exp(-top)
            for m in range(actions):
                grown = np.exp(logits[row, n, m] - top)
                gradient[row, n, m] = grown
                total += grown
            scale = weight[row] * weights[truth[n]]
            for m in range(actions):
                hit = np.float32(truth[n] == m + 1)
                gradient[row, n, m] = scale * (gradient[row, n, m] / total - hit)
            truth[n] = 0
