"""`stream-scorer publish`: event files into the input topic.

Files are decoded as the consumer would decode them, so a record that no consumer could read is
reported here, with its file and position, and not published. Events keep their order; the key is
the customer id. With a schema registry the wire format is Confluent's, otherwise Avro single-object
encoding.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_scorer.core.avro.event_encoder import encode_event_batch
from stream_scorer.core.avro.schemas import CONFLUENT_MAGIC, schema_json
from stream_scorer.core.events.batch import EventBatch
from stream_scorer.io.files.events import open_events
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.schema_registry import SchemaLookup
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

BATCH_RECORDS = 10_000
SHOWN_REFUSALS = 10


@dataclass(frozen=True)
class Published(Result):
    """published: events that Kafka has confirmed. refused: records that are not in the topic."""

    published: int
    refused: int
    topic: str
    seconds: float


def publish(settings: Settings, paths: Sequence[Path]) -> Published:
    """Publish the valid events of these files, in their order.

    Raises EventFileError for a file that can't be read and BusUnavailable where Kafka does not
    confirm in time.
    """
    started = time.monotonic()
    files = open_events(
        paths, batch_records=BATCH_RECORDS, max_record_bytes=settings.events.max_record_bytes
    )
    prefix = _prefix(settings)
    producer = ConfirmedProducer(
        settings.kafka.client_properties()
        | {"delivery.timeout.ms": settings.kafka.delivery_timeout_ms}
    )
    published = refused = 0
    for batch in files:
        events, dead_letters = batch.events, batch.refused
        for dead_letter in dead_letters[: max(0, SHOWN_REFUSALS - refused)]:
            where = f"{dead_letter.topic}, record {dead_letter.offset + 1}"
            log.warning("%s: %s: %s", where, dead_letter.reason.value, dead_letter.detail)
        producer.send(settings.kafka.input_topic, _keys(events), encode_event_batch(events, prefix))
        # After each batch, so that memory stays bounded.
        large = producer.settle()
        refused += len(dead_letters) + len(large)
        published += len(events) - len(large)
    seconds = round(time.monotonic() - started, 3)
    return Published(published, refused, settings.kafka.input_topic, seconds)


def in_words(found: Published) -> list[str]:
    """The result for people."""
    rate = found.published / max(found.seconds, 1e-9)
    lines = [f"{found.published:,} events to {found.topic}, {rate:,.0f} a second"]
    if found.refused:
        lines.append(
            f"{found.refused:,} records were not published: not valid events, or too large"
        )
    return lines


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
