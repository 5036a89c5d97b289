"""Which propensity record answered an event."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from confluent_kafka import Message

from harness.verdict import Truth
from stream_scorer.core.avro.propensity_encoder import PublishedPropensities


def answers(
    truth: Truth, events: list[Message], output: list[Message], published: PublishedPropensities
) -> list[tuple[Message, int | None]]:
    """Each valid event with the position in `output` of what answered it, None for nothing.

    published: output, decoded. A micro-batch publishes a customer once, as of its newest event, so
    what answers an event is the first record of its customer with a source offset at or beyond it.
    """
    found: defaultdict[tuple[str, int], list[tuple[int, int, int]]] = defaultdict(list)
    rows = zip(published.customer_ids, published.partition, published.offset, strict=True)
    for row, (customer, partition, offset) in enumerate(rows):
        written_ms = output[row].timestamp()[1]
        found[customer, int(partition)].append((int(offset), written_ms, row))
    for records in found.values():
        records.sort()
    answered: list[tuple[Message, int | None]] = []
    for event in events:
        partition, offset = event.partition() or 0, event.offset() or 0
        if (partition, offset) in truth.dead:
            continue
        records = found[(event.key() or b"").decode(), partition]
        at = bisect_left(records, (offset, 0, 0))
        answered.append((event, records[at][2] if at < len(records) else None))
    return answered
