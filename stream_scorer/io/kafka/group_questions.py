"""What only a consumer can be asked for a group: by one that acts for the group and never joins it.

The admin client has such questions, too, but librdkafka 2.16's aborts the whole process where the
group's coordinator moves during the request.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.backoff import delays
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import BusUnavailable
from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import Rights, ask, code_of, translate_error
from stream_scorer.io.kafka.messages import partition_of

Answer = TypeVar("Answer")

REQUEST_SECONDS = 10.0
FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS = 0.2, 1.0

_COORDINATOR_NOT_READY = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}


def rights_of_group(group: str) -> Rights:
    """What this user needs to ask for a group's offsets."""
    return Rights(topic="Describe on the input topic", group=f"Read on group {group}")


def once_loaded(ask_coordinator: Callable[[], Answer]) -> Answer:
    """What `ask_coordinator` returns. It is called again while no broker has the group ready: one
    that has just started is still loading the groups, and one that stops hands them to another.

    Raises what it raises, BusUnavailable also where the group is not ready in time.
    """
    until = time.monotonic() + REQUEST_SECONDS
    waits = delays(FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS, random.random)
    while True:
        try:
            return ask_coordinator()
        except BusUnavailable as error:
            if code_of(error) not in _COORDINATOR_NOT_READY or time.monotonic() > until:
                raise
        time.sleep(next(waits))


def committed_offsets(
    properties: Mapping[str, Any], group: str, partitions: list[KafkaPartition]
) -> list[KafkaPartition]:
    """What the group has committed of these partitions. Raises BusUnavailable or Halt."""
    # With read_committed the broker gives no offsets while a transaction that holds newer ones is
    # open, so this question would wait for it.
    reading = {"isolation.level": "read_uncommitted"}
    doing, rights = "reading the group's offsets", rights_of_group(group)
    with _consumer(properties, group, reading) as consumer:
        read = partial(consumer.committed, partitions, REQUEST_SECONDS)
        return list(once_loaded(partial(ask, doing, read, rights=rights)))


def commit_offsets(
    properties: Mapping[str, Any], group: str, offsets: list[KafkaPartition]
) -> None:
    """Commit these for the group, which must have no members. Raises BusUnavailable or Halt."""
    doing, rights = "committing offsets", rights_of_group(group)
    with _consumer(properties, group) as consumer:
        commit = partial(consumer.commit, offsets=offsets, asynchronous=False)
        once_loaded(partial(ask, doing, commit, rights=rights))


def first_records(
    properties: Mapping[str, Any], group: str, offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Of each partition the offset of the first record from `offsets` on, the log's end for none;
    only of those where it could be found out in time. Raises BusUnavailable or Halt."""
    behind, found = dict(offsets), dict[TopicPartition, int]()
    reading = {"enable.partition.eof": "true", "auto.offset.reset": "earliest"}
    with _consumer(properties, group, reading) as consumer:
        try:
            consumer.assign([KafkaPartition(*tp, offset) for tp, offset in behind.items()])
            until = time.monotonic() + REQUEST_SECONDS
            while behind and time.monotonic() < until:
                for message in consumer.consume(1000, FIRST_DELAY_SECONDS):
                    error, tp = message.error(), partition_of(message)
                    at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
                    if tp in behind and (error is None or at_end):
                        del behind[tp]
                        found[tp] = message.offset() or 0
                        consumer.incremental_unassign([KafkaPartition(*tp)])
        except KafkaException as error:
            doing = "reading what the group has not read"
            raise translate_error(error.args[0], doing, rights_of_group(group)) from error
    return found


def _consumer(
    properties: Mapping[str, Any], group: str, more: Mapping[str, str] | None = None
) -> AbstractContextManager[Consumer]:
    """One that acts for `group` and never joins it."""
    asking = {"group.id": group, "enable.auto.commit": "false", **(more or {})}
    return closing(Connected(Consumer, {**properties, **asking}).client)
