"""docs/sizes_table.py writes the table of `bench sizes` into docs/benchmarks.md."""

from __future__ import annotations

from tests.docs.scripts import DOCS, script

WRITER = script("sizes_table")


def test_a_size_is_one_row_between_the_marks_of_the_page() -> None:
    shape = "F=300,000 N=5,000 active 30"
    cases = [
        (f"{shape}, train 20,000 rows, 4 epochs", "rows/s", 8_123.4),
        (f"{shape}, train 20,000 rows, 4 epochs", "MB", 1_012.3),
        (f"{shape}, native, every score, batch 1,024", "customers/s", 47_951.0),
        (f"{shape}, native, ten best, batch 1,024", "customers/s", 78_049.0),
        (f"{shape}, native, ten best, one customer", "ms", 0.1234),
    ]
    result = {
        "results": [
            {"stage": "sizes", "case": case, "unit": unit, "median": value}
            for case, unit, value in cases
        ],
        "machine": {"cores": 2, "processor": "a processor"},
        "measured_on": "2026-11-29",
    }
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    written = WRITER.with_table(page, result)
    assert "| F=300,000 N=5,000 active 30 | 8,100 | 1,012 | 48,000 | 78,000 | 0.12 |" in written
    assert written.split(WRITER.BEGIN)[0] == page.split(WRITER.BEGIN)[0]
    assert written.split(WRITER.END)[1] == page.split(WRITER.END)[1]
