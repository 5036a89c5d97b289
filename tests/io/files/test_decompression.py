"""A small file that decompresses to gigabytes is refused before it is in memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from avro_bytes import SYNC, container, long, text
from peak_memory import forget_peak

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.schemas import SINGLE_OBJECT_PREFIX_BYTES
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.events import open_events, write_events
from stream_scorer.runtime import peak_memory_bytes

START_MS = 1_767_225_600_000
MIB = 2**20


def deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(content) + compressor.flush()


def snappy(content: bytes) -> bytes:
    checksum = zlib.crc32(content).to_bytes(4, "big")
    return bytes(pa.compress(content, "snappy", asbytes=True)) + checksum


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "snappy": snappy,
    "zstandard": lambda content: bytes(pa.compress(content, "zstd", asbytes=True)),
}


def events(n: int) -> bytes:
    rows = [
        {"event_id": f"e{i}", "customer_id": "c", "event_type": "purchase",
         "occurred_at": START_MS + i} for i in range(n)
    ]  # fmt: skip
    return b"".join(record[SINGLE_OBJECT_PREFIX_BYTES:] for record in encode_events(rows))


def read(path: Path, **limits: int) -> tuple[int, int]:
    """How many events and refused records."""
    batches = list(open_events([path], **{"max_record_bytes": 100_000, **limits}))
    return sum(len(b.events) for b in batches), sum(len(b.refused) for b in batches)


@pytest.mark.parametrize("codec", CODECS)
def test_blocks_of_every_codec_are_read(tmp_path: Path, codec: str) -> None:
    compress = CODECS[codec]
    blocks = [(100, compress(events(100))), (0, compress(b"")), (7, compress(events(7)))]
    (tmp_path / "e.avro").write_bytes(container(codec, *blocks))
    assert read(tmp_path / "e.avro") == (107, 0)


@pytest.mark.parametrize("codec", CODECS)
def test_a_block_that_becomes_too_large_is_one_line_and_not_decompressed(
    tmp_path: Path, codec: str
) -> None:
    compress = CODECS[codec]
    large = compress(bytes(60 * MIB)) if codec != "null" else bytes(MIB + 1)
    path = tmp_path / "e.avro"
    path.write_bytes(container(codec, (100, compress(events(100))), (1, large)))
    del large
    forget_peak()
    before = peak_memory_bytes()
    batches = iter(
        open_events([path], max_record_bytes=1000, batch_records=100, max_block_bytes=MIB)
    )
    assert len(next(batches).events) == 100
    with pytest.raises(EventFileError) as caught:
        list(batches)
    assert str(caught.value) == (
        f"events: {str(path)!r}: a block after 100 records has more than events.max_block_bytes, "
        "1048576; raise that if the file is what it should be"
    )
    assert peak_memory_bytes() - before < 30 * MIB


def test_a_block_of_as_many_bytes_as_may_be_is_read(tmp_path: Path) -> None:
    content = events(1500)
    for codec, compress in CODECS.items():
        (tmp_path / "e.avro").write_bytes(container(codec, (1500, compress(content))))
        assert read(tmp_path / "e.avro", max_block_bytes=64 * 1500) == (1500, 0)


def test_records_of_next_to_no_bytes_are_counted_as_what_they_take(tmp_path: Path) -> None:
    schema = b'{"type": "record", "name": "E", "fields": [{"name": "event_id", "type": "boolean"}]}'
    block = (100_000_000, deflate(bytes(100_000_000)))
    path = tmp_path / "e.avro"
    path.write_bytes(container("deflate", block, schema=schema))
    forget_peak()
    before = peak_memory_bytes()
    with pytest.raises(EventFileError, match=r"events\.max_block_bytes"):
        read(path)
    assert peak_memory_bytes() - before < 400 * MIB


def test_many_long_records_are_never_in_memory_together(tmp_path: Path) -> None:
    """Each of 500 blocks is within the limit, and a few bytes when compressed."""
    block = (1, deflate(text(bytes(2 * MIB))))
    path = tmp_path / "e.avro"
    path.write_bytes(container("deflate", *[block] * 500))
    forget_peak()
    before = peak_memory_bytes()
    refused = 0
    for batch in open_events([path], max_record_bytes=1000, max_block_bytes=4 * MIB):
        refused += len(batch.refused)
    assert refused == 500
    assert peak_memory_bytes() - before < 200 * MIB


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"Obj\x01" + long(1) + long(2**40), "its header has more than"),
        (b"Obj\x01" + long(1) + long(-5), "a negative length"),
        (b"Obj\x01" + long(-1) + long(9) + text(b"avro.codec") + text(b"null") + long(0) + SYNC,
         "its header has no avro.schema"),
        # A gigabyte of zeros took 20 minutes.
        (b"Obj\x01" + long(2**62) + bytes(10**6), "says that it has 4611686018427387904"),
        (b"Obj\x01" + (long(1) + bytes(2)) * 1001, "its header says that it has 1001 entries"),
        (container("z" * 10**6, (1, b"")), "zzzzz' is not known"),
        (b"Obj\x01" + b"\xff" * 20, "more than 64 bits"),
        (container("lz4", (1, b"")), "its codec 'lz4' is not known; write it with one of null"),
        (container("null", (-1, b"")), "a negative number of records"),
        (container("null", (1, events(1)))[:-1] + b"x", "no sync marker after a block"),
        (container("null", (1, events(1)))[:-1], "the file ends too early"),
        (container("snappy", (1, snappy(events(1))[:-1] + b"x")), "a wrong checksum"),
        (container("bzip2", (1, bz2.compress(events(9))[:-9])), "a block is cut short"),
        (container("xz", (1, b"no xz")), "corrupt or cut short"),
        (container("zstandard", (1, b"no zstandard")), "corrupt or cut short"),
        (container("snappy", (1, b"\xff\xff\xff\xff\x0f" + bytes(4))),
         "more than events.max_block_bytes"),
        (container("snappy", (1, b"")), "corrupt or cut short"),
        (container("deflate", (1, b"\xff\xff")), "corrupt or cut short"),
        # Of these the records that were not decompressed were lost as one refused record.
        (container("deflate", (9, zlib.compress(events(9))[2:-14])), "a block is cut short"),
        (container("deflate", (9, b"")), "a block is cut short"),
        (container("bzip2", (9, 2 * bz2.compress(events(9)))), "bytes left over after a block"),
        (container("xz", (9, 2 * lzma.compress(events(9)))), "bytes left over after a block"),
    ],
)  # fmt: skip
def test_a_container_that_is_broken_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "e.avro").write_bytes(content)
    with pytest.raises(EventFileError) as caught:
        read(tmp_path / "e.avro")
    assert said in str(caught.value)
    assert str(tmp_path / "e.avro") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_count_of_records_that_cannot_be_true_costs_one_record(tmp_path: Path) -> None:
    blocks = [(2**62, events(3)), (2**62, events(3)), (2, events(2))]
    (tmp_path / "e.avro").write_bytes(container("null", *blocks))
    assert read(tmp_path / "e.avro") == (8, 2)


@pytest.mark.parametrize("codec", CODECS)
def test_a_container_with_any_flipped_bit_is_read_or_one_line(tmp_path: Path, codec: str) -> None:
    compress = CODECS[codec]
    content = container(codec, *[(20, compress(events(20)))] * 3)
    random = Random(5)
    path = tmp_path / "e.avro"
    raised = 0
    for _ in range(60):
        spoilt = bytearray(content)
        spoilt[random.randrange(4, len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(spoilt[: random.randrange(4, 2 * len(content))])
        try:
            read(path)
        except EventFileError:
            raised += 1
    assert raised > 10


def test_lines_that_decompress_to_more_than_a_line_may_have_are_refused_records(
    tmp_path: Path,
) -> None:
    row = {"event_id": "e", "customer_id": "c", "event_type": "view", "occurred_at": START_MS}
    line = json.dumps(row).encode()
    path = tmp_path / "e.jsonl.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(line + b"\n")
        for _ in range(100):
            stream.write(bytes(MIB))
        stream.write(b"\n" + line + b"\n")
    forget_peak()
    before = peak_memory_bytes()
    assert read(path, max_block_bytes=MIB) == (2, 1)
    assert read(path) == (2, 1)
    assert peak_memory_bytes() - before < 60 * MIB


def test_the_reader_reads_what_the_writer_wrote(tmp_path: Path) -> None:
    rows = [{"event_id": "e", "customer_id": "c", "event_type": "view", "occurred_at": START_MS}]
    write_events(tmp_path / "e.avro", rows * 10_000)
    assert read(tmp_path / "e.avro") == (10_000, 0)
