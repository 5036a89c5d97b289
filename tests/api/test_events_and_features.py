"""Events as Arrow and back, and features as of past moments."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import stream_scorer as ss
from tests.api.conftest import CUTOFF_MS, DAY_MS, START_MS, Shop, made_up_events

CUTOFF = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=CUTOFF_MS)


def rows_by_customer(matrix: Any, ids: list[str]) -> dict[str, tuple[list[int], bytes]]:
    return {
        customer: (matrix[i].indices.tolist(), matrix[i].data.tobytes())
        for i, customer in enumerate(ids)
    }


def test_events_are_read_as_they_were_written(shop: Shop) -> None:
    table = ss.read_events(shop.events)
    rows = [{**row, "attributes": dict(row["attributes"])} for row in table.to_pylist()]
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    expected = [
        {
            **row,
            "product_id": None,
            "occurred_at": epoch + timedelta(milliseconds=row["occurred_at"]),
        }
        for row in made_up_events()
    ]
    assert rows == expected


@pytest.mark.parametrize("name", ["events.parquet", "events.avro"])
def test_a_table_written_and_read_is_the_same_table(shop: Shop, tmp_path: Path, name: str) -> None:
    table = ss.read_events(shop.events)
    assert ss.write_events(table, tmp_path / name) == table.num_rows
    assert ss.read_events(tmp_path / name).equals(table)


def test_reading_parquet_leaves_arrow_as_the_notebook_has_set_it(
    shop: Shop, tmp_path: Path
) -> None:
    ss.write_events(ss.read_events(shop.events), tmp_path / "events.parquet")
    program = (
        "import sys, pyarrow as pa, stream_scorer as ss\n"
        "before = pa.default_memory_pool().backend_name\n"
        "assert before != 'system', 'nothing would be seen'\n"
        "ss.read_events(sys.argv[1])\n"
        "assert pa.default_memory_pool().backend_name == before\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "events.parquet")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", ["events.parquet", "events.avro"])
def test_an_interrupted_write_leaves_no_file(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    table = ss.read_events(shop.events)

    def fsync(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ss.EventFileError, match="No space left"):
        ss.write_events(table, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["events.parquet", "events.avro"])
def test_a_folder_that_is_not_there_is_not_made(shop: Shop, tmp_path: Path, name: str) -> None:
    with pytest.raises(ss.EventFileError, match="check path"):
        ss.write_events(ss.read_events(shop.events), tmp_path / "absent" / name)
    assert list(tmp_path.iterdir()) == []


def test_settings_leave_out_what_replay_refuses(tmp_path: Path, shop: Shop) -> None:
    same = '"customer_id": "a", "occurred_at": 1767225600005'
    rows = [
        f'{{"event_id": "1", "event_type": "view", {same}}}',
        f'{{"event_id": "2", "event_type": "returned", {same}}}',
    ]
    (tmp_path / "e.jsonl").write_text("\n".join(rows))
    assert ss.read_events([tmp_path / "e.jsonl"])["event_id"].to_pylist() == ["1", "2"]
    kept = ss.read_events(tmp_path / "e.jsonl", shop.settings)
    assert kept["event_id"].to_pylist() == ["1"]


def test_a_record_that_is_no_event_is_named_or_left_out(tmp_path: Path) -> None:
    good = (
        '{"event_id": "1", "customer_id": "a", "event_type": "view", "occurred_at": 1767225600005}'
    )
    (tmp_path / "e.jsonl").write_text(f"{good}\nbroken\n")
    with pytest.raises(ss.EventFileError, match=r"e\.jsonl, record 1.*line 2"):
        ss.read_events(tmp_path / "e.jsonl")
    assert ss.read_events(tmp_path / "e.jsonl", strict=False).num_rows == 1


def test_features_are_the_rows_of_replays_snapshot_bit_for_bit(shop: Shop) -> None:
    space = shop.settings.feature_space()
    (rows,) = ss.open_snapshot(shop.test).shards()
    moment = int(rows.as_of_ms[0])
    matrix, ids = ss.features_at(ss.read_events(shop.events), space, moment)
    assert matrix.dtype == np.float32
    assert ids == sorted(ids)
    assert len(ids) > 50
    assert rows_by_customer(matrix, ids) == rows_by_customer(rows.matrix, rows.customer_ids)


def test_an_event_at_the_moment_is_not_known_yet(shop: Shop) -> None:
    space, table = shop.settings.feature_space(), ss.read_events(shop.events)
    before = table.filter(pc.less(table["occurred_at"], pa.scalar(CUTOFF)))
    assert 0 < before.num_rows < table.num_rows
    at_it = table.slice(0, 1).set_column(
        6, table.schema.field("occurred_at"), pa.array([CUTOFF], pa.timestamp("ms", tz="UTC"))
    )
    expected = rows_by_customer(*ss.features_at(before, space, CUTOFF))
    for events in (table, pa.concat_tables([before, at_it])):
        assert rows_by_customer(*ss.features_at(events, space, CUTOFF)) == expected


def test_pairs_give_their_rows_in_their_order(shop: Shop) -> None:
    space, table = shop.settings.feature_space(), ss.read_events(shop.events)
    later = CUTOFF + timedelta(days=7)
    pairs = [("c7", later), ("nobody", CUTOFF), ("c3", CUTOFF.isoformat()), ("c7", CUTOFF_MS)]
    pairs.append(pairs[0])
    matrix, ids = ss.features_at(table, space, pairs)
    assert ids == ["c7", "nobody", "c3", "c7", "c7"]
    for row, (customer, moment) in enumerate(pairs):
        alone, known = ss.features_at(table, space, moment)
        if customer in known:
            expected = alone[known.index(customer)]
            assert (matrix[row] != expected).nnz == 0
            assert expected.nnz > 3
    weekday = next(b for b in space.blocks if b.kind == "calendar")
    assert (matrix[1].indices >= weekday.start).all()
    as_table = pa.table(
        {
            "customer_id": ids,
            "as_of": pa.array(
                [CUTOFF, CUTOFF, CUTOFF, CUTOFF, later], pa.timestamp("us", tz="UTC")
            ),
        }
    )
    from_table, _ = ss.features_at(table, space, as_table)
    assert (from_table[4] != matrix[0]).nnz == 0
    assert (from_table[0] != matrix[3]).nnz == 0


def test_tables_from_elsewhere_are_read_as_parquet_files_are(shop: Shop, tmp_path: Path) -> None:
    space = shop.settings.feature_space()
    table = pa.table(
        {
            "event_id": ["1", "2"], "customer_id": pa.array([7, 8], pa.int64()),
            "event_type": pa.array(["view", "purchase"]).dictionary_encode(),
            "occurred_at": [START_MS, START_MS + DAY_MS], "category_id": ["tea", None],
            "attributes": [{"channel": "web"}, {"channel": None}], "unused": [1, 2],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "e.parquet")
    of_table = ss.features_at(table, space, CUTOFF)
    of_file = ss.features_at(tmp_path / "e.parquet", space, CUTOFF)
    assert of_table[1] == of_file[1] == ["7", "8"]
    assert (of_table[0] != of_file[0]).nnz == 0
    assert of_table[0].nnz > 2


@pytest.mark.parametrize(
    "moments", ["yesterday", datetime(2026, 1, 1), [("a", "2026-01-01")], ["ab"], [("a", 1, 2)]]
)
def test_a_moment_that_can_not_be_read_is_refused(shop: Shop, moments: Any) -> None:
    with pytest.raises(ss.InputError, match="moment"):
        ss.features_at(shop.events, shop.settings.feature_space(), moments)


def test_a_row_that_is_no_event_is_refused(shop: Shop) -> None:
    table = pa.table(
        {"event_id": ["1"], "customer_id": [""], "event_type": ["view"], "occurred_at": [1]}
    )
    with pytest.raises(ss.EventFileError, match="customer_id is empty"):
        ss.features_at(table, shop.settings.feature_space(), CUTOFF)
    with pytest.raises(ss.EventFileError, match="lacks the column customer_id"):
        ss.features_at(table.drop(["customer_id"]), shop.settings.feature_space(), CUTOFF)


def test_no_event_gives_no_row(shop: Shop) -> None:
    table = ss.read_events(shop.events).slice(0, 0)
    matrix, ids = ss.features_at(table, shop.settings.feature_space(), CUTOFF)
    assert (matrix.shape[0], ids) == (0, [])
