"""From framed bytes to columns of events: `Decoder`.

All values of a batch are joined into one buffer, which the string columns of the result keep as
spans. The frames are read in one compiled pass (frames.py); for each distinct one the writer schema
is asked for once and compiled to a program (writer_programs.py); a second compiled pass fills the
columns (interpreter.py). Python touches single records only where they are bad, have a value that
is no text yet (texts.py), or attributes in another form than ours (rewritten_maps.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from stream_scorer.core.avro import program as k
from stream_scorer.core.avro.attributes import map_entries
from stream_scorer.core.avro.frames import (
    CONFLUENT,
    equal_rows,
    key_in_words,
    prefix_bytes,
    read_frames,
    unframed,
)
from stream_scorer.core.avro.interpreter import run
from stream_scorer.core.avro.primitives import ERROR_TEXTS, NOT_WHOLE, OK
from stream_scorer.core.avro.rewritten_maps import rewrite_maps
from stream_scorer.core.avro.texts import texts_of
from stream_scorer.core.avro.writer_programs import WriterPrograms
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

_TOO_LONG_MAP = (
    "attributes: {size} bytes as text, which is too much for the bytes of the record; "
    "write fewer of them, or shorter symbols"
)


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
        self._programs, self._ahead = WriterPrograms(lookup), ahead
        self._max_record_bytes = max_record_bytes

    def decode(
        self, records: RecordBatch, unfit: Mapping[int, str] | None = None
    ) -> tuple[EventBatch, list[DeadLetter]]:
        """Events in the order of their records, and a dead letter for each record that is none.

        unfit: numbers of records that their source could not make Avro of, such as a line that is
        no JSON, each with what is wrong. They are not looked into.
        """
        self._programs.begin_batch()
        bad: dict[int, tuple[Reason, str]] = {}
        buffer, starts, ends = self._joined(records.values, unfit or {}, bad)
        kinds, keys = read_frames(buffer, starts, ends)
        groups = list(self._groups(records.values, kinds, keys, starts, bad))
        buffer, constant_starts = _with_constants(buffer, [program for program, _ in groups])
        out = k.columns(len(records))
        texts, maps = _Growing(buffer), _Growing(buffer)
        for (program, rows), constants_at in zip(groups, constant_starts, strict=True):
            tables = program.tables(constants_at)
            errors = k.outcome(len(starts))
            run(buffer, starts, ends, rows, False, tables, out, errors, map_entries(0))
            for row in rows[errors.error[rows] != OK].tolist():
                at = int(errors.at[row] - starts[row]) + prefix_bytes(int(kinds[row]))
                text = ERROR_TEXTS[int(errors.error[row])]
                field = program.labels[int(errors.label[row])]
                bad[row] = Reason.UNDECODABLE, text.format(field=field, at=at)
            whole = rows[errors.error[rows] == OK]
            others = whole[out.lengths[k.ATTRIBUTES, whole] == k.REWRITE]
            if len(others):
                made = rewrite_maps(tables, buffer, starts, ends, others, out, maps.length)
                maps.add(made.maps)
                for row, size in made.too_long.items():
                    bad[row] = Reason.OVERSIZED, _TOO_LONG_MAP.format(size=size)
            for slot, field in program.raw_slots.items():
                if slot != k.MAP_VALUE:
                    refused = _write_texts(buffer, whole, out, slot, texts)
                    detail = ERROR_TEXTS[NOT_WHOLE].format(field=field)
                    bad |= dict.fromkeys(refused, (Reason.UNDECODABLE, detail))
        good = np.ones(len(records), np.bool_)
        good[list(bad)] = False
        dead_letters = [records.dead_letter(row, *bad[row]) for row in sorted(bad)]
        return _events(records, out, texts.joined(), maps.joined(), good), dead_letters

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
    ) -> Iterator[tuple[k.Program, Int64]]:
        """Rows by program; moves their `starts` behind the frame. Rows without one become `bad`."""
        framed = kinds >= CONFLUENT
        for row in np.flatnonzero(~framed).tolist():
            if row not in bad:
                bad[row] = unframed(values[row] or b"", int(kinds[row]))
        groups = []
        for rows in equal_rows(kinds, keys, np.flatnonzero(framed)):
            first = values[int(rows[0])] or b""
            groups.append((first[: prefix_bytes(int(kinds[rows[0]]))], rows))
        asked = [group for group in groups if self._programs.must_ask(group[0])]
        if asked:
            asked.sort(key=lambda group: -len(group[1]))
            self._ahead([key for key, _ in asked])
        for key, rows in groups:
            program = self._programs.program_of(key)
            if isinstance(program, k.Program):
                starts[rows] += len(key)
                yield program, rows
                continue
            if isinstance(program, UnusableSchemaError):
                verdict = Reason.UNDECODABLE, f"{key_in_words(key)}: {program}"
            else:
                verdict = Reason.UNKNOWN_SCHEMA, program
            bad.update(dict.fromkeys(rows.tolist(), verdict))


class _Growing:
    """Bytes that begin as `first` and are added to; joined once, since `first` may be long."""

    def __init__(self, first: UInt8) -> None:
        self._parts, self.length = [first], len(first)

    def add(self, more: UInt8) -> None:
        self._parts.append(more)
        self.length += len(more)

    def joined(self) -> UInt8:
        return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)


def _write_texts(
    buffer: UInt8, rows: Int64, out: k.Columns, slot: int, texts: _Growing
) -> list[int]:
    """Give the raw values of a slot their text, at the end of `texts`, which begins as `buffer`.

    Returns the rows that can't be read as text.
    """
    raw = rows[out.lengths[slot, rows] <= k.RAW_LONG]
    if not len(raw):
        return []
    written, starts, lengths, readable = texts_of(
        buffer, out.starts[slot, raw], out.lengths[slot, raw], ids=True
    )
    if slot not in (k.CATEGORY_ID, k.PRODUCT_ID):
        # NaN is no text, and these fields may not be null.
        readable &= lengths != NULL
    out.starts[slot, raw], out.lengths[slot, raw] = starts + texts.length, lengths
    texts.add(written)
    refused: list[int] = raw[~readable].tolist()
    return refused


def _with_constants(buffer: UInt8, programs: list[k.Program]) -> tuple[UInt8, list[int]]:
    """The buffer with the programs' constants behind it, and where each program's are."""
    constant_starts, end, parts = [], len(buffer), [buffer]
    for program in programs:
        constant_starts.append(end)
        parts.append(np.frombuffer(program.constants, np.uint8))
        end += len(program.constants)
    joined = np.concatenate(parts)
    return joined, constant_starts


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
        # Not [:, rows], whose result is laid out by columns: a slot of it is not contiguous, and
        # the first bad record would have kernels compiled anew for such arrays.
        kept = k.Columns(
            out.starts.take(rows, axis=1), out.lengths.take(rows, axis=1), out.value[rows],
            out.has_value[rows], out.occurred_ms[rows],
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
