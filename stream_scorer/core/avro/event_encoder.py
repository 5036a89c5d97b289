"""Events to Avro bytes.

A row is checked field by field, so that a wrong one is named in words, and written by fastavro.
Columns are written by a compiled loop, for publishers that read events in bulk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any, NamedTuple

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
# Lengths, branches, value and time of an event, which need 46. The kernel checks no bounds, so with
# fewer it could write past its buffer.
MOST_BYTES_BESIDE_TEXTS = 70
# In the schema every union is of null and one type, in this order: its branch as a zigzag varint.
NULL_BRANCH, VALUE_BRANCH = 0, 2


class Spans(NamedTuple):
    """A column of texts in a buffer: starts (n,) int64 and lengths (n,) int32, NULL for no text."""

    start: Int64
    length: Int32


class EncoderColumns(NamedTuple):
    """What the kernel writes, for n events; texts are spans of `buffer`, attributes Avro maps."""

    buffer: UInt8
    event_id: Spans
    customer_id: Spans
    event_type: Spans
    category_id: Spans
    product_id: Spans
    value: Float64
    has_value: Bool
    occurred_at_ms: Int64
    attributes: Spans


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
    columns = _encoder_columns(events)
    needed = (columns.event_id, columns.customer_id, columns.event_type, columns.attributes)
    if any((spans.length == NULL).any() for spans in needed):
        raise InputError("event", None, "event_id, customer_id and event_type must not be null")
    out, ends = _write_events(np.frombuffer(prefix, np.uint8), columns)
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
    # To Python a bool is an int, and would be counted as 1.
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputError(name, value, "give a number or nothing")
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(name, value, "give a number that a double can hold") from error


def _moment_ms(name: str, value: object) -> int:
    if isinstance(value, datetime) and value.tzinfo is not None:
        # Exact, and rounded down as the decoder does; total_seconds() is a float.
        return (value - EPOCH) // timedelta(milliseconds=1)
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if is_integer and INT64.min <= value <= INT64.max:  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload, no-any-return]
    raise InputError(name, value, "give integer ms since 1970 UTC or a time with a zone")


def _encoder_columns(events: EventBatch) -> EncoderColumns:
    """The columns of the batch over one buffer; a buffer that several columns share goes in once.

    One buffer, because the kernel holds a bare pointer to the texts while it writes.
    """
    offsets: dict[int, int] = {}
    parts: list[UInt8] = []

    def spans(column: StringColumn) -> Spans:
        if id(column.buffer) not in offsets:
            offsets[id(column.buffer)] = sum(map(len, parts))
            parts.append(column.buffer)
        return Spans(column.starts + offsets[id(column.buffer)], column.lengths)

    texts = {
        name: spans(getattr(events, name))
        for name in (*REQUIRED_TEXTS, *OPTIONAL_TEXTS, "attributes")
    }
    # The kernel reads the bits of `value` through a view, which needs a contiguous array.
    return EncoderColumns(
        buffer=np.concatenate(parts), value=np.ascontiguousarray(events.value),
        has_value=events.has_value, occurred_at_ms=events.occurred_at_ms, **texts,
    )  # fmt: skip


@kernel
def _put_optional_text(data: Any, pos: Any, source: Any, start: Any, length: Any) -> Any:
    """Write a union of null and a text, null where `length` is; the position after it."""
    if length == NULL:
        data[pos] = NULL_BRANCH
        return pos + 1
    data[pos] = VALUE_BRANCH
    return put_text(data, pos + 1, source, start, length)


@kernel
def _write_events(prefix: UInt8, events: EncoderColumns) -> tuple[UInt8, Int64]:
    """Records one after another, each behind `prefix`, and their ends (n,)."""
    # numba counts references each time that a field of a tuple is taken, so not within the loops.
    id_start, id_length = events.event_id.start, events.event_id.length
    customer_start, customer_length = events.customer_id.start, events.customer_id.length
    type_start, type_length = events.event_type.start, events.event_type.length
    category_start, category_length = events.category_id.start, events.category_id.length
    product_start, product_length = events.product_id.start, events.product_id.length
    map_start, map_length = events.attributes.start, events.attributes.length
    has_value, occurred_at_ms = events.has_value, events.occurred_at_ms
    n = len(events.value)
    size = (len(prefix) + MOST_BYTES_BESIDE_TEXTS) * n
    for row in range(n):
        size += id_length[row] + customer_length[row] + type_length[row] + map_length[row]
        size += max(category_length[row], 0) + max(product_length[row], 0)
    out = np.empty(size, np.uint8)
    ends = np.empty(n, np.int64)
    data, source, frame = bytes_of(out), bytes_of(events.buffer), bytes_of(prefix)
    bits = events.value.view(np.uint64)
    at: Any = 0
    for row in range(n):
        at = put_bytes(data, at, frame, 0, len(prefix))
        at = put_text(data, at, source, id_start[row], id_length[row])
        at = put_text(data, at, source, customer_start[row], customer_length[row])
        at = put_text(data, at, source, type_start[row], type_length[row])
        at = _put_optional_text(data, at, source, category_start[row], category_length[row])
        at = _put_optional_text(data, at, source, product_start[row], product_length[row])
        data[at] = VALUE_BRANCH if has_value[row] else NULL_BRANCH
        at += 1
        if has_value[row]:
            for i in range(8):  # little-endian, whatever the processor's own order is
                data[at + i] = np.uint8(bits[row] >> np.uint64(8 * i))
            at += 8
        at = put_long(data, at, occurred_at_ms[row])
        # Already an Avro map, in canonical form (attributes.py), so its bytes go in as they are.
        at = put_bytes(data, at, source, map_start[row], map_length[row])
        ends[row] = at
    return out[:at], ends
