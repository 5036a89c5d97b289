"""Event files as batches of decoded events: Avro containers, JSON, Parquet.

Records of an Avro file are split without being decoded, and keep their bytes behind a key that is
made of the file's own writer schema. Objects of JSON are encoded as our schema. A batch of either
is then decoded like a batch from Kafka. Rows of a Parquet file become events directly
(event_rows.py).

A record that is no event becomes a dead letter with the file's name as topic, partition 0, and its
position in the file, from 0, as offset. So does a line that is not JSON; its bytes are the line.
Only a file that can't be read to its end raises.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Literal

import fastavro
import numpy as np

from stream_scorer.atomic import new_file
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import checked_event
from stream_scorer.core.avro.file_blocks import split_block
from stream_scorer.core.avro.resolution import skip_program
from stream_scorer.core.avro.schemas import SINGLE_OBJECT_MAGIC, schema_json
from stream_scorer.core.avro.writer_schema import UnusableSchemaError
from stream_scorer.core.events.batch import NO_TIMESTAMP, Int64, RecordBatch
from stream_scorer.core.events.decoded import DecodedBatch, join_batches
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.avro_blocks import AvroBlocks
from stream_scorer.io.files.compressed import bytes_taken, open_plain, unreadable_data
from stream_scorer.io.files.event_paths import (
    files_of,
    format_of,
    lacks_partition_column,
    partition_columns,
    unreadable,
)
from stream_scorer.io.files.event_rows import EventRows
from stream_scorer.io.files.json_events import (
    EncodedObjects,
    UnreadableJsonError,
    encoded_elements,
    encoded_lines,
)
from stream_scorer.io.files.limits import DEFAULT_BLOCK_BYTES, ReadLimits
from stream_scorer.io.files.parquet_events import (
    OPTIONAL,
    REQUIRED,
    check_file,
    parquet_rows,
    row_count,
)
from stream_scorer.io.files.read_share import ReadShare
from stream_scorer.storage.places import Place

Codec = Literal["null", "deflate", "snappy", "zstandard"]

FIELDS = (*REQUIRED, *OPTIONAL)


@dataclass(frozen=True)
class FramedRecords:
    """Consecutive records of one file: positions (n,) int64 in it, and their n framed bytes.

    unfit: as `Decoder.decode` takes it; the bytes of such a record are those of the file.
    """

    file: str
    positions: Int64
    values: list[bytes]
    unfit: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size_bytes(self) -> int:
        """Of all values."""
        return sum(map(len, self.values))

    def cut(self, rows: slice) -> FramedRecords:
        """Only `rows`, a slice from one row to a later one."""
        first, end, _ = rows.indices(len(self))
        unfit = {row - first: detail for row, detail in self.unfit.items() if first <= row < end}
        return FramedRecords(self.file, self.positions[rows], self.values[rows], unfit)


Piece = FramedRecords | EventRows


class EventFiles:
    """The events of `files`, in that order, each time it is iterated. See `open_events`.

    given_as: each file, and the path that was given for it, itself or a directory.
    """

    def __init__(self, given_as: Mapping[Place, Place], limits: ReadLimits) -> None:
        self.given_as, self.files = given_as, tuple(given_as)
        self._limits = limits
        self._schemas: dict[bytes, str] = {}  # writer schemas of the files that were opened
        self._decoder = Decoder(self._schemas.get, max_record_bytes=limits.max_record_bytes)
        self._share = ReadShare({path: path.stat().st_size for path in self.files})

    def expected_records(self) -> int | None:
        """About how many records there are, as far as what was read tells; None before that."""
        return self._share.expected_records()

    def __iter__(self) -> Iterator[DecodedBatch]:
        pending: list[Piece] = []
        count = size = 0
        for piece in self._pieces():
            pending.append(piece)
            count += len(piece)
            size += piece.size_bytes
            while count >= self._limits.batch_records:
                batch, pending = _cut(pending, self._limits.batch_records)
                count -= self._limits.batch_records
                yield self._decoded(batch)
                # What is left is of one piece, which the reader kept within the limit.
                size = 0
            if size > self._limits.max_block_bytes and count:
                yield self._decoded(pending)
                pending, count, size = [], 0, 0
        if count:
            yield self._decoded(pending)

    def _pieces(self) -> Iterator[Piece]:
        self._share.begin_again()
        for path in self.files:
            read = _FORMATS[format_of(path)]
            self._share.begin(path)
            try:
                for piece in read(path, self._limits, self._schemas, self._share):
                    self._share.add(len(piece))
                    yield piece
            except OSError as error:
                raise unreadable(path, error) from error
        self._share.end()

    def _decoded(self, pieces: list[Piece]) -> DecodedBatch:
        """All of `pieces`; neighbours that are bytes are decoded in one call."""
        parts: list[DecodedBatch] = []
        for _, group in groupby(pieces, type):
            same = list(group)
            framed = [piece for piece in same if isinstance(piece, FramedRecords)]
            if framed:
                records, unfit = _record_batch(framed)
                parts.append(DecodedBatch(*self._decoder.decode(records, unfit), records))
            for rows in same:
                if isinstance(rows, EventRows):
                    parts.append(rows.decoded(self._decoder, self._limits.max_record_bytes))
        return join_batches(parts)


def open_events(
    paths: Sequence[Place],
    *,
    max_record_bytes: int,
    batch_records: int = 10_000,
    max_block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> EventFiles:
    """The events of files and directories, in the order given; a directory's files by name.

    Iterate for batches of batch_records records; the last one may be smaller, and so may one that
    has more than max_block_bytes. A record of more than max_record_bytes, as framed Avro, becomes a
    dead letter. max_block_bytes: as `ReadLimits` has it. Names in a directory that start with "."
    or "_" are left out. Raises EventFileError, also while iterating.
    """
    limits = ReadLimits(batch_records, max_record_bytes, max_block_bytes)
    files = files_of(paths)
    # Before the first event is given, so that a job does not end halfway for what is known now.
    for path in files:
        _check_header(path, limits)
    return EventFiles(files, limits)


def write_events(path: Path, rows: Iterable[Mapping[str, Any]], codec: Codec = "deflate") -> int:
    """Write an Avro container of our schema; how many events. Rows as in `encode_events`.

    The file appears whole, in place of one of that name, or not at all.
    Raises InputError for a wrong row and EventFileError where the file can't be written.
    """
    schema = fastavro.parse_schema(json.loads(schema_json("customer_event")))
    events = [checked_event(row) for row in rows]
    try:
        with new_event_file(path) as work, work.open("wb") as stream:
            fastavro.writer(stream, schema, events, codec=codec)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise EventFileError(str(path), codec, f"choose another codec: {error}") from error
    return len(events)


@contextmanager
def new_event_file(path: Path) -> Iterator[Path]:
    """`atomic.new_file` in a folder that exists; raises FileNotFoundError where it does not.

    A missing folder is not made, because here it is more likely a path that was mistyped.
    """
    path.parent.stat()
    with new_file(path) as work:
        yield work


def _cut(pieces: list[Piece], records: int) -> tuple[list[Piece], list[Piece]]:
    """The first `records` records of the pieces, which have at least so many, and the rest."""
    taken: list[Piece] = []
    rest = list(pieces)
    while records:
        piece = rest.pop(0)
        if len(piece) > records:
            rest.insert(0, piece.cut(slice(records, None)))
            piece = piece.cut(slice(0, records))
        taken.append(piece)
        records -= len(piece)
    return taken, rest


def _record_batch(pieces: list[FramedRecords]) -> tuple[RecordBatch, dict[int, str]]:
    """The records of all pieces, and which of them are unfit."""
    first = np.cumsum([0, *map(len, pieces)]).tolist()
    unfit = {
        start + row: detail
        for start, piece in zip(first, pieces, strict=False)
        for row, detail in piece.unfit.items()
    }
    files = list(dict.fromkeys(piece.file for piece in pieces))
    index = [files.index(piece.file) for piece in pieces]
    values = [value for piece in pieces for value in piece.values]
    records = RecordBatch(
        values, [None] * len(values), [(file, 0) for file in files],
        np.repeat(np.array(index, np.int32), [len(piece) for piece in pieces]),
        np.concatenate([piece.positions for piece in pieces]),
        np.full(len(values), NO_TIMESTAMP, np.int64),
    )  # fmt: skip
    return records, unfit


def _avro(
    path: Place, limits: ReadLimits, schemas: dict[bytes, str], share: ReadShare
) -> Iterator[FramedRecords]:
    """Blocks of an Avro container, with their records behind the key of the writer schema."""
    with path.open("rb") as stream:
        position = 0
        blocks = AvroBlocks(path, stream, limits.max_block_bytes)
        # Not the schema's own fingerprint: that leaves out logical types, so a file in microseconds
        # would share the key, and the program, of one in milliseconds.
        key = SINGLE_OBJECT_MAGIC + hashlib.sha256(blocks.schema.encode()).digest()[:8]
        schemas[key] = blocks.schema
        try:
            program = skip_program(blocks.schema)
        except UnusableSchemaError as error:
            raise EventFileError("events", path, f"its writer schema: {error}") from error
        for block in blocks:
            if not block.records and not block.content:
                continue
            values = split_block(program, block.content, block.records, key)
            positions = np.arange(position, position + len(values))
            share.at_bytes(stream.tell())
            yield FramedRecords(str(path), positions, values)
            # A broken block gives fewer values than it has records; positions after it count on as
            # if it were whole. Only so many can be in it, whatever it says.
            position += max(min(block.records, len(block.content)), len(values))


def _check_header(path: Place, limits: ReadLimits) -> None:
    """Raises EventFileError where the columns of a file, or the start of a container, are unfit."""
    found = format_of(path)
    try:
        if found == "parquet":
            check_file(path)
        elif found == "avro":
            with path.open("rb") as stream:
                header = AvroBlocks(path, stream, limits.max_block_bytes)
            _check_partition_columns(path, header.schema)
    except OSError as error:
        raise unreadable(path, error) from error


def _check_partition_columns(path: Place, schema: str) -> None:
    """Raises EventFileError where only a directory of the path names a field."""
    try:
        record = json.loads(schema)
    # One that is no schema is refused with more words where the file is read.
    except (ValueError, RecursionError):
        return
    fields = record.get("fields", []) if isinstance(record, dict) else []
    names = {field.get("name") for field in fields if isinstance(field, dict)}
    for name, part in partition_columns(path, FIELDS).items():
        if name not in names:
            raise EventFileError("events", path, lacks_partition_column(name, part))


def _json(
    path: Place, limits: ReadLimits, _schemas: dict[bytes, str], share: ReadShare
) -> Iterator[FramedRecords]:
    return _json_objects(path, encoded_lines, limits, share)


def _json_array(
    path: Place, limits: ReadLimits, _schemas: dict[bytes, str], share: ReadShare
) -> Iterator[FramedRecords]:
    return _json_objects(path, encoded_elements, limits, share)


def _json_objects(
    path: Place,
    read: Callable[[IO[bytes], ReadLimits, Mapping[str, str]], Iterator[EncodedObjects]],
    limits: ReadLimits,
    share: ReadShare,
) -> Iterator[FramedRecords]:
    end = 0
    needed = {
        name: lacks_partition_column(name, part)
        for name, part in partition_columns(path, FIELDS).items()
    }
    with open_plain(path) as stream:
        try:
            for positions, values, unfit in read(stream, limits, needed):
                share.at_bytes(bytes_taken(stream))
                yield FramedRecords(str(path), positions, values, unfit)
                end = int(positions[-1]) + 1
        except UnreadableJsonError as error:
            raise EventFileError("events", path, str(error)) from error
        except OSError as error:
            raise EventFileError("events", path, unreadable_data(error, end)) from error


def _parquet(
    path: Place, limits: ReadLimits, _schemas: dict[bytes, str], share: ReadShare
) -> Iterator[EventRows]:
    rows, done = row_count(path), 0
    for piece in parquet_rows(path, limits):
        done += len(piece)
        share.at_share(done / max(rows, 1))
        yield piece


_Reader = Callable[[Place, ReadLimits, dict[bytes, str], ReadShare], Iterator[Piece]]
_FORMATS: dict[str, _Reader] = {
    "avro": _avro, "json": _json, "json array": _json_array, "parquet": _parquet,
}  # fmt: skip
