"""Whoever reads the output topic takes a customer's records in their order."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READS = "decode_propensities("


def test_what_reads_output_records_orders_them_by_offset_and_then_by_as_of_time() -> None:
    """Of the package; a new reader uses `newest_rows`, or is named here with its reason."""
    readers = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "stream_scorer").rglob("*.py")
        if READS in file.read_text(encoding="utf-8")
    }
    assert readers == {
        "stream_scorer/core/avro/propensity_encoder.py",  # where it is defined
        "stream_scorer/customers/history.py",  # of one customer: `newest_rows` over its records
        # Whether each record was made of erased events; which one is newer does not matter.
        "stream_scorer/customers/tombstones.py",
        "stream_scorer/demo/run.py",  # what is shown as a customer's newest: demo/report.py
    }
    history = (ROOT / "stream_scorer" / "customers" / "history.py").read_text(encoding="utf-8")
    assert "newest_rows(" in history
    report = (ROOT / "stream_scorer" / "demo" / "report.py").read_text(encoding="utf-8")
    assert "newest_rows(" in report
