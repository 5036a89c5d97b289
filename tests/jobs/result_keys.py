"""Keys of what `evaluate --json` and `backtest --json` print, in order: a contract with readers.

They were taken from what was printed before results were types, and are written out here rather
than derived from the types, so that a renamed or moved field fails.
"""

from __future__ import annotations

from typing import Any

METRICS = dict.fromkeys(
    ["log_loss", "macro_auc", "micro_auc", "macro_ap", "recall_at_10", "ndcg_at_10", "ece"]
)
INTERVAL = dict.fromkeys(["difference", "low", "high"])
INTERVALS = dict.fromkeys(["log_loss", "macro_auc", "recall_at_10"], INTERVAL)
TASK = {
    "labels": {"by": None, "actions": [[None]], "horizon_days": None},
    **dict.fromkeys(["first_as_of", "last_as_of", "customers", "base_rate"]),
}
TRAINED = {
    **dict.fromkeys(["rows", "first_as_of", "last_as_of", "labels_until", "columns"]),
    "features": [None],
}
EVALUATION: dict[str, Any] = {
    "model": None,
    "model_version": None,
    "rows": None,
    "categories": None,
    "categories_scored": None,
    "metrics": METRICS,
    "baselines": {"prior": METRICS, "logistic": METRICS},
    "intervals": {"prior": INTERVALS, "logistic": INTERVALS},
    "per_category": [
        {
            "category_id": None,
            "positives": None,
            "log_loss": None,
            "auc": None,
            "average_precision": None,
            "recall_at_10": None,
            "ece": None,
            "baselines": {key: {"log_loss": None, "auc": None} for key in ["prior", "logistic"]},
        }
    ],
    "notes": [],
    "task": TASK,
    "trained": TRAINED,
    "not_held_back": None,
}

MODELS = ["model", "model 2"]
MAIN_METRICS = dict.fromkeys(["log_loss", "macro_auc", "recall_at_10", "ece"])
STALENESS = dict.fromkeys(["rows", "customers", "fresh", "stale", "difference", "low", "high"])
BACKTEST: dict[str, Any] = {
    "from": None,
    "to": None,
    "every": None,
    "known_by": None,
    "events": None,
    "customers": None,
    "rows": None,
    "judged": None,
    "pending": None,
    "categories": None,
    "horizon_ms": None,
    "late_events": {"1h": None, "1d": None, "7d": None},
    "dead_letters": {"undecodable": None},
    "refused": [dict.fromkeys(["source", "partition", "position", "reason", "detail"])],
    "refusals": [
        {
            "reason": None,
            "records": None,
            "example": dict.fromkeys(["source", "partition", "position", "reason", "detail"]),
            "remedy": None,
        }
    ],
    "ignored_values": {key: [] for key in MODELS},
    "ignored_events": None,
    "models": {
        key: {
            **dict.fromkeys(["path", "model_version", "fingerprint", "not_held_back"]),
            "trained": TRAINED,
        }
        for key in MODELS
    },
    "task": TASK,
    "categories_scored": None,
    "metrics": dict.fromkeys(MODELS, METRICS),
    "baselines": {},
    "intervals": INTERVALS,
    "baseline_intervals": {key: {} for key in MODELS},
    "over_time": [
        {"from_ms": None, "rows": None, "models": dict.fromkeys(MODELS, MAIN_METRICS)},
    ],
    "by_customer_age": [
        {
            "from_days": None,
            "to_days": None,
            "rows": None,
            "models": dict.fromkeys(MODELS, MAIN_METRICS),
        }
    ],
    "freshness": dict.fromkeys(MODELS, dict.fromkeys(["1h", "1d", "7d"], STALENESS)),
    "calibration": {key: [dict.fromkeys(["pairs", "probability", "acted"])] for key in MODELS},
    "gain": {key: [{"share": None, "found": None}] for key in MODELS},
    "per_category": [
        {
            "category_id": None,
            "positives": None,
            "models": dict.fromkeys(MODELS, dict.fromkeys(["log_loss", "auc", "ece"])),
        }
    ],
    "known_otherwise": {
        "known_by": None,
        "rows_that_differ": None,
        "metrics": dict.fromkeys(MODELS, METRICS),
        "intervals": dict.fromkeys(MODELS, INTERVALS),
    },
    "report": None,
    "seconds": None,
}

COMPARISON: dict[str, Any] = {
    "mode": None,
    "from": None,
    "to": None,
    "every": None,
    "events": None,
    "rows": None,
    "judged": None,
    "pending": None,
    "pending_until": None,
    "categories": None,
    "only_active": None,
    "only_challenger": None,
    "horizon_ms": None,
    "dead_letters": {},
    "refusals": [],
    "ignored_events": None,
    "task": TASK,
    "models": {
        name: {
            "path": None,
            "model_version": None,
            "not_held_back": None,
            "trained": TRAINED,
            "rows": None,
            "customers": None,
            "customers_acted": None,
            "metrics": METRICS,
        }
        for name in ["active", "challenger"]
    },
    "paired": None,
    "differences": INTERVALS,
    "on_all_rows": INTERVALS,
    "better": None,
    "too_few_outcomes": None,
    "more_customers": None,
    "seconds": None,
}


def keys_of(value: Any) -> Any:
    """The value with None for whatever is no object, and the first element alone of each array."""
    if isinstance(value, dict):
        return {key: keys_of(part) for key, part in value.items()}
    return [keys_of(part) for part in value[:1]] if isinstance(value, list) else None
