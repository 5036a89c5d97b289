"""Values that are columns stand for their bytes: decoding either gives the same events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.column_values import ColumnValues
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import (
    NO_TIMESTAMP,
    EventBatch,
    Reason,
    RecordBatch,
    StringColumn,
)

ROWS = [
    {"id": "1", "customer": "zoë", "category": "soup", "value": 1.5, "at": 5},
    {"id": "2", "customer": "", "product": "p" * 500, "at": -3, "attributes": {"a": "1", "b": ""}},
    {"id": "3", "customer": "bob", "type": "view", "value": float("inf"), "at": 2**40},
]


def batch(values: Any) -> RecordBatch:
    n = len(values)
    return RecordBatch(
        values, [None] * n, [("file", 0)], np.zeros(n, np.int32), np.arange(n, dtype=np.int64) + 7,
        np.full(n, NO_TIMESTAMP, np.int64),
    )  # fmt: skip


def said(events: EventBatch) -> list[Any]:
    found: list[Any] = []
    for name in EventBatch.__slots__:
        column = getattr(events, name)
        if isinstance(column, StringColumn):
            spans = zip(column.starts, column.lengths, strict=True)
            found.append([None if n < 0 else column.buffer[s : s + n].tobytes() for s, n in spans])
        else:
            found.append(column if isinstance(column, list) else column.tolist())
    return found


@pytest.mark.parametrize("max_record_bytes", [10_000, 300, 20])
def test_decoding_columns_is_decoding_their_bytes(make_events: Any, max_record_bytes: int) -> None:
    columns = ColumnValues(make_events(ROWS))
    assert [columns[i] for i in range(3)] == list(columns) == columns.encoded()
    decoder = Decoder(lambda _: None, max_record_bytes=max_record_bytes)
    events, letters = decoder.decode(batch(columns))
    plain_events, plain_letters = decoder.decode(batch(columns.encoded()))
    assert said(events) == said(plain_events)
    assert letters == plain_letters
    oversized = {10_000: 0, 300: 1, 20: 3}[max_record_bytes]
    assert [letter.reason for letter in letters] == [Reason.OVERSIZED] * oversized


def test_pieces_and_their_sum_are_the_same_records(make_events: Any) -> None:
    columns = ColumnValues(make_events(ROWS * 5))
    pieces = [columns[:4], columns[4:9], columns[9:], columns.take(np.array([2, 0]))]
    everything = columns.encoded()
    assert [p.encoded() for p in pieces[:3]] == [
        everything[:4], everything[4:9], everything[9:]
    ]  # fmt: skip
    assert ColumnValues.joined(pieces).encoded() == [*everything, everything[2], everything[0]]
