"""What an event is: `RecordBatch` (bytes as Kafka gave them), `EventBatch` (decoded columns) and
`DeadLetter` (a record that can't be applied, with its reason).

A batch never holds a Python object for each event. Strings are spans in one shared byte buffer
(`StringColumn`); they are interned to small integer codes before anything is done with them, so
that work on text is done once for each distinct value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.interning import intern_spans

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

TopicPartition = tuple[str, int]
Position = tuple[str, int, int]  # topic, partition, offset
TraceHeaders = Mapping[str, str]  # traceparent, and tracestate where there is one

NULL = -1
# Of an event's value, and of an attribute that is read as a number: what is larger is a mistake.
# It keeps any float32 sum of a customer's life finite: 10^8 such values are 1e23.
LARGEST_NUMBER = 1e15
# Of a dead letter. Ours have less than 300 characters beside the record's own words.
MOST_DETAIL_CHARACTERS = 1_000
NO_TIMESTAMP = -1  # Kafka's own number for it


class Reason(str, Enum):
    """Why a record went to the dead-letter topic. The values are a public contract."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"
    EMPTY_VALUE = "empty_value"
    OVERSIZED = "oversized"
    MISSING_CUSTOMER_ID = "missing_customer_id"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    UNKNOWN_CATEGORY = "unknown_category"
    VALUE_NOT_FINITE = "value_not_finite"
    VALUE_TOO_LARGE = "value_too_large"
    TIME_NEGATIVE = "time_negative"
    TIME_TOO_EARLY = "time_too_early"
    TIME_IN_FUTURE = "time_in_future"


@dataclass(frozen=True, slots=True)
class StringColumn:
    """n UTF-8 strings as spans of one buffer.

    buffer (M,) uint8; starts (n,) int64; lengths (n,) int32, `NULL` for null.
    """

    buffer: UInt8
    starts: Int64
    lengths: Int32
    # A list, because a frozen dataclass can't be assigned to: empty until the codes are found.
    _interned: list[tuple[Int32, list[str]]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, values: list[str] | list[str | None]) -> StringColumn:
        """Column of `values`, in order."""
        encoded = [None if v is None else v.encode() for v in values]
        lengths = np.array([NULL if e is None else len(e) for e in encoded], np.int32)
        ends = np.cumsum(np.maximum(lengths, 0), dtype=np.int64)
        buffer = np.frombuffer(b"".join(e for e in encoded if e), np.uint8)
        return cls(buffer, ends - np.maximum(lengths, 0), lengths)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> str | None:
        length = int(self.lengths[row])
        if length == NULL:
            return None
        start = int(self.starts[row])
        return self.buffer[start : start + length].tobytes().decode()

    def take(self, rows: Int64 | Bool | slice) -> StringColumn:
        """The same buffer, only `rows`."""
        return StringColumn(self.buffer, self.starts[rows], self.lengths[rows])

    def compacted(self) -> StringColumn:
        """The same texts in a buffer that holds nothing else; texts of one place stay in one."""
        places, of_row = np.unique(self.starts, return_inverse=True)
        longest = np.zeros(len(places), np.int64)
        np.maximum.at(longest, of_row, self.lengths)  # a shorter one at the same place begins it
        ends = np.cumsum(longest)
        firsts = ends - longest
        at = np.arange(int(longest.sum())) + np.repeat(places - firsts, longest)
        return StringColumn(self.buffer[at], firsts[of_row], self.lengths)

    def intern(self) -> tuple[Int32, list[str]]:
        """Codes (n,) int32 (`NULL` for null) into the distinct strings, in order of appearance.

        Found once: rules and features ask for the same columns.
        """
        if not self._interned:
            self._interned.append(self._intern())
        return self._interned[0]

    def _intern(self) -> tuple[Int32, list[str]]:
        codes, firsts = intern_spans(self.buffer, self.starts, self.lengths)
        view, starts, lengths = self.buffer, self.starts[firsts].tolist(), self.lengths[firsts]
        ends = (self.starts[firsts] + lengths).tolist()
        # A slice of bytes costs half as much as one of an array, but needs a copy of the whole
        # buffer first.
        data = view.tobytes() if len(firsts) > 64 else None
        if data is None:
            return codes, [view[s:e].tobytes().decode() for s, e in zip(starts, ends, strict=True)]
        return codes, [data[s:e].decode() for s, e in zip(starts, ends, strict=True)]


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """n records as the bus or an event file gave them, in stream order within each partition.

    partition_index (n,) int32 into `partitions`; offsets (n,) int64; timestamps_ms (n,) int64, the
    record's own timestamp or `NO_TIMESTAMP`. trace_contexts: of a few records, where traces are on.
    """

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    partitions: list[TopicPartition]
    partition_index: Int32
    offsets: Int64
    timestamps_ms: Int64
    trace_contexts: Mapping[Position, TraceHeaders] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Int64) -> RecordBatch:
        """Only `rows`, in the order given."""
        chosen = rows.tolist()
        return RecordBatch(
            [self.values[i] for i in chosen], [self.keys[i] for i in chosen], self.partitions,
            self.partition_index[rows], self.offsets[rows], self.timestamps_ms[rows],
            self.trace_contexts,
        )  # fmt: skip

    def next_offsets(self) -> dict[TopicPartition, int]:
        """For each partition the offset after its last record: what to commit when all is done."""
        if not len(self):
            return {}
        last = np.full(len(self.partitions), -1, np.int64)
        np.maximum.at(last, self.partition_index, self.offsets)
        return {tp: int(o) + 1 for tp, o in zip(self.partitions, last, strict=True) if o >= 0}

    def first_offsets(self) -> dict[TopicPartition, int]:
        """For each partition the offset of its first record in this batch."""
        top = np.iinfo(np.int64).max
        first = np.full(len(self.partitions), top, np.int64)
        np.minimum.at(first, self.partition_index, self.offsets)
        return {tp: int(o) for tp, o in zip(self.partitions, first, strict=True) if o != top}

    def dead_letter(self, row: int, reason: Reason, detail: str) -> DeadLetter:
        """The dead letter for record `row`, with its original bytes."""
        topic, partition = self.partitions[int(self.partition_index[row])]
        return DeadLetter(
            topic, partition, int(self.offsets[row]), int(self.timestamps_ms[row]),
            reason, detail, self.keys[row], self.values[row], row,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can't be applied: where it stood, why, and its original bytes.

    record: its number in its batch; negative where that is not known.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: Reason
    detail: str
    key: bytes | None
    value: bytes | None
    record: int = field(default=-1, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", _bounded_detail(self.detail))


def _bounded_detail(detail: str) -> str:
    """A detail as a line of a log can have it: words of the record in it may be of any length, and
    hold what moves a terminal's cursor. What it begins and ends with stays: field and remedy."""
    if len(detail) > MOST_DETAIL_CHARACTERS:
        half = MOST_DETAIL_CHARACTERS // 2
        left_out = len(detail) - 2 * half
        detail = f"{detail[:half]}... ({left_out} characters left out) ...{detail[-half:]}"
    if detail.isprintable():
        return detail
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in detail)


class Origin(Protocol):
    """The records that events were made from. `EventBatch.record_index` is a number of theirs.

    A RecordBatch is an origin. So are rows of a table, whose bytes are made only for a dead letter.
    """

    @property
    def timestamps_ms(self) -> Int64: ...
    def __len__(self) -> int: ...
    def next_offsets(self) -> dict[TopicPartition, int]: ...
    def dead_letter(self, record: int, reason: Reason, detail: str, /) -> DeadLetter: ...


@dataclass(frozen=True, slots=True)
class EventBatch:
    """n events as columns; row i came from record `record_index[i]` of its RecordBatch.

    value (n,) float64, meaningful where has_value (n,) bool; occurred_at_ms (n,) int64 since 1970
    UTC; attributes: each span holds one Avro-encoded map<string>; partition_index (n,) int32 into
    `partitions` and offsets (n,) int64 say where each event stands in its topic.
    """

    event_id: StringColumn
    customer_id: StringColumn
    event_type: StringColumn
    category_id: StringColumn
    product_id: StringColumn
    value: Float64
    has_value: Bool
    occurred_at_ms: Int64
    attributes: StringColumn
    partitions: list[TopicPartition]
    partition_index: Int32
    offsets: Int64
    record_index: Int64

    def __len__(self) -> int:
        return len(self.occurred_at_ms)

    def take(self, rows: Int64 | Bool | slice) -> EventBatch:
        """Only `rows`, in the order given; buffers are shared."""
        return EventBatch(
            self.event_id.take(rows), self.customer_id.take(rows), self.event_type.take(rows),
            self.category_id.take(rows), self.product_id.take(rows), self.value[rows],
            self.has_value[rows], self.occurred_at_ms[rows], self.attributes.take(rows),
            self.partitions, self.partition_index[rows], self.offsets[rows],
            self.record_index[rows],
        )  # fmt: skip

    def compacted(self) -> EventBatch:
        """The same events without the bytes of any others: what is left of a large batch after
        `take` keeps all of its buffers in memory."""
        columns = {f.name: getattr(self, f.name) for f in fields(EventBatch)}
        texts = {n: c.compacted() for n, c in columns.items() if isinstance(c, StringColumn)}
        return EventBatch(**{**columns, **texts})


def concatenate_events(parts: list[EventBatch]) -> EventBatch:
    """The events of all `parts`, of which there is at least one, in order; buffers copied once."""
    partitions: dict[TopicPartition, int] = {}
    columns: dict[str, list[Any]] = {f.name: [] for f in fields(EventBatch)}
    buffers: dict[int, UInt8] = {}
    starts: dict[int, int] = {}
    end = 0
    for part in parts:
        for name, values in columns.items():
            column = getattr(part, name)
            if isinstance(column, StringColumn) and id(column.buffer) not in buffers:
                buffers[id(column.buffer)] = column.buffer
                starts[id(column.buffer)] = end
                end += len(column.buffer)
            values.append(column)
        numbers = [partitions.setdefault(tp, len(partitions)) for tp in part.partitions]
        columns["partition_index"][-1] = np.array(numbers, np.int32)[part.partition_index]
    buffer = np.concatenate(list(buffers.values()))

    def joined(name: str) -> Any:
        if name == "partitions":
            return list(partitions)
        values = columns[name]
        if not isinstance(values[0], StringColumn):
            return np.concatenate(values)
        return StringColumn(
            buffer,
            np.concatenate([c.starts + starts[id(c.buffer)] for c in values]),
            np.concatenate([c.lengths for c in values]),
        )

    return EventBatch(**{name: joined(name) for name in columns})
