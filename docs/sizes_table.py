"""The table of `stream-scorer bench sizes` for docs/benchmarks.md.

    stream-scorer bench sizes --json > sizes.json
    python docs/sizes_table.py sizes.json

writes it between its marks. tests/docs/test_sizes_table.py has an example.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "benchmarks.md"
BEGIN, END = "<!-- sizes: table -->", "<!-- sizes: end -->"
COLUMNS = ("rows/s", "MB", "every score", "ten best", "one customer")
ROUNDED = ("rows/s", "every score", "ten best")


def column_of(found: Mapping[str, Any]) -> str:
    """Which of `COLUMNS` a measurement is in."""
    if found["unit"] in COLUMNS:
        return str(found["unit"])
    if found["unit"] == "ms":
        return "one customer"
    return "every score" if "every score" in found["case"] else "ten best"


def table(result: Mapping[str, Any]) -> list[str]:
    """One row for each size, in the order in which they were measured."""
    shapes: dict[str, dict[str, float]] = {}
    for found in result["results"]:
        if found["stage"] == "sizes":
            shape = found["case"].split(", ")[0]
            shapes.setdefault(shape, {})[column_of(found)] = found["median"]
    machine = result["machine"]
    lines = [
        f"Measured on {result['measured_on']} on {machine['cores']} cores of "
        f"{machine['processor']}, one call of `train` for each row:",
        "",
        "| | `train`, rows/s | its peak memory, MB | every score, customers/s "
        "| ten best, customers/s | one customer, ms |",
        "|---|---|---|---|---|---|",
    ]
    for shape, values in shapes.items():
        cells = [f"{round(values[name], -2):,.0f}" for name in ROUNDED]
        lines.append(
            f"| {shape} | {cells[0]} | {values['MB']:,.0f} | {cells[1]} | {cells[2]} "
            f"| {values['one customer']:.2f} |"
        )
    return lines


def with_table(text: str, result: Mapping[str, Any]) -> str:
    """`text` with the table between its marks."""
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return before + "\n".join([BEGIN, "", *table(result), "", END]) + after


def main(words: Sequence[str]) -> None:
    """Write the table of the result that is named."""
    result = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
    print(f"{PAGE.name} is written")


if __name__ == "__main__":
    main(sys.argv[1:])
