"""From framed bytes to columns of events: `Decoder`, and the splitting of Avro file blocks.

All values of a batch are joined into one buffer, which the string columns of the result keep as
spans. The frame prefixes are read in one compiled pass; for each distinct one the writer schema is
asked for once and compiled to a program; a second compiled pass fills the columns. Python touches
single records only where they are bad, or have a value that is no text yet (texts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from stream_scorer.core.avro import interpreter as k
from stream_scorer.core.avro.attributes import MapEntries, map_entries, write_maps
from stream_scorer.core.avro.primitives import ERROR_TEXTS, NOT_WHOLE, OK
from stream_scorer.core.avro.resolution import Program, event_program
from stream_scorer.core.avro.schemas import (
    CONFLUENT_MAGIC,
    CONFLUENT_PREFIX_BYTES,
    SINGLE_OBJECT_MAGIC,
    SINGLE_OBJECT_PREFIX_BYTES,
    schema_json,
    single_object_prefix,
)
from stream_scorer.core.avro.texts import texts_of
from stream_scorer.core.avro.writer_schema import UnusableSchemaError
from stream_scorer.core.events.batch import (
    NULL,
    Bool,
    DeadLetter,
    EventBatch,
    Int64,
    Reason,
    RecordBatch,
    StringColumn,
    UInt8,
)
from stream_scorer.jit import kernel

# Schema keys kept in memory. A topic has few; the limit is for keys made of corrupt bytes.
MAX_SCHEMAS = 1024
MAX_UNKNOWN = 65_536
# A schema may be registered after its first record was seen: ask again after so many batches.
ASK_AGAIN_AFTER_BATCHES = 100

T = TypeVar("T")

_EMPTY, _BAD_MAGIC, _CUT_SHORT, _CONFLUENT, _SINGLE_OBJECT = range(5)


class NoSchemaError(Exception):
    """A lookup has no schema of a key; the message says why. only_now: it may have it already."""

    def __init__(self, why: str, *, only_now: bool = False) -> None:
        super().__init__(why)
        self.only_now = only_now


class Decoder:
    """Batches of framed records to columns. Not thread-safe.

    lookup: the writer schema (JSON text) of a schema key, or None where there is none, or
    NoSchemaError with the reason; what else it raises (a registry that can't be reached) passes
    through `decode`, and the batch can be decoded again. ahead is called before, with all keys of a
    batch that will be looked up, those of most records first. Records of more than max_record_bytes
    are not looked into.
    """

    def __init__(
        self,
        lookup: Callable[[bytes], str | None],
        *,
        max_record_bytes: int,
        ahead: Callable[[Sequence[bytes]], None] = lambda _keys: None,
    ) -> None:
        self._lookup, self._ahead = lookup, ahead
        self._max_record_bytes = max_record_bytes
        self._programs: dict[bytes, Program | UnusableSchemaError] = {}
        # By key: the batch that asked for it, and what is wrong.
        self._unknown: dict[bytes, tuple[int, str]] = {}
        self._batches = 0

    def decode(
        self, records: RecordBatch, unfit: Mapping[int, str] | None = None
    ) -> tuple[EventBatch, list[DeadLetter]]:
        """Events in the order of their records, and a dead letter for each record that is none.

        unfit: numbers of records that their source could not make Avro of, such as a line that is
        no JSON, each with what is wrong. They are not looked into.
        """
        self._batches += 1
        bad: dict[int, tuple[Reason, str]] = {}
        buffer, starts, ends = self._joined(records.values, unfit or {}, bad)
        kinds, keys = _frames(buffer, starts, ends)
        groups = list(self._groups(records.values, kinds, keys, starts, bad))
        buffer, constant_starts = _with_constants(buffer, [program for program, _ in groups])
        out = k.columns(len(records))
        texts = attributes = buffer
        for (program, rows), constants_at in zip(groups, constant_starts, strict=True):
            errors, attributes = _run(
                program.tables(constants_at), buffer, starts, ends, rows, out, attributes
            )
            for row in rows[errors.error[rows] != OK].tolist():
                at = int(errors.at[row] - starts[row]) + _prefix_bytes(int(kinds[row]))
                text = ERROR_TEXTS[int(errors.error[row])]
                field = program.labels[int(errors.label[row])]
                bad[row] = Reason.UNDECODABLE, text.format(field=field, at=at)
            for slot, field in program.raw_slots.items():
                if slot != k.MAP_VALUE:
                    whole = rows[errors.error[rows] == OK]
                    texts, refused = _write_texts(buffer, whole, out, slot, texts)
                    detail = ERROR_TEXTS[NOT_WHOLE].format(field=field)
                    bad |= dict.fromkeys(refused, (Reason.UNDECODABLE, detail))
        good = np.ones(len(records), np.bool_)
        good[list(bad)] = False
        dead_letters = [records.dead_letter(row, *bad[row]) for row in sorted(bad)]
        return _events(records, out, texts, attributes, good), dead_letters

    def _joined(
        self,
        values: Sequence[bytes | None],
        unfit: Mapping[int, str],
        bad: dict[int, tuple[Reason, str]],
    ) -> tuple[UInt8, Int64, Int64]:
        """One buffer of all values, and where each starts and ends.

        Oversized and unfit ones become `bad` and are left out.
        """
        given = [v or b"" for v in values]
        lengths = np.fromiter(map(len, given), np.int64, len(given))
        for row in np.flatnonzero(lengths > self._max_record_bytes).tolist():
            detail = f"{lengths[row]} bytes, more than the {self._max_record_bytes} allowed"
            bad[row] = Reason.OVERSIZED, detail
        for row, detail in unfit.items():
            bad.setdefault(row, (Reason.UNDECODABLE, detail))
        for row in bad:
            # An empty value keeps the row's number and takes no room in the buffer.
            given[row], lengths[row] = b"", 0
        ends = np.cumsum(lengths)
        return np.frombuffer(b"".join(given), np.uint8), ends - lengths, ends

    def _groups(
        self,
        values: Sequence[bytes | None],
        kinds: UInt8,
        keys: Int64,
        starts: Int64,
        bad: dict[int, tuple[Reason, str]],
    ) -> Iterator[tuple[Program, Int64]]:
        """Rows by program; moves their `starts` behind the frame. Rows without one become `bad`."""
        framed = kinds >= _CONFLUENT
        for row in np.flatnonzero(~framed).tolist():
            if row not in bad:
                bad[row] = _unframed(values[row] or b"", int(kinds[row]))
        groups = []
        for rows in _equal_rows(kinds, keys, np.flatnonzero(framed)):
            first = values[int(rows[0])] or b""
            groups.append((first[: _prefix_bytes(int(kinds[rows[0]]))], rows))
        asked = [group for group in groups if self._must_ask(group[0])]
        if asked:
            asked.sort(key=lambda group: -len(group[1]))
            self._ahead([key for key, _ in asked])
        for key, rows in groups:
            program = self._program(key)
            if isinstance(program, Program):
                starts[rows] += len(key)
                yield program, rows
                continue
            if isinstance(program, UnusableSchemaError):
                verdict = Reason.UNDECODABLE, f"{_schema_key_in_words(key)}: {program}"
            else:
                verdict = Reason.UNKNOWN_SCHEMA, program
            bad.update(dict.fromkeys(rows.tolist(), verdict))

    def _must_ask(self, key: bytes) -> bool:
        asked, _ = self._unknown.get(key, (-ASK_AGAIN_AFTER_BATCHES, ""))
        return key not in self._programs and self._batches - asked >= ASK_AGAIN_AFTER_BATCHES

    def _program(self, key: bytes) -> Program | UnusableSchemaError | str:
        """The program of a schema key, why there is none, or in words that the key is unknown."""
        found = self._programs.get(key)
        if found is not None:
            return found
        if not self._must_ask(key):
            return self._unknown[key][1]
        detail, only_now = f"no schema is known for {_schema_key_in_words(key)}", False
        try:
            schema = self._lookup(key)
        except NoSchemaError as error:
            schema, only_now = None, error.only_now
            detail = f"{_schema_key_in_words(key)}: {error}"
        if schema is None and key == single_object_prefix("customer_event"):
            schema = schema_json("customer_event")
        if schema is None:
            self._unknown.pop(key, None)
            if not only_now:
                _put_bounded(self._unknown, key, (self._batches, detail), MAX_UNKNOWN)
            return detail
        try:
            found = event_program(schema)
        except UnusableSchemaError as error:
            found = error
        _put_bounded(self._programs, key, found, MAX_SCHEMAS)
        return found


def split_block(program: Program, block: bytes, count: int, prefix: bytes) -> list[bytes]:
    """The `count` records of an Avro file's block, each after `prefix`.

    program: `skip_program` of the file's schema. Where a record is broken, or bytes are left over,
    the rest of the block stays one record, which will not decode.
    """
    # The file's own count may be corrupt: so many records can't be in a block of these bytes.
    most = max(0, min(count, len(block) + k.FREE_ITEMS))
    errors = k.outcome(most)
    limits = np.full(most, len(block), np.int64)
    # A copy can be written to, as every other buffer here: numba would compile the whole loop once
    # more for a read-only one.
    k.run(
        np.frombuffer(block, np.uint8).copy(), limits, limits, np.arange(most), True,
        program.tables(0), k.columns(0), errors, map_entries(0),
    )  # fmt: skip
    broken = np.flatnonzero(errors.error != OK)[:1]
    whole = int(broken[0]) if len(broken) else most
    ends = errors.at[:whole].tolist()
    if whole == count and ends:
        # The last record takes bytes that are left over, so that they do not go unnoticed.
        ends[-1] = len(block)
    elif whole < count or block:
        ends.append(len(block))
    starts = [0, *ends[:-1]]
    return [prefix + block[s:e] for s, e in zip(starts, ends, strict=True)]


def _run(
    tables: k.Tables,
    buffer: UInt8,
    starts: Int64,
    ends: Int64,
    rows: Int64,
    out: k.Columns,
    attributes: UInt8,
) -> tuple[k.Outcome, UInt8]:
    """Decode `rows` into `out`; the errors, and `attributes` with maps that had to be rewritten."""
    errors = k.outcome(len(starts))
    count = k.run(buffer, starts, ends, rows, False, tables, out, errors, map_entries(0))
    if not count:
        return errors, attributes
    # Few writers make maps that are not canonical, so only their rows are decoded a second time.
    rewritten = rows[(errors.error[rows] == OK) & (out.lengths[k.ATTRIBUTES, rows] == k.REWRITE)]
    room = map_entries(count)
    # Fewer than counted before where a broken record had some of them.
    count = k.run(buffer, starts, ends, rewritten, False, tables, out, errors, room)
    entries = MapEntries(*(column[:count] for column in room))
    raw = entries.value_length <= k.RAW_LONG
    if raw.any():
        written, text_starts, lengths, _ = texts_of(
            buffer, entries.value_start[raw], entries.value_length[raw], ids=False
        )
        entries.value_start[raw], entries.value_length[raw] = text_starts + len(buffer), lengths
        buffer = np.concatenate((buffer, written))
    entries = MapEntries(*(column[entries.value_length != NULL] for column in entries))
    maps, map_ends = write_maps(buffer, entries, rewritten)
    map_starts = np.concatenate(([0], map_ends[:-1])) if len(rewritten) else map_ends
    out.starts[k.ATTRIBUTES, rewritten] = len(attributes) + map_starts
    out.lengths[k.ATTRIBUTES, rewritten] = map_ends - map_starts
    return errors, np.concatenate((attributes, maps))


def _write_texts(
    buffer: UInt8, rows: Int64, out: k.Columns, slot: int, texts: UInt8
) -> tuple[UInt8, list[int]]:
    """Give the raw values of a slot their text, at the end of `texts`, which begins as `buffer`.

    Returns the longer `texts`, and the rows that can't be read as text.
    """
    raw = rows[out.lengths[slot, rows] <= k.RAW_LONG]
    if not len(raw):
        return texts, []
    written, starts, lengths, readable = texts_of(
        buffer, out.starts[slot, raw], out.lengths[slot, raw], ids=True
    )
    if slot not in (k.CATEGORY_ID, k.PRODUCT_ID):
        # NaN is no text, and these fields may not be null.
        readable &= lengths != NULL
    out.starts[slot, raw], out.lengths[slot, raw] = starts + len(texts), lengths
    return np.concatenate((texts, written)), raw[~readable].tolist()


def _with_constants(buffer: UInt8, programs: list[Program]) -> tuple[UInt8, list[int]]:
    """The buffer with the programs' constants behind it, and where each program's are."""
    constant_starts, end, parts = [], len(buffer), [buffer]
    for program in programs:
        constant_starts.append(end)
        parts.append(np.frombuffer(program.constants, np.uint8))
        end += len(program.constants)
    joined = np.concatenate(parts)
    return joined, constant_starts


def _equal_rows(kinds: UInt8, keys: Int64, rows: Int64) -> Iterator[Int64]:
    """`rows` split into those of equal kind and key."""
    if not len(rows):
        return
    if (kinds[rows] == kinds[rows[0]]).all() and (keys[rows] == keys[rows[0]]).all():
        yield rows
        return
    for kind in np.unique(kinds[rows]):
        same = rows[kinds[rows] == kind]
        _, group = np.unique(keys[same], return_inverse=True)
        order = np.argsort(group, kind="stable")
        cuts = np.flatnonzero(np.diff(group[order])) + 1
        yield from np.split(same[order], cuts)


@kernel
def _frames(buffer: UInt8, starts: Int64, ends: Int64) -> tuple[UInt8, Int64]:
    """The kind of each value's frame and its schema id or fingerprint."""
    n = len(starts)
    kinds = np.empty(n, np.uint8)
    keys = np.zeros(n, np.int64)
    for row in range(n):
        start, length = starts[row], ends[row] - starts[row]
        if length == 0:
            kinds[row] = _EMPTY
        elif buffer[start] == 0:
            kinds[row] = _CONFLUENT if length >= CONFLUENT_PREFIX_BYTES else _CUT_SHORT
            stop = CONFLUENT_PREFIX_BYTES if length >= CONFLUENT_PREFIX_BYTES else 0
            for i in range(1, stop):
                keys[row] = (keys[row] << 8) | buffer[start + i]
        elif buffer[start] == 0xC3 and (length == 1 or buffer[start + 1] == 0x01):
            kinds[row] = _SINGLE_OBJECT if length >= SINGLE_OBJECT_PREFIX_BYTES else _CUT_SHORT
            stop = SINGLE_OBJECT_PREFIX_BYTES if length >= SINGLE_OBJECT_PREFIX_BYTES else 0
            for i in range(2, stop):
                keys[row] = (keys[row] << 8) | buffer[start + i]
        else:
            kinds[row] = _BAD_MAGIC
    return kinds, keys


def _prefix_bytes(kind: int) -> int:
    return CONFLUENT_PREFIX_BYTES if kind == _CONFLUENT else SINGLE_OBJECT_PREFIX_BYTES


def _unframed(value: bytes, kind: int) -> tuple[Reason, str]:
    if kind == _EMPTY:
        return Reason.EMPTY_VALUE, "the record has no value"
    if kind == _CUT_SHORT:
        return Reason.UNDECODABLE, f"the record ends inside its frame, at byte {len(value)}"
    return Reason.UNDECODABLE, f"no Avro frame: it starts with {value[:8]!r}"


def _schema_key_in_words(key: bytes) -> str:
    """The id or fingerprint as people write it: the key has the fingerprint's bytes reversed."""
    if key.startswith(CONFLUENT_MAGIC):
        return f"schema id {int.from_bytes(key[1:], 'big')}"
    return f"schema fingerprint {key[len(SINGLE_OBJECT_MAGIC) :][::-1].hex()}"


def _put_bounded(table: dict[bytes, T], key: bytes, value: T, most: int) -> None:
    """Keep `value`; the oldest entry makes room."""
    if len(table) >= most:
        del table[next(iter(table))]
    table[key] = value


def _events(
    records: RecordBatch, out: k.Columns, buffer: UInt8, attributes: UInt8, good: Bool
) -> EventBatch:
    """The rows of `out` that are good."""
    if good.all():
        rows = np.arange(len(good))
        kept = out
        index, offsets = records.partition_index, records.offsets
    else:
        rows = np.flatnonzero(good)
        kept = k.Columns(
            out.starts[:, rows], out.lengths[:, rows], out.value[rows], out.has_value[rows],
            out.occurred_ms[rows],
        )  # fmt: skip
        index, offsets = records.partition_index[rows], records.offsets[rows]
    texts = [
        StringColumn(attributes if slot == k.ATTRIBUTES else buffer, starts, lengths)
        for slot, starts, lengths in zip(range(k.SLOTS), kept.starts, kept.lengths, strict=True)
    ]
    return EventBatch(
        texts[k.EVENT_ID], texts[k.CUSTOMER_ID], texts[k.EVENT_TYPE], texts[k.CATEGORY_ID],
        texts[k.PRODUCT_ID], kept.value, kept.has_value, kept.occurred_ms, texts[k.ATTRIBUTES],
        records.partitions, index, offsets, rows,
    )  # fmt: skip
