"""What a source of events gives: the events of a batch of records, and the records that are none.

Records may be Kafka messages, records of an Avro file, lines of JSON or rows of a Parquet file. All
of them end as a `DecodedBatch`, so that no later stage knows where events came from.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_scorer.core.events.batch import (
    DeadLetter,
    EventBatch,
    Int64,
    Origin,
    Reason,
    TopicPartition,
    concatenate_events,
)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """events: in the order of their records; `record_index` numbers the records of `origin`.
    refused: a dead letter for each record that is no event. len() is the number of records.
    outside_window: how many of the events were left out because of their time (past/window.py).
    """

    events: EventBatch
    refused: list[DeadLetter]
    origin: Origin
    outside_window: int = 0

    def __len__(self) -> int:
        return len(self.origin)


def join_batches(parts: Sequence[DecodedBatch]) -> DecodedBatch:
    """The batches of `parts`, of which there is at least one, as one batch, in order."""
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *map(len, parts)])
    events = [
        replace(part.events, record_index=part.events.record_index + start)
        for part, start in zip(parts, first[:-1], strict=True)
    ]
    return DecodedBatch(
        concatenate_events(events),
        [
            replace(dead_letter, record=start + dead_letter.record)
            for part, start in zip(parts, first.tolist(), strict=False)
            for dead_letter in part.refused
        ],
        _JoinedOrigins([part.origin for part in parts], first.tolist()),
        sum(part.outside_window for part in parts),
    )


@dataclass(frozen=True, slots=True)
class _JoinedOrigins:
    """The records of several origins, one after another; first: the number of each one's first."""

    parts: list[Origin]
    first: list[int]

    def __len__(self) -> int:
        return self.first[-1]

    @property
    def timestamps_ms(self) -> Int64:
        return np.concatenate([part.timestamps_ms for part in self.parts])

    def next_offsets(self) -> dict[TopicPartition, int]:
        """As of a RecordBatch. A partition's later records are in later parts."""
        return {tp: end for part in self.parts for tp, end in part.next_offsets().items()}

    def dead_letter(self, record: int, reason: Reason, detail: str) -> DeadLetter:
        """As of a RecordBatch."""
        # Right: of parts that begin at one number all but the last are empty.
        number = bisect_right(self.first, record) - 1
        found = self.parts[number].dead_letter(record - self.first[number], reason, detail)
        return replace(found, record=record)
