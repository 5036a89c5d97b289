"""All past events with the moment from which each was known: by occurrence, or by arrival.

Live, an event that reaches the topic late is not known yet when it occurs, and scores until then
are made without it. Both ways are read, so that one backtest can say what late events change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_scorer.core.events.batch import NO_TIMESTAMP, Int64, concatenate_events
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.refused import Refused
from stream_scorer.core.labels.as_of import KnownEvents
from stream_scorer.errors import EventFileError
from stream_scorer.past.scores import AGES_MS
from stream_scorer.past.sources import MissingHistory, open_past, stopping, valid_batches
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings

BATCH_RECORDS = 50_000
OCCURRED, ARRIVAL = "occurred_at", "arrival"


@dataclass(frozen=True)
class PastKnowledge:
    """known: all valid events, as scores are to know them. known_otherwise: the same events, known
    the other way; None where none was late, for then both ways are one.

    known_by, otherwise_by: `OCCURRED` and `ARRIVAL`, or the reverse. late_events: by age of
    `AGES_MS`, how many arrived so much later than they occurred. refused: what can't be applied.
    """

    known: KnownEvents
    known_otherwise: KnownEvents | None
    known_by: str
    otherwise_by: str
    late_events: dict[str, int]
    refused: Refused


def read_knowledge(
    settings: Settings,
    sources: Sequence[str | Path],
    *,
    by_arrival: bool,
    missing_history: MissingHistory = "refuse",
) -> PastKnowledge:
    """Read `sources`, as `open_past` takes them, to their end.

    by_arrival: events are known from the time of their record on, rather than from occurred_at.
    Raises EventFileError where no event can be applied, and as `open_past`.
    """
    refused, late = stopping(settings), dict.fromkeys(AGES_MS, 0)
    parts, arrivals = [], []
    texts = [str(s) for s in sources]
    with (
        open_past(
            settings, texts, batch_records=BATCH_RECORDS, missing_history=missing_history
        ) as past,
        progress("reading events", past.most_records) as meter,
    ):
        for batch in valid_batches(settings, past, refused):
            arrived = _arrived_ms(batch)
            for age, age_ms in AGES_MS.items():
                late[age] += int((arrived - batch.events.occurred_at_ms > age_ms).sum())
            parts.append(batch.events)
            arrivals.append(arrived)
            meter.advance(len(batch), past.expected_records())
        if not sum(map(len, parts)):
            raise EventFileError("events", past.name, refused.nothing_left())
    events = concatenate_events(parts)
    ways = {OCCURRED: events.occurred_at_ms, ARRIVAL: np.concatenate(arrivals)}
    some_late = bool((ways[ARRIVAL] > ways[OCCURRED]).any())
    memory = settings.memory()
    known_by, otherwise_by = (ARRIVAL, OCCURRED) if by_arrival else (OCCURRED, ARRIVAL)
    return PastKnowledge(
        known=KnownEvents.of(events, ways[known_by], memory),
        known_otherwise=KnownEvents.of(events, ways[otherwise_by], memory) if some_late else None,
        known_by=known_by,
        otherwise_by=otherwise_by,
        late_events=late,
        refused=refused,
    )


def _arrived_ms(batch: DecodedBatch) -> Int64:
    """(n,) the time of each event's record; `KnownEvents` lets none be known before it occurred."""
    stamps_ms = batch.origin.timestamps_ms[batch.events.record_index]
    # Records of files have no time of their own: they count as having arrived when they occurred.
    return np.where(stamps_ms == NO_TIMESTAMP, batch.events.occurred_at_ms, stamps_ms)
