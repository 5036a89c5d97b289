"""Results of evaluation as lines of text, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.core.evaluation.backtest_metrics import Staleness
from stream_scorer.core.evaluation.intervals import MetricDifference
from stream_scorer.core.evaluation.metrics import QualityMetrics
from stream_scorer.reports.verdict import outcome


def metrics_in_words(columns: Sequence[tuple[str, QualityMetrics]]) -> list[str]:
    """A table with a line for each metric, and a column for each model or baseline."""
    values = [found.by_metric() for _, found in columns]
    widths = [max(len(name), 8) + 2 for name, _ in columns]
    names = (f"{name:>{width}}" for (name, _), width in zip(columns, widths, strict=True))
    lines = [" " * 14 + "".join(names)]
    for metric in values[0]:
        cells = (_cell(of[metric], width) for of, width in zip(values, widths, strict=True))
        lines.append(f"{metric:14}{''.join(cells)}")
    return lines


def interval_in_words(found: MetricDifference | Staleness, digits: int) -> str:
    """A difference with its 95 % interval in brackets; a dash where it is not defined."""
    values = (found.difference, found.low, found.high)
    if any(value is None for value in values):
        return "-"
    difference, low, high = (f"{value:+.{digits}f}" for value in values)
    return f"{difference} ({low} to {high})"


def difference_in_words(metric: str, found: MetricDifference, digits: int) -> str:
    """As `interval_in_words`, and whether the first is better or worse by it."""
    said, mark = interval_in_words(found, digits), outcome(metric, found)
    return said if mark is None else f"{said} {mark}"


def _cell(value: float | None, width: int) -> str:
    return f"{'-' if value is None else f'{value:.4f}':>{width}}"
