"""Feature vectors of many customers, as columns.

How events change them is in fold.py, their stored bytes in state_codec.py, and how they look at a
moment in csr.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from stream_scorer.core.events.batch import Int32, Int64, TopicPartition

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Float32 = npt.NDArray[np.float32]

NEVER = np.iinfo(np.int64).min

# The source that stands for an erasure on request: its offset is a moment (erasure.py). No topic
# has a partition below 0.
ERASED_TOPIC, ERASED_PARTITION = 0, -1


class StateArrays(NamedTuple):
    """B customers' records as ragged columns; row b's part of x is x[x_at[b] : x_at[b + 1]].

    newest_ms (B,) int64, `NEVER` for a customer without events. Sources: source_topic uint32 (xxh32
    of its name), source_partition int32, source_offset int64. Sums: sum_column uint32 ascending,
    sum_value float32 relative to the landmark. Stamps: stamp_column, stamp_value, stamp_ms.
    recent_id uint64. Low parts: low_column uint32 ascending, low_value float32, what a sum of
    thousands of addends is beyond its sum_value (fold_sums.py); most customers have none.
    """

    newest_ms: Int64
    source_at: Int64
    source_topic: UInt32
    source_partition: Int32
    source_offset: Int64
    sum_at: Int64
    sum_column: UInt32
    sum_value: Float32
    stamp_at: Int64
    stamp_column: UInt32
    stamp_value: Float32
    stamp_ms: Int64
    recent_at: Int64
    recent_id: UInt64
    low_at: Int64
    low_column: UInt32
    low_value: Float32


@dataclass(frozen=True, slots=True)
class CustomerStates:
    """Records of B customers; row b belongs to customer_ids[b]."""

    customer_ids: list[str]
    arrays: StateArrays

    def __len__(self) -> int:
        return len(self.customer_ids)


def topic_hash(topic: str) -> int:
    """The 32-bit name of a topic in records."""
    return xxhash.xxh32_intdigest(topic.encode())


def take(states: CustomerStates, rows: Int64) -> CustomerStates:
    """Only `rows` (k,) int64, in that order; all in their own order are `states` itself."""
    # The usual case of a batch in which every customer changed: no copy.
    if np.array_equal(rows, np.arange(len(states))):
        return states
    a = states.arrays

    def ragged(at: Int64) -> tuple[Int64, Int64]:
        lengths = at[rows + 1] - at[rows]
        new = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return new, np.arange(new[-1]) + np.repeat(at[rows] - new[:-1], lengths)

    source_at, source = ragged(a.source_at)
    sum_at, sums = ragged(a.sum_at)
    stamp_at, stamp = ragged(a.stamp_at)
    recent_at, recent = ragged(a.recent_at)
    low_at, low = ragged(a.low_at)
    arrays = StateArrays(
        a.newest_ms[rows],
        source_at, a.source_topic[source], a.source_partition[source], a.source_offset[source],
        sum_at, a.sum_column[sums], a.sum_value[sums],
        stamp_at, a.stamp_column[stamp], a.stamp_value[stamp], a.stamp_ms[stamp],
        recent_at, a.recent_id[recent],
        low_at, a.low_column[low], a.low_value[low],
    )  # fmt: skip
    return CustomerStates([states.customer_ids[i] for i in rows.tolist()], arrays)


def concatenate_states(first: CustomerStates, second: CustomerStates) -> CustomerStates:
    """The rows of `first`, then those of `second`."""
    arrays = joined([first.arrays, second.arrays])
    return CustomerStates(first.customer_ids + second.customer_ids, arrays)


def joined(parts: Sequence[StateArrays]) -> StateArrays:
    """The customers of all parts, of which there is at least one, in order."""
    columns: list[npt.NDArray[Any]] = []
    for name, *of in zip(StateArrays._fields, *parts, strict=True):
        if not name.endswith("_at"):
            columns.append(np.concatenate(of))
            continue
        before = np.cumsum([at[-1] for at in of])
        moved = [at[1:] + b for at, b in zip(of[1:], before[:-1], strict=True)]
        columns.append(np.concatenate([of[0], *moved]))
    return StateArrays(*columns)


def split_customers(states: CustomerStates) -> int:
    """How many of the customers have events from two or more partitions of one topic.

    Their events have no common order: "the higher offset is newer" does not hold for them.
    """
    a = states.arrays
    row = np.repeat(np.arange(len(states)), np.diff(a.source_at))
    # A record has one source for each partition, so an equal pair is another partition.
    pairs = row.astype(np.uint64) << np.uint64(32) | a.source_topic
    found, times = np.unique(pairs, return_counts=True)
    return len(np.unique(found[times > 1] >> np.uint64(32)))


def source_positions(
    states: CustomerStates, partitions: list[TopicPartition]
) -> tuple[Int32, Int64]:
    """Where each customer's record stands: index (B,) int32 into partitions, offset (B,) int64.

    Of several partitions that fed a customer, the one with the highest offset; -1 where none did.
    """
    a = states.arrays
    index = np.full(len(a.source_offset), -1, np.int32)
    for i, (topic, partition) in enumerate(partitions):
        index[(a.source_topic == topic_hash(topic)) & (a.source_partition == partition)] = i
    row = np.repeat(np.arange(len(states)), np.diff(a.source_at))
    known = np.flatnonzero(index >= 0)
    order = known[np.lexsort((a.source_offset[known], row[known]))]
    best = np.full(len(states), -1, np.int64)
    best[row[order]] = order  # the last of equal rows stays: the highest offset
    found = best >= 0
    # Only where one was found: where no record has any source, there is nothing to look up in.
    where, offset = np.full(len(states), -1, np.int32), np.full(len(states), -1, np.int64)
    where[found], offset[found] = index[best[found]], a.source_offset[best[found]]
    return where, offset
