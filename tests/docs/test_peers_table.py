"""The tables beside other systems are those of the result that is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.docs.scripts import DOCS, script

RESULT: dict[str, Any] = {
    "results": [
        {"stage": "peers", "case": "Quix, 100 events", "unit": "events/s", "median": 1_234.0,
         "min": 999.6, "max": 1_500.0, "runs": 3},
        {"stage": "peers", "case": "this consumer, 100 events", "unit": "events/s",
         "median": 98_765.0, "min": 5.25, "max": 100_000.0, "runs": 3},
        {"stage": "peers", "case": "to propensity at half of the highest rate: p99", "unit": "ms",
         "median": 41.2, "min": 40.0, "max": 50.0, "runs": 2},
    ],
    "ratios": {"ours_vs_quix": 80.03},
    "ratio_ranges": {"ours_vs_quix": [70.0, 90.0]},
    "machine": {"processor": "a processor", "cores": 2},
    "notes": ["the load was 0.1"],
    "measured_on": "2026-11-28",
}  # fmt: skip


WRITER = script("peers_table")


def test_the_fastest_comes_first_with_two_digits_and_the_spread() -> None:
    assert WRITER.rates(RESULT) == [
        "Measured on 2026-11-28 on 2 cores of a processor, medians of 3 turns:",
        "",
        "| | events/s | least to greatest |",
        "|---|---|---|",
        "| **this consumer**, 100 events | 99,000 | 5.2 to 100,000 |",
        "| Quix, 100 events | 1,200 | 1,000 to 1,500 |",
    ]


def test_a_single_turn_is_not_called_a_median() -> None:
    once = {**RESULT, "results": [{**found, "runs": 1} for found in RESULT["results"]]}
    assert WRITER.rates(once)[0] == "Measured on 2026-11-28 on 2 cores of a processor, one turn:"


def test_what_is_no_rate_stands_in_the_second_table() -> None:
    lines = WRITER.others(RESULT)
    assert "| to propensity at half of the highest rate: p99 | 41 | 40 to 50 | ms |" in lines
    assert "| `ours_vs_quix` | 80 | 70 to 90 |" in lines
    assert lines[-1] == "- the load was 0.1"
    assert not any("Quix, 100" in line for line in lines)


def test_tables_are_written_between_their_marks_and_again_change_nothing() -> None:
    text = "before\n<!-- peers: rates -->\nold\n<!-- peers: end -->\nafter\n"
    once = WRITER.with_tables(text, RESULT)
    assert once.startswith("before\n<!-- peers: rates -->\n\nMeasured")
    assert once.endswith("| 1,200 | 1,000 to 1,500 |\n\n<!-- peers: end -->\nafter\n")
    assert "old" not in once
    assert WRITER.with_tables(once, RESULT) == once


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_the_page_has_the_tables_of_the_result_that_is_kept(page: str) -> None:
    text = (DOCS.parent / page).read_text(encoding="utf-8")
    assert "<!-- peers: rates -->" in text
    result = json.loads(WRITER.KEPT.read_text(encoding="utf-8"))
    assert text == WRITER.with_tables(text, result), "run `python docs/peers_table.py`"
