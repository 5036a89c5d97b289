"""What of a micro-batch is still to be published: its customers, dead letters and events.

What lies below the offset that is committed, or ahead of the batch in the store, was or will be
published elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stream_scorer.core.events.batch import (
    NO_TIMESTAMP,
    Bool,
    DeadLetter,
    Int64,
    RecordBatch,
    TopicPartition,
)
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.state import CustomerStates, source_positions, topic_hash


def is_reached(states: CustomerStates, next_offsets: dict[TopicPartition, int]) -> Bool:
    """(B,), whether a customer's record holds nothing beyond this batch.

    A record that is ahead (it was saved, then its owner died or lost the partition) will be read up
    to: the batch that reaches its offset scores it, so it is not published twice from one position.
    """
    partitions = list(next_offsets)
    index, offsets = source_positions(states, partitions)
    ends = np.array([next_offsets[tp] for tp in partitions], np.int64)
    return np.asarray((index < 0) | (offsets < ends[index]))


def is_new(prepared: PreparedEvents, published: Mapping[TopicPartition, int]) -> Bool:
    """(B,), whether a customer has an event at or beyond the offset that `published` gives its
    partition. What the earlier ones led to is in the output topic already.
    """
    stream = prepared.stream
    until = {(topic_hash(topic), p): offset for (topic, p), offset in published.items()}
    sources = zip(stream.topic.tolist(), stream.partition.tolist(), strict=True)
    least = np.array([until.get(source, 0) for source in sources], np.int64)
    found = np.zeros(len(prepared.customer_ids), np.bool_)
    found[stream.customer[stream.offset >= least[stream.source]]] = True
    return found


def unpublished(
    dead_letters: list[DeadLetter], published: Mapping[TopicPartition, int]
) -> list[DeadLetter]:
    """Those of records at or beyond the offset that `published` gives their partition."""
    return [d for d in dead_letters if d.offset >= published.get((d.topic, d.partition), 0)]


def record_times_ms(
    records: RecordBatch, dead_letters: list[DeadLetter], published: Mapping[TopicPartition, int]
) -> Int64:
    """(k,) the timestamps of the records that lead to a propensity: at or beyond the offset that
    `published` gives their partition, and none of the dead letters. Records without one are left
    out."""
    least = np.array([published.get(tp, 0) for tp in records.partitions], np.int64)
    counts = records.offsets >= least[records.partition_index]
    counts &= records.timestamps_ms != NO_TIMESTAMP
    counts[[d.record for d in dead_letters if d.record >= 0]] = False
    return np.asarray(records.timestamps_ms[counts])
