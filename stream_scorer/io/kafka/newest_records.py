"""The newest records of each partition of a topic, few and soon, outside any group."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.errors import BusUnavailable
from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import Rights, ask, translate_error
from stream_scorer.io.kafka.messages import partition_of, record_batch

MOST_RECORDS = 4000
MOST_RECORDS_OF_PARTITION = 200
MOST_BYTES = 16_777_216  # of values
MOST_SECONDS = 10.0
POLL_SECONDS = 0.1
READING: dict[str, str | int | bool] = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",  # what was deleted since the ranges were asked for
    "max.partition.fetch.bytes": 262_144,
    "fetch.wait.max.ms": 10,
}
# The client looks for the coordinator of the group that it insists on; nothing of it is used here.
_NO_FAILURE = {KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED}


def newest_records(
    properties: Mapping[str, Any], ranges: Mapping[TopicPartition, tuple[int, int]]
) -> RecordBatch:
    """At most `MOST_RECORDS_OF_PARTITION` records of each partition, the newest; fewer where
    `MOST_SECONDS` or `MOST_BYTES` are over before.

    properties: librdkafka's, with a group.id. ranges: the first offset of each partition's log and
    the one after its last. Raises NotAllowed, and BusUnavailable where nothing at all came.
    """
    behind = {tp: end for tp, (first, end) in ranges.items() if first < end}
    if not behind:
        return record_batch([])
    each = min(MOST_RECORDS_OF_PARTITION, max(1, MOST_RECORDS // len(behind)))
    starts = [KafkaPartition(*tp, max(ranges[tp][0], end - each)) for tp, end in behind.items()]
    topics = ", ".join(sorted({topic for topic, _ in behind}))
    doing, rights = f"reading {topics}", Rights(topic=f"Read on topic {topics}")
    connected = Connected(Consumer, {**properties, **READING})
    consumer = connected.client
    found: list[Message] = []
    size_bytes, answered, until = 0, False, time.monotonic() + MOST_SECONDS
    try:
        with connected.explained():
            ask(doing, consumer.assign, starts, rights=rights)
            while behind and size_bytes < MOST_BYTES and time.monotonic() < until:
                for message in ask(doing, consumer.consume, 500, POLL_SECONDS, rights=rights):
                    error = message.error()
                    if error is not None and error.code() not in _NO_FAILURE:
                        raise translate_error(error, doing, rights)
                    tp = partition_of(message)
                    if error is None:
                        found.append(message)
                        size_bytes += len(message.value() or b"")
                    answered = True
                    at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
                    if at_end or (message.offset() or 0) + 1 >= behind.get(tp, 0):
                        behind.pop(tp, None)
            if not answered:
                raise BusUnavailable(f"Kafka, {doing}: no record came in {MOST_SECONDS:g} s")
    finally:
        consumer.close()
    return record_batch(found)
