"""Results of evaluation as lines of text, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from stream_scorer.core.evaluation.backtest_metrics import Staleness
from stream_scorer.core.evaluation.intervals import MetricDifference
from stream_scorer.core.evaluation.metrics import QualityMetrics


def metrics_in_words(columns: Mapping[str, QualityMetrics]) -> list[str]:
    """A table with a line for each metric, and a column for each model or baseline."""
    values = {name: found.by_metric() for name, found in columns.items()}
    lines = [" " * 14 + "".join(f"{name:>10}" for name in columns)]
    for metric in next(iter(values.values())):
        cells = "".join(_cell(of[metric]) for of in values.values())
        lines.append(f"{metric:14}{cells}")
    return lines


def interval_in_words(found: MetricDifference | Staleness, digits: int) -> str:
    """A difference with its 95 % interval in brackets; a dash where it is not defined."""
    values = (found.difference, found.low, found.high)
    if any(value is None for value in values):
        return "-"
    difference, low, high = (f"{value:+.{digits}f}" for value in values)
    return f"{difference} ({low} to {high})"


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.4f}':>10}"
