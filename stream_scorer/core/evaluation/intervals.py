"""Which of two models is better: 95 % intervals of the difference of their metrics.

Rows of one customer are alike, so that resampling rows would make intervals too narrow: the
bootstrap draws customers, each with all its rows. It is paired, because both models score the same
rows. Log loss and recall are means over rows as they stand. The macro AUC is not, and enters by its
jackknife values (`row_macro_auc`), whose mean it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.events.batch import Bool, Float64, Int64
from stream_scorer.core.features.state import Float32

Plain = dict[str, float | None]


class CustomerNumbers:
    """Numbers customers in the order in which they first appear, over any number of batches."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, customer_ids: Iterable[str]) -> list[int]:
        """The number of each row's customer, as `bootstrap_difference` takes it."""
        numbers = self._numbers
        return [numbers.setdefault(c, len(numbers)) for c in customer_ids]


class Interval(NamedTuple):
    """An estimate and the bounds of its 95 % interval."""

    estimate: float
    low: float
    high: float


def bootstrap_difference(
    ours: Float64, theirs: Float64, customer: Int64, *, samples: int = 1000, seed: int = 0
) -> Interval:
    """Paired bootstrap of mean(ours - theirs), resampling customers rather than rows.

    ours, theirs (R,): a metric of each row under two models, NaN where undefined (such rows are
    left out); customer (R,) int64 names each row's customer, whose rows stay together.
    """
    difference = ours - theirs
    kept = ~np.isnan(difference)
    _, owner = np.unique(customer[kept], return_inverse=True)
    if not len(owner):
        return Interval(float("nan"), float("nan"), float("nan"))
    sums = np.bincount(owner, difference[kept])
    rows = np.bincount(owner).astype(np.float64)
    draw = np.random.default_rng(seed)
    means = np.empty(samples)
    for i in range(samples):
        times = np.bincount(draw.integers(len(sums), size=len(sums)), minlength=len(sums))
        means[i] = (times @ sums) / (times @ rows)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sums.sum() / rows.sum()), float(low), float(high))


def metric_intervals(
    ours: Float32, theirs: Float32, acted: Bool, customer: Int64
) -> dict[str, Plain]:
    """The differences that matter most, ours minus theirs, by metric.

    ours, theirs (R, N): probabilities of acting; acted (R, N): whether they did; customer (R,)
    int64. Each is {"difference", "low", "high"}, None where it is not defined.
    """
    our_rows, their_rows = _by_row(ours, acted), _by_row(theirs, acted)
    return {
        name: difference_of(bootstrap_difference(values, their_rows[name], customer))
        for name, values in our_rows.items()
    }


def difference_of(found: Interval) -> Plain:
    """An interval for a report."""
    return plain({"difference": found.estimate, "low": found.low, "high": found.high})


def plain(values: Mapping[str, float]) -> Plain:
    """The values as floats, NaN as None, because JSON has no NaN."""
    return {k: None if math.isnan(v) else float(v) for k, v in values.items()}


def _by_row(probabilities: Float32, acted: Bool) -> dict[str, Float64]:
    return {
        "log_loss": metrics.row_log_loss(probabilities, acted),
        "macro_auc": metrics.row_macro_auc(probabilities, acted),
        "recall_at_10": metrics.row_recall_at_k(probabilities, acted, metrics.TOP_K),
    }
