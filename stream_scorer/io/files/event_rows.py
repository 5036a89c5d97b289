"""Rows of a table as events, without encoding them.

A Parquet file holds columns, and so does an EventBatch, so rows become events as they are. Bytes of
a row are made in two cases only: for its dead letter, and where a row may be no event (a required
field is null, a text is not UTF-8, or the row may be longer than a record may be). Rows of the
second kind are encoded as Avro and given to the decoder, which finds and names what is wrong as it
does for records from Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import MOST_BYTES_BESIDE_TEXTS, encode_event_batch
from stream_scorer.core.avro.schemas import SINGLE_OBJECT_PREFIX_BYTES
from stream_scorer.core.events.batch import (
    NO_TIMESTAMP,
    DeadLetter,
    EventBatch,
    Int64,
    Reason,
    RecordBatch,
    StringColumn,
    TopicPartition,
)
from stream_scorer.core.events.decoded import DecodedBatch

TEXTS = ("event_id", "customer_id", "event_type", "category_id", "product_id", "attributes")


class UnfitRow(NamedTuple):
    """A row with a null in a required field: what is wrong, and the row as JSON."""

    detail: str
    original: bytes


@dataclass(frozen=True)
class EventRows:
    """Consecutive rows of one file, in its one partition; the origin of the events they become.

    events: one for each row; offsets are the rows' positions in the file. unfit: by row, those that
    can't be encoded. valid_utf8: of all texts.
    """

    events: EventBatch
    unfit: Mapping[int, UnfitRow]
    valid_utf8: bool

    def __len__(self) -> int:
        return len(self.events)

    @property
    def size_bytes(self) -> int:
        """Of all texts, counted for each row that has them."""
        return text_bytes([getattr(self.events, name) for name in TEXTS])

    def cut(self, rows: slice) -> EventRows:
        """Only `rows`, a slice from one row to a later one."""
        first, end, _ = rows.indices(len(self))
        events = replace(self.events.take(rows), record_index=np.arange(end - first))
        unfit = {row - first: unfit for row, unfit in self.unfit.items() if first <= row < end}
        return EventRows(events, unfit, self.valid_utf8)

    def decoded(self, decoder: Decoder, max_record_bytes: int) -> DecodedBatch:
        """The rows that are events, and a dead letter for each other row."""
        if self.valid_utf8 and self._surely_within(max_record_bytes):
            doubtful = np.array(sorted(self.unfit), np.int64)
        else:
            doubtful = np.arange(len(self))
        if not len(doubtful):
            return DecodedBatch(self.events, [], self)
        unfit = {
            number: self.unfit[row].detail
            for number, row in enumerate(doubtful.tolist())
            if row in self.unfit
        }
        _, refused = decoder.decode(self._as_records(doubtful), unfit)
        good = np.ones(len(self), np.bool_)
        # Offsets are positions in the file, and the rows follow one another in it.
        first = int(self.events.offsets[0])
        refused = [replace(d, record=d.offset - first) for d in refused]
        good[[d.record for d in refused]] = False
        return DecodedBatch(self.events.take(good), refused, self)

    @property
    def timestamps_ms(self) -> Int64:
        """Rows have no time beside occurred_at."""
        return np.full(len(self), NO_TIMESTAMP, np.int64)

    def next_offsets(self) -> dict[TopicPartition, int]:
        """As of a RecordBatch."""
        return {self.events.partitions[0]: int(self.events.offsets[-1]) + 1} if len(self) else {}

    def dead_letter(self, record: int, reason: Reason, detail: str) -> DeadLetter:
        """The dead letter of a row that is an event; its value is the event as framed Avro."""
        alone = self.events.take(slice(record, record + 1))
        texts = {name: _in_own_buffer(getattr(alone, name)) for name in TEXTS}
        (value,) = encode_event_batch(replace(alone, **texts))  # type: ignore[arg-type]
        topic, partition = self.events.partitions[0]
        offset = int(alone.offsets[0])
        return DeadLetter(
            topic, partition, offset, NO_TIMESTAMP, reason, detail, None, value, record
        )

    def _surely_within(self, most_bytes: int) -> bool:
        """Whether no row can be longer as a record, known without encoding any."""
        longest = sum(int(getattr(self.events, name).lengths.max(initial=0)) for name in TEXTS)
        return longest + SINGLE_OBJECT_PREFIX_BYTES + MOST_BYTES_BESIDE_TEXTS <= most_bytes

    def _as_records(self, rows: Int64) -> RecordBatch:
        fit = [row for row in rows.tolist() if row not in self.unfit]
        values = {row: unfit.original for row, unfit in self.unfit.items()}
        if fit:
            encoded = encode_event_batch(self.events.take(np.array(fit, np.int64)))
            values |= zip(fit, encoded, strict=True)
        return RecordBatch(
            [values[row] for row in rows.tolist()], [None] * len(rows), self.events.partitions,
            np.zeros(len(rows), np.int32), self.events.offsets[rows],
            np.full(len(rows), NO_TIMESTAMP, np.int64),
        )  # fmt: skip


def text_bytes(columns: Sequence[StringColumn]) -> int:
    """Of all texts, counted for each row that has them; a null counts as -1, `NULL`."""
    return sum(int(column.lengths.sum(dtype=np.int64)) for column in columns)


def _in_own_buffer(column: StringColumn) -> StringColumn:
    """A column of one row, copied out of its buffer: encoding copies whole buffers."""
    start, length = int(column.starts[0]), max(int(column.lengths[0]), 0)
    return StringColumn(
        column.buffer[start : start + length], np.zeros(1, np.int64), column.lengths
    )
