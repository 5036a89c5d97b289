"""Events as Arrow rows, which Spark can send between workers and sort, and back to columns.

Columns: customer_id string; occurred_at int64, ms; file int32 and position int64, where the event
is in the log; event binary, the whole event as an Avro record in single-object encoding. Spark only
needs the other columns, to group and to sort; the record keeps the event whole. Valid events only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_event_batch
from stream_scorer.core.events.batch import NO_TIMESTAMP, EventBatch, RecordBatch

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("occurred_at", pa.int64()),
        ("file", pa.int32()),
        ("position", pa.int64()),
        ("event", pa.binary()),
    ]
)


def to_batch(events: EventBatch, file: int) -> pa.RecordBatch:
    """Rows of `SCHEMA`. file: the number of the events' file; their offsets are positions in it."""
    codes, ids = events.customer_id.intern()
    columns = [
        pa.array(ids, pa.string()).take(pa.array(codes)),
        pa.array(events.occurred_at_ms),
        pa.array(np.full(len(events), file, np.int32)),
        pa.array(events.offsets),
        pa.array(encode_event_batch(events), pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def in_order(batches: Sequence[pa.RecordBatch]) -> EventBatch | None:
    """All events in order of time, and those of one moment in the order of the log; None for none.

    Raises ValueError where an event does not decode, which would be an error in this package.
    """
    table = pa.Table.from_batches(batches) if batches else SCHEMA.empty_table()
    if not table.num_rows:
        return None
    # lexsort takes its last key first.
    order = np.lexsort([table[name].to_numpy() for name in ("position", "file", "occurred_at")])
    values = table["event"].to_pylist()
    rows = len(values)
    records = RecordBatch(
        values, [None] * rows, [("", 0)], np.zeros(rows, np.int32), np.arange(rows),
        np.full(rows, NO_TIMESTAMP, np.int64),
    )  # fmt: skip
    # No limit: each event was within it when it was first read. Our own schema needs no lookup.
    longest = max(map(len, values))
    events, refused = Decoder(lambda _: None, max_record_bytes=longest).decode(records)
    if refused:
        raise ValueError(f"an event that was valid does not decode: {refused[0].detail}")
    return events.take(order)


def one_row(values: Mapping[str, int]) -> pa.RecordBatch:
    """Whole numbers by the name of their column, as Spark takes them."""
    return pa.RecordBatch.from_pylist([dict(values)])
