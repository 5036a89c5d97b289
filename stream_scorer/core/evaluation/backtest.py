"""What `backtest` returns: how good models would have been, had they been live then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.backtest_metrics import (
    BacktestedCategory,
    CalibrationPoint,
    CustomerAge,
    GainPoint,
    Period,
    Staleness,
    by_age,
    by_category,
    by_period,
    calibration,
    gain,
    staleness,
)
from stream_scorer.core.evaluation.intervals import ModelComparison, compare_models
from stream_scorer.core.evaluation.judged_task import JudgedTask, TrainedOn
from stream_scorer.core.evaluation.metrics import QualityMetrics
from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.events.refused import Refusal, RefusedRecord
from stream_scorer.core.features.ignored_values import IgnoredValue
from stream_scorer.core.features.state import Float32
from stream_scorer.result import Result

KEYS = {"from_time": "from", "to_time": "to"}  # `from` is a word of Python's
DIFFERS_BY_RUN = ("report", "seconds")


@dataclass(frozen=True)
class JudgedScores:
    """J rows whose horizon is over. models, baselines: by name, (J, N) float32 probability of
    acting at all; acted (J, N): whether they did.

    customer (J,) int64: whose row it is. as_of_ms (J,) int64: when it was scored. customer_age_ms
    (J,) int64: since the customer's first event. older: by model, then by how much older: (K,)
    int64 rows and their older scores (K, N).
    """

    models: Mapping[str, Float32]
    baselines: Mapping[str, Float32]
    acted: Bool
    customer: Int64
    as_of_ms: Int64
    customer_age_ms: Int64
    older: Mapping[str, Mapping[str, tuple[Int64, Float32]]]

    def model_minus_model_2(self) -> ModelComparison | None:
        """None with one model."""
        if len(self.models) < 2:
            return None
        first, second = self.models.values()
        return compare_models(first, second, self.acted, self.customer)

    def models_minus_baselines(self) -> dict[str, dict[str, ModelComparison]]:
        """By model and by baseline; {} of a model where there is no baseline."""
        return {
            name: {
                baseline: compare_models(ours, theirs, self.acted, self.customer)
                for baseline, theirs in self.baselines.items()
            }
            for name, ours in self.models.items()
        }

    def freshness(self, model: str) -> dict[str, Staleness]:
        """What older scores of this model would have cost, by how much older they are."""
        fresh = self.models[model]
        return {
            age: staleness(fresh[rows], stale, self.acted[rows], self.customer[rows])
            for age, (rows, stale) in self.older[model].items()
        }


@dataclass(frozen=True)
class BacktestedModel(Result):
    """not_held_back: its training's labels reach into the scored time, so its figures flatter."""

    path: str
    model_version: str
    fingerprint: str
    not_held_back: bool
    trained: TrainedOn


@dataclass(frozen=True)
class KnownTheOtherWay(Result):
    """The same rows, had events been known by arrival rather than occurrence, or the reverse.

    known_by: that other way. rows_that_differ: how many have another score from any model.
    intervals: the model known the other way minus the model as it was scored.
    """

    known_by: str
    rows_that_differ: int
    metrics: Mapping[str, QualityMetrics]
    intervals: Mapping[str, ModelComparison]


@dataclass(frozen=True)
class BacktestScope(Result):
    """What was scored, from which events, by which models ("model", and "model 2" if given).

    from_time, to_time: ISO 8601; scoring times are from the first on, before the second. every: how
    often customers were scored. known_by: "occurred_at" or "arrival", from when on an event was
    known. rows: all scores; judged: those whose horizon is over; pending: the others. late_events:
    how many arrived more than an hour, a day, a week after they occurred. dead_letters: records
    left out, by reason; refused: the first of them; refusals: by reason, with example and remedy.
    ignored_values: by model, the values of events that its features and labels can't use.
    ignored_events: of customers who are to be ignored. task: what was judged.
    """

    from_time: str
    to_time: str
    every: str
    known_by: str
    events: int
    customers: int
    rows: int
    judged: int
    pending: int
    categories: int
    horizon_ms: int
    late_events: Mapping[str, int]
    dead_letters: Mapping[str, int]
    refused: tuple[RefusedRecord, ...]
    refusals: tuple[Refusal, ...]
    ignored_values: Mapping[str, tuple[IgnoredValue, ...]]
    ignored_events: int
    models: Mapping[str, BacktestedModel]
    task: JudgedTask

    def as_json(self) -> dict[str, Any]:
        """The fields, with "from" and "to" for the two times."""
        return {KEYS.get(name, name): value for name, value in super().as_json().items()}


@dataclass(frozen=True)
class Backtest(BacktestScope):
    """Scores of the past, and what they were worth. All by name are by name of a model.

    categories_scored: those with both outcomes. baselines: as metrics, of "prior". intervals: model
    minus model 2; None with one model. baseline_intervals: by model and by baseline, the model
    minus the baseline. freshness: by model and by how much older a score is; gain
    and calibration: points of curves. known_otherwise: None where no event was late. report: the
    folder that was written.
    """

    categories_scored: int
    metrics: Mapping[str, QualityMetrics]
    baselines: Mapping[str, QualityMetrics]
    intervals: ModelComparison | None
    baseline_intervals: Mapping[str, Mapping[str, ModelComparison]]
    over_time: tuple[Period, ...]
    by_customer_age: tuple[CustomerAge, ...]
    freshness: Mapping[str, Mapping[str, Staleness]]
    calibration: Mapping[str, tuple[CalibrationPoint, ...]]
    gain: Mapping[str, tuple[GainPoint, ...]]
    per_category: tuple[BacktestedCategory, ...]
    known_otherwise: KnownTheOtherWay | None
    report: str
    seconds: float

    @classmethod
    def of(
        cls,
        scope: BacktestScope,
        judged: JudgedScores,
        categories: tuple[str, ...],
        known_otherwise: KnownTheOtherWay | None,
        report: str,
    ) -> Backtest:
        """All measures of these scores; categories (N,) names their columns. seconds: 0 so far."""
        acted, everyone = judged.acted, {**judged.models, **judged.baselines}
        return cls(
            **vars(scope),
            categories_scored=metrics.categories_scored(acted),
            metrics=_summaries(judged.models, acted),
            baselines=_summaries(judged.baselines, acted),
            intervals=judged.model_minus_model_2(),
            baseline_intervals=judged.models_minus_baselines(),
            over_time=by_period(everyone, acted, judged.as_of_ms),
            by_customer_age=by_age(everyone, acted, judged.customer_age_ms),
            freshness={name: judged.freshness(name) for name in judged.models},
            calibration={name: calibration(p, acted) for name, p in judged.models.items()},
            gain={name: gain(p, acted) for name, p in judged.models.items()},
            per_category=by_category(categories, judged.models, acted),
            known_otherwise=known_otherwise,
            report=report,
            seconds=0.0,
        )

    def as_json(self) -> dict[str, Any]:
        """The fields, where intervals is {} rather than null with one model."""
        found = super().as_json()
        return found | {"intervals": found["intervals"] or {}}

    def as_metrics_json(self) -> dict[str, Any]:
        """What metrics.json holds: all but the path and the duration of this run.

        So two runs over the same events write the same bytes.
        """
        found = self.as_json()
        return {name: value for name, value in found.items() if name not in DIFFERS_BY_RUN}


def known_the_other_way(
    known_by: str, judged: JudgedScores, others: Mapping[str, Float32]
) -> KnownTheOtherWay:
    """others: by model, (J, N) scores of the judged rows, had events been known by `known_by`."""
    rows = [(judged.models[name] != other).any(axis=1) for name, other in others.items()]
    return KnownTheOtherWay(
        known_by=known_by,
        rows_that_differ=int(np.any(rows, axis=0).sum()),
        metrics=_summaries(others, judged.acted),
        intervals={
            name: compare_models(other, judged.models[name], judged.acted, judged.customer)
            for name, other in others.items()
        },
    )


def _summaries(scores: Mapping[str, Float32], acted: Bool) -> dict[str, QualityMetrics]:
    return {name: metrics.summary(p, acted) for name, p in scores.items()}
