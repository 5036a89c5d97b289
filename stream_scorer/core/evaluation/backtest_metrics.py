"""What a backtest measures of scores whose outcome is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import bootstrap_difference, difference_of, plain
from stream_scorer.core.events.batch import Bool, Float64, Int64
from stream_scorer.core.features.state import Float32

DAY_MS = 86_400_000
AGE_DAYS = (0, 30, 90, 180)  # a customer's age: since its first event
SHOWN = ("log_loss", "macro_auc", "recall_at_10", "ece")
CALIBRATION_BINS = 20
MOST_PERIODS = 60
GAIN_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
GAIN_BITS = 20
GAIN_BINS = 1 << GAIN_BITS


def by_period(scores: Mapping[str, Float32], acted: Bool, as_of_ms: Int64) -> list[dict[str, Any]]:
    """Metrics of each scoring time, or of each week where these are many."""
    start = as_of_ms
    if len(np.unique(as_of_ms)) > MOST_PERIODS:
        first = int(as_of_ms.min(initial=0))
        start = first + (as_of_ms - first) // (7 * DAY_MS) * (7 * DAY_MS)
    return [
        {"from_ms": int(moment), **_metrics(scores, acted, np.flatnonzero(start == moment))}
        for moment in np.unique(start).tolist()
    ]


def by_age(scores: Mapping[str, Float32], acted: Bool, age_ms: Int64) -> list[dict[str, Any]]:
    """Metrics by how long ago each row's customer was first seen."""
    found = []
    for low, high in zip(AGE_DAYS, [*AGE_DAYS[1:], None], strict=True):
        top = np.iinfo(np.int64).max if high is None else high * DAY_MS
        rows = np.flatnonzero((age_ms >= low * DAY_MS) & (age_ms < top))
        if len(rows):
            said = {"from_days": low, "to_days": high}
            found.append({**said, **_metrics(scores, acted, rows)})
    return found


def staleness(fresh: Float32, stale: Float32, acted: Bool, customer: Int64) -> dict[str, Any]:
    """What older scores of the same rows would have cost: log loss of stale minus fresh."""
    ours, theirs = metrics.row_log_loss(fresh, acted), metrics.row_log_loss(stale, acted)
    found = bootstrap_difference(theirs, ours, customer)
    return {
        "rows": len(acted),
        "customers": len(np.unique(customer)),
        "fresh": _mean(ours),
        "stale": _mean(theirs),
        **difference_of(found),
    }


def calibration(scores: Float32, acted: Bool) -> list[dict[str, float]]:
    """Pairs in bins of equal width: how many, mean probability, share that acted."""
    curve = metrics.calibration_curve(scores, acted, CALIBRATION_BINS)
    return [
        {"pairs": int(n), "probability": float(p / n), "acted": float(y / n)}
        for n, p, y in zip(*curve, strict=True)
        if n
    ]


def gain(scores: Float32, acted: Bool) -> list[dict[str, float]]:
    """Of the most probable `share` of all pairs: the share of all actions that lie among them."""
    pairs, actions = np.zeros(GAIN_BINS, np.int64), np.zeros(GAIN_BINS, np.int64)
    for row in range(0, len(scores), 4096):
        p = np.ascontiguousarray(scores[row : row + 4096], np.float32).reshape(-1)
        # The bits of a float that is not negative ascend with it.
        at = (np.abs(p).view(np.uint32) >> np.uint32(32 - GAIN_BITS)).astype(np.int64)
        pairs += np.bincount(at, minlength=GAIN_BINS)
        actions += np.bincount(at[acted[row : row + 4096].reshape(-1)], minlength=GAIN_BINS)
    seen, found = np.cumsum(pairs[::-1]), np.cumsum(actions[::-1])
    if not seen[-1] or not found[-1]:
        return []
    shares = np.interp(GAIN_SHARES, seen / seen[-1], found / found[-1])
    return [
        {"share": share, "found": float(f)} for share, f in zip(GAIN_SHARES, shares, strict=True)
    ]


def by_category(
    categories: tuple[str, ...], scores: Mapping[str, Float32], acted: Bool
) -> list[dict[str, Any]]:
    """{"category_id", "positives", "models" {name: {"log_loss", "auc", "ece"}}} of each."""
    columns = {
        name: {
            "log_loss": metrics.category_log_loss(p, acted),
            "auc": metrics.category_auc(p, acted),
            "ece": metrics.category_ece(p, acted),
        }
        for name, p in scores.items()
    }
    positives = acted.sum(axis=0)
    return [
        {
            "category_id": category,
            "positives": int(positives[n]),
            "models": {
                name: plain({metric: float(values[n]) for metric, values in of.items()})
                for name, of in columns.items()
            },
        }
        for n, category in enumerate(categories)
    ]


def _metrics(scores: Mapping[str, Float32], acted: Bool, rows: Int64) -> dict[str, Any]:
    models = {}
    for name, p in scores.items():
        found = metrics.summary(p[rows], acted[rows])
        models[name] = plain({metric: found[metric] for metric in SHOWN})
    return {"rows": len(rows), "models": models}


def _mean(values: Float64) -> float | None:
    return float(values.mean()) if len(values) else None
