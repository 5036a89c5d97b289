"""What an event is: batches of them as columns, and what makes one valid.

Lives here: `RecordBatch` (bytes as Kafka gave them), `EventBatch` (decoded columns), `DeadLetter`
(a record that can't be applied, with its reason) and `validate`. Must not live here: Avro
(codec.py) and what events mean for a customer (feature_space.py, fold.py).

How it works: a batch never holds a Python object for each event. Strings are spans in one shared
byte buffer (`StringColumn`); they are interned to small integer codes before anything is done with
them, so that work on text is done once for each distinct value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.interning import intern_spans

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

TopicPartition = tuple[str, int]

NULL = -1
NO_TIMESTAMP = -1


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
    TIME_NEGATIVE = "time_negative"
    TIME_IN_FUTURE = "time_in_future"


@dataclass(frozen=True, slots=True)
class StringColumn:
    """n UTF-8 strings as spans of one buffer.

    buffer (M,) uint8; starts (n,) int64; lengths (n,) int32, `NULL` for null.
    """

    buffer: UInt8
    starts: Int64
    lengths: Int32
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
        data = view.tobytes() if len(firsts) > 64 else None
        if data is None:
            return codes, [view[s:e].tobytes().decode() for s, e in zip(starts, ends, strict=True)]
        return codes, [data[s:e].decode() for s, e in zip(starts, ends, strict=True)]


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """n records as the bus or an event file gave them, in stream order within each partition.

    partition_index (n,) int32 into `partitions`; offsets (n,) int64; timestamps_ms (n,) int64, the
    record's own timestamp or `NO_TIMESTAMP`.
    """

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    partitions: list[TopicPartition]
    partition_index: Int32
    offsets: Int64
    timestamps_ms: Int64

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Int64) -> RecordBatch:
        """Only `rows`, in the order given."""
        chosen = rows.tolist()
        return RecordBatch(
            [self.values[i] for i in chosen], [self.keys[i] for i in chosen], self.partitions,
            self.partition_index[rows], self.offsets[rows], self.timestamps_ms[rows],
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
            reason, detail, self.keys[row], self.values[row],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can't be applied: where it stood, why, and its original bytes."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: Reason
    detail: str
    key: bytes | None
    value: bytes | None


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


@dataclass(frozen=True, slots=True)
class EventRules:
    """What a shop accepts.

    categories: the vocabulary of category_id, or None where any category is accepted. With
    refuse_unknown_category False an event of an unknown category is applied; only the features by
    category do not see it. allowed_skew_ms: how far occurred_at may lie after the moment it is
    judged against.
    """

    event_types: frozenset[str]
    categories: frozenset[str] | None
    refuse_unknown_category: bool
    allowed_skew_ms: int


def validate(
    events: EventBatch, records: RecordBatch, rules: EventRules, now_ms: int
) -> tuple[EventBatch, list[DeadLetter]]:
    """Split `events` (decoded from `records`) into those that can be applied and dead letters.

    An event's time is judged against its record's timestamp or `now_ms`, whichever is earlier, so
    that a replay of the log decides as the live consumer did. One reason per record, the first in
    the order of `Reason`.
    """
    n = len(events)
    stamps = records.timestamps_ms[events.record_index]
    judged_at = np.where(stamps == NO_TIMESTAMP, now_ms, np.minimum(stamps, now_ms))
    type_codes, types = events.event_type.intern()
    known_type = _member(type_codes, types, rules.event_types)
    checks: list[tuple[Bool, Reason]] = [
        (events.customer_id.lengths > 0, Reason.MISSING_CUSTOMER_ID),
        (known_type, Reason.UNKNOWN_EVENT_TYPE),
    ]
    if rules.refuse_unknown_category and rules.categories is not None:
        codes, names = events.category_id.intern()
        known = _member(codes, names, rules.categories) | (codes == NULL)
        checks.append((known, Reason.UNKNOWN_CATEGORY))
    checks += [
        (np.isfinite(events.value) | ~events.has_value, Reason.VALUE_NOT_FINITE),
        (events.occurred_at_ms >= 0, Reason.TIME_NEGATIVE),
        (events.occurred_at_ms <= judged_at + rules.allowed_skew_ms, Reason.TIME_IN_FUTURE),
    ]
    good = np.ones(n, np.bool_)
    letters: list[DeadLetter] = []
    for passed, reason in checks:
        for row in np.flatnonzero(good & ~passed).tolist():
            detail = _detail(events, row, reason)
            letters.append(records.dead_letter(int(events.record_index[row]), reason, detail))
        good &= passed
    return (events, letters) if not letters else (events.take(good), letters)


def _member(codes: Int32, names: list[str], allowed: frozenset[str]) -> Bool:
    table = np.array([name in allowed for name in names] + [False], np.bool_)
    found: Bool = table[codes]
    return found


def _detail(events: EventBatch, row: int, reason: Reason) -> str:
    if reason is Reason.MISSING_CUSTOMER_ID:
        return "customer_id is empty"
    if reason is Reason.UNKNOWN_EVENT_TYPE:
        return f"event_type {events.event_type[row]!r} is not in events.event_types"
    if reason is Reason.UNKNOWN_CATEGORY:
        return f"category_id {events.category_id[row]!r} is not in vocabularies.category_id"
    if reason is Reason.VALUE_NOT_FINITE:
        return f"value {events.value[row]} is not finite"
    return f"occurred_at {events.occurred_at_ms[row]} ms"
