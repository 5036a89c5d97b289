"""What was scored lately, counted into the bins of a model's reference.

Everything is whole numbers, sums of amounts and scores as well: those are taken in units of 2^-20
standard deviations and of 2^-30. So counts can be merged in any order, over batches, hours and
members, with the same result, and rows split into batches anyhow give the same counts.

How many customers the rows are of is known without their ids: each sets one of 4,096 marks, by the
last 12 bits of the hash, and from the marks that are not set follows how many there were (Whang,
Vander-Zanden, Taylor, "A Linear-Time Probabilistic Counting Algorithm for Database Applications",
ACM TODS 1990), to within a few in a hundred up to 20,000 customers. 34,000 are the most that it
tells.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.core.drift.blocks import (
    AMOUNT_BINS,
    COLUMN_BINS,
    COLUMNS_APART,
    QUANTILE_BINS,
    Edges,
    amounts,
    counted,
    watched_blocks,
)
from stream_scorer.core.drift.followed import UInt64
from stream_scorer.core.drift.reference import DriftReference
from stream_scorer.core.events.batch import Bool, Int32, Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32

# One row with an absurd amount must not be the mean of all.
MOST_DEVIATIONS = 1_000.0
DEVIATION_UNIT = 2**20
SCORE_UNIT = 2**30
MARKS = 4_096


class Binning:
    """The bins of one model's reference, as tables."""

    def __init__(self, reference: DriftReference, space: FeatureSpace) -> None:
        self.space, self.reference = space, reference
        self.blocks = len(reference.blocks)
        self.categories = len(reference.scores) - 1
        self._amounts, self._scores = reference.amount_edges(), reference.score_edges()
        self._followed = reference.followed()
        self._mean = np.array([b.mean for b in reference.blocks])
        deviation = np.array([b.deviation for b in reference.blocks])
        self._scale = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0.0)
        # Of each column the slot of its block and bin; the last one is for columns of no block.
        self._slot: Int32 = np.full(space.width, self.blocks * COLUMN_BINS, np.int32)
        for number, (own, block) in enumerate(
            zip(reference.blocks, watched_blocks(space), strict=True)
        ):
            first = number * COLUMN_BINS
            self._slot[block.start : block.stop] = first + COLUMNS_APART
            self._slot[block.start + np.array(own.columns, np.int64)] = first + np.arange(
                len(own.columns), dtype=np.int32
            )

    def counts_of(self, matrix: sparse.csr_matrix, p: Float32) -> DriftCounts:
        """Of R rows: (R, F) float32 CSR and the probability of acting (R, N)."""
        found = DriftCounts.empty(self)
        found.rows = matrix.shape[0]
        values = amounts(matrix, self.space)
        bins = np.where(values != 0, 1 + self._amounts.bins(values), 0)
        found.amounts += counted(bins, AMOUNT_BINS)
        away = ((values - self._mean) * self._scale).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        found.deviations += np.rint(away * DEVIATION_UNIT).astype(np.int64).sum(axis=0)
        slots = self._slot[matrix.indices[matrix.data != 0]]
        of_slot = np.bincount(slots, minlength=self.blocks * COLUMN_BINS + 1)
        found.columns += of_slot[: self.blocks * COLUMN_BINS].reshape(self.blocks, COLUMN_BINS)
        edges = self._scores.padded
        # By search, as there are N times as many as of one category.
        of_pair = np.searchsorted(edges[0], p.reshape(-1), side="left")
        found.scores[0] += np.bincount(of_pair, minlength=QUANTILE_BINS)
        of_category = Edges(edges[1:]).bins(p[:, self._followed])
        found.scores[1:] += counted(of_category, QUANTILE_BINS)
        units = np.rint(p.astype(np.float64) * SCORE_UNIT).astype(np.int64)
        found.score_sums[0] += units.sum()
        found.score_sums[1:] += units[:, self._followed].sum(axis=0)
        return found


@dataclass
class DriftCounts:
    """Counts over rows, of K blocks and C followed categories, and over events.

    amounts (K, AMOUNT_BINS), columns (K, COLUMN_BINS): rows and entries by bin. deviations (K,):
    the sum over rows of how far the amount is from the reference's mean. scores (1 + C,
    QUANTILE_BINS): of all pairs of row and category, and of each category's rows; score_sums (1 +
    C,): the sums of the probabilities. All int64. event_types: events by type. unknown_words: by
    field, events with a word that its vocabulary lacks. passed_over: customers who
    were not looked at, as a minute had its rows. marks: (MARKS,) bool, of customers; unmarked_rows:
    of customers who set none, as an earlier release counted them.
    """

    rows: int
    amounts: Int64
    columns: Int64
    deviations: Int64
    scores: Int64
    score_sums: Int64
    event_types: Counter[str] = field(default_factory=Counter)
    unknown_words: Counter[str] = field(default_factory=Counter)
    passed_over: int = 0
    marks: Bool = field(default_factory=lambda: np.zeros(MARKS, np.bool_))
    unmarked_rows: int = 0

    @property
    def customers(self) -> int:
        """About how many customers the rows are of; never more than rows."""
        unset = MARKS - int(self.marks.sum())
        marked = round(-MARKS * math.log(max(unset, 1) / MARKS))
        return min(marked + self.unmarked_rows, self.rows)

    def mark(self, customers: UInt64) -> None:
        """Note whose rows these are, by hashes of any number."""
        self.marks[customers % np.uint64(MARKS)] = True

    @classmethod
    def empty(cls, binning: Binning) -> DriftCounts:
        """Of no row."""
        return cls.of_shape(binning.blocks, binning.categories)

    @classmethod
    def of_shape(cls, blocks: int, categories: int) -> DriftCounts:
        """Of no row, of so many blocks and followed categories."""
        return cls(
            0, np.zeros((blocks, AMOUNT_BINS), np.int64), np.zeros((blocks, COLUMN_BINS), np.int64),
            np.zeros(blocks, np.int64), np.zeros((1 + categories, QUANTILE_BINS), np.int64),
            np.zeros(1 + categories, np.int64),
        )  # fmt: skip

    def add(self, other: DriftCounts) -> None:
        """Merge those of other rows and events."""
        self.rows += other.rows
        self.passed_over += other.passed_over
        self.marks |= other.marks
        self.unmarked_rows += other.unmarked_rows
        for name in ARRAYS:
            mine: Int64 = getattr(self, name)
            mine += getattr(other, name)
        self.event_types += other.event_types
        self.unknown_words += other.unknown_words

    def as_json(self) -> dict[str, Any]:
        """What json.dumps takes."""
        return {
            "rows": self.rows, "passed_over": self.passed_over,
            "marks": base64.b64encode(np.packbits(self.marks).tobytes()).decode(),
            "unmarked_rows": self.unmarked_rows,
            **{name: getattr(self, name).reshape(-1).tolist() for name in ARRAYS},
            "event_types": dict(self.event_types), "unknown_words": dict(self.unknown_words),
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], binning: Binning) -> DriftCounts:
        """What `as_json` gave. Raises ValueError, TypeError or KeyError for that of other bins."""
        found = cls.empty(binning)
        found.rows, found.passed_over = int(raw["rows"]), int(raw["passed_over"])
        for name in ARRAYS:
            shape = getattr(found, name).shape
            setattr(found, name, np.array(raw[name], np.int64).reshape(shape))
        if "marks" in raw:
            packed = np.frombuffer(base64.b64decode(raw["marks"], validate=True), np.uint8)
            found.marks = np.unpackbits(packed).astype(np.bool_).reshape(MARKS)
            found.unmarked_rows = int(raw["unmarked_rows"])
        else:
            found.unmarked_rows = found.rows
        found.event_types = Counter({str(k): int(n) for k, n in raw["event_types"].items()})
        found.unknown_words = Counter({str(k): int(n) for k, n in raw["unknown_words"].items()})
        return found


ARRAYS = ("amounts", "columns", "deviations", "scores", "score_sums")
