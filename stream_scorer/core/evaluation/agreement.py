"""How far the scores of two models agree on the same rows, in bounded memory.

Added up are whole numbers alone: how many of the top k both chose, differences in units of 2^-32,
and pairs by bin of their absolute difference. So the figures do not depend on how rows were split
into batches, and measures of several members or times can be merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.propensities import PublishPolicy, action_probabilities, select
from stream_scorer.result import Result

UNITS = 2**32  # of a difference of 1; the mean is exact to half a unit
# The bits of a float32 that is not negative ascend with its value, so its first 16, sign, exponent
# and 7 of its 23 bits of fraction, number a bin that is at most 1 / 128 of its value wide.
BIN_SHIFT = 16
BINS = (0x3F800000 >> BIN_SHIFT) + 1  # up to 1.0, which has a bin of its own
ROWS_AT_ONCE = 512  # a piece's arrays stay in cache for a few hundred categories


@dataclass(frozen=True)
class AgreementFigures(Result):
    """How far two models agree on `rows` rows; all below is None where there are none.

    k: of the top k. overlap: the mean share of the top k that both chose. same_order: the share of
    rows whose top k are the same in the same order. mean, mean_absolute, p50, p90, p99, max: of the
    difference of probabilities, challenger minus active, over all pairs of row, common category and
    class; the last four are of the absolute difference, the quantiles rounded down by at most
    1 / 128 of their value. categories: compared, which both models have; only_active,
    only_challenger: how many one of them has alone, which are not compared.
    """

    rows: int
    k: int
    overlap: float | None
    same_order: float | None
    mean: float | None
    mean_absolute: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None
    categories: int
    only_active: int
    only_challenger: int


class Agreement:
    """Sums over the rows of any number of batches; about 130 kB.

    active, challenger: the categories of each model, in its order. k: of the top k, which is the
    number of what can be chosen where that is less. Raises ValueError where no category is common.
    """

    def __init__(self, active: Sequence[str], challenger: Sequence[str], k: int) -> None:
        position = {category: i for i, category in enumerate(challenger)}
        common = [i for i, category in enumerate(active) if category in position]
        if not common:
            raise ValueError("the two models have no category in common")
        self._of_active = np.array(common, np.int64)
        self._of_challenger = np.array([position[active[i]] for i in common], np.int64)
        self._categories = (tuple(active), tuple(challenger))
        self._k, self._chosen = k, k
        self.rows = 0
        self._overlap = self._same_order = self._pairs = self._sum = self._absolute = 0
        self._bins = np.zeros(BINS, np.int64)
        self._max = 0.0

    def add(self, active: Float32, challenger: Float32) -> None:
        """Scores (B, N, C) float32 of the same B rows and C classes, N each model's own."""
        for first in range(0, len(active), ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            self._add(
                _columns(active[some], self._of_active),
                _columns(challenger[some], self._of_challenger),
            )

    def merge(self, other: Agreement) -> None:
        """Add all that `other`, of the same categories and k, has summed up."""
        if (self._categories, self._k) != (other._categories, other._k):
            raise ValueError("the other agreement is of other categories or another k")
        self._chosen = min(self._chosen, other._chosen)
        self.rows += other.rows
        self._overlap += other._overlap
        self._same_order += other._same_order
        self._pairs += other._pairs
        self._sum += other._sum
        self._absolute += other._absolute
        self._bins += other._bins
        self._max = max(self._max, other._max)

    def figures(self) -> AgreementFigures:
        """What the sums say."""
        active, challenger = self._categories
        common = len(self._of_active)
        rows, pairs = self.rows, self._pairs
        return AgreementFigures(
            rows=rows,
            k=self._chosen,
            overlap=self._overlap / (rows * self._chosen) if rows else None,
            same_order=self._same_order / rows if rows else None,
            mean=self._sum / UNITS / pairs if rows else None,
            mean_absolute=self._absolute / UNITS / pairs if rows else None,
            p50=self._quantile(50),
            p90=self._quantile(90),
            p99=self._quantile(99),
            max=self._max if rows else None,
            categories=common,
            only_active=len(active) - common,
            only_challenger=len(challenger) - common,
        )

    def _add(self, active: Float32, challenger: Float32) -> None:
        """Scores (b, N, C) by common category."""
        ours, theirs = _top(active, self._k), _top(challenger, self._k)
        rows = np.arange(len(active))[:, None]
        chosen = np.zeros((len(active), active.shape[1] * (active.shape[2] - 1)), np.bool_)
        chosen[rows, ours] = True
        difference = action_probabilities(challenger) - action_probabilities(active)
        units = np.rint(difference.astype(np.float64) * UNITS).astype(np.int64)
        absolute = np.abs(difference)
        self._chosen = ours.shape[1]
        self.rows += len(active)
        self._overlap += int(chosen[rows, theirs].sum())
        self._same_order += int((ours == theirs).all(axis=1).sum())
        self._pairs += difference.size
        self._sum += int(units.sum())
        self._absolute += int(np.abs(units).sum())
        bins = absolute.view(np.uint32) >> np.uint32(BIN_SHIFT)
        self._bins += np.bincount(bins.reshape(-1).astype(np.int64), minlength=BINS)
        self._max = max(self._max, float(absolute.max(initial=0.0)))

    def _quantile(self, percent: int) -> float | None:
        """The lower bound of the bin that holds the least value which so many do not exceed."""
        if not self._pairs:
            return None
        rank = -(-percent * self._pairs // 100)
        found = int(np.searchsorted(np.cumsum(self._bins), rank))
        return float(np.array([found << BIN_SHIFT], np.uint32).view(np.float32)[0])


def _columns(scores: Float32, columns: Int64) -> Float32:
    """(b, N, C) of the given categories; scores themselves where these are all in their order."""
    if len(columns) == scores.shape[1] and (np.diff(columns) == 1).all():
        return scores
    return scores[:, columns]


def _top(scores: Float32, k: int) -> Int64:
    """(b, min(k, N * (C - 1))) positions of (category, class), as they would be published."""
    entries = select(scores, PublishPolicy("top_k", k))
    classes = scores.shape[2] - 1
    positions = entries.category.astype(np.int64) * classes + entries.class_index - 1
    return positions.reshape(len(scores), -1)
