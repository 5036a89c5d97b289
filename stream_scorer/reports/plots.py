"""Plots as SVG inside a page, in the page's colours.

matplotlib comes with the extra `reports` and is imported when the first figure is asked for. A plot
is drawn once: its colours stand for variables of the page's style, which are other ones in the
dark. Each plot has a table of its points beside it, for those who can't see it or want the figures.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from stream_scorer.errors import InputError
from stream_scorer.reports import page

# What matplotlib draws with, and the variable that it is replaced by.
INK, AXIS, LINE = "#1f2329", "#8c959f", "#d0d7de"
BLUE, ORANGE, GREY, GREEN = "#0b5fd4", "#b8500a", "#6a737d", "#1a7f37"
VARIABLES = {
    INK: "--ink", AXIS: "--axis", LINE: "--line",
    BLUE: "--blue", ORANGE: "--orange", GREY: "--grey", GREEN: "--green",
}  # fmt: skip
MOST_TICKS = 10  # moments that fit below a plot
SHORT_NAMES = 36  # letters of all names that fit on one line of a legend


class Series(NamedTuple):
    """How the points of one model look: by more than the colour, which not everybody sees."""

    color: str
    marker: str
    linestyle: str


# By what a model is in its report, whatever its own name.
SERIES = {
    "model": Series(BLUE, "o", "-"),
    "model 2": Series(ORANGE, "s", "--"),
    "active": Series(BLUE, "o", "-"),
    "challenger": Series(ORANGE, "s", "--"),
    "logistic": Series(ORANGE, "s", "--"),
    "prior": Series(GREY, "^", ":"),
}


def new_figure() -> tuple[Any, Any]:
    """A matplotlib figure with one axes. Raises InputError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        remedy = "plots need matplotlib: pip install 'stream-scorer[reports]'"
        raise InputError("--report", error, remedy) from None
    # As wide as a phone is in points, so that the text keeps its size there.
    figure = Figure(figsize=(5.0, 3.7), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(AXIS)
    axes.tick_params(which="both", color=AXIS, labelcolor=INK)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return False
    return True


def plot(figure: Any, title: str, caption: str, points: str) -> str:
    """The figure as inline SVG, under its title and a sentence on how to read it.

    points: the table with what is drawn, as `page.table` makes it. The legend stands above the
    axes, where it hides nothing.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - an extra

    (axes,) = figure.axes
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        short = sum(len(name) for name in labels) <= SHORT_NAMES
        figure.legend(
            loc="outside upper left", ncols=3 if short else 1, frameon=False, labelcolor=INK,
            handlelength=2.6,
        )  # fmt: skip
    drawn = io.StringIO()
    # Text stays text. No date and no random names: the same numbers give the same page.
    with rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    label = page.text(f"Plot: {title}. {caption} Its points are in the table below it.")
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    shown = page.wide(points, f"Points of the plot {title}")
    return (
        f"<figure><figcaption><h3>{page.text(title)}</h3>{page.paragraph(caption)}</figcaption>"
        f"{svg}{page.folded('The points as a table', shown)}</figure>"
    )


def tick_moments(axes: Any, moments_ms: Sequence[int]) -> list[datetime]:
    """The measured moments as an axis takes them, with ticks at these and nowhere else.

    Of more than `MOST_TICKS` each second, third, ... has a tick, from the first on.
    """
    times = [datetime.fromtimestamp(ms / 1000, timezone.utc) for ms in moments_ms]
    ticked = times[:: -(-len(times) // MOST_TICKS) or 1]
    axes.set_xticks(ticked, moment_labels(ticked), rotation=35, ha="right", rotation_mode="anchor")
    return times


def moment_labels(times: Sequence[datetime]) -> list[str]:
    """Short names of moments: days, with the year where there are two, or the time of day where
    two are on one day."""
    days = [t.date() for t in times]
    if len(set(days)) < len(days):
        return [f"{t.day} {t:%b %H:%M}" for t in times]
    if len({t.year for t in times}) > 1:
        return [f"{t.day} {t:%b %Y}" for t in times]
    return [f"{t.day} {t:%b}" for t in times]
