"""Events from every format come out alike, broken ones as dead letters with file and position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_scorer.core.avro.attributes import attribute
from stream_scorer.core.avro.schemas import schema_json
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter, EventBatch, Reason
from stream_scorer.errors import EventFileError, InputError
from stream_scorer.io.files.events import EventFiles, open_events, write_events

START_MS = 1_500_000_000_000


def row(i: int) -> dict[str, Any]:
    return {
        "event_id": f"e{i}", "customer_id": f"Zoë-{i % 3}", "event_type": "purchase",
        "category_id": None if i % 2 else "ICE", "product_id": f"p{i}",
        "value": None if i % 5 == 0 else i / 4, "occurred_at": START_MS + i,
        "attributes": {"basket": str(i)} if i % 3 else {},
    }  # fmt: skip


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, timezone.utc).isoformat(timespec="milliseconds")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(r + "\n" if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))


def opened(paths: Sequence[Path], batch_records: int = 10_000) -> EventFiles:
    return open_events(paths, batch_records=batch_records, max_record_bytes=100_000)


def read(
    paths: Sequence[Path], batch_records: int = 7
) -> tuple[list[EventBatch], list[DeadLetter]]:
    batches, dead_letters = [], []
    for batch in opened(paths, batch_records):
        assert len(batch) <= batch_records
        assert set(batch.origin.timestamps_ms.tolist()) == {NO_TIMESTAMP}
        assert len(batch.events) + len(batch.refused) == len(batch)
        batches.append(batch.events)
        dead_letters += batch.refused
    return batches, dead_letters


def rows_of(batches: list[EventBatch]) -> list[dict[str, Any]]:
    found = []
    for events in batches:
        basket = attribute(events, "basket")
        for i in range(len(events)):
            texts = ("event_id", "customer_id", "event_type", "category_id", "product_id")
            found.append({name: getattr(events, name)[i] for name in texts})
            found[-1]["value"] = float(events.value[i]) if events.has_value[i] else None
            found[-1]["occurred_at"] = int(events.occurred_at_ms[i])
            found[-1]["attributes"] = {} if basket[i] is None else {"basket": basket[i]}
    return found


def table(rows: list[dict[str, Any]], **types: pa.DataType) -> pa.Table:
    fields = {
        "event_id": pa.string(), "customer_id": pa.string(), "event_type": pa.string(),
        "category_id": pa.string(), "product_id": pa.string(), "value": pa.float64(),
        "occurred_at": pa.timestamp("ms", "UTC"),
        "attributes": pa.map_(pa.string(), pa.string()), **types,
    }  # fmt: skip
    listed = [{**r, "attributes": list(r["attributes"].items())} for r in rows]
    if pa.types.is_struct(fields["attributes"]):
        listed = rows
    return pa.Table.from_pylist(listed, schema=pa.schema(list(fields.items())))


def test_every_format_gives_the_same_events(tmp_path: Path) -> None:
    rows = [row(i) for i in range(30)]
    assert write_events(tmp_path / "events.avro", rows) == 30
    write_lines(tmp_path / "ms.jsonl", rows)
    write_lines(
        tmp_path / "iso.ndjson", [{**r, "occurred_at": iso(r["occurred_at"])} for r in rows]
    )
    pq.write_table(table(rows), tmp_path / "events.parquet", row_group_size=11)
    for path in sorted(tmp_path.iterdir()):
        batches, dead_letters = read([path])
        assert not dead_letters
        assert rows_of(batches) == rows
        assert [int(o) for b in batches for o in b.offsets] == list(range(30))
        assert {tp for b in batches for tp in b.partitions} == {(str(path), 0)}
        assert [len(b) for b in batches] == [7, 7, 7, 7, 2]


def test_files_can_be_read_twice(tmp_path: Path) -> None:
    write_events(tmp_path / "a.avro", [row(1)])
    files = opened([tmp_path])
    assert [len(b) for b in files] == [1]
    assert [len(b) for b in files] == [1]


def test_batches_run_across_files_in_the_order_given_and_directories_by_name(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "2017"
    (directory / "day=2").mkdir(parents=True)
    (directory / "_SUCCESS").touch()
    (directory / ".part.crc").write_bytes(b"crc")
    write_events(tmp_path / "last.avro", [row(9)])
    write_lines(directory / "day=2" / "b.jsonl", [row(2), row(3)])
    write_events(directory / "day=1.avro", [row(0), row(1)])
    batches, _ = read([directory, tmp_path / "last.avro"], batch_records=4)
    assert [b.event_id[i] for b in batches for i in range(len(b))] == ["e0", "e1", "e2", "e3", "e9"]
    assert [len(b) for b in batches] == [4, 1]
    assert batches[0].partition_index.tolist() == [0, 0, 1, 1]
    assert batches[0].offsets.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2"])
def test_any_writer_schema_of_a_container_that_resolves_is_read(tmp_path: Path, codec: str) -> None:
    ours = json.loads(schema_json("customer_event"))
    fields = [
        {"name": "session", "type": {"type": "array", "items": "long"}},
        *reversed(ours["fields"]),
        {"name": "shop", "type": ["null", "string"]},
    ]
    for field in fields:
        if field["name"] == "occurred_at":
            field["type"] = {"type": "long", "logicalType": "timestamp-micros"}
    rows = [row(i) for i in range(500)]
    written = [
        {**r, "occurred_at": r["occurred_at"] * 1000 + 999, "session": [1] * (i % 4), "shop": "x"}
        for i, r in enumerate(rows)
    ]
    schema = fastavro.parse_schema({**ours, "namespace": "elsewhere", "fields": fields})
    with (tmp_path / "events.avro").open("wb") as stream:
        fastavro.writer(stream, schema, written, codec=codec, sync_interval=2000)
    # One of our own schema beside it: the two differ only in what fingerprints leave out.
    write_events(tmp_path / "ours.avro", rows)
    batches, dead_letters = read([tmp_path], batch_records=300)
    assert not dead_letters
    assert rows_of(batches) == rows + rows


def test_broken_lines_become_dead_letters_with_file_and_position(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [
        row(0), "", "{broken", row(1), {**row(2), "customer_id": None}, "[1]",
        {**row(3), "occurred_at": "2017-10-01T00:00:00"}, {**row(4), "occurred_at": "yesterday"},
        {**row(5), "attributes": {"a": [1]}}, "\x00\x00\x00\x00\x01",
        json.dumps({**row(6), "product_id": "?"}).replace("?", "\\ud800"), row(7),
    ]  # fmt: skip
    write_lines(path, lines)
    batches, dead_letters = read([path])
    assert [r["event_id"] for r in rows_of(batches)] == ["e0", "e1", "e7"]
    assert {
        (dead_letter.topic, dead_letter.partition, dead_letter.reason)
        for dead_letter in dead_letters
    } == {(str(path), 0, Reason.UNDECODABLE)}
    said = {dead_letter.offset: dead_letter.detail for dead_letter in dead_letters}
    assert list(said) == [2, 4, 5, 6, 7, 8, 9, 10]
    assert said[2].startswith("line 3: not JSON (Expecting property name")
    assert said[4] == "line 5: null in customer_id"
    assert said[5] == "line 6: not a JSON object"
    assert "add a zone" in said[6]
    assert "ISO 8601" in said[7]
    assert "attributes.a" in said[8]
    assert "surrogate" in said[10]
    assert dead_letters[0].value == b"{broken"
    assert dead_letters[6].value == b"\x00\x00\x00\x00\x01"


def test_a_line_without_end_is_cut_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    # Its first part alone would be an event.
    write_lines(path, [row(0), json.dumps(row(2)) + " " * 5000 + "x", row(1)])
    batches = list(open_events([path], max_record_bytes=100_000, max_block_bytes=1000))
    assert [r["event_id"] for r in rows_of([b.events for b in batches])] == ["e0", "e1"]
    ((refused,),) = ([d for b in batches for d in b.refused],)
    assert (refused.offset, refused.detail) == (1, "line 2: has more than 1000 bytes")
    assert refused.value == (json.dumps(row(2)) + " " * 1000).encode()[:1000]


def test_a_zone_is_honoured_in_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write_lines(
        path,
        [
            {**row(0), "occurred_at": "2017-10-01T02:00:00+02:00"},
            {**row(1), "occurred_at": "2017-10-01T00:00:00.5Z".replace(".5", ".500")},
        ],
    )
    batches, _ = read([path])
    assert [r["occurred_at"] for r in rows_of(batches)] == [1_506_816_000_000, 1_506_816_000_500]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_times_of_any_unit_come_in_milliseconds(tmp_path: Path, unit: str) -> None:
    moments = pa.array([START_MS, START_MS + 1000, -1000]).cast(pa.timestamp("ms", "Asia/Tokyo"))
    plain = table([row(i) for i in range(3)])
    at = plain.schema.get_field_index("occurred_at")
    moved = plain.set_column(at, "occurred_at", moments.cast(pa.timestamp(unit, "Asia/Tokyo")))
    pq.write_table(moved, tmp_path / "e.parquet", coerce_timestamps=None)
    batches, _ = read([tmp_path])
    assert [r["occurred_at"] for r in rows_of(batches)] == [START_MS, START_MS + 1000, -1000]


def test_parquet_may_have_other_types_and_a_struct_of_attributes(tmp_path: Path) -> None:
    rows = [row(i) for i in range(20)]
    basket = pa.struct([("basket", pa.string()), ("none", pa.int32())])
    other = table(
        rows, customer_id=pa.dictionary(pa.int32(), pa.string()), event_id=pa.large_string(),
        value=pa.float32(), occurred_at=pa.int64(), attributes=basket,
    )  # fmt: skip
    shuffled = other.select(list(reversed(other.column_names))).append_column(
        "extra", pa.nulls(20, pa.list_(pa.int8()))
    )
    pq.write_table(shuffled, tmp_path / "e.parquet")
    batches, dead_letters = read([tmp_path])
    assert not dead_letters
    assert rows_of(batches) == rows


def test_a_struct_of_attributes_is_read_over_row_groups(tmp_path: Path) -> None:
    """A batch that spans two of them, each with texts of its own."""
    rows = [row(i) for i in range(30)]
    attributes = pa.array(
        [{"basket": str(i)} for i in range(30)], pa.struct([("basket", "string")])
    )
    plain = table(rows)
    at = plain.schema.get_field_index("attributes")
    pq.write_table(
        plain.set_column(at, "attributes", attributes), tmp_path / "e.parquet", row_group_size=11
    )
    batches, dead_letters = read([tmp_path / "e.parquet"])
    assert not dead_letters
    expected = [{**r, "attributes": {"basket": str(i)}} for i, r in enumerate(rows)]
    assert rows_of(batches) == expected


def test_parquet_without_optional_columns_is_read(tmp_path: Path) -> None:
    rows = [
        {**row(i), "category_id": None, "product_id": None, "value": None, "attributes": {}}
        for i in range(3)
    ]
    kept = table(rows).select(["occurred_at", "event_type", "customer_id", "event_id"])
    pq.write_table(kept, tmp_path / "e.parquet")
    assert rows_of(read([tmp_path])[0]) == rows


def test_parquet_rows_without_a_required_field_become_dead_letters(tmp_path: Path) -> None:
    rows = [row(0), {**row(1), "customer_id": None}, row(2), {**row(3), "occurred_at": None}]
    pq.write_table(table(rows), tmp_path / "e.parquet")
    batches, dead_letters = read([tmp_path], batch_records=3)
    assert [r["event_id"] for r in rows_of(batches)] == ["e0", "e2"]
    assert [(dead_letter.offset, dead_letter.detail) for dead_letter in dead_letters] == [
        (1, "null in customer_id"), (3, "null in occurred_at"),
    ]  # fmt: skip
    assert dead_letters[0].value is not None
    assert json.loads(dead_letters[0].value)["event_id"] == "e1"


def test_parquet_text_that_is_not_utf8_becomes_a_dead_letter(tmp_path: Path) -> None:
    plain = table([row(i) for i in range(3)])
    at = plain.schema.get_field_index("category_id")
    offsets, data = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffc")
    spoilt = pa.Array.from_buffers(pa.string(), 3, [None, offsets, data])
    pq.write_table(plain.set_column(at, "category_id", spoilt), tmp_path / "e.parquet")
    batches, dead_letters = read([tmp_path])
    assert [r["category_id"] for r in rows_of(batches)] == ["a", "c"]
    assert [(dead_letter.offset, dead_letter.detail[:30]) for dead_letter in dead_letters] == [
        (1, "category_id: not valid UTF-8 a")
    ]


def test_null_attributes_are_absent(tmp_path: Path) -> None:
    maps = pa.array(
        [[("basket", "1"), ("x", None)], None, [("x", "2"), ("basket", "3")]],
        pa.map_(pa.string(), pa.string()),
    )
    plain = table([row(i) for i in range(3)])
    at = plain.schema.get_field_index("attributes")
    pq.write_table(plain.set_column(at, "attributes", maps), tmp_path / "e.parquet")
    batches, _ = read([tmp_path], batch_records=2)
    found = [r["attributes"].get("basket") for r in rows_of(batches)]
    assert found == ["1", None, "3"]


def broken_block(tmp_path: Path, damage: Any) -> Path:
    """Three blocks of 10 events; `damage` changes the bytes of the second one's records."""
    path = tmp_path / "events.avro"
    schema = fastavro.parse_schema(json.loads(schema_json("customer_event")))
    with path.open("wb") as stream:
        writer = fastavro.write.Writer(stream, schema, codec="null")
        for i in range(30):
            writer.write(row(i))
            if i % 10 == 9:
                writer.flush()
    path.write_bytes(damage(path.read_bytes()))
    return path


def test_a_broken_record_costs_the_rest_of_its_block_one_dead_letter(tmp_path: Path) -> None:
    def damage(data: bytes) -> bytes:
        at = data.index(b"\x06e13")
        return data[:at] + b"\x07" + data[at + 1 :]  # a negative length

    path = broken_block(tmp_path, damage)
    batches, dead_letters = read([path])
    good = [r["event_id"] for r in rows_of(batches)]
    assert good == [f"e{i}" for i in (*range(13), *range(20, 30))]
    assert [
        (dead_letter.topic, dead_letter.offset, dead_letter.reason) for dead_letter in dead_letters
    ] == [(str(path), 13, Reason.UNDECODABLE)]
    assert "event_id: a negative length" in dead_letters[0].detail
    assert [int(o) for b in batches for o in b.offsets] == [*range(13), *range(20, 30)]


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.995])
def test_a_container_that_is_cut_short_raises_after_its_good_part(
    tmp_path: Path, keep: float
) -> None:
    path = broken_block(tmp_path, lambda data: data[: int(len(data) * keep)])
    with pytest.raises(EventFileError, match=r"events\.avro") as caught:
        list(opened([path], 5))
    assert "copy it again" in caught.value.remedy


def test_a_flipped_sync_marker_raises(tmp_path: Path) -> None:
    path = broken_block(tmp_path, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    read_before: list[object] = []
    with pytest.raises(EventFileError, match="after 20 records"):
        read_before.extend(opened([path], 5))
    assert len(read_before) == 4


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.avro", b"Obj\x01garbage", "not a readable Avro container"),
        ("a.parquet", b"PAR1garbage", "not readable as Parquet"),
        ("a.txt", b"hello", "not an event file"),
        ("a.csv", b"", "is empty"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(EventFileError, match=says) as caught:
        list(opened([tmp_path / name]))
    assert str(tmp_path / name) in str(caught.value)


def test_missing_and_empty_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(EventFileError, match="No such file"):
        opened([tmp_path / "absent.avro"])
    with pytest.raises(EventFileError, match="holds no files"):
        opened([tmp_path])
    (tmp_path / "empty.jsonl").touch()
    assert list(opened([tmp_path])) == []
    write_events(tmp_path / "none.avro", [])
    assert list(opened([tmp_path / "none.avro"])) == []


def test_a_codec_whose_library_is_absent_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.avro"
    write_events(path, [row(0)], codec="deflate")
    path.write_bytes(path.read_bytes().replace(b"\x0edeflate", b"\x0eno-such"))
    with pytest.raises(EventFileError, match="codec"):
        list(opened([path]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"occurred_at": pa.timestamp("ms")}, "no time zone"),
        ({"occurred_at": pa.bool_()}, "occurred_at is bool"),
        ({"value": pa.string()}, "value is string"),
    ],
)
def test_parquet_columns_of_an_unfit_type_are_named(
    tmp_path: Path, change: dict[str, pa.DataType], says: str
) -> None:
    fitting = table([row(1)])
    for name, kind in change.items():
        at = fitting.schema.get_field_index(name)
        fitting = fitting.set_column(at, name, pa.nulls(1, kind))
    pq.write_table(fitting, tmp_path / "e.parquet")
    with pytest.raises(EventFileError, match=says):
        list(opened([tmp_path]))
    pq.write_table(table([row(1)]).drop(["event_type"]), tmp_path / "e.parquet")
    with pytest.raises(EventFileError, match="lacks the column event_type"):
        list(opened([tmp_path]))


def test_writing_a_wrong_row_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="customer_id"):
        write_events(tmp_path / "e.avro", [{**row(0), "customer_id": 5}])
    with pytest.raises(EventFileError, match="can't be opened"):
        write_events(tmp_path / "absent" / "e.avro", [row(0)])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    write_events(tmp_path / "old.avro", [row(0)])
    before = (tmp_path / "old.avro").read_bytes()

    def writer(stream: IO[bytes], *_: object, **__: object) -> None:
        stream.write(b"half of a")
        raise error

    monkeypatch.setattr(fastavro, "writer", writer)
    for name in ("old.avro", "new.avro"):
        with pytest.raises((KeyboardInterrupt, EventFileError)):
            write_events(tmp_path / name, [row(1)])
    assert [p.name for p in tmp_path.iterdir()] == ["old.avro"]
    assert (tmp_path / "old.avro").read_bytes() == before


def test_positions_and_values_of_a_large_container_agree(tmp_path: Path) -> None:
    write_events(tmp_path / "e.avro", (row(i) for i in range(5000)))
    batches, dead_letters = read([tmp_path], batch_records=1024)
    assert not dead_letters
    offsets = np.concatenate([b.offsets for b in batches])
    assert offsets.tolist() == list(range(5000))
    assert [r["product_id"] for r in rows_of(batches)] == [f"p{i}" for i in range(5000)]
