"""Scores of several models on the same rows: metrics, paired intervals, rare categories.

Everything here is a function of arrays: p (R, N) probabilities of acting, acted (R, N) whether
they did, customer (R,) whose row it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import MetricDifference, bootstrap_difference
from stream_scorer.core.evaluation.metrics import QualityMetrics

LESS_IS_BETTER = ("log_loss", "uncalibrated_log_loss", "ece")
RARE = 20  # positives, below which a category is rare
# Of targets: log losses have four decimals, and the rest three.
DECIMALS = {"log_loss": 4, "uncalibrated_log_loss": 4, "ece": 4, "macro_auc": 3, "recall_at_10": 3}


@dataclass(frozen=True)
class Judged:
    """One model's scores on the rows of a question."""

    p: np.ndarray
    acted: np.ndarray
    customer: np.ndarray

    def only(self, rows: np.ndarray) -> Judged:
        """Those that are marked in rows (R,)."""
        return Judged(self.p[rows], self.acted[rows], self.customer[rows])

    def summary(self) -> QualityMetrics:
        return metrics.summary(self.p, self.acted)

    def by_row(self) -> dict[str, np.ndarray]:
        """Each row's value of the metrics that are means over rows."""
        return {
            "log_loss": metrics.row_log_loss(self.p, self.acted),
            "macro_auc": metrics.row_macro_auc(self.p, self.acted),
            "recall_at_10": metrics.row_recall_at_k(self.p, self.acted, metrics.TOP_K),
        }

    def predicted_over_seen(self) -> float:
        return float(self.p.sum(dtype=np.float64) / max(self.acted.sum(), 1))

    def of_categories(self, chosen: np.ndarray) -> Judged:
        return replace(self, p=self.p[:, chosen], acted=self.acted[:, chosen])


def over_seeds(of_seeds: list[Judged]) -> dict[str, float | None]:
    """The mean of each metric over seeds; None where one is not defined."""
    found = [one.summary().by_metric() | {"predicted_over_seen": one.predicted_over_seen()}
             for one in of_seeds]  # fmt: skip
    means: dict[str, float | None] = {}
    for name in found[0]:
        values = [value for one in found if (value := one[name]) is not None]
        means[name] = float(np.mean(values)) if len(values) == len(found) else None
    return means


def difference(ours: list[Judged], theirs: list[Judged]) -> dict[str, dict[str, Any]]:
    """Ours minus theirs by metric, of the means over seeds, with 95 % intervals of a paired
    bootstrap by customer."""
    mine, other = _mean_rows(ours), _mean_rows(theirs)
    return {
        name: MetricDifference.of(
            bootstrap_difference(mine[name], other[name], ours[0].customer)
        ).as_json()
        for name in mine
    }


def _mean_rows(of_seeds: list[Judged]) -> dict[str, np.ndarray]:
    found = [one.by_row() for one in of_seeds]
    return {name: np.mean([rows[name] for rows in found], axis=0) for name in found[0]}


def rare_categories(
    of_seeds: list[Judged], own_rate: Judged, positives: np.ndarray
) -> dict[str, Any] | None:
    """Log loss on the categories with fewer than `RARE` of `positives` (N,), against their own
    rate; None where there is no such category."""
    rare = np.flatnonzero(positives < RARE)
    if not len(rare):
        return None
    ours = [one.of_categories(rare) for one in of_seeds]
    rate = own_rate.of_categories(rare)
    of_ours = np.mean([metrics.row_log_loss(one.p, one.acted) for one in ours], axis=0)
    of_rate = metrics.row_log_loss(rate.p, rate.acted)
    gap = bootstrap_difference(of_ours, of_rate, own_rate.customer)
    return {
        "categories": len(rare),
        "log_loss": float(of_ours.mean()),
        "own_rate": float(of_rate.mean()),
        "difference": MetricDifference.of(gap).as_json(),
    }


def missed(measured: Mapping[str, float | None], limits: Mapping[str, float]) -> list[str]:
    """In words, which of the limits are not reached."""
    words = []
    for name, limit in limits.items():
        value = measured[name]
        if value is None:
            words.append(f"{name} is not defined")
            continue
        shown = round(value, DECIMALS[name])
        if (shown > limit) if name in LESS_IS_BETTER else (shown < limit):
            words.append(f"{name} {shown:.{DECIMALS[name]}f}, not {limit}")
    return words
