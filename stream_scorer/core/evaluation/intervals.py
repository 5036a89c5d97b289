"""Which of two models is better: 95 % intervals of the difference of their metrics.

Rows of one customer are alike, so that resampling rows would make intervals too narrow: the
bootstrap draws customers, each with all its rows. It is paired where both models score the same
rows; where each serves customers of its own, it draws those of each by themselves. Log loss and
recall are means over rows as they stand. The macro AUC is not, and enters by its jackknife values
(`row_macro_auc`), whose mean it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.events.batch import Bool, Float64, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.result import Result

RowMetric = Callable[[Float32, Bool], Float64]  # (R, N) twice to (R,)
Weights = metrics.Weights


class CustomerNumbers:
    """Numbers customers in the order in which they first appear, over any number of batches."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, customer_ids: Iterable[str]) -> list[int]:
        """The number of each row's customer, as `bootstrap_difference` takes it."""
        numbers = self._numbers
        return [numbers.setdefault(c, len(numbers)) for c in customer_ids]


class Interval(NamedTuple):
    """An estimate and the bounds of its 95 % interval; all NaN where there is nothing to estimate.

    This is what calculations go on with; `MetricDifference` is the same in a result.
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class MetricDifference(Result):
    """A difference of two means with its 95 % interval; all None where it is not defined."""

    difference: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, found: Interval) -> MetricDifference:
        """An interval as a part of a result."""
        return cls(*map(metrics.defined, found))


@dataclass(frozen=True)
class ModelComparison(Result):
    """One model minus another, by the metrics that are means over rows."""

    log_loss: MetricDifference
    macro_auc: MetricDifference
    recall_at_10: MetricDifference

    def by_metric(self) -> dict[str, MetricDifference]:
        """The differences by name, for tables."""
        return dict(vars(self))


def bootstrap_difference(
    ours: Float64, theirs: Float64, customer: Int64, *, samples: int = 1000, seed: int = 0,
    weight: Weights | None = None,
) -> Interval:  # fmt: skip
    """Paired bootstrap of mean(ours - theirs), resampling customers rather than rows.

    ours, theirs (R,): a metric of each row under two models, NaN where undefined (such rows are
    left out); customer (R,) int64 names each row's customer, whose rows stay together; weight (R,):
    how many rows each stands for, None: 1.
    """
    return bootstrap_mean(ours - theirs, customer, samples=samples, seed=seed, weight=weight)


def bootstrap_mean(
    values: Float64, customer: Int64, *, samples: int = 1000, seed: int = 0,
    weight: Weights | None = None,
) -> Interval:  # fmt: skip
    """Bootstrap of the mean of values (R,); the rest as of `bootstrap_difference`."""
    draw = np.random.default_rng(seed)  # seeded, so that two runs report the same interval
    mean, means = _resampled(values, customer, samples, draw, weight)
    return _interval(mean, means)


def bootstrap_ratios(
    over: Float64, under: Float64, customer: Int64, *, samples: int = 1000, seed: int = 0
) -> list[Interval]:
    """Bootstrap of K ratios of sums, all of the same draws of customers.

    over, under (R, K): what each row adds to numerator and denominator of each ratio; customer (R,)
    int64: whose row it is. A mean by weight is the sum of weight * value over that of the weights.
    All NaN where a denominator is 0 on all rows or in some draw: then too few rows have part in it.
    """
    _, owner = np.unique(customer, return_inverse=True)
    customers, ratios = int(owner.max(initial=-1)) + 1, over.shape[1]
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    if not customers:
        return [nothing] * ratios
    sums = np.empty((customers, 2 * ratios))
    for k in range(ratios):
        sums[:, k] = np.bincount(owner, over[:, k], minlength=customers)
        sums[:, ratios + k] = np.bincount(owner, under[:, k], minlength=customers)
    draw = np.random.default_rng(seed)  # seeded, so that two runs report the same interval
    drawn = np.empty((samples, 2 * ratios))
    for i in range(samples):
        times = np.bincount(draw.integers(customers, size=customers), minlength=customers)
        drawn[i] = times @ sums
    total, found = sums.sum(axis=0), []
    for k in range(ratios):
        denominators = drawn[:, ratios + k]
        if not total[ratios + k] or not denominators.all():
            found.append(nothing)
            continue
        estimate = float(total[k] / total[ratios + k])
        found.append(_interval(estimate, drawn[:, k] / denominators))
    return found


def bootstrap_unpaired(
    ours: Float64, our_customer: Int64, theirs: Float64, their_customer: Int64,
    *, samples: int = 1000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Bootstrap of mean(ours) - mean(theirs) where each model has rows and customers of its own.

    ours (R,), our_customer (R,) int64, theirs (S,), their_customer (S,) int64: as of
    `bootstrap_difference`.
    """
    draw = np.random.default_rng(seed)
    mean, means = _resampled(ours, our_customer, samples, draw)
    their_mean, their_means = _resampled(theirs, their_customer, samples, draw)
    return _interval(mean - their_mean, means - their_means)


def _resampled(
    values: Float64, customer: Int64, samples: int, draw: np.random.Generator,
    weight: Weights | None = None,
) -> tuple[float, Float64]:  # fmt: skip
    """The mean of the values that are defined, and those of `samples` draws of customers."""
    kept = ~np.isnan(values)  # recall of a row without a positive is not defined
    _, owner = np.unique(customer[kept], return_inverse=True)
    if not len(owner):
        return float("nan"), np.full(samples, np.nan)
    of = None if weight is None else weight[kept].astype(np.float64)
    sums = np.bincount(owner, values[kept] if of is None else values[kept] * of)
    rows = np.bincount(owner, of).astype(np.float64)
    means = np.empty(samples)
    for i in range(samples):
        # How often each customer was drawn is the weight of its rows, and so is their number.
        times = np.bincount(draw.integers(len(sums), size=len(sums)), minlength=len(sums))
        means[i] = (times @ sums) / (times @ rows)
    return float(sums.sum() / rows.sum()), means


def _interval(estimate: float, means: Float64) -> Interval:
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def compare_models(
    ours: Float32, theirs: Float32, acted: Bool, customer: Int64, weight: Weights | None = None
) -> ModelComparison:
    """How much two models differ, ours minus theirs.

    ours, theirs (R, N): probabilities of acting; acted (R, N): whether they did; customer (R,)
    int64: whose row it is; weight (R,): how many rows each stands for, None: 1.
    """

    def difference(metric: RowMetric) -> MetricDifference:
        rows = metric(ours, acted), metric(theirs, acted)
        return MetricDifference.of(bootstrap_difference(*rows, customer, weight=weight))

    return _by_metric(difference, weight)


class JudgedRows(NamedTuple):
    """One model's scores (R, N) with acted (R, N) and customer (R,), as of `compare_models`."""

    scores: Float32
    acted: Bool
    customer: Int64

    def only(self, rows: Bool) -> JudgedRows:
        """Those of the rows that are marked in rows (R,)."""
        return JudgedRows(self.scores[rows], self.acted[rows], self.customer[rows])


def compare_unpaired(ours: JudgedRows, theirs: JudgedRows) -> ModelComparison:
    """How much two models differ, ours minus theirs, each on rows of customers of its own."""

    def difference(metric: RowMetric) -> MetricDifference:
        found = bootstrap_unpaired(
            metric(ours.scores, ours.acted), ours.customer,
            metric(theirs.scores, theirs.acted), theirs.customer,
        )  # fmt: skip
        return MetricDifference.of(found)

    return _by_metric(difference)


def _by_metric(
    difference: Callable[[RowMetric], MetricDifference], weight: Weights | None = None
) -> ModelComparison:
    return ModelComparison(
        log_loss=difference(metrics.row_log_loss),
        macro_auc=difference(partial(metrics.row_macro_auc, weight=weight)),
        recall_at_10=difference(partial(metrics.row_recall_at_k, k=metrics.TOP_K)),
    )
