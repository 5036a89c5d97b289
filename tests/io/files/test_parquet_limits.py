"""What a Parquet file becomes in memory is known from its pages' headers, and limited."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from peak_memory import forget_peak

from stream_scorer.core.events.batch import Reason
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.events import open_events
from stream_scorer.io.files.limits import ReadLimits
from stream_scorer.io.files.parquet_pages import ReadingPlan, reading_plan
from stream_scorer.runtime import peak_memory_bytes

START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
MIB = 2**20
MAP = pa.map_(pa.string(), pa.string())


def columns(n: int) -> dict[str, pa.Array]:
    return {
        "event_id": pa.array([f"e{i}" for i in range(n)]),
        "customer_id": pa.array(["c"] * n),
        "event_type": pa.array(["purchase"] * n),
        "occurred_at": pa.array([START] * n, pa.timestamp("us", "UTC")),
    }


def written(path: Path, n: int, changed: dict[str, pa.Array], **options: Any) -> Path:
    file = path / "events.parquet"
    pq.write_table(pa.table(columns(n) | changed), file, **options)
    return file


def read(path: Path, **limits: int) -> list[DecodedBatch]:
    return list(open_events([path], **{"max_record_bytes": 100_000, **limits}))


def counts(path: Path, **limits: int) -> tuple[int, int]:
    """How many events and refused records; no batch is kept."""
    events = refused = 0
    for batch in open_events([path], **{"max_record_bytes": 100_000, **limits}):
        events += len(batch.events)
        refused += len(batch.refused)
        assert {d.reason for d in batch.refused} <= {Reason.OVERSIZED, Reason.UNDECODABLE}
    return events, refused


@pytest.mark.parametrize("name", ["event_id", "customer_id"])
def test_a_page_that_becomes_too_large_is_one_line_and_not_decompressed(
    tmp_path: Path, name: str
) -> None:
    large = {name: pa.array(["x" * 100 * MIB, "b", "c"])}
    path = written(tmp_path, 3, large, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < MIB
    del large
    forget_peak()
    before = peak_memory_bytes()
    with pytest.raises(EventFileError) as caught:
        read(path, max_block_bytes=MIB)
    assert f"a page of the column {name} has 1048576" in str(caught.value)
    assert "events.max_block_bytes, 1048576" in str(caught.value)
    assert str(path) in str(caught.value)
    assert peak_memory_bytes() - before < 30 * MIB


LONG = "x" * 200_000
N = 2000


def shapes() -> dict[str, dict[str, pa.Array]]:
    """400 MB of texts each, of which a file holds one."""
    codes = pa.array([0] * N, pa.int32())
    texts = pa.DictionaryArray.from_arrays(codes, pa.array([LONG]))
    offsets = pa.array(range(N + 1), pa.int32())
    keys = pa.array(["q"] * N)
    return {
        "event_id": {"event_id": texts},
        "customer_id": {"customer_id": texts},
        "map": {"attributes": pa.MapArray.from_arrays(offsets, keys, texts)},
        "struct": {"attributes": pa.StructArray.from_arrays([texts, keys], ["q", "r"])},
    }


@pytest.mark.parametrize("shape", ["event_id", "customer_id", "map", "struct"])
def test_one_long_text_of_many_rows_is_never_in_memory_for_all_of_them(
    tmp_path: Path, shape: str
) -> None:
    path = written(tmp_path, N, shapes()[shape], compression="zstd", store_schema=False)
    assert path.stat().st_size < MIB
    forget_peak()
    before = peak_memory_bytes()
    assert counts(path, max_block_bytes=8 * MIB) == (0, N)
    assert peak_memory_bytes() - before < 150 * MIB
    # With a record as long as that allowed, the rows are events.
    assert counts(path, max_block_bytes=8 * MIB, max_record_bytes=MIB) == (N, 0)


def test_a_row_with_more_attributes_than_a_record_may_have_is_refused_by_name(
    tmp_path: Path,
) -> None:
    few, many = [("q", "1")], [("q", LONG)] * 1000
    path = written(tmp_path, 3, {"attributes": pa.array([few, many, few], MAP)})
    (batch,) = read(path)
    assert batch.events.offsets.tolist() == [0, 2]
    (refused,) = batch.refused
    said = "more bytes than events.max_record_bytes, 100000; shorten them, or raise that"
    assert (refused.offset, refused.detail) == (1, f"attributes: '...': {said}")
    assert len(refused.value or b"") < 1000


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_columns_of_every_encoding_of_text_are_read(
    tmp_path: Path, encoding: str, version: str
) -> None:
    """Arrow can't read the delta encodings as dictionaries."""
    names = ["event_id", "customer_id", "event_type", "attributes.q"]
    attributes = pa.array([{"q": f"w{i}"} for i in range(500)])
    path = written(
        tmp_path, 500, {"attributes": attributes}, use_dictionary=False, row_group_size=300,
        column_encoding=dict.fromkeys(names, encoding), data_page_version=version,
    )  # fmt: skip
    (batch,) = read(path)
    assert not batch.refused
    assert [batch.events.event_id[i] for i in (0, 299, 300, 499)] == ["e0", "e299", "e300", "e499"]


def test_texts_that_repeat_the_start_of_the_one_before_are_read_in_small_batches(
    tmp_path: Path,
) -> None:
    ids = pa.array([f"{LONG}{i}" for i in range(500)])
    path = written(
        tmp_path, 500, {"event_id": ids}, use_dictionary=False, compression="zstd",
        column_encoding={"event_id": "DELTA_BYTE_ARRAY"},
    )  # fmt: skip
    del ids
    assert path.stat().st_size < MIB
    forget_peak()
    before = peak_memory_bytes()
    assert counts(path, max_block_bytes=4 * MIB) == (0, 500)
    assert peak_memory_bytes() - before < 60 * MIB


def plan(path: Path, column: str) -> ReadingPlan:
    """How one column is read in batches of 50,000 rows and blocks of 4 MiB."""
    limits = ReadLimits(50_000, 100_000, 4 * MIB)
    with pq.ParquetFile(path) as file:
        return reading_plan(path, path, file, [column], [], limits)


def test_texts_that_stand_in_many_pages_are_read_in_small_batches(tmp_path: Path) -> None:
    """Each page is small, and 20 MB of texts compress to kilobytes."""
    n = 20_000
    texts = {"event_id": pa.array(["x" * 1000] * n)}
    path = written(tmp_path, n, texts, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < MIB
    assert 1000 < plan(path, "event_id").most_rows <= 4 * MIB // 1000
    assert counts(path, batch_records=50_000, max_block_bytes=4 * MIB) == (n, 0)


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_maps_of_many_entries_are_not_in_memory_with_a_text_for_each(
    tmp_path: Path, use_dictionary: bool
) -> None:
    """A row has 20 entries, so a text that is short enough for each row is not for each entry."""
    n, size = 5000, 80
    entries = pa.array([[(f"k{i}", "x" * size) for i in range(20)]] * n, MAP)
    path = written(
        tmp_path, n, {"attributes": entries}, compression="zstd", use_dictionary=use_dictionary
    )
    found = plan(path, "attributes")
    if use_dictionary:
        assert "attributes.key_value.value" in found.dictionaries
    else:
        assert 100 < found.most_rows <= 4 * MIB // (20 * size)
    assert counts(path, batch_records=50_000, max_block_bytes=4 * MIB) == (n, 0)


def test_a_page_of_more_values_than_may_be_is_one_line(tmp_path: Path) -> None:
    """A page of one repeated value has few bytes, however many values it is."""
    path = written(tmp_path, 100_000, {"event_id": pa.array(["e"] * 100_000)},
                   data_page_size=2**30, max_rows_per_page=10**9)  # fmt: skip
    assert counts(path) == (100_000, 0)
    with pytest.raises(EventFileError, match="and 100000 values, more than"):
        read(path, max_block_bytes=65_536)


def test_fixed_bytes_that_are_long_are_read_in_small_batches(tmp_path: Path) -> None:
    long = pa.array([LONG.encode()] * N, pa.binary(len(LONG)))
    path = written(tmp_path, N, {"event_id": long}, compression="zstd")
    del long
    forget_peak()
    before = peak_memory_bytes()
    assert counts(path, max_block_bytes=8 * MIB) == (0, N)
    assert peak_memory_bytes() - before < 150 * MIB


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_every_compression_is_read_within_the_limits(tmp_path: Path, compression: str) -> None:
    ids = pa.array([f"{'y' * (i % 7)}{i}" for i in range(30_000)])
    path = written(tmp_path, 30_000, {"event_id": ids}, compression=compression)
    assert counts(path) == (30_000, 0)
    assert counts(path, max_block_bytes=2 * MIB) == (30_000, 0)


def test_a_file_with_any_flipped_bit_is_read_or_one_line(tmp_path: Path) -> None:
    attributes = pa.array([[("q", str(i))] for i in range(200)], MAP)
    path = written(tmp_path, 200, {"attributes": attributes}, row_group_size=70)
    content = path.read_bytes()
    random = Random(3)
    raised = 0
    for _ in range(200):
        spoilt = bytearray(content)
        for _ in range(random.randrange(1, 4)):
            spoilt[random.randrange(4, len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(spoilt)
        try:
            counts(path)
        except EventFileError as error:
            raised += "\n" not in str(error)
    assert raised > 20
