"""Records that are columns already.

To everything else it is a sequence of framed records of our event schema, each encoded when it is
asked for, as for a dead letter. Decoding those bytes would give these columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from stream_scorer.core.avro.event_encoder import MOST_BYTES_BESIDE_TEXTS, encode_event_batch
from stream_scorer.core.avro.schemas import SINGLE_OBJECT_PREFIX_BYTES
from stream_scorer.core.events.batch import (
    Bool,
    EventBatch,
    Int64,
    RecordBatch,
    StringColumn,
    concatenate_events,
)

TEXTS = ("event_id", "customer_id", "event_type", "category_id", "product_id", "attributes")


@dataclass(frozen=True)
class ColumnValues(Sequence[bytes]):
    """events: of valid UTF-8, no required field null, attributes in canonical form."""

    events: EventBatch

    @classmethod
    def joined(cls, parts: Sequence[ColumnValues]) -> ColumnValues:
        """All of at least one part, in order."""
        return parts[0] if len(parts) == 1 else cls(concatenate_events([p.events for p in parts]))

    def __len__(self) -> int:
        return len(self.events)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> ColumnValues: ...
    def __getitem__(self, index: int | slice) -> bytes | ColumnValues:
        if isinstance(index, slice):
            return self.take(index)
        row = range(len(self))[index]
        alone = self.events.take(slice(row, row + 1))
        texts: dict[str, Any] = {name: _own_bytes(getattr(alone, name)) for name in TEXTS}
        return encode_event_batch(replace(alone, **texts))[0]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.encoded())

    def take(self, rows: Int64 | Bool | slice) -> ColumnValues:
        """Only `rows`, in the order given."""
        return ColumnValues(self.events.take(rows))

    def encoded(self) -> list[bytes]:
        """All of them as bytes."""
        return encode_event_batch(self.events)

    def surely_within(self, most_bytes: int) -> bool:
        """Whether no record is longer, seen without encoding any."""
        texts = [getattr(self.events, name) for name in TEXTS]
        longest = sum(int(text.lengths.max(initial=0)) for text in texts)
        return longest + SINGLE_OBJECT_PREFIX_BYTES + MOST_BYTES_BESIDE_TEXTS <= most_bytes

    def decoded(self, records: RecordBatch) -> EventBatch:
        """The columns as the decoder gives them for `records`, whose values these are."""
        return replace(
            self.events, partitions=records.partitions, partition_index=records.partition_index,
            offsets=records.offsets, record_index=np.arange(len(self)),
        )  # fmt: skip


def _own_bytes(column: StringColumn) -> StringColumn:
    """A column of one row, in a buffer of its own: the shared one may be large."""
    start, length = int(column.starts[0]), max(int(column.lengths[0]), 0)
    return StringColumn(
        column.buffer[start : start + length], np.zeros(1, np.int64), column.lengths
    )
