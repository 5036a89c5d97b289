"""Cross entropy of logits, and its derivatives by calibration's scale and shift, in small blocks.

Calibration goes over tens of millions of logits again and again. A block of them stays in a core's
cache, so that nothing of their whole size is written besides.
"""

from __future__ import annotations

import numpy as np

from stream_scorer.core.events.batch import Float64, UInt8
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel
from stream_scorer.model.exponential import ONE, exp
from stream_scorer.runtime import Threads, usable_cores

BLOCK_LOGITS = 65_536
BLOCK_CATEGORIES = 512  # whose sums stay in the nearest cache
BLOCK_ROWS = 32  # whose sums float32 holds; those of all rows are float64


def losses(logits: Float32, classes: UInt8) -> Float64:
    """(R,) mean over categories of -log probability of the true class; logits (R, N, M), classes
    (R, N)."""
    found = np.empty(len(logits))
    rows = max(1, BLOCK_LOGITS // max(logits[:1].size, 1))
    for first in range(0, len(logits), rows):
        some, truths = logits[first : first + rows], classes[first : first + rows]
        # The largest logit (class 0's, which is 0, is one of them) is taken off before exp, which
        # then can't overflow.
        top = np.maximum(some.max(axis=2), 0)
        total = np.exp(-top)
        truth = np.zeros_like(top)
        for m in range(some.shape[2]):
            total += np.exp(some[:, :, m] - top)
            truth += some[:, :, m] * (truths == m + 1)
        each = top + np.log(total) - truth
        found[first : first + rows] = each.mean(axis=1, dtype=np.float64)
    return found


def derivatives(
    logits: Float32, classes: UInt8, values: Float64, weight: Float32
) -> tuple[Float64, Float64]:
    """Gradient (N, 1 + M) and Hessian (N, 1 + M, 1 + M) of the cross entropy, summed over rows.

    logits (R, N, M), classes (R, N). values (N, 1 + M): scale and shifts of each category, at which
    they are taken. weight (R,): how many rows each counts as; rows of 0 are passed over.
    """
    _, categories, actions = logits.shape
    gradient = np.zeros((categories, 1 + actions))
    hessian = np.zeros((categories, 1 + actions, 1 + actions))

    lines = np.ascontiguousarray(values.T, np.float32)

    # By categories and not by rows: sums do not depend on how many threads there are.
    def work(first: int, last: int) -> None:
        if actions == 1:
            sums = np.zeros((5, last - first))
            _of_two_classes(first, last, logits[:, :, 0], classes, *lines, weight, sums)
            gradient[first:last] = sums[:2].T
            hessian[first:last] = sums[[2, 3, 3, 4]].T.reshape(-1, 2, 2)
        else:
            _of_classes(first, last, logits, classes, values, weight, gradient, hessian)

    starts = list(range(0, categories, BLOCK_CATEGORIES))
    list(Threads(usable_cores()).map(work, starts, [*starts[1:], categories]))
    # A category whose rows all look alike has a singular Hessian.
    hessian += 1e-9 * np.eye(1 + actions)
    return gradient, hessian


@kernel(error_model="numpy")
def _of_two_classes(
    first: int, last: int, logits: Float32, classes: UInt8, scale: Float32, shift: Float32,
    weight: Float32, sums: Float64,
) -> None:  # fmt: skip
    """sums (5, last - first) of categories [first, last): the derivatives by scale and by shift,
    and the second ones."""
    some = np.zeros(5 * BLOCK_CATEGORIES, np.float32)  # flat: the lines are known not to overlap
    scales, shifts = scale[first:last], shift[first:last]
    for row in range(len(logits)):
        line, truth, counted = logits[row][first:last], classes[row][first:last], weight[row]
        for n in range(last - first if counted else 0):
            z = line[n]
            p = ONE / (ONE + exp(-(z * scales[n] + shifts[n])))
            error, spread = counted * (p - np.float32(truth[n])), counted * (p * (ONE - p))
            some[n] += error * z
            some[n + BLOCK_CATEGORIES] += error
            some[n + 2 * BLOCK_CATEGORIES] += spread * z * z
            some[n + 3 * BLOCK_CATEGORIES] += spread * z
            some[n + 4 * BLOCK_CATEGORIES] += spread
        if row % BLOCK_ROWS == BLOCK_ROWS - 1 or row == len(logits) - 1:
            for i in range(5):
                for n in range(last - first):
                    sums[i, n] += some[i * BLOCK_CATEGORIES + n]
                    some[i * BLOCK_CATEGORIES + n] = 0


@kernel
def _of_classes(
    first: int, last: int, logits: Float32, classes: UInt8, values: Float64, weight: Float32,
    gradient: Float64, hessian: Float64,
) -> None:  # fmt: skip
    """gradient (N, 1 + M) and hessian (N, 1 + M, 1 + M) += those of categories [first, last)."""
    actions = logits.shape[2]
    p = np.empty(actions)
    for row in range(len(logits)):
        counted = np.float64(weight[row])
        for n in range(first, last if counted else first):
            z = logits[row, n]
            top = 0.0
            for m in range(actions):
                p[m] = z[m] * values[n, 0] + values[n, 1 + m]
                top = max(top, p[m])
            total = np.exp(-top)
            for m in range(actions):
                p[m] = np.exp(p[m] - top)
                total += p[m]
            mean = 0.0
            for m in range(actions):
                p[m] /= total
                mean += p[m] * z[m]
            for m in range(actions):
                error = counted * (p[m] - (classes[row, n] == m + 1))
                gradient[n, 0] += error * z[m]
                gradient[n, 1 + m] += error
                spread = counted * p[m] * (z[m] - mean)
                hessian[n, 0, 0] += spread * z[m]
                hessian[n, 0, 1 + m] += spread
                hessian[n, 1 + m, 0] += spread
                for k in range(actions):
                    both = p[m] * ((m == k) - p[k])
                    hessian[n, 1 + m, 1 + k] += counted * both
