"""Rows of a table become the events, and the dead letters, that decoding their bytes would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_event_batch
from stream_scorer.core.events.batch import (
    NO_TIMESTAMP,
    EventBatch,
    Reason,
    RecordBatch,
    StringColumn,
)
from stream_scorer.core.events.decoded import DecodedBatch, join_batches
from stream_scorer.io.files.event_rows import EventRows, UnfitRow

ROWS = [
    {"id": "1", "customer": "zoë", "category": "soup", "value": 1.5, "at": 5},
    {"id": "2", "customer": "", "product": "p" * 500, "at": -3, "attributes": {"a": "1", "b": ""}},
    {"id": "3", "customer": "bob", "type": "view", "value": float("inf"), "at": 2**40},
    {"id": "4", "customer": "eve", "at": 6},
]
UNFIT = {3: UnfitRow("null in event_type", b"{}" * 20)}


def rows_of(make_events: Any, *, valid_utf8: bool) -> EventRows:
    events = make_events([{**r, "offset": 7 + i} for i, r in enumerate(ROWS)])
    return EventRows(events, UNFIT, valid_utf8)


def by_bytes(rows: EventRows, decoder: Decoder) -> DecodedBatch:
    values = encode_event_batch(rows.events)
    for row, of in rows.unfit.items():
        values[row] = of.original
    n = len(values)
    unfit = {row: of.detail for row, of in rows.unfit.items()}
    records = RecordBatch(
        values, [None] * n, rows.events.partitions, np.zeros(n, np.int32), rows.events.offsets,
        np.full(n, NO_TIMESTAMP, np.int64),
    )  # fmt: skip
    return DecodedBatch(*decoder.decode(records, unfit), records)


def content(events: EventBatch) -> list[Any]:
    found: list[Any] = []
    for name in EventBatch.__slots__:
        column = getattr(events, name)
        if isinstance(column, StringColumn):
            spans = zip(column.starts, column.lengths, strict=True)
            found.append([None if n < 0 else column.buffer[s : s + n].tobytes() for s, n in spans])
        else:
            found.append(column if isinstance(column, list) else column.tolist())
    return found


@pytest.mark.parametrize("valid_utf8", [True, False])
@pytest.mark.parametrize(("max_record_bytes", "oversized"), [(10_000, 0), (300, 1), (20, 4)])
def test_rows_become_what_decoding_their_bytes_gives(
    make_events: Any, valid_utf8: bool, max_record_bytes: int, oversized: int
) -> None:
    rows = rows_of(make_events, valid_utf8=valid_utf8)
    decoder = Decoder(lambda _: None, max_record_bytes=max_record_bytes)
    direct, decoded = rows.decoded(decoder, max_record_bytes), by_bytes(rows, decoder)
    assert content(direct.events) == content(decoded.events)
    assert direct.refused == decoded.refused
    reasons = [dead_letter.reason for dead_letter in direct.refused]
    assert reasons.count(Reason.OVERSIZED) == oversized
    assert direct.origin.next_offsets() == decoded.origin.next_offsets() == {("events", 0): 11}
    assert direct.origin.timestamps_ms.tolist() == decoded.origin.timestamps_ms.tolist()
    for row in range(3):
        dead_letters = [
            b.origin.dead_letter(row, Reason.TIME_NEGATIVE, "x") for b in (direct, decoded)
        ]
        assert dead_letters[0] == dead_letters[1]


def test_pieces_and_their_sum_are_the_same_batch(make_events: Any) -> None:
    rows = rows_of(make_events, valid_utf8=True)
    decoder = Decoder(lambda _: None, max_record_bytes=300)
    pieces = [rows.cut(slice(0, 1)), rows.cut(slice(1, 3)), rows.cut(slice(3, None))]
    joined = join_batches([piece.decoded(decoder, 300) for piece in pieces])
    whole = rows.decoded(decoder, 300)
    assert len(joined) == len(whole) == 4
    assert content(joined.events) == content(whole.events)
    assert joined.refused == whole.refused
    assert joined.origin.next_offsets() == whole.origin.next_offsets()
    for row in range(3):
        assert joined.origin.dead_letter(row, Reason.TIME_NEGATIVE, "x") == (
            whole.origin.dead_letter(row, Reason.TIME_NEGATIVE, "x")
        )
