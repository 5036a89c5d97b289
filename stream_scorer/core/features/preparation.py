"""What a batch of records will do, before anybody's vector is looked at.

`Preparation` leads from records to valid events by customer, with the columns that each touches,
and to dead letters.

Nothing here depends on stored vectors, so a replay does it for the next batch while the one before
is folded (past/prefetch.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import DeadLetter, RecordBatch
from stream_scorer.core.events.validation import EventRules, validate
from stream_scorer.core.features.fold import stream_of
from stream_scorer.core.features.fold_plan import Stream
from stream_scorer.core.features.space import FeatureSpace


@dataclass(frozen=True, slots=True)
class PreparedEvents:
    """The valid events; the stream's customers are rows of customer_ids."""

    customer_ids: list[str]
    stream: Stream
    dead_letters: list[DeadLetter]


@dataclass(frozen=True)
class Preparation:
    """How records become events; remember_event_ids as in `fold.fold_events`."""

    decoder: Decoder
    rules: EventRules
    space: FeatureSpace
    remember_event_ids: int = 0

    def prepare(self, records: RecordBatch, now_ms: int) -> PreparedEvents:
        """Decode, validate as of now_ms, and find what each event touches."""
        events, undecodable = self.decoder.decode(records)
        events, invalid = validate(events, records, self.rules, now_ms)
        customer, ids = events.customer_id.intern()
        stream, _ = stream_of(events, customer, self.space, self.remember_event_ids)
        return PreparedEvents(ids, stream, undecodable + invalid)
