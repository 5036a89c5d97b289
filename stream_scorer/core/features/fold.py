"""How events change customers' vectors.

`fold_events` folds a batch of events into states. It has two steps: `stream_of` needs no states, so
a replay takes it for the next batch while `fold_stream` folds this one. The loop over events is in
fold_kernel.py.

Theory of operation. Exponential decay adds, so a record keeps forward-decayed sums (Cormode,
Shkapenyuk, Srivastava, Xu, "Forward decay", ICDE 2009): an event of weight w at time e adds
w * 2^((e - L) / h), where the landmark L is the customer's newest event time rounded down to
a whole multiple of the half-life h. An event touches only its own columns. With e / h = k + r (k
whole, 0 <= r < 1) the addend is ldexp(w * exp2(r), k - L / h), so moving L forward by one half-life
halves a range, which is exact in floating point. Everything is done one event at a time in stream
order, in float32, inside one compiled loop; the result is a function of the sequence of events, bit
for bit, however the sequence was cut into batches. Entries that fell below `FADED` are dropped only
when a landmark moves, which is such a function too; an entry of exactly 0 is the same as none.

Recency and latest are stamps: (column, value, event time), where the greatest time wins and a tie
goes to the greater (column, value), so order does not matter.

Each record also holds the offset of the last event applied for each (topic, partition) that fed it:
an event at or below it is skipped. With memory.event_ids = k the 64-bit hashes of the last k event
ids are kept and an event id among them is not counted again.

Forgetting (memory.time_to_live_ms above 0) is decided by events' times alone, one event at a time.
An event more than the time to live after the newest one finds the customer forgotten: sums, stamps
and remembered ids are dropped before it is applied, so that the record is that of a new customer.
An event more than the time to live before the newest one is of a time that is forgotten: it is not
applied (`FORGOTTEN`). So all that a record held when it was forgotten stays without effect when it
is delivered again, even where the record with its offsets was removed meanwhile. Whether Redis has
removed a forgotten record makes no difference either: what comes back is the same.

Customers don't touch each other, so their order and the number of workers change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from stream_scorer.core.events.batch import Bool, EventBatch, Int32, Int64, StringColumn, UInt8
from stream_scorer.core.features.fold_kernel import fold_range
from stream_scorer.core.features.fold_plan import Memory, Stream, plan_of, work_for
from stream_scorer.core.features.keys import EventColumns, keys_of
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import (
    CustomerStates,
    StateArrays,
    UInt64,
    joined,
    topic_hash,
)
from stream_scorer.jit import kernel

REMEMBER_ALL = Memory()
EVENTS_PER_WORKER = 10_000  # fewer are not worth a worker

Piece = TypeVar("Piece")


class Workers(Protocol):
    """What runs pieces of one fold at the same time. It is given, since core starts no thread."""

    @property
    def count(self) -> int: ...
    def map(
        self, work: Callable[[int, int], Piece], first: list[int], last: list[int]
    ) -> Iterable[Piece]: ...


@dataclass(frozen=True, slots=True)
class Applied:
    """New states, the outcome (n,) uint8 of each event, and which rows (B,) must be saved."""

    states: CustomerStates
    outcome: UInt8
    changed: Bool


def fold_events(
    states: CustomerStates,
    events: EventBatch,
    customer: Int32,
    space: FeatureSpace,
    *,
    memory: Memory = REMEMBER_ALL,
    workers: Workers | None = None,
) -> Applied:
    """Fold events into states.

    customer (n,) int32: the row of `states` that each event belongs to; events of one partition are
    in offset order. Returns new states; the given ones are untouched. workers: each takes customers
    of its own; without workers the caller's thread takes them all.
    """
    stream, order = stream_of(events, customer, space, memory)
    applied = fold_stream(states, stream, space, workers=workers)
    outcome = np.empty_like(applied.outcome)
    outcome[order] = applied.outcome
    return replace(applied, outcome=outcome)


def stream_of(
    events: EventBatch,
    customer: Int32,
    space: FeatureSpace,
    memory: Memory,
    columns: EventColumns | None = None,
) -> tuple[Stream, Int64]:
    """The columns that each event touches, and all else of it that a vector depends on.

    Ordered by customer, so that the fold reads memory in order; and (n,) which event each row is.
    columns: of these events, where the caller looks at them too.
    """
    keys = keys_of(space, columns or EventColumns(events))
    partitions = events.partitions or [("", 0)]
    stream = Stream(
        customer,
        events.partition_index,
        np.array([topic_hash(topic) for topic, _ in partitions], np.uint32),
        np.array([number for _, number in partitions], np.int32),
        events.offsets, events.occurred_at_ms,
        keys.key, keys.slot, keys.constant, keys.numbers, keys.number,
        _hash64(events.event_id) if memory.event_ids else np.empty(0, np.uint64),
        memory,
    )  # fmt: skip
    # A stable sort: the events of one customer keep the order of the log, which the sums depend on.
    order: Int64 = _by_customer(customer, int(customer.max(initial=-1)) + 1)
    return stream.take(order), order


def fold_stream(
    states: CustomerStates, stream: Stream, space: FeatureSpace, *, workers: Workers | None = None
) -> Applied:
    """As `fold_events`, of events by customer; outcome in the order of the stream."""
    events = len(stream.customer)
    plan = space.derived(plan_of)
    bounds = np.searchsorted(stream.customer, np.arange(len(states) + 1))
    outcome, changed = np.zeros(events, np.uint8), np.zeros(len(states), np.bool_)

    def fold(first: int, last: int) -> StateArrays:
        folded: StateArrays = fold_range(
            states.arrays, plan, stream, bounds, first, last, outcome, changed, work_for(plan)
        )  # fmt: skip
        return folded

    # Pieces are of whole customers, so no record is written by two workers.
    cuts = _cuts(bounds, min(workers.count, events // EVENTS_PER_WORKER) if workers else 1)
    if workers is None or len(cuts) == 2:
        arrays = fold(0, len(states))
    else:
        arrays = joined(list(workers.map(fold, cuts[:-1], cuts[1:])))
    return Applied(CustomerStates(states.customer_ids, arrays), outcome, changed)


@kernel
def _by_customer(customer: Int32, customers: int) -> Any:
    """Events (n,) by customer, in stream order each: a counting sort."""
    # Counting sort, because customers are small numbers: two passes rather than n log n, and
    # stable.
    following = np.zeros(customers + 1, np.int64)
    for c in customer:
        following[c + 1] += 1
    for c in range(customers):
        following[c + 1] += following[c]
    order = np.empty(len(customer), np.int64)
    for e in range(len(customer)):
        c = customer[e]
        order[following[c]] = e
        following[c] += 1
    return order


def _cuts(bounds: Int64, pieces: int) -> list[int]:
    """Where to cut customers 0..B so that each piece has about as many events."""
    customers = len(bounds) - 1
    shares = np.arange(1, pieces) * (int(bounds[-1]) / max(pieces, 1))
    inner = np.searchsorted(bounds, shares).tolist()
    return [0, *sorted({c for c in inner if 0 < c < customers}), customers]


@kernel
def _hash64_spans(buffer: UInt8, starts: Int64, lengths: Int32) -> Any:
    out = np.empty(len(starts), np.uint64)
    for i in range(len(starts)):
        h = np.uint64(14695981039346656037)
        # A null string has the length -1.
        for j in range(starts[i], starts[i] + max(lengths[i], 0)):
            h = (h ^ np.uint64(buffer[j])) * np.uint64(1099511628211)
        out[i] = h
    return out


def _hash64(column: StringColumn) -> UInt64:
    """FNV-1a, 64 bits, of each string."""
    hashes: UInt64 = _hash64_spans(column.buffer, column.starts, column.lengths)
    return hashes
