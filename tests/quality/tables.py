"""The results of `make quality` as text and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = {
    "log_loss": "log loss", "macro_auc": "macro AUC", "recall_at_10": "recall@10", "ece": "ECE",
    "predicted_over_seen": "predicted / seen",
}  # fmt: skip
DECIMALS = {"predicted_over_seen": 3}
GAPS = ("log_loss", "macro_auc", "recall_at_10")


def number(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{DECIMALS.get(name, 4)}f}"


def gap(found: Mapping[str, float | None]) -> str:
    """ "-0.0011 (-0.0013 to -0.0009)"."""
    if found["difference"] is None:
        return ""
    return f"{found['difference']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"


def in_words(name: str, report: Mapping[str, Any]) -> str:
    """For a terminal."""
    lines = [f"\n{name}: {report['title']}; {report['training_rows']:,} training rows, "
             f"{report['columns']:,} columns"]  # fmt: skip
    for variant, losses in report["validation_log_loss"].items():
        lines.append(f"  validation {', '.join(f'{loss:.5f}' for loss in losses)}  {variant}")
    for question, found in report.get("questions", {}).items():
        lines += question_in_words(question, found)
    for words in report.get("targets_missed", ()):
        lines.append(f"target missed: {words}")
    for words in report.get("below_floor", ()):
        lines.append(f"BELOW THE FLOOR: {words}")
    return "\n".join([*lines, f"{report['seconds']:.0f} s"])


def question_in_words(question: str, found: Mapping[str, Any]) -> Iterator[str]:
    groups = {"": found, **{f", {name}": of for name, of in found["groups"].items()}}
    for group, of in groups.items():
        title = f"{question}{group} ({of['rows']:,} rows, {found['categories']} categories)"
        yield f"\n{title:44}" + "".join(f"{words:>17}" for words in COLUMNS.values())
        for name, values in of["table"].items():
            yield f"{name:44}" + "".join(f"{number(c, values[c]):>17}" for c in COLUMNS)
    yield "our model minus ..., 95 % intervals"
    for name, of in found["differences"].items():
        yield f"  {name:28}" + "  ".join(f"{m} {gap(of[m])}" for m in GAPS)
    for where, of in found["rare"].items():
        if of:
            yield (f"  {of['categories']} categories with under 20 positives {where}: log loss "
                   f"{of['log_loss']:.5f}, own rate {of['own_rate']:.5f}, "
                   f"{gap(of['difference'])}")  # fmt: skip
    for kind, of in found["moments"].items():
        yield (f"  {kind} moments ({of['rows']:,} rows): predicted over seen "
               f"{of['predicted_over_seen']:.3f}, ECE {of['ece']:.4f}, log loss "
               f"{of['log_loss']:.4f}")  # fmt: skip


def in_markdown(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables for a document: of each task and question one of all models, and one of moments."""
    blocks = list[str]()
    for report in reports.values():
        for question, found in report.get("questions", {}).items():
            blocks.append(f"{report['title']}: {question} ({found['rows']:,} test rows, "
                          f"{found['categories']} categories).")  # fmt: skip
            blocks.append("\n".join(table_lines(found)))
    return "\n\n".join(blocks) + "\n"


def table_lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| | " + " | ".join(COLUMNS.values()) + " | ours minus it, log loss | recall@10 |"
    yield "|---" * (len(COLUMNS) + 3) + "|"
    for name, values in found["table"].items():
        cells = [number(column, values[column]) for column in COLUMNS]
        of = found["differences"].get(name)
        gaps = [gap(of["log_loss"]), gap(of["recall_at_10"])] if of else ["", ""]
        yield "| " + " | ".join([name, *cells, *gaps]) + " |"
