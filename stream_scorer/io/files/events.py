"""Event files as batches of records: Avro containers, JSON lines, Parquet.

Every format becomes framed Avro, so that one decoder serves files and Kafka. Records of an Avro
file keep their bytes behind a key made of the file's own writer schema, which `EventFiles.lookup`
knows; lines of JSON are encoded; Parquet's rows stay columns, which are encoded only where their
bytes are asked for. A broken line or row is carried along as a value that does not decode and says
why; it ends as a dead letter with the file's name as topic, partition 0 and its position (from 0)
as offset. Only a file that can't be read on raises.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import fastavro
import numpy as np

from stream_scorer.core.avro.column_values import ColumnValues
from stream_scorer.core.avro.decoder import refused_value, split_block
from stream_scorer.core.avro.event_encoder import checked_event, encode_events
from stream_scorer.core.avro.resolution import UnusableSchemaError, skip_program
from stream_scorer.core.avro.schemas import SINGLE_OBJECT_MAGIC, schema_json
from stream_scorer.core.events.batch import NO_TIMESTAMP, Int64, RecordBatch
from stream_scorer.errors import EventFileError, InputError
from stream_scorer.io.files.parquet_events import parquet_chunks

Codec = Literal["null", "deflate", "snappy", "zstandard"]

AVRO_MAGIC = b"Obj\x01"
PARQUET_MAGIC = b"PAR1"
JSON_SUFFIXES = (".jsonl", ".ndjson")
# No event is that long; without a limit a file without line ends would be read into memory whole.
MAX_LINE_BYTES = 16 * 2**20


Values = list[bytes] | ColumnValues


class _Chunk(NamedTuple):
    """Some records of one file: positions (n,) int64 within it, and their framed bytes."""

    topic: str
    positions: Int64
    values: Values


class EventFiles:
    """The records of `files`, in that order, each time it is iterated. See `open_events`.

    given_as: each file, and the path that was given for it, itself or a directory.
    """

    def __init__(self, given_as: Mapping[Path, Path], batch_records: int) -> None:
        self.given_as, self.files = given_as, tuple(given_as)
        self._batch_records = batch_records
        self._schemas: dict[bytes, str] = {}

    def lookup(self, key: bytes) -> str | None:
        """The writer schema of records read so far, for core's Decoder; None for other keys."""
        return self._schemas.get(key)

    def __iter__(self) -> Iterator[RecordBatch]:
        pending: list[_Chunk] = []
        count = 0
        for chunk in self._chunks():
            pending.append(chunk)
            count += len(chunk.values)
            while count >= self._batch_records:
                batch, pending = _cut(pending, self._batch_records)
                count -= len(batch)
                yield batch
        if count:
            yield _cut(pending, count)[0]

    def _chunks(self) -> Iterator[_Chunk]:
        for path in self.files:
            read = _FORMATS[_format(path)]
            try:
                for positions, values in read(path, self._batch_records, self._schemas):
                    yield _Chunk(str(path), positions, values)
            except OSError as error:
                raise _unreadable(path, error) from error


def open_events(paths: Sequence[Path], *, batch_records: int = 10_000) -> EventFiles:
    """The events of files and directories, in the order given; a directory's files by name.

    Iterate for batches of batch_records records (the last one may be smaller); give `lookup` to the
    Decoder. Names in a directory that start with "." or "_" are left out. Raises
    EventFileError, also while iterating.
    """
    given_as: dict[Path, Path] = {}
    for path in map(Path, paths):
        for file in _listed(path):
            if file in given_as:
                raise EventFileError("events", file, "is given twice; name it once")
            _format(file)
            given_as[file] = path
    return EventFiles(given_as, batch_records)


def write_events(path: Path, rows: Iterable[Mapping[str, Any]], codec: Codec = "deflate") -> int:
    """Write an Avro container of our schema; how many events. Rows as in `encode_events`.

    Raises InputError for a wrong row and EventFileError where the file can't be written.
    """
    schema = fastavro.parse_schema(json.loads(schema_json("customer_event")))
    events = [checked_event(row) for row in rows]
    try:
        with path.open("wb") as stream:
            fastavro.writer(stream, schema, events, codec=codec)
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise EventFileError(str(path), codec, f"choose another codec: {error}") from error
    return len(events)


def _listed(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise EventFileError("events", path, "the directory holds no files")
    return files


def _format(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise _unreadable(path, error) from error
    if start == AVRO_MAGIC:
        return "avro"
    if start == PARQUET_MAGIC:
        return "parquet"
    if path.suffix in JSON_SUFFIXES or start[:1] == b"{":
        return "json"
    raise EventFileError(
        "events", path,
        "not an event file; give Avro containers, Parquet or JSON lines (.jsonl, .ndjson)",
    )  # fmt: skip


def _unreadable(path: Path, error: OSError) -> EventFileError:
    reason = error.strerror or str(error) or type(error).__name__
    return EventFileError("events", path, f"can't be opened ({reason}); check path and permissions")


def _cut(chunks: list[_Chunk], records: int) -> tuple[RecordBatch, list[_Chunk]]:
    """A batch of the first `records` of the chunks, and the rest."""
    taken: list[_Chunk] = []
    rest = list(chunks)
    while records:
        chunk = rest.pop(0)
        if len(chunk.values) > records:
            rest.insert(0, _Chunk(chunk.topic, chunk.positions[records:], chunk.values[records:]))
            chunk = _Chunk(chunk.topic, chunk.positions[:records], chunk.values[:records])
        taken.append(chunk)
        records -= len(chunk.values)
    topics = list(dict.fromkeys(chunk.topic for chunk in taken))
    index = [topics.index(chunk.topic) for chunk in taken]
    values = _joined([chunk.values for chunk in taken])
    return RecordBatch(
        values, [None] * len(values), [(topic, 0) for topic in topics],
        np.repeat(np.array(index, np.int32), [len(chunk.values) for chunk in taken]),
        np.concatenate([chunk.positions for chunk in taken]),
        np.full(len(values), NO_TIMESTAMP, np.int64),
    ), rest  # fmt: skip


def _joined(parts: list[Values]) -> Sequence[bytes]:
    columns = [part for part in parts if isinstance(part, ColumnValues)]
    if parts and len(columns) == len(parts):
        return ColumnValues.joined(columns)
    bytes_of = [p.encoded() if isinstance(p, ColumnValues) else p for p in parts]
    return [value for part in bytes_of for value in part]


def _avro(
    path: Path, _batch_records: int, schemas: dict[bytes, str]
) -> Iterator[tuple[Int64, list[bytes]]]:
    """Blocks of an Avro container, with their records behind the key of the writer schema."""
    with path.open("rb") as stream:
        position = 0
        blocks, schema = _opened(path, stream)
        key = SINGLE_OBJECT_MAGIC + hashlib.sha256(schema.encode()).digest()[:8]
        schemas[key] = schema
        try:
            program = skip_program(schema)
        except UnusableSchemaError as error:
            raise EventFileError("events", path, f"its writer schema: {error}") from error
        while (block := _next_block(path, blocks, position)) is not None:
            values = split_block(program, block.bytes_.read(), block.num_records, key)
            yield np.arange(position, position + len(values)), values
            position += max(block.num_records, len(values))


def _opened(path: Path, stream: IO[bytes]) -> tuple[Any, str]:
    try:
        blocks = fastavro.block_reader(stream)
        return blocks, str(blocks.metadata["avro.schema"])
    except Exception as error:  # fastavro raises almost anything for a corrupt header
        raise EventFileError(
            "events", path, f"not a readable Avro container ({error}); write or copy it again"
        ) from error


def _next_block(path: Path, blocks: Any, position: int) -> Any:
    try:
        return next(blocks, None)
    except Exception as error:  # as above, and what the decompressors raise
        if "codec" in str(error) or "install" in str(error):
            remedy = f"{error}, or write it with codec deflate"
        else:
            remedy = f"corrupt or cut short after {position} records ({error}); copy it again"
        raise EventFileError("events", path, remedy) from error


def _json(
    path: Path, batch_records: int, _schemas: dict[bytes, str]
) -> Iterator[tuple[Int64, list[bytes]]]:
    """Lines of JSON, encoded as our own schema; empty lines are passed over."""
    positions: list[int] = []
    values: list[bytes] = []
    with path.open("rb") as stream:
        for position, line in enumerate(_lines(stream)):
            if not line.strip():
                continue
            positions.append(position)
            values.append(_encoded_line(line, position))
            if len(values) == batch_records:
                yield np.array(positions, np.int64), values
                positions, values = [], []
    if values:
        yield np.array(positions, np.int64), values


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines without their end; of one that is too long only the first part."""
    while line := stream.readline(MAX_LINE_BYTES):
        rest = line
        while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES)
        yield line.rstrip(b"\r\n")


def _encoded_line(line: bytes, position: int) -> bytes:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("not a JSON object")
        return encode_events([{**row, "occurred_at": _moment(row.get("occurred_at"))}])[0]
    except (InputError, ValueError, RecursionError) as error:
        return refused_value(f"line {position + 1}: {error}", line)


def _moment(value: Any) -> Any:
    """ISO 8601 text as a datetime; anything else as it is, for the encoder to judge."""
    if not isinstance(value, str):
        return value
    try:
        # Python 3.10 knows no "Z".
        moment = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
    except ValueError as error:
        raise InputError(
            "occurred_at", value, "give ISO 8601 with a zone, or integer ms"
        ) from error
    if moment.tzinfo is None:
        raise InputError("occurred_at", value, 'add a zone, for example "Z"')
    return moment


def _parquet(
    path: Path, batch_records: int, _schemas: dict[bytes, str]
) -> Iterator[tuple[Int64, Values]]:
    position = 0
    for values in parquet_chunks(path, batch_records):
        yield np.arange(position, position + len(values)), values
        position += len(values)


_Reader = Callable[[Path, int, dict[bytes, str]], Iterator[tuple[Int64, Values]]]
_FORMATS: dict[str, _Reader] = {"avro": _avro, "json": _json, "parquet": _parquet}
