"""The client's messages as columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from stream_scorer.core.events.batch import NO_TIMESTAMP, RecordBatch, TopicPartition


def partition_of(message: Message) -> TopicPartition:
    """Topic and partition of the message."""
    return message.topic() or "", message.partition() or 0


def record_batch(messages: Sequence[Message]) -> RecordBatch:
    """Columns of messages without errors, in their order; `partitions` ascend."""
    names = [partition_of(m) for m in messages]
    partitions = sorted(set(names))
    index = {tp: i for i, tp in enumerate(partitions)}
    return RecordBatch(
        [m.value() for m in messages], [m.key() for m in messages], partitions,
        np.array([index[tp] for tp in names], np.int32),
        np.array([m.offset() for m in messages], np.int64),
        np.array([_timestamp_ms(m) for m in messages], np.int64),
    )  # fmt: skip


def _timestamp_ms(message: Message) -> int:
    kind, milliseconds = message.timestamp()
    return NO_TIMESTAMP if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds
