"""Events as an Arrow table in memory, and back.

The table has the fields of `schemas/customer_event.avsc` as columns, so that written as Parquet it
is an event file. Tables from elsewhere may have more columns, other column types that can be read
as these, and attributes as a struct; they are read by the same code as Parquet files.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import NULL, EventBatch, Int32, StringColumn
from stream_scorer.core.events.decoded import DecodedBatch, join_batches
from stream_scorer.core.events.interning import intern_spans
from stream_scorer.io.files.limits import ReadLimits
from stream_scorer.io.files.parquet_events import check_schema, event_rows

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("category_id", pa.string()),
        pa.field("product_id", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("occurred_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)
MOST_RECORD_BYTES = 2**31 - 1
_NO_LIMITS = ReadLimits(MOST_RECORD_BYTES, MOST_RECORD_BYTES, MOST_RECORD_BYTES)
NAME = "table"  # stands for the file's name in errors and dead letters

_ATTRIBUTES = fastavro.parse_schema({"type": "map", "values": "string"})


def table_of(events: EventBatch) -> pa.Table:
    """The events as rows of `SCHEMA`, in order."""
    columns = [
        _texts(events.event_id),
        _texts(events.customer_id),
        _texts(events.event_type),
        _texts(events.category_id),
        _texts(events.product_id),
        pa.array(events.value, mask=~events.has_value),
        pa.array(events.occurred_at_ms).cast(pa.timestamp("ms", tz="UTC")),
        _maps(events.attributes),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def events_of(table: pa.Table) -> DecodedBatch:
    """The events of the table, and a dead letter for each row that is none.

    Raises EventFileError where a required column is missing or a column has an unusable type.
    """
    check_schema(Path(NAME), table.schema)
    names = [name for name in SCHEMA.names if name in table.schema.names]
    decoder = Decoder(lambda _: None, max_record_bytes=MOST_RECORD_BYTES)
    batches = table.select(names).combine_chunks().to_batches() or [_no_rows(table.select(names))]
    parts, position = [], 0
    for batch in batches:
        rows = event_rows(batch, NAME, position, _NO_LIMITS)
        parts += [part.decoded(decoder, MOST_RECORD_BYTES) for part in rows]
        position += len(batch)
    return join_batches(parts)


def _no_rows(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=table.schema)


def _taken(distinct: pa.Array, codes: Int32) -> pa.Array:
    return distinct.take(pa.array(codes, mask=codes == NULL))


def _texts(column: StringColumn) -> pa.Array:
    codes, words = column.intern()
    return _taken(pa.array(words, pa.string()), codes)


def _maps(column: StringColumn) -> pa.Array:
    """Each distinct map is decoded once."""
    codes, firsts = intern_spans(column.buffer, column.starts, column.lengths)
    distinct: list[list[tuple[str, Any]]] = []
    for row in firsts.tolist():
        start, length = int(column.starts[row]), int(column.lengths[row])
        content = BytesIO(column.buffer[start : start + length].tobytes())
        read: Any = fastavro.schemaless_reader(content, _ATTRIBUTES, None)
        distinct.append(list(read.items()))
    return _taken(pa.array(distinct, SCHEMA.field("attributes").type), codes)
