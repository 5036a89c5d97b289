"""Events as other tools write them: read as they are meant, or refused in one line."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_scorer.core.avro.attributes import attribute
from stream_scorer.core.events.batch import DeadLetter, EventBatch
from stream_scorer.core.events.decoded import join_batches
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.arrow_events import events_of
from stream_scorer.io.files.events import open_events
from stream_scorer.io.files.limits import ReadLimits
from stream_scorer.io.files.parquet_events import event_rows

START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
START_MS = int(START.timestamp() * 1000)
MAP = pa.map_(pa.string(), pa.string())


def plain(n: int = 3) -> dict[str, pa.Array]:
    """Columns as pyarrow would write them, of n events of three customers."""
    return {
        "event_id": pa.array([f"e{i}" for i in range(n)]),
        "customer_id": pa.array(["abc"[i % 3] for i in range(n)]),
        "event_type": pa.array(["purchase"] * n),
        "category_id": pa.array(["bread"] * n),
        "value": pa.array([2.5] * n),
        "occurred_at": pa.array([START] * n, pa.timestamp("us", "UTC")),
    }


def written(path: Path, **changed: pa.Array) -> Path:
    n = len(next(iter(changed.values()), [None] * 3))
    pq.write_table(pa.table(plain(n) | changed), path / "events.parquet")
    return path / "events.parquet"


def read(path: Path) -> tuple[EventBatch, list[DeadLetter]]:
    whole = join_batches(list(open_events([path], max_record_bytes=100_000)))
    return whole.events, whole.refused


def texts(events: EventBatch, name: str) -> list[str | None]:
    column = getattr(events, name)
    return [column[i] for i in range(len(events))]


def attributes(events: EventBatch, *names: str) -> list[dict[str, str]]:
    """Of each event the attributes of these names that it has."""
    columns = {name: attribute(events, name) for name in names}
    return [
        {name: text for name, c in columns.items() if (text := c[i]) is not None}
        for i in range(len(events))
    ]


U = [UUID(int=0), UUID(int=2**128 - 1), UUID("12345678-9abc-def0-1234-56789abcdef0")]
ABC = ["a", "b", "c"]
ONE, SEVEN = bytes(15) + b"a", bytes(3) + b"\7"  # valid UTF-8, and no text


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pa.array(ABC, pa.large_string()), ABC),
        (pa.array(ABC, pa.string_view()), ABC),
        (pa.array(ABC, pa.binary()), ABC),
        (pa.array(ABC, pa.large_binary()), ABC),
        (pa.array(ABC, pa.binary(1)), ABC),
        (pa.array(["Zoë", "b", "c"], pa.binary()), ["Zoë", "b", "c"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([7, -1, 2**62]), ["7", "-1", str(2**62)]),
        (pa.array([1, 2, 2**64 - 1], pa.uint64()), ["1", "2", str(2**64 - 1)]),
        (pa.array([1, 2, 3], pa.int8()), ["1", "2", "3"]),
        (pa.array([5.0, 12345678901.0, -0.0]), ["5", "12345678901", "0"]),
        (pa.array([5, 16777215, 1], pa.float32()), ["5", "16777215", "1"]),
        (pa.array([5, 5, 1e15]).dictionary_encode(), ["5", "5", "1000000000000000"]),
        (
            pa.array([Decimal(7), Decimal(10**30), Decimal(0)], pa.decimal128(38, 0)),
            ["7", str(10**30), "0"],
        ),
        (
            pa.array([Decimal(700), Decimal(0), Decimal(-3)], pa.decimal128(38, 10)),
            ["700", "0", "-3"],
        ),
        (pa.array([u.bytes for u in U], pa.uuid()), [str(u) for u in U]),
    ],
    ids=lambda given: str(given.type)[:40] if isinstance(given, pa.Array) else "",
)
def test_ids_of_any_type_that_names_a_thing_are_read_as_text(
    tmp_path: Path, column: pa.Array, ids: list[str]
) -> None:
    for name in ("customer_id", "event_id", "category_id"):
        events, refused = read(written(tmp_path, **{name: column}))
        assert not refused
        assert texts(events, name) == ids


@pytest.mark.parametrize(
    ("column", "detail"),
    [
        (pa.array([5.0, float("nan"), 6.0]), "null in customer_id"),
        # 16777217 becomes 16777216 in 32 bits: the id may be that of another customer.
        (
            pa.array([5, 16777216, 6], pa.float32()),
            "customer_id: '16777216.0': give text or whole numbers",
        ),
        (
            pa.array(np.array([5, 2048, 6], np.float16)),
            "customer_id: '2048.0': give text or whole numbers",
        ),
        # A UUID without its annotation, which would be valid UTF-8.
        (
            pa.array([b"5".zfill(16), ONE, b"6".zfill(16)], pa.binary(16)),
            f"customer_id: {str(ONE)!r}: is not text; give text, whole numbers",
        ),
        (
            pa.array([b"5", SEVEN, b"6"], pa.binary()),
            f"customer_id: {str(SEVEN)!r}: is not text; give text, whole numbers",
        ),
        (pa.array([5.0, 1.5, 6.0]), "customer_id: '1.5': give text or whole numbers"),
        (pa.array([5.0, 2.0**53, 6.0]), f"customer_id: '{2.0**53}': give text or whole numbers"),
        (pa.array([5.0, float("inf"), 6.0]), "customer_id: 'inf': give text or whole numbers"),
        (
            pa.array([5.0, 1.5, 6.0]).dictionary_encode(),
            "customer_id: '1.5': give text or whole numbers",
        ),
        (
            pa.array([Decimal(5), Decimal("1.5"), Decimal(6)], pa.decimal128(9, 2)),
            "customer_id: '1.50': give text or whole numbers",
        ),
        (pa.array([b"5", b"\xff\xfe", b"6"]), "customer_id: not valid UTF-8"),
        (pa.array([b"5", None, b"6"]), "null in customer_id"),
        (pa.array([U[0].bytes, None, U[1].bytes], pa.uuid()), "null in customer_id"),
    ],
    ids=lambda given: str(given.type)[:40] if isinstance(given, pa.Array) else given,
)
def test_an_id_that_names_nothing_is_one_refused_record_with_its_column(
    tmp_path: Path, column: pa.Array, detail: str
) -> None:
    events, refused = read(written(tmp_path, customer_id=column))
    assert texts(events, "event_id") == ["e0", "e2"]
    if not isinstance(column[0].as_py(), UUID):
        assert [int(c or "") for c in texts(events, "customer_id")] == [5, 6]
    assert [(d.offset, d.detail[: len(detail)]) for d in refused] == [(1, detail)]


def test_a_missing_number_is_a_missing_category(tmp_path: Path) -> None:
    events, refused = read(written(tmp_path, category_id=pa.array([1.0, float("nan"), None])))
    assert not refused
    assert texts(events, "category_id") == ["1", None, None]


@pytest.mark.parametrize(
    ("name", "column", "says"),
    [
        ("customer_id", pa.array([True, False, True]), "customer_id is bool; give text or whole"),
        ("event_id", pa.array([START] * 3), "event_id is timestamp"),
        ("category_id", pa.array([["a"]] * 3), "category_id is list"),
        ("product_id", pa.array([{"id": 1}] * 3), "product_id is struct"),
        ("occurred_at", pa.array([dt.time(1)] * 3), "occurred_at is time64"),
        ("occurred_at", pa.array([b"2026"] * 3), "occurred_at is binary"),
        ("occurred_at", pa.array([START.replace(tzinfo=None)] * 3), "no time zone"),
        ("occurred_at", pa.array([True] * 3), "occurred_at is bool"),
        ("value", pa.array(["n/a"] * 3), "value is string"),
        ("attributes", pa.array(["{}"] * 3), "attributes is string; give a map"),
        ("attributes", pa.array([["a"]] * 3), "attributes is list"),
        ("attributes", pa.array([{"a": [1]}] * 3), "attributes: a is list"),
        ("attributes", pa.array([{"a": {"b": 1}}] * 3), "attributes: a is struct"),
        ("attributes", pa.array([[("a", [1])]] * 3, pa.map_("string", pa.list_(pa.int8()))),
         "attributes: a value is list"),
    ],
    ids=lambda given: str(given.type)[:40] if isinstance(given, pa.Array) else given,
)  # fmt: skip
def test_a_column_that_is_no_such_thing_is_one_line(
    tmp_path: Path, name: str, column: pa.Array, says: str
) -> None:
    path = written(tmp_path, **{name: column})
    with pytest.raises(EventFileError) as caught:
        read(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_that_is_there_twice_is_one_line(tmp_path: Path) -> None:
    columns = plain()
    table = pa.table([*columns.values(), columns["customer_id"]], [*columns, "customer_id"])
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(EventFileError, match="has 2 columns with the name customer_id"):
        read(tmp_path)
    # A column that is not read may be there as often as it likes.
    table = pa.table([*columns.values(), *[columns["value"]] * 2], [*columns, "x", "x"])
    pq.write_table(table, tmp_path / "e.parquet")
    assert len(read(tmp_path)[0]) == 3
    twice = pa.StructArray.from_arrays([pa.array(ABC)] * 2, ["q", "q"])
    with pytest.raises(EventFileError, match="attributes has the field q twice"):
        read(written(tmp_path, attributes=twice))


def test_files_of_one_directory_may_have_columns_of_their_own(tmp_path: Path) -> None:
    variants: dict[str, dict[str, pa.Array]] = {
        "text": {},
        "number": {"customer_id": pa.array([1, 2, 3])},
        "uuid": {"customer_id": pa.array([u.bytes for u in U], pa.uuid())},
        "words": {"category_id": pa.array(ABC).dictionary_encode()},
        "map": {"attributes": pa.array([[("q", "1")], None, []], MAP)},
        "struct": {"attributes": pa.array([{"q": 1, "r": True}] * 3)},
        "null": {"attributes": pa.nulls(3), "value": pa.nulls(3)},
        "cents": {"value": pa.array([Decimal("2.50")] * 3)},
        "ms": {"occurred_at": pa.array([START_MS] * 3)},
    }
    for name, changed in variants.items():
        pq.write_table(pa.table(plain() | changed), tmp_path / f"{name}.parquet")
    columns = plain()
    del columns["value"], columns["category_id"]
    pq.write_table(pa.table(columns), tmp_path / "few.parquet")
    batches = list(open_events([tmp_path], max_record_bytes=100_000, batch_records=7))
    assert sum(len(b.events) for b in batches) == 30
    assert not [d for b in batches for d in b.refused]
    assert {int(ms) for b in batches for ms in b.events.occurred_at_ms} == {START_MS}


def test_times_of_int96_are_utc(tmp_path: Path) -> None:
    """Spark's default. Year 9999 does not fit into int64 nanoseconds, which is what Arrow makes."""
    moments = [START, dt.datetime(1969, 12, 31, 23, 59, 59, 999000), None,
               dt.datetime(9999, 12, 31)]  # fmt: skip
    columns = plain(4) | {"occurred_at": pa.array(
        [m and m.replace(tzinfo=None) for m in moments], pa.timestamp("us"))}  # fmt: skip
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table(columns), path, use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(path).schema.column(5).physical_type == "INT96"
    events, refused = read(path)
    assert events.occurred_at_ms.tolist() == [START_MS, -1, 253402214400000]
    assert [(d.offset, d.detail) for d in refused] == [(2, "null in occurred_at")]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+02:00"])
def test_times_with_any_zone_are_the_same_moments(tmp_path: Path, unit: str, zone: str) -> None:
    moments = pa.array([START] * 3, pa.timestamp(unit, zone))
    events, _ = read(written(tmp_path, occurred_at=moments))
    assert events.occurred_at_ms.tolist() == [START_MS] * 3


@pytest.mark.parametrize(
    "column",
    [
        pa.array([dt.date(2026, 1, 1), None, dt.date(2026, 1, 2)], pa.date32()),
        pa.array([dt.date(2026, 1, 1), None, dt.date(2026, 1, 2)], pa.date64()),
        pa.array([START_MS, float("nan"), START_MS + 86_400_000], pa.float64()),
        *(
            pa.array(["2026-01-01T00:00:00Z", None, "2026-01-02T01:00:00+01:00"], kind)
            for kind in (pa.string(), pa.large_string(), pa.string_view())
        ),
        pa.array(["2026-01-01T00:00Z", None, "2026-01-02T00:00:00.000999Z"]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_times_of_any_type_are_what_they_are_in_avro_and_json(
    tmp_path: Path, column: pa.Array
) -> None:
    """A date is its midnight UTC, as Avro's date is."""
    events, refused = read(written(tmp_path, occurred_at=column))
    assert events.occurred_at_ms.tolist() == [START_MS, START_MS + 86_400_000]
    assert [(r.offset, r.detail) for r in refused] == [(1, "null in occurred_at")]


@pytest.mark.parametrize(
    ("column", "detail"),
    [
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00Z"], "with a zone"),
        (["2026-01-01T00:00:00Z", "yesterday", "2026-01-01T00:00:00Z"], "with a zone"),
        ([float(START_MS), 1767225600.5, float(START_MS)], "give whole milliseconds since 1970"),
        ([float(START_MS), float("inf"), float(START_MS)], "give whole milliseconds since 1970"),
    ],
)
def test_a_time_that_can_not_be_read_is_one_refused_record(
    tmp_path: Path, column: list[object], detail: str
) -> None:
    for given in (pa.array(column), pa.array(column).dictionary_encode()):
        events, refused = read(written(tmp_path, occurred_at=given))
        assert events.occurred_at_ms.tolist() == [START_MS, START_MS]
        assert [r.offset for r in refused] == [1]
        assert refused[0].detail.startswith(f"occurred_at: '{column[1]}': ")
        assert detail in refused[0].detail


def test_bytes_that_are_no_utf8_in_a_row_with_a_gap_are_one_refused_record(tmp_path: Path) -> None:
    broken = pa.array([b"a", b"\xff", b"c"]).cast(pa.binary()).view(pa.string())
    path = written(tmp_path, product_id=broken, customer_id=pa.array(["a", None, "c"]))
    events, refused = read(path)
    assert texts(events, "customer_id") == ["a", "c"]
    assert [r.detail for r in refused] == ["null in customer_id"]


def test_a_file_without_rows_has_no_events(tmp_path: Path) -> None:
    """pandas and Arrow write a row group of no rows, which has no pages."""
    table = pa.table(plain()).slice(0, 0)
    pq.write_table(table, tmp_path / "none.parquet")
    assert pq.ParquetFile(tmp_path / "none.parquet").num_row_groups == 1
    pq.ParquetWriter(tmp_path / "no_groups.parquet", table.schema).close()
    for name in ("none.parquet", "no_groups.parquet"):
        assert list(open_events([tmp_path / name], max_record_bytes=1000)) == []
    with pq.ParquetWriter(tmp_path / "some.parquet", table.schema) as writer:
        for part in (table, pa.table(plain()), table):
            writer.write_table(part)
    events, refused = read(tmp_path / "some.parquet")
    assert (len(events), refused) == (3, [])


@pytest.mark.parametrize("kind", [pa.decimal128(20, 2), pa.decimal256(60, 2)])
def test_a_decimal_is_the_same_double_as_in_json(tmp_path: Path, kind: pa.DataType) -> None:
    cents = [110, 330, 1_000_000_000_001]
    column = pa.array([Decimal(n) / 100 for n in cents], kind)
    events, _ = read(written(tmp_path, value=column))
    assert events.value.tolist() == [1.1, 3.3, 10_000_000_000.01]


@pytest.mark.parametrize(
    ("most_record", "most_block", "said"),
    [
        (1000, 10**6, "more bytes than events.max_record_bytes, 1000; shorten them, or raise that"),
        (10**6, 1000, "more bytes than events.max_block_bytes, 1000; shorten them, or raise that"),
    ],
)
def test_attributes_that_are_too_long_name_the_limit_that_they_met(
    most_record: int, most_block: int, said: str
) -> None:
    rows = pa.RecordBatch.from_pydict(
        plain(1) | {"attributes": pa.array([[("k", "x" * 2000)]], MAP)}
    )
    limits = ReadLimits(10, most_record, most_block)
    (found,) = event_rows(rows, "table", 0, limits)
    assert found.unfit[0].detail == f"attributes: '...': {said}"


def test_times_that_cannot_be_counted_are_refused_records(tmp_path: Path) -> None:
    numbers = pa.array([START_MS, 2**63 + 5, START_MS], pa.uint64())
    events, refused = read(written(tmp_path, occurred_at=numbers))
    assert events.occurred_at_ms.tolist() == [START_MS] * 2
    assert refused[0].detail.startswith("occurred_at: '9223372036854775813': is beyond")


def test_a_time_in_seconds_that_overflows_is_refused_and_not_wrapped_round() -> None:
    # 2^64 / 1000 seconds are 384 ms after 1970 where milliseconds wrap round.
    seconds = pa.array([2**64 // 1000 + 1767225600, 0, -(2**62)], pa.int64())
    decoded = events_of(pa.table(plain() | {"occurred_at": seconds.cast(pa.timestamp("s", "UTC"))}))
    assert decoded.events.occurred_at_ms.tolist() == [0]
    assert [d.offset for d in decoded.refused] == [0, 2]
    assert all("is beyond the times" in d.detail for d in decoded.refused)


PAIRS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
SHOWN = {"q": "1", "r": "true"}


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[("q", "1"), ("r", "true")]], MAP),
        pa.array([[("q", "1"), ("r", "true"), ("s", None)]], MAP),
        pa.array([{"q": 1, "r": True, "s": None}]),
        pa.array([{"q": 1.0, "r": "true", "s": float("nan")}]),
        pa.array([{"q": Decimal("1.00"), "r": b"true"}]),
        pa.array([[{"key": "q", "value": "1"}, {"key": "r", "value": "true"}]], PAIRS),
        pa.array(
            [[{"key": "q", "value": "1"}, {"key": "r", "value": "true"}]],
            pa.large_list(PAIRS.value_type),
        ),
    ],
    ids=lambda column: str(column.type)[:60],
)
def test_attributes_of_any_shape_are_text(tmp_path: Path, column: pa.Array) -> None:
    column = pa.concat_arrays([column, pa.nulls(1, column.type), column])
    events, refused = read(written(tmp_path, attributes=column))
    assert not refused
    assert attributes(events, "q", "r", "s") == [SHOWN, {}, SHOWN]


@pytest.mark.parametrize(
    "number", [0, -7, 2**53 + 1, 1.0, 0.1, -2.5, 1e-7, 1e22, 123456789.0, 2.0**53, True, False]
)
def test_a_number_is_the_same_text_in_json_and_parquet(tmp_path: Path, number: float) -> None:
    """Otherwise one attribute would be two words of a vocabulary."""
    row = {"event_id": "e", "customer_id": "c", "event_type": "purchase", "occurred_at": START_MS,
           "attributes": {"x": number}}  # fmt: skip
    (tmp_path / "lines.jsonl").write_text(json.dumps(row) + "\n")
    lines, refused = read(tmp_path / "lines.jsonl")
    assert not refused
    struct = pa.array([{"x": number}] * 3)
    table, _ = read(written(tmp_path, attributes=struct))
    maps = pa.array([[("x", number)]] * 3, pa.map_(pa.string(), struct.type[0].type))
    mapped, _ = read(written(tmp_path, attributes=maps))
    found = attributes(lines, "x") + attributes(table, "x")[:1] + attributes(mapped, "x")[:1]
    assert found == [found[0]] * 3
    assert found[0]["x"] == (str(number).lower() if number not in (1.0, 123456789.0)
                             or number is True else str(int(number)))  # fmt: skip


def test_files_of_polars_duckdb_and_pandas_are_read(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {
            "event_id": ["e0", "e1", "e2"], "customer_id": [1, 2, None],
            "event_type": polars.Series(["purchase"] * 3, dtype=polars.Categorical),
            "category_id": polars.Series(["bread"] * 3, dtype=polars.Enum(["bread", "wine"])),
            "occurred_at": [START] * 3,
            "attributes": [[{"key": "q", "value": "1"}], [], [{"key": "q", "value": None}]],
        }
    )  # fmt: skip
    frame.write_parquet(tmp_path / "polars.parquet")
    events, refused = read(tmp_path / "polars.parquet")
    assert texts(events, "customer_id") == ["1", "2"]
    assert texts(events, "category_id") == ["bread", "bread"]
    assert attributes(events, "q") == [{"q": "1"}, {}]
    assert [d.detail for d in refused] == ["null in customer_id"]

    frame.to_pandas().to_parquet(tmp_path / "pandas.parquet")
    events, refused = read(tmp_path / "pandas.parquet")
    assert texts(events, "customer_id") == ["1", "2"]
    assert [d.detail for d in refused] == ["null in customer_id"]
    assert isinstance(pandas.read_parquet(tmp_path / "pandas.parquet").customer_id[0], np.float64)

    duckdb.sql(
        "copy (select uuid() event_id, 9007199254740993::bigint "
        "customer_id, 'purchase' event_type, 1.50::decimal(9, 2) value, "
        "timestamptz '2026-01-01 00:00:00+00' occurred_at, map {'q': 1} attributes) "
        f"to '{tmp_path / 'duckdb.parquet'}'"
    )
    events, refused = read(tmp_path / "duckdb.parquet")
    assert len(UUID(events.event_id[0]).bytes) == 16
    assert attributes(events, "q") == [{"q": "1"}]
    assert events.value.tolist() == [1.5]
    assert not refused
    assert texts(events, "customer_id") == ["9007199254740993"]
