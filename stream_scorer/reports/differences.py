"""Differences of metrics as a table: each with its interval, drawn and in figures, and its mark."""

from __future__ import annotations

from collections.abc import Iterable

from stream_scorer.core.evaluation.backtest_metrics import Staleness
from stream_scorer.core.evaluation.intervals import MetricDifference, ModelComparison
from stream_scorer.reports import page
from stream_scorer.reports.verdict import BETTER, SAME, WORSE, outcome

HEAD = ("difference", "95 % interval", "around 0", "verdict")
MARKS = {BETTER: ("better", "▲"), WORSE: ("worse", "▼"), SAME: ("same", "≈")}
HOW_TO_READ = (
    "Intervals are of a bootstrap over customers, each with all its rows. better, worse: the "
    "interval does not hold 0 (the dotted line). Lower is better for log loss, higher for all "
    "other metrics here."
)


def table(compared: Iterable[tuple[str, ModelComparison]], digits: int) -> str:
    """A row for each metric of each comparison; compared: its words, such as "model-2 minus prior"
    ("" where the heading says it), and the differences."""
    rows = [
        [
            f"{words}: {page.metric_name(metric)}" if words else page.metric_name(metric),
            *cells(metric, one, digits),
        ]
        for words, differences in compared
        for metric, one in differences.by_metric().items()
    ]
    shown = page.wide(page.table(["first minus second", *HEAD], rows), "Differences", "differences")
    return f'{shown}<p class="soft">{page.text(HOW_TO_READ)}</p>'


def cells(metric: str, one: MetricDifference | Staleness, digits: int) -> list[object]:
    """The cells under `HEAD`."""
    of = MetricDifference(one.difference, one.low, one.high)
    low, high = page.signed(of.low, digits), page.signed(of.high, digits)
    return [page.signed(of.difference, digits), f"{low} to {high}", _drawn(metric, of),
            _mark(metric, of)]  # fmt: skip


def _mark(metric: str, one: MetricDifference) -> object:
    found = outcome(metric, one)
    if found is None:
        return None
    kind, sign = MARKS[found]
    return page.Html(f'<span class="{kind}"><span aria-hidden="true">{sign}</span> {found}</span>')


def _drawn(metric: str, one: MetricDifference) -> object:
    """The interval as a bar with a dot, left or right of 0; the figures beside it say the same."""
    found = outcome(metric, one)
    if found is None or one.difference is None or one.low is None or one.high is None:
        return None
    reach = max(abs(one.low), abs(one.high)) * 1.1 or 1.0

    def x(value: float) -> str:
        return f"{72 + 70 * value / reach:.1f}"

    return page.Html(
        f'<svg class="interval {MARKS[found][0]}" viewBox="0 0 144 16" aria-hidden="true">'
        '<line x1="0" x2="144" y1="8" y2="8"/><line class="zero" x1="72" x2="72" y1="0" y2="16"/>'
        f'<line class="reach" x1="{x(one.low)}" x2="{x(one.high)}" y1="8" y2="8"/>'
        f'<circle cx="{x(one.difference)}" cy="8" r="4"/></svg>'
    )
