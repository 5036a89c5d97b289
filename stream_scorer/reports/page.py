"""One HTML page with plots inside it: nothing is loaded from elsewhere.

matplotlib comes with the extra `reports` and is imported when the first figure is asked for.
"""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream_scorer.atomic import write_file
from stream_scorer.errors import InputError

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --paper: #fff; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.wide { overflow: auto; max-height: 30rem; } .wide th { position: sticky; top: 0;
  background: Canvas; }
.parts table { width: 100%; table-layout: fixed; font-size: 14px; } .parts { margin: .3rem 0 1rem; }
.parts th, .parts td { padding: .2rem .4rem; } .parts th { width: 9%; }
.parts th:first-child { width: 13%; }
.parts th:nth-child(n+4) { width: 13%; } .parts th:nth-child(5) { width: 15%; }
.parts th:last-child { width: 6%; }
td small { color: var(--soft); white-space: nowrap; }
.words td:nth-child(2), .words th:nth-child(2) { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--paper); border-radius: 6px; padding: .5rem; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { color: #555; font-size: 13px; }
@media (max-width: 30rem) { .plots { grid-template-columns: 1fr; } }
"""


def new_figure() -> tuple[Any, Any]:
    """A matplotlib figure with one axes. Raises InputError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        remedy = "plots need matplotlib: pip install 'stream-scorer[reports]'"
        raise InputError("--report", error, remedy) from None
    figure = Figure(figsize=(5.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return False
    return True


def plot(figure: Any, title: str, caption: str) -> str:
    """The figure as inline SVG with its title and a sentence on how to read it."""
    figure.axes[0].set_title(title, loc="left", fontsize=11, fontweight="bold")
    from matplotlib import rc_context  # noqa: PLC0415 - an extra

    drawn = io.StringIO()
    # No date and no random names in it: the same numbers give the same page.
    with rc_context({"svg.hashsalt": title}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; floats with four digits, None as a dash. Of two lines in a cell the second is
    small."""
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in head)]
    lines += ["".join(f"<td>{_cell(_shown(cell))}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def metric_name(metric: str) -> str:
    """A metric's key in words: "log loss", "macro AUC", "recall@10"."""
    words = metric.replace("_at_", "@").split("_")
    return " ".join(w.upper() if w in ("auc", "ap", "ece") else w for w in words)


def signed(value: float | None, digits: int) -> str:
    """A difference for a table: with its sign, or a dash where it is not defined."""
    return "-" if value is None else f"{value:+.{digits}f}"


def paragraph(words: str) -> str:
    """One paragraph of plain text."""
    return f"<p>{text(words)}</p>"


def text(words: str) -> str:
    """Plain text inside of an element."""
    return html.escape(words)


def content(title: str, parts: Sequence[str]) -> bytes:
    """The page of these parts."""
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )
    return page.encode()


def write(path: Path, title: str, parts: Sequence[str]) -> None:
    """The page of these parts, written whole or not at all. Raises InputError."""
    try:
        write_file(path, content(title, parts))
    except OSError as error:
        raise InputError("--report", path, f"can't be written: {error.strerror}") from None


def _cell(shown: str) -> str:
    first, line, second = html.escape(shown).partition("\n")
    return f"{first}<br><small>{second}</small>" if line else first


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
