"""Events to Avro bytes.

A row is checked field by field, so that a wrong one is named in words, and written by fastavro.
Columns are written by a compiled loop, for publishers that read events in bulk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

import fastavro
import numpy as np

from stream_scorer.core.avro.primitives import put_bytes, put_long, put_text
from stream_scorer.core.avro.schemas import parsed, single_object_prefix
from stream_scorer.core.events.batch import (
    NULL,
    Bool,
    EventBatch,
    Float64,
    Int32,
    Int64,
    StringColumn,
    UInt8,
)
from stream_scorer.core.events.moments import EPOCH
from stream_scorer.errors import InputError
from stream_scorer.jit import bytes_of, kernel

REQUIRED_TEXTS = ("event_id", "customer_id", "event_type")
OPTIONAL_TEXTS = ("category_id", "product_id")
INT64 = np.iinfo(np.int64)
MOST_BYTES_BESIDE_TEXTS = 70  # lengths, branches, value and time of an event


def checked_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """The event in `row` as the schema has it, with occurred_at in ms; other keys are dropped.

    occurred_at: int ms since 1970 UTC or a datetime with a zone. category_id, product_id, value and
    attributes may be missing. Raises InputError naming the field.
    """
    event: dict[str, Any] = {}
    for name in REQUIRED_TEXTS:
        if row.get(name) is None:
            raise InputError(name, row.get(name), "give every event this field")
        event[name] = _text(name, row[name])
    for name in OPTIONAL_TEXTS:
        event[name] = None if row.get(name) is None else _text(name, row[name])
    event["value"] = _number("value", row.get("value"))
    event["occurred_at"] = _moment_ms("occurred_at", row.get("occurred_at"))
    attributes = row.get("attributes")
    if attributes is None:
        attributes = {}
    if not isinstance(attributes, Mapping):
        raise InputError("attributes", attributes, "give a map of strings")
    event["attributes"] = {
        _text("attributes", key): _text(f"attributes.{key}", value)
        for key, value in attributes.items()
    }
    return event


def encode_events(rows: Iterable[Mapping[str, Any]], prefix: bytes | None = None) -> list[bytes]:
    """Each row as a framed record; prefix None is single-object encoding. Raises InputError."""
    if prefix is None:
        prefix = single_object_prefix("customer_event")
    return [framed(prefix, parsed("customer_event"), checked_event(row)) for row in rows]


def encode_event_batch(events: EventBatch, prefix: bytes | None = None) -> list[bytes]:
    """Each event of the batch as a framed record; prefix None is single-object encoding."""
    if prefix is None:
        prefix = single_object_prefix("customer_event")
    texts = (
        events.event_id, events.customer_id, events.event_type, events.category_id,
        events.product_id, events.attributes,
    )  # fmt: skip
    buffer, starts = _one_buffer(texts)
    lengths = np.stack([column.lengths for column in texts])
    if (lengths[[0, 1, 2, 5]] == NULL).any():
        raise InputError("event", None, "event_id, customer_id and event_type must not be null")
    frame = np.frombuffer(prefix, np.uint8)
    value = np.ascontiguousarray(events.value)
    out, ends = _write_events(
        frame, buffer, starts, lengths, value, events.has_value, events.occurred_at_ms
    )
    return cut(out, ends)


def cut(buffer: UInt8, ends: Int64) -> list[bytes]:
    """The consecutive pieces of `buffer` that end at `ends`."""
    data, stops = buffer.tobytes(), ends.tolist()
    return [data[s:e] for s, e in zip([0, *stops], stops, strict=False)]


def framed(prefix: bytes, schema: Any, record: Mapping[str, Any]) -> bytes:
    """One record of a parsed schema, after its frame prefix."""
    stream = BytesIO()
    stream.write(prefix)
    fastavro.schemaless_writer(stream, schema, record)
    return stream.getvalue()


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(name, value, "give text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(name, ascii(value), "half of a surrogate pair is not text") from error
    return value


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputError(name, value, "give a number or nothing")
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(name, value, "give a number that a double can hold") from error


def _moment_ms(name: str, value: object) -> int:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return (value - EPOCH) // timedelta(milliseconds=1)
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if is_integer and INT64.min <= value <= INT64.max:  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload, no-any-return]
    raise InputError(name, value, "give integer ms since 1970 UTC or a time with a zone")


def _one_buffer(columns: Sequence[StringColumn]) -> tuple[UInt8, Int64]:
    """The columns' bytes in one buffer and their starts (C, n) in it; shared buffers go in once."""
    offsets: dict[int, int] = {}
    parts, end = [], 0
    for column in columns:
        if id(column.buffer) not in offsets:
            offsets[id(column.buffer)] = end
            parts.append(column.buffer)
            end += len(column.buffer)
    starts = np.stack([column.starts + offsets[id(column.buffer)] for column in columns])
    return np.concatenate(parts), starts


@kernel
def _write_events(
    prefix: UInt8,
    buffer: UInt8,
    starts: Int64,
    lengths: Int32,
    value: Float64,
    has_value: Bool,
    occurred_ms: Int64,
) -> tuple[UInt8, Int64]:
    """Records one after another, and their ends (n,); spans in the order of the schema's texts."""
    n = len(value)
    size = 0
    for row in range(n):
        size += len(prefix) + MOST_BYTES_BESIDE_TEXTS
        for slot in range(6):
            size += max(lengths[slot, row], 0)
    out = np.empty(size, np.uint8)
    ends = np.empty(n, np.int64)
    data, source, frame = bytes_of(out), bytes_of(buffer), bytes_of(prefix)
    bits = value.view(np.uint64)
    at: Any = 0
    for row in range(n):
        at = put_bytes(data, at, frame, 0, len(prefix))
        for slot in range(5):
            length = lengths[slot, row]
            if slot >= 3:
                data[at] = 0 if length < 0 else 2
                at += 1
            if length >= 0:
                at = put_text(data, at, source, starts[slot, row], length)
        data[at] = 2 if has_value[row] else 0
        at += 1
        if has_value[row]:
            for i in range(8):
                data[at + i] = np.uint8(bits[row] >> np.uint64(8 * i))
            at += 8
        at = put_long(data, at, occurred_ms[row])
        at = put_bytes(data, at, source, starts[5, row], lengths[5, row])
        ends[row] = at
    return out[:at], ends
