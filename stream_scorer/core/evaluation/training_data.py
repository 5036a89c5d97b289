"""What a model was trained on, counted in one pass: rows, columns, categories in and out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Float64, Int64, UInt8
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import ActingCustomers, LabelledRows, LabelRule
from stream_scorer.core.labels.sampled_moments import KINDS
from stream_scorer.result import Result

TOO_FEW_CUSTOMERS, NO_CUSTOMER = "too_few_customers", "no_customer"


class KindedRows(NamedTuple):
    """R rows, and of which kind the moment of each is, (R,) uint8 into `sampled_moments.KINDS`;
    None where that is not known.
    """

    rows: LabelledRows
    kinds: UInt8 | None


@dataclass(frozen=True)
class LeftOutCategory(Result):
    """A category of the vocabulary that the model does not know. customers: of the training rows,
    who acted on it. reason: "too_few_customers" where there are some, else "no_customer".
    """

    category_id: str
    customers: int
    reason: str


@dataclass(frozen=True)
class MomentsOfKind(Result):
    """Rows that stand at moments of one kind: "cutoff", "event" (just after one) or "quiet" (where
    a refresh scores). weight: the sum of theirs.
    """

    kind: str
    rows: int
    weight: float


@dataclass(frozen=True)
class RowCounts:
    """Counts over R rows.

    customers: different ones. first_ms, last_ms: the earliest and the latest as-of moment, 0 where
    there is no row. weight: the sum of all. without_weight: rows that weigh 0. moments: by kind,
    those with rows; empty where the kinds are not known. column_rows (F,): rows with a value in
    each column. acted (V,): rows with a label of each entry of the vocabulary; acted_weight (V,):
    the sum of their weights. too_few (V,): customers who acted on entries with fewer than
    min_customers, 0 for others.
    """

    rows: int
    customers: int
    first_ms: int
    last_ms: int
    weight: float
    without_weight: int
    moments: tuple[MomentsOfKind, ...]
    column_rows: Int64
    acted: Int64
    acted_weight: Float64
    too_few: Int64

    @classmethod
    def of(
        cls, shards: Iterable[KindedRows], space: FeatureSpace, rule: LabelRule, min_customers: int
    ) -> RowCounts:
        """One pass over the shards."""
        width = len(space.vocabularies[rule.by])
        acting = ActingCustomers(space, rule, min_customers)
        columns, acted = np.zeros(space.width, np.int64), np.zeros(width, np.int64)
        acted_weight, of_kind = np.zeros(width), np.zeros((2, len(KINDS)))
        rows, total, without, unknown = 0, 0.0, 0, 0
        moments: list[int] = []
        for shard, kinds in shards:
            if not len(shard):
                continue
            rows += len(shard)
            acting.add(shard)
            moments += [int(shard.as_of_ms.min()), int(shard.as_of_ms.max())]
            total += float(shard.weight.sum(dtype=np.float64))
            without += int((shard.weight == 0).sum())
            filled = shard.matrix.indices[shard.matrix.data != 0]
            columns += np.bincount(filled, minlength=space.width)
            acted += np.bincount(shard.label_category, minlength=width)
            weight = np.repeat(shard.weight, np.diff(shard.label_indptr))
            acted_weight += np.bincount(shard.label_category, weight, minlength=width)
            if kinds is None:
                unknown += len(shard)
                continue
            of_kind[0] += np.bincount(kinds, minlength=len(KINDS))
            of_kind[1] += np.bincount(kinds, shard.weight, minlength=len(KINDS))
        known = () if unknown else zip(KINDS, *of_kind.tolist(), strict=True)
        return cls(
            rows, acting.customers, min(moments, default=0), max(moments, default=0), total,
            without, tuple(MomentsOfKind(k, int(n), w) for k, n, w in known if n), columns, acted,
            acted_weight, acting.too_few(),
        )  # fmt: skip

    def prior(self, category_index: Int64) -> Float64:
        """(N,) the share of rows, by their weights, that acted on each category, smoothed by half a
        row."""
        # Half a row, so that a category nobody acted on does not have a prior of 0, whose log is
        # infinite.
        share: Float64 = (self.acted_weight[category_index] + 0.5) / (self.weight + 1)
        return share

    def left_out(
        self, vocabulary: tuple[str, ...], category_index: Int64
    ) -> tuple[LeftOutCategory, ...]:
        """The entries of the vocabulary that are no category of the model, those with the most
        customers first."""
        out = np.ones(len(vocabulary), np.bool_)
        out[category_index] = False
        order = sorted(np.flatnonzero(out).tolist(), key=lambda i: (-int(self.too_few[i]), i))
        return tuple(
            LeftOutCategory(
                vocabulary[i], int(self.too_few[i]),
                TOO_FEW_CUSTOMERS if self.too_few[i] else NO_CUSTOMER,
            )
            for i in order
        )  # fmt: skip

    def labels_left_out(self, category_index: Int64) -> int:
        """How many labels of rows are of categories that the model does not know."""
        return int(self.acted.sum() - self.acted[category_index].sum())
