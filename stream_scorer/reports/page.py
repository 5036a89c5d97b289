"""One HTML page with plots inside it: nothing is loaded from elsewhere.

Colours are CSS variables, so that a page and its plots are light or dark as the reader's system is.
What a colour says is said by a word or a shape as well. Tables scroll by themselves where a screen
is narrow, and can be reached and scrolled with the keyboard.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from stream_scorer.atomic import write_file
from stream_scorer.errors import InputError
from stream_scorer.storage.places import Place

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --panel: #f6f8fa; --ink: #1f2329;
  --soft: #57606a; --line: #d0d7de; --axis: #8c959f; --good: #116329; --bad: #a40e26;
  --warn-paper: #fff4d6; --warn-line: #9a6700;
  --blue: #0b5fd4; --orange: #b8500a; --grey: #6a737d; --green: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --panel: #1d2127;
  --ink: #e6e8eb; --soft: #a3abb5; --line: #3a414a; --axis: #79828d; --good: #6ed58a;
  --bad: #ff9a94; --warn-paper: #33290f; --warn-line: #d9a520;
  --blue: #7ab4ff; --orange: #f2a65f; --grey: #a3abb5; --green: #6ed58a; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: var(--paper);
  color: var(--ink); }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .35rem 0; } .soft { color: var(--soft); }
.verdict { font-size: 1.15rem; border-left: 4px solid var(--blue); padding: .1rem 0 .1rem .8rem; }
.verdict p:not(:first-child) { font-size: 1rem; }
.warning { background: var(--warn-paper); border-left: 4px solid var(--warn-line);
  padding: .5rem .8rem; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .2rem; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; } tbody th { font-weight: 400; }
th:first-child { text-align: left; padding-left: 0; }
td small { color: var(--soft); white-space: nowrap; }
.wide { overflow: auto; max-height: 32rem; margin: .4rem 0; position: relative; }
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
.wide thead th { position: sticky; top: 0; background: var(--paper); }
.wide tbody td { white-space: nowrap; } .wide tbody th { min-width: 8rem; }
.wide + .wide { margin-top: 1.2rem; }
.words td, .words thead th, .differences th:last-child { text-align: left; }
.words tbody td { white-space: normal; min-width: 8rem; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.words td { overflow-wrap: anywhere; } .words .count { text-align: right; }
.parts table { min-width: 52rem; width: 100%; font-size: .9rem; }
.parts th, .parts td { padding: .2rem .4rem; }
.better { color: var(--good); font-weight: 600; } .worse { color: var(--bad); font-weight: 600; }
.same { color: var(--soft); }
.differences th, .differences td { padding: .25rem .5rem; }
td:has(.better), td:has(.worse), td:has(.same) { text-align: left; white-space: nowrap; }
.interval { width: 9rem; height: 1rem; vertical-align: middle; }
.interval line { stroke: var(--axis); } .interval .zero { stroke-dasharray: 2 2; }
.interval .reach { stroke: currentColor; stroke-width: 3; }
.interval circle { fill: currentColor; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(27rem, 100%), 1fr));
  gap: 1rem; }
.plots > * { min-width: 0; }
figure { margin: 0; background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem; }
figure > svg { width: 100%; height: auto; display: block; margin-top: .3rem; }
figure > svg text { fill: var(--ink); font-family: system-ui, sans-serif !important; }
figcaption p { color: var(--soft); font-size: .9rem; margin: 0; }
details { font-size: .9rem; margin-top: .5rem; }
summary { cursor: pointer; }
figure .wide { max-height: 16rem; } figure .wide thead th { background: var(--panel); }
@media (max-width: 40rem) { body { font-size: 15px; } th, td { padding: .25rem .5rem; } }
@media print { .wide { max-height: none; } }
"""
DASH = "–"  # where a value is not defined


class Html(str):
    """Text that is HTML already, which a table takes as it is."""

    __slots__ = ()


def table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table whose first column names the rows; floats with four digits, None as a dash.

    Of two lines in a cell the second is small.
    """
    titled = f"<caption>{text(caption)}</caption>" if caption else ""
    names = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{_cell(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>')
    body = "".join(lines)
    return f"<table>{titled}<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def wide(content: str, label: str, kind: str = "") -> str:
    """A table that scrolls where it is too wide or too long; label: what a screen reader says."""
    names = f"wide {kind}".strip()
    return (
        f'<div class="{names}" role="region" tabindex="0" aria-label="{text(label)}">{content}'
        "</div>"
    )


def plots(figures: Sequence[str]) -> str:
    """Plots side by side where there is room."""
    return f'<div class="plots">{"".join(figures)}</div>'


def metric_name(metric: str) -> str:
    """A metric's key in words: "log loss", "macro AUC", "recall@10"."""
    words = metric.replace("_at_", "@").split("_")
    return " ".join(w.upper() if w in ("auc", "ap", "ece") else w for w in words)


def signed(value: float | None, digits: int) -> str:
    """A difference for a table: with its sign, or a dash where it is not defined."""
    return DASH if value is None else f"{value:+.{digits}f}".replace("-", "−")


def moment(iso: str) -> str:
    """ISO 8601 in UTC for readers: "2026-03-01 00:00 UTC"."""
    plain = iso.replace("+00:00", "Z").replace("T", " ").removesuffix("Z").removesuffix(".000")
    return (plain[:-3] if plain.endswith(":00") and plain.count(":") > 1 else plain) + " UTC"


def heading(words: str) -> str:
    """A heading of the second level."""
    return f"<h2>{text(words)}</h2>"


def paragraph(words: str) -> str:
    """One paragraph of plain text."""
    return f"<p>{text(words)}</p>"


def verdict(sentences: Sequence[str]) -> str:
    """What a reader in a hurry takes away: the answer first."""
    shown = (paragraph(re.sub(r"(?<![\w-])-(?=\d)", "−", one)) for one in sentences)
    return f'<div class="verdict">{"".join(shown)}</div>'


def warnings(sentences: Sequence[str]) -> str:
    """What makes figures doubtful, where nobody can miss it; "" where there is nothing."""
    return "".join(
        f'<p class="warning"><strong>Warning:</strong> {text(one)}</p>' for one in sentences
    )


def items(sentences: Sequence[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{text(one)}</li>" for one in sentences) + "</ul>"


def folded(summary: str, content: str) -> str:
    """What only some readers want to see: one line that opens."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def text(words: str) -> str:
    """Plain text inside of an element or of an attribute; a number stays beside its "%"."""
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", html.escape(words))


def content(title: str, parts: Sequence[str]) -> bytes:
    """The page of these parts."""
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{text(title)}</h1>{''.join(parts)}</main></body></html>\n"
    )
    return page.encode()


def write(path: Place, title: str, parts: Sequence[str]) -> None:
    """The page of these parts, written whole or not at all. Raises InputError."""
    try:
        write_file(path, content(title, parts))
    except OSError as error:
        raise InputError(
            "--report", path, f"can't be written ({error.strerror}); choose another path"
        ) from None


def _cell(cell: object) -> str:
    if isinstance(cell, Html):
        return cell
    first, line, second = text(_shown(cell)).partition("\n")
    return f"{first}<br><small>{second}</small>" if line else first


def _shown(cell: object) -> str:
    if cell is None:
        return DASH
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
