"""What a reader must know before the first figure: what was judged, and what was trained on what.

A log loss says nothing by itself: it follows from the horizon, from what counts as acting, and from
how often customers act at all (the base rate).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_scorer.core.evaluation.model_card import CardLabels
from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features.feature_words import feature_in_words
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.result import Result


@dataclass(frozen=True)
class JudgedTask(Result):
    """What was predicted, for whom, and when.

    labels: what counts as acting, and the horizon. first_as_of, last_as_of: ISO 8601, the moments
    of the earliest and the latest judged row; None where there is none. customers: whose rows they
    are. base_rate: the share of pairs of row and category that acted, by the rows' weights; None
    where there is no pair.
    """

    labels: CardLabels
    first_as_of: str | None
    last_as_of: str | None
    customers: int
    base_rate: float | None

    @classmethod
    def of(
        cls,
        rule: LabelRule,
        as_of_ms: tuple[int, int] | None,
        customer: Int64,
        acted: Bool,
        weight: np.ndarray[Any, np.dtype[np.float32]] | None = None,
    ) -> JudgedTask:
        """as_of_ms: of the earliest row and of the latest; customer (R,) int64: whose row it is;
        acted (R, N): whether they did; weight (R,) float32: how many rows each stands for, None: 1.
        """
        rate = None
        if acted.size:
            rate = float(np.average(acted.mean(axis=1), weights=weight))
        first, last = (None, None) if as_of_ms is None else map(moment_text, as_of_ms)
        return cls(CardLabels.of(rule), first, last, len(np.unique(customer)), rate)


@dataclass(frozen=True)
class TrainedOn(Result):
    """What a model was trained on, as far as its manifest says; None where it does not.

    first_as_of, last_as_of: ISO 8601, the moments of the earliest row and of the latest.
    labels_until: before which moment the events of its labels lie: what is scored from then on is
    held back. features: each with its name and what it holds, in words.
    """

    rows: int | None
    first_as_of: str | None
    last_as_of: str | None
    labels_until: str | None
    columns: int
    features: tuple[str, ...]

    @classmethod
    def of(cls, space: FeatureSpace, training: Mapping[str, Any], horizon_ms: int) -> TrainedOn:
        """training: the part of that name of a model's manifest."""
        rows, first, last = (
            value if isinstance(value := training.get(name), int) else None
            for name in ("rows", "first_as_of_ms", "last_as_of_ms")
        )
        return cls(
            rows=rows,
            first_as_of=None if first is None else moment_text(first),
            last_as_of=None if last is None else moment_text(last),
            labels_until=None if last is None else moment_text(last + horizon_ms),
            columns=space.width,
            features=tuple(f"{f.name}: {feature_in_words(f)}" for f in space.features),
        )
