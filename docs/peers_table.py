"""Tables of `stream-scorer bench peers` for README.md and docs/benchmarks.md.

    stream-scorer bench peers --peers-python PYTHON --json > result.json
    python docs/peers_table.py result.json

keeps the result as docs/measured/peers.json and writes the tables between their marks. Without an
argument they are written from the result that is kept. tests/docs/test_peers_table.py compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
KEPT = DOCS / "measured" / "peers.json"
RATE, OURS = "events/s", "this consumer"
BEGIN, END = "<!-- peers: {} -->", "<!-- peers: end -->"
DIGITS = 2  # of a figure; more would be noise


def figure(value: float) -> str:
    """Rounded to two digits, as people write it."""
    rounded = float(f"{value:.{DIGITS}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:g}"


def circumstances(result: Mapping[str, Any]) -> list[str]:
    """When and where, in a sentence or two."""
    machine = result["machine"]
    runs = max(found["runs"] for found in result["results"])
    return [
        f"Measured on {result['measured_on']} on {machine['cores']} cores of "
        f"{machine['processor']}, {f'medians of {runs} turns' if runs > 1 else 'one turn'}:",
        "",
    ]


def rates(result: Mapping[str, Any]) -> list[str]:
    """Who takes how many events a second, the fastest first."""
    found = [
        r for r in result["results"]
        if r["unit"] == RATE and "half of the highest" not in r["case"]
    ]  # fmt: skip
    head = ["| | events/s | least to greatest |", "|---|---|---|"]
    return [*circumstances(result), *head, *map(row, sorted(found, key=lambda r: -r["median"]))]


def row(found: Mapping[str, Any]) -> str:
    """One measurement."""
    case = found["case"].replace(OURS, f"**{OURS}**")
    spread = f"{figure(found['min'])} to {figure(found['max'])}"
    return f"| {case} | {figure(found['median'])} | {spread} |"


def others(result: Mapping[str, Any]) -> list[str]:
    """Latency and cost by the number of customers, the quotients, and the notes."""
    rated = rates(result)
    lines = ["| | | least to greatest | unit |", "|---|---|---|---|"]
    for found in result["results"]:
        if row(found) not in rated:
            lines.append(f"{row(found)} {found['unit'].replace('us/', 'µs/')} |")
    lines += ["", "| quotient | median of the turns | least to greatest |", "|---|---|---|"]
    for name, value in result["ratios"].items():
        least, greatest = result["ratio_ranges"][name]
        lines.append(f"| `{name}` | {figure(value)} | {figure(least)} to {figure(greatest)} |")
    return [*lines, "", *(f"- {note}" for note in result["notes"])]


TABLES = {"rates": rates, "others": others}


def with_tables(text: str, result: Mapping[str, Any]) -> str:
    """`text` with the tables between its marks."""
    for name, table in TABLES.items():
        begin = BEGIN.format(name)
        if begin in text:
            before, rest = text.split(begin, 1)
            _, after = rest.split(END, 1)
            text = before + "\n".join([begin, "", *table(result), "", END]) + after
    return text


def main(words: Sequence[str]) -> None:
    """Keep the result that is named, if one is, and write the tables."""
    if words:
        KEPT.parent.mkdir(exist_ok=True)
        result = json.loads(Path(words[0]).read_text(encoding="utf-8"))
        KEPT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    result = json.loads(KEPT.read_text(encoding="utf-8"))
    for page in (DOCS.parent / "README.md", DOCS / "benchmarks.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(with_tables(text, result), encoding="utf-8")
        print(f"{page.name} is written")


if __name__ == "__main__":
    main(sys.argv[1:])
