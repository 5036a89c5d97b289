"""Compiled loops of the native engine: from the logits of a block to probabilities or a choice.

Both ways take probabilities from the same function of one logit, whose sums and products are not
fused, so that they are equal bit for bit however the compiler lays the loop out: a choice is that
of core/propensities.py `select` on the probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_scorer.core.events.batch import Int32
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel
from stream_scorer.model.exponential import exp

ONE, NOTHING = np.float32(1), np.float32(0)


@kernel(inline=True)
def _acts(logit):  # type: ignore[no-untyped-def]
    """The probability of class 1 of two."""
    return ONE / (ONE + exp(-logit))


# With Python's errors a division by zero would be an exception, which no vector loop has.
@kernel(error_model="numpy")
def write_two_classes(rows: int, logits: Float32, scores: Float32) -> bool:
    """scores (rows, N, 2) of logits (rows and more, N and more); whether all are numbers."""
    categories = scores.shape[1]
    wrong = 0
    for row in range(rows):
        # Flat, so that the compiler knows how far one category is from the next.
        line, out = logits[row], scores[row].reshape(2 * categories)
        for n in range(categories):
            acts = _acts(line[n])
            wrong += line[n] != line[n]
            out[2 * n] = ONE - acts
            out[2 * n + 1] = acts
    return wrong == 0


@kernel(error_model="numpy")
def write_classes(rows: int, logits: Float32, scores: Float32) -> bool:
    """scores (rows, N, C) of logits (rows and more, M * N and more), class by class; whether all
    are numbers. logits are overwritten."""
    categories, classes = scores.shape[1:]
    wrong = 0
    top, total = np.empty(categories, np.float32), np.empty(categories, np.float32)
    for row in range(rows):
        out = scores[row]
        top[:] = NOTHING
        for m in range(classes - 1):
            line = logits[row, m * categories : (m + 1) * categories]
            for n in range(categories):
                wrong += line[n] != line[n]
                top[n] = line[n] if line[n] > top[n] else top[n]
        # The largest logit (class 0's, which is 0, is one of them) is taken off before exp.
        for n in range(categories):
            total[n] = out[n, 0] = exp(-top[n])
        for m in range(classes - 1):
            line = logits[row, m * categories : (m + 1) * categories]
            for n in range(categories):
                line[n] = exp(line[n] - top[n])
                total[n] += line[n]
        for n in range(categories):
            out[n, 0] /= total[n]
        for m in range(classes - 1):
            line = logits[row, m * categories : (m + 1) * categories]
            for n in range(categories):
                out[n, m + 1] = line[n] / total[n]
    return wrong == 0


TOPS = 128
CHUNK = 16  # logits that are compared at once; most chunks have none worth a closer look


@kernel(inline=True)
def _below(logit):  # type: ignore[no-untyped-def]
    """A logit so far below that its probability is not above that of `logit`.

    `exp` is wrong by some 2e-7 of its value, so it need not grow from a number to the next one.
    Every step after it, an addition and a division that are rounded rightly, keeps the order.
    """
    return logit - np.float32(1e-5) * (ONE + abs(logit))


@kernel
def _likely_bound(line: Float32, categories: int, most: int, tops: Float32) -> np.float32:
    """A logit that `most` of the logits are so far above that their probabilities are too.

    tops: room for TOPS values, of which each becomes the greatest of the logits TOPS apart.
    """
    if most > TOPS // 4 or categories < 4 * TOPS:
        return np.float32(-np.inf)
    tops[:] = -np.inf
    for begin in range(0, categories - TOPS + 1, TOPS):
        some = line[begin : begin + TOPS]
        for j in range(TOPS):
            tops[j] = some[j] if some[j] > tops[j] else tops[j]
    best = np.full(most, -np.inf, np.float32)
    for top in tops:
        if top > best[most - 1]:
            i = most - 1
            while i > 0 and best[i - 1] < top:
                best[i] = best[i - 1]
                i -= 1
            best[i] = top
    # Below 8 a hundredth of a logit changes a probability by 3e-6 of itself or more, which is fifty
    # times its rounding. Above, and where `exp` is that of -MOST, probabilities may be equal.
    least = best[most - 1]
    return least - np.float32(0.01) if -80 < least < 8 else np.float32(-np.inf)


@kernel(error_model="numpy")
def choose_of_two(
    rows: int, categories: int, logits: Float32, most: int, floor: np.float32, worth: np.float32,
    counts: Any, positions: Int32, probabilities: Float32,
) -> bool:  # fmt: skip
    """The `most` greatest of class 1's probabilities that are at least `floor`, greatest first, of
    equal ones the first category; whether all are numbers.

    worth: a logit below which no probability reaches `floor`. counts (rows,), positions and
    probabilities (rows, most) are filled. Only what may be among the `most` has its probability
    computed.
    """
    fine, tops = True, np.empty(TOPS, np.float32)
    for row in range(rows):
        line, chosen, values = logits[row], positions[row], probabilities[row]
        count, bound = 0, max(worth, _likely_bound(line, categories, most, tops))
        for begin in range(0, categories, CHUNK):
            stop = min(begin + CHUNK, categories)
            some = 0
            for n in range(begin, stop):
                some += not line[n] < bound  # NaN is not below
            if not some:
                continue
            for n in range(begin, stop):
                if line[n] < bound:
                    continue
                if line[n] != line[n]:
                    fine = False
                value = _acts(line[n])
                if value < floor or (count == most and value <= values[count - 1]):
                    continue
                count = _insert(value, n, count, most, chosen, values)
                if count == most:
                    bound = max(bound, _below(line[chosen[count - 1]]))
        counts[row] = count
    return fine


@kernel
def _insert(value: Any, at: int, count: int, most: int, chosen: Int32, values: Float32) -> int:
    """Put `value` into the sorted list, after those that equal it; how many there are then."""
    i = count if count < most else most - 1
    while i > 0 and values[i - 1] < value:
        values[i], chosen[i] = values[i - 1], chosen[i - 1]
        i -= 1
    values[i], chosen[i] = value, at
    return min(count + 1, most)
