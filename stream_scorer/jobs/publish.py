"""`stream-scorer publish`: event files into the input topic.

Files are read and judged as `replay` and the consumer judge them. What they would refuse is not
published, but reported with its file and position in it, and where `run` would stop because too
much is refused, `publish` does. Events keep their order; the key is the customer id. With a schema
registry the wire format is Confluent's, otherwise Avro single-object encoding.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stream_scorer.core.avro.event_encoder import encode_event_batch
from stream_scorer.core.avro.schemas import CONFLUENT_MAGIC, schema_json
from stream_scorer.core.events.batch import DeadLetter, EventBatch, Reason
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.refused import Refusal, RefusedRecord, refused_in_words
from stream_scorer.errors import BusUnavailable, EventFileError, TooManyDeadLetters
from stream_scorer.io.kafka.producer import ConfirmedProducer, Oversized
from stream_scorer.io.kafka.schema_registry import SchemaLookup
from stream_scorer.past.sources import TOPIC, open_past, stopping, valid_batches
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place, absolute

BATCH_RECORDS = 10_000


@dataclass(frozen=True)
class Published(Result):
    """published: events that Kafka has confirmed. refused: records that are not in the topic.

    dead_letters: how many of them, by reason. refusals: by reason, with an example and the remedy.
    refused_records: the first of them. too_large: events that the broker refused though `replay`
    and the consumer take them.
    """

    published: int
    refused: int
    topic: str
    seconds: float
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    refused_records: tuple[RefusedRecord, ...] = ()
    too_large: int = 0


def publish(settings: Settings, paths: Sequence[Place]) -> Published:
    """Publish the valid events of these files, in their order.

    Also those of customers who are to be ignored: the topic is the log of all events, and who reads
    it decides. Raises EventFileError for a file that can't be read and where no event can be
    published, TooManyDeadLetters, and BusUnavailable where Kafka does not confirm in time.
    """
    started = time.monotonic()
    prefix = _prefix(settings)
    producer = ConfirmedProducer(settings.kafka.sender_properties())
    refused, published, too_large = stopping(settings), 0, 0
    # As a path, so that a file named "topic" is a file here.
    names = [str(absolute(path)) if str(path) == TOPIC else str(path) for path in paths]
    with (
        open_past(settings, names, batch_records=BATCH_RECORDS) as past,
        progress("publishing", past.most_records) as meter,
    ):
        try:
            for batch in valid_batches(settings, past, refused, keep_ignored=True):
                values = encode_event_batch(batch.events, prefix)
                producer.send(settings.kafka.input_topic, _keys(batch.events), values)
                # After each batch, so that memory stays bounded.
                large = producer.settle()
                refused.add(0, _too_large(batch, values, large))
                published += len(values) - len(large)
                meter.advance(len(batch), past.expected_records())
                too_large += len(large)
        except TooManyDeadLetters as error:
            raise TooManyDeadLetters(f"{published:,} events are published; {error}") from None
        except BusUnavailable as error:
            # Of the last batch some may be in the topic, too.
            raise type(error)(f"at least {published:,} events are published; {error}") from error
        # A file that can't be read to its end: what was before it is in the topic.
        except EventFileError as error:
            if not published:
                raise
            remedy = f"{published:,} events were published before, which another run would repeat"
            raise EventFileError(error.field, error.value, f"{error.remedy}; {remedy}") from error
        if not published:
            raise EventFileError("events", past.name, refused.nothing_left())
    return Published(
        published=published,
        refused=refused.counts.total(),
        topic=settings.kafka.input_topic,
        seconds=round(time.monotonic() - started, 3),
        dead_letters=refused.by_reason(),
        refusals=refused.refusals(),
        refused_records=tuple(refused.first),
        too_large=too_large,
    )


def in_words(found: Published) -> list[str]:
    """The result for people."""
    rate = found.published / max(found.seconds, 1e-9)
    left_out = refused_in_words(found.refusals, found.refused_records)
    return [f"{found.published:,} events to {found.topic}, {rate:,.0f} a second", *left_out]


def _too_large(
    batch: DecodedBatch, values: Sequence[bytes], large: Sequence[Oversized]
) -> list[DeadLetter]:
    """The events whose records the broker refused."""
    left = [record.value for record in large]
    found = []
    for row, value in enumerate(values):
        if value in left:
            left.remove(value)
            detail = f"{len(value)} bytes, more than the broker takes for the topic"
            record = int(batch.events.record_index[row])
            found.append(batch.origin.dead_letter(record, Reason.OVERSIZED, detail))
        if not left:
            break
    return found


def _keys(events: EventBatch) -> list[bytes | None]:
    codes, texts = events.customer_id.intern()
    encoded = [text.encode() for text in texts]
    return [encoded[code] for code in codes.tolist()]


def _prefix(settings: Settings) -> bytes | None:
    registry = settings.schema_registry
    if not registry.url:
        return None
    lookup = SchemaLookup(registry=registry.client_properties())
    try:
        schema_id = lookup.register(
            f"{settings.kafka.input_topic}-value", schema_json("customer_event")
        )
    finally:
        lookup.close()
    return CONFLUENT_MAGIC + schema_id.to_bytes(4, "big")
