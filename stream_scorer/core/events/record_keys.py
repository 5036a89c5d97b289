"""Whether records are keyed by customer, so that a customer's events are in one partition."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.core.events.batch import EventBatch

# What to do where they are not keyed so, and where a customer's events came in two partitions.
KEY_REMEDY = "key the producers' records by customer_id"
SPLIT_REMEDY = (
    "give every producer of the topic the partitioner that kafka.partitioner names (librdkafka's "
    "default is another), and replay into a new namespace, also after partitions were added"
)


def foreign_keys(events: EventBatch, keys: Sequence[bytes | None]) -> int:
    """Of how many events the record has another key than the customer id, or none.

    keys: of the records that `record_index` numbers.
    """
    codes, texts = events.customer_id.intern()
    ids = [text.encode() for text in texts]
    wanted = [ids[code] for code in codes.tolist()]
    found = [keys[record] for record in events.record_index.tolist()]
    # Compared as lists first: nearly always they are equal, and that takes no loop in Python.
    if found == wanted:
        return 0
    return sum(key != customer for key, customer in zip(found, wanted, strict=True))
