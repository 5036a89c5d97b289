"""How good a model is, part by part: the tables and plots of its card."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.core.evaluation.quality_by_part import ALL, Estimate, PartQuality, Quality
from stream_scorer.reports import page, plots
from stream_scorer.reports.curves import calibration_of

SERIES = {
    ALL: plots.Series(plots.BLUE, "o", "-"),
    "cutoff": plots.Series(plots.GREY, "^", ":"),
    "event": plots.Series(plots.ORANGE, "s", "--"),
    "quiet": plots.Series(plots.GREEN, "D", "-."),
}
KIND_WORDS = {
    "cutoff": "at cut-offs",
    "event": "just after an event",
    "quiet": "between events, as refreshed",
}
MEASURES = (
    "positives", "log loss", "minus the prior's", "macro AUC", "recall@10", "predicted / seen",
    "ECE",
)  # fmt: skip
HOW_TO_READ = (
    "In small print: 95 % intervals of a bootstrap over customers. The prior gives every customer "
    "each category's share of the training rows; a difference below 0 means that the model is "
    "better. Predicted / seen is the sum of probabilities over what then happened: 1 is right, "
    "1.10 is 10 % too sure. ECE is the mean distance of probabilities from what happened, in bins."
)
NO_PLOTS = "There are no plots: they need matplotlib (pip install 'stream-scorer[reports]')."


def parts(quality: Quality) -> list[str]:
    """Tables and, where matplotlib is installed, plots."""
    overall = quality.overall
    shown = [
        page.paragraph(
            f"{overall.rows:,} of {quality.rows:,} rows were measured, of {overall.customers:,} "
            f"customers. The prior has log loss {number(overall.prior_log_loss)} and recall@10 "
            f"{number(overall.prior_recall_at_10, 3)}."
        ),
        _part_table("All rows:", [("all", overall)]),
    ]
    if quality.by_moment:
        moments = [(KIND_WORDS[part.part], part) for part in quality.by_moment]
        shown.append(_part_table("By the moment of the row:", moments))
    histories = [(part.part, part) for part in quality.by_history]
    sizes = [(part.part, part) for part in quality.by_category_size]
    shown += [
        _part_table("By how many columns of the customer have a value:", histories),
        _part_table("By how many training rows acted on the category:", sizes, categories=True),
        f'<p class="soft">{page.text(HOW_TO_READ)}</p>',
    ]
    if not plots.can_plot():
        return [*shown, page.paragraph(NO_PLOTS)]
    return [*shown, page.plots([_calibration(quality), _ratios(quality)])]


def _part_table(
    title: str, parts: Sequence[tuple[str, PartQuality]], *, categories: bool = False
) -> str:
    head = ["part", "categories" if categories else "rows", *MEASURES]
    rows = [
        [
            name, part.categories if categories else part.rows, part.positives,
            _in_two_lines(interval(part.log_loss, 4)),
            _in_two_lines(signed(part.log_loss_minus_prior)),
            _in_two_lines(interval(part.macro_auc, 3)),
            _in_two_lines(interval(part.recall_at_10, 3)),
            _in_two_lines(interval(part.predicted_over_seen, 3)), number(part.ece),
        ]
        for name, part in parts
    ]  # fmt: skip
    return page.wide(page.table(head, rows, title), title.rstrip(":"), "parts")


def _in_two_lines(interval: str) -> str:
    return interval.replace(" (", "\n").rstrip(")").replace("-", "−")


def _calibration(quality: Quality) -> str:
    curves = {
        key: ([p.probability for p in measured], [p.acted for p in measured])
        for key, measured in quality.calibration.items()
    }
    return calibration_of(curves, KIND_WORDS, SERIES, "rows")


def _ratios(quality: Quality) -> str:
    figure, axes = plots.new_figure()
    named = [
        ("all", quality.overall),
        *((KIND_WORDS[p.part], p) for p in quality.by_moment),
        *((f"{p.part} columns", p) for p in quality.by_history),
        *((f"{p.part} positives", p) for p in quality.by_category_size),
    ]
    for number, (_, part) in enumerate(named[::-1]):
        ratio = part.predicted_over_seen
        if ratio.value is not None and ratio.low is not None and ratio.high is not None:
            reach = [[ratio.value - ratio.low], [ratio.high - ratio.value]]
            axes.errorbar(
                [ratio.value], [number], xerr=reach, fmt="o", capsize=3, markersize=4,
                color=plots.BLUE,
            )  # fmt: skip
    axes.axvline(1, color=plots.AXIS, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(named)), [name for name, _ in named[::-1]])
    axes.set_ylim(-0.5, len(named) - 0.5)
    axes.set(xlabel="predicted over seen")
    rows = [[name, interval(part.predicted_over_seen, 3)] for name, part in named]
    points = page.table(["part", "predicted over seen"], rows)
    caption = "At 1 the model expects as many actions as there were; right of it is too sure."
    return plots.plot(figure, "Predicted over seen", caption, points)


def number(value: float | None, digits: int = 4) -> str:
    """A figure for a table, a dash where it is not defined."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval(found: Estimate, digits: int) -> str:
    """A value with its 95 % interval in brackets."""
    if found.low is None or found.high is None:
        return number(found.value, digits)
    low, high = number(found.low, digits), number(found.high, digits)
    return f"{number(found.value, digits)} ({low} to {high})"


def signed(found: Estimate) -> str:
    """A difference with its 95 % interval in brackets; a dash where it is not defined."""
    if found.low is None or found.high is None:
        return "-"
    return f"{page.signed(found.value, 4)} ({found.low:+.4f} to {found.high:+.4f})"
