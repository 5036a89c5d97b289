"""The total that a bar shows while event files are read."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_scorer.io.files.events import open_events, write_events
from stream_scorer.io.files.read_share import ReadShare

RECORDS = 20_000


def rows() -> list[dict[str, Any]]:
    return [
        {"event_id": f"{i:06d}", "customer_id": f"c{i % 97:03d}", "event_type": "purchase",
         "category_id": f"k{i % 13:02d}", "occurred_at": 1_760_000_000_000 + i}
        for i in range(RECORDS)
    ]  # fmt: skip


def avro(path: Path) -> Path:
    write_events(path / "e.avro", rows())
    return path / "e.avro"


def json_lines(path: Path) -> Path:
    lines = [
        f'{{"event_id":"{r["event_id"]}","customer_id":"{r["customer_id"]}",'
        f'"event_type":"purchase","category_id":"{r["category_id"]}",'
        f'"occurred_at":{r["occurred_at"]}}}'
        for r in rows()
    ]
    (path / "e.jsonl").write_text("\n".join(lines) + "\n")
    return path / "e.jsonl"


def gzipped(path: Path) -> Path:
    packed = path / "e.jsonl.gz"
    packed.write_bytes(gzip.compress(json_lines(path).read_bytes()))
    return packed


def parquet(path: Path) -> Path:
    moment = pa.timestamp("ms", "UTC")
    table = pa.Table.from_pylist(rows())
    at = table.schema.get_field_index("occurred_at")
    table = table.set_column(at, "occurred_at", table["occurred_at"].cast(moment))
    pq.write_table(table, path / "e.parquet", row_group_size=5_000)
    return path / "e.parquet"


@pytest.mark.parametrize("make", [avro, json_lines, gzipped, parquet])
def test_the_expected_total_is_about_right_from_early_on_and_exact_at_the_end(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    files = open_events([make(tmp_path)], max_record_bytes=1_000_000, batch_records=2_000)
    assert files.expected_records() is None
    for _ in range(2):  # a second reading begins again
        found = []
        for batch in files:
            assert len(batch) <= 2_000
            found.append(files.expected_records())
        # A reader takes blocks ahead of what comes out of them, the larger the file is packed.
        assert found[len(found) // 2] == pytest.approx(RECORDS, rel=0.4)
        assert files.expected_records() == RECORDS


def test_several_files_count_by_their_bytes() -> None:
    share = ReadShare({Path("a"): 100, Path("b"): 300})
    share.begin(Path("a"))
    share.at_bytes(50)
    share.add(10)
    assert share.expected_records() == 80
    share.begin(Path("b"))
    share.at_share(0.0)
    share.add(15)
    assert share.expected_records() == 100
    share.at_share(0.5)
    share.add(25)
    assert share.expected_records() == 80
    share.end()
    assert share.expected_records() == 50


def test_the_total_is_rounded_and_never_below_what_was_read() -> None:
    share = ReadShare({Path("a"): 1_000_000})
    share.begin(Path("a"))
    share.at_bytes(333_333)
    share.add(123_456)
    assert share.expected_records() == 370_000
    share.at_bytes(999_999)
    share.add(1_000_000)
    assert share.expected_records() == 1_123_456
