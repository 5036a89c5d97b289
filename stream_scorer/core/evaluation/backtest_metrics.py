"""What a backtest measures of scores whose outcome is known, by time, customer, age and category.

Everywhere `scores` is by name of a model or baseline: (R, N) probability of acting; `acted` (R, N)
is whether the customer of the row then acted on the category.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import MetricDifference, bootstrap_difference
from stream_scorer.core.evaluation.metrics import defined
from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.result import Result

DAY_MS = 86_400_000
AGE_DAYS = (0, 30, 90, 180)  # a customer's age: since its first event
CALIBRATION_BINS = 20
MOST_PERIODS = 60
GAIN_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
GAIN_BITS = 20
GAIN_BINS = 1 << GAIN_BITS
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class MainMetrics(Result):
    """The metrics that are followed over time and by customer age; None where not defined."""

    log_loss: float | None
    macro_auc: float | None
    recall_at_10: float | None
    ece: float | None

    def by_metric(self) -> dict[str, float | None]:
        """The values by name, for plots."""
        return self.as_json()


@dataclass(frozen=True)
class Period(Result):
    """The rows that were scored from from_ms on, up to the next period."""

    from_ms: int
    rows: int
    models: Mapping[str, MainMetrics]


@dataclass(frozen=True)
class CustomerAge(Result):
    """The rows of customers first seen from_days up to to_days (None: or more) before the score."""

    from_days: int
    to_days: int | None
    rows: int
    models: Mapping[str, MainMetrics]


@dataclass(frozen=True)
class Staleness(Result):
    """What older scores of the same rows would have cost: log loss, and stale minus fresh."""

    rows: int
    customers: int
    fresh: float | None
    stale: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CalibrationPoint(Result):
    """Pairs of row and category of like probability: its mean, and the share that acted."""

    pairs: int
    probability: float
    acted: float


@dataclass(frozen=True)
class GainPoint(Result):
    """found: the share of all actions that lies among the most probable `share` of all pairs."""

    share: float
    found: float


@dataclass(frozen=True)
class ModelInCategory(Result):
    """One model on one category; None where a metric is not defined."""

    log_loss: float | None
    auc: float | None
    ece: float | None


@dataclass(frozen=True)
class BacktestedCategory(Result):
    """positives: rows whose customer acted on the category."""

    category_id: str
    positives: int
    models: Mapping[str, ModelInCategory]


def by_period(scores: Mapping[str, Float32], acted: Bool, as_of_ms: Int64) -> tuple[Period, ...]:
    """Metrics of each scoring time (R,), or of each week where these are many."""
    start = as_of_ms
    # Scored after every event, there are about as many moments as rows. One row has no AUC, and a
    # plot of thousands of single rows shows noise.
    if len(np.unique(as_of_ms)) > MOST_PERIODS:
        first = int(as_of_ms.min(initial=0))
        start = first + (as_of_ms - first) // (7 * DAY_MS) * (7 * DAY_MS)
    found = []
    for moment in np.unique(start).tolist():
        rows = np.flatnonzero(start == moment)
        found.append(Period(int(moment), len(rows), _main_metrics(scores, acted, rows)))
    return tuple(found)


def by_age(scores: Mapping[str, Float32], acted: Bool, age_ms: Int64) -> tuple[CustomerAge, ...]:
    """Metrics by how long ago each row's customer was first seen, (R,); only ages with rows."""
    found = []
    for low, high in zip(AGE_DAYS, [*AGE_DAYS[1:], None], strict=True):
        top = np.iinfo(np.int64).max if high is None else high * DAY_MS
        rows = np.flatnonzero((age_ms >= low * DAY_MS) & (age_ms < top))
        if len(rows):
            found.append(CustomerAge(low, high, len(rows), _main_metrics(scores, acted, rows)))
    return tuple(found)


def staleness(fresh: Float32, stale: Float32, acted: Bool, customer: Int64) -> Staleness:
    """fresh, stale (R, N): scores of the same rows, now and older; customer (R,): whose row."""
    ours, theirs = metrics.row_log_loss(fresh, acted), metrics.row_log_loss(stale, acted)
    found = MetricDifference.of(bootstrap_difference(theirs, ours, customer))
    return Staleness(
        rows=len(acted),
        customers=len(np.unique(customer)),
        fresh=defined(metrics.mean(ours)),
        stale=defined(metrics.mean(theirs)),
        difference=found.difference,
        low=found.low,
        high=found.high,
    )


def calibration(scores: Float32, acted: Bool) -> tuple[CalibrationPoint, ...]:
    """One point for each of the bins of equal width that has pairs; scores (R, N)."""
    curve = metrics.calibration_curve(scores, acted, CALIBRATION_BINS)
    return tuple(
        CalibrationPoint(int(n), float(p / n), float(y / n))
        for n, p, y in zip(*curve, strict=True)
        if n
    )


def gain(scores: Float32, acted: Bool) -> tuple[GainPoint, ...]:
    """Points of the cumulative gains curve; none where nobody acted; scores (R, N).

    Pairs are counted in a histogram rather than sorted, since a backtest may have a billion.
    """
    pairs, actions = np.zeros(GAIN_BINS, np.int64), np.zeros(GAIN_BINS, np.int64)
    for row in range(0, len(scores), ROWS_AT_ONCE):
        p = np.ascontiguousarray(scores[row : row + ROWS_AT_ONCE], np.float32).reshape(-1)
        # The bits of a float that is not negative ascend with its value. So its first bits number
        # a bin, whose width is a fixed share of the value: fine near 0, where most probabilities
        # are. abs, since the sign bit of -0.0 is set.
        bin_of = (np.abs(p).view(np.uint32) >> np.uint32(32 - GAIN_BITS)).astype(np.int64)
        pairs += np.bincount(bin_of, minlength=GAIN_BINS)
        acting = acted[row : row + ROWS_AT_ONCE].reshape(-1)
        actions += np.bincount(bin_of[acting], minlength=GAIN_BINS)
    seen, found = np.cumsum(pairs[::-1]), np.cumsum(actions[::-1])
    if not seen[-1] or not found[-1]:
        return ()
    shares = np.interp(GAIN_SHARES, seen / seen[-1], found / found[-1])
    return tuple(
        GainPoint(share, float(part)) for share, part in zip(GAIN_SHARES, shares, strict=True)
    )


def by_category(
    categories: tuple[str, ...], scores: Mapping[str, Float32], acted: Bool
) -> tuple[BacktestedCategory, ...]:
    """Every model on each of the N categories, in their order."""
    positives = acted.sum(axis=0)
    models = {name: _in_categories(p, acted) for name, p in scores.items()}
    return tuple(
        BacktestedCategory(
            category_id=category,
            positives=int(positives[n]),
            models={name: of[n] for name, of in models.items()},
        )
        for n, category in enumerate(categories)
    )


def _in_categories(scores: Float32, acted: Bool) -> list[ModelInCategory]:
    """N parts, in the order of the columns."""
    return [
        ModelInCategory(defined(log_loss), defined(auc), defined(ece))
        for log_loss, auc, ece in zip(
            metrics.category_log_loss(scores, acted),
            metrics.category_auc(scores, acted),
            metrics.category_ece(scores, acted),
            strict=True,
        )
    ]


def _main_metrics(
    scores: Mapping[str, Float32], acted: Bool, rows: Int64
) -> dict[str, MainMetrics]:
    """Of these `rows`, by model."""
    of_rows = acted[rows]
    return {
        name: MainMetrics(
            log_loss=defined(metrics.log_loss(p[rows], of_rows)),
            macro_auc=defined(metrics.macro_auc(p[rows], of_rows)),
            recall_at_10=defined(metrics.recall_at_k(p[rows], of_rows, metrics.TOP_K)),
            ece=defined(metrics.ece(p[rows], of_rows)),
        )
        for name, p in scores.items()
    }
