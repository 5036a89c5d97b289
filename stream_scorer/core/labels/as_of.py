"""Vectors as of any (customer, moment) pairs, from a log of events.

A customer's vector depends on its own events alone. So customers are taken in groups; in round k
every customer of the group is folded up to its k-th moment, and all become one matrix. What is
known at a moment are the events whose `known_at` lies before it, in that order; nothing at or after
it is looked at. Memory is that of the events and of one group's vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import EventBatch, Int32, Int64
from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.fold_plan import Memory
from stream_scorer.core.features.forgetting import is_forgotten, without_forgotten
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import NEVER, take
from stream_scorer.core.features.state_codec import empty_states

# More need more memory, for that many vectors; fewer make more rounds of fewer rows.
GROUP_CUSTOMERS = 4096


class Moments(NamedTuple):
    """M pairs, by customer (M,) int32 and then as_of_ms (M,) int64, without repeats."""

    customer: Int32
    as_of_ms: Int64

    def find(self, customer: Int32, as_of_ms: Int64) -> Int64:
        """Positions of pairs that are there."""
        # Ranks in place of milliseconds, so that customer and time fit into one int64.
        times = np.unique(self.as_of_ms)
        width = len(times) + 1
        mine = self.customer.astype(np.int64) * width + np.searchsorted(times, self.as_of_ms)
        return np.searchsorted(
            mine, customer.astype(np.int64) * width + np.searchsorted(times, as_of_ms)
        )


@dataclass(frozen=True)
class KnownEvents:
    """Events in the order in which they became known.

    known_at_ms (n,) int64 ascending, never before occurred_at; customer (n,) int32 into
    customer_ids. memory: what customers' records remember of them.
    """

    events: EventBatch
    known_at_ms: Int64
    customer: Int32
    customer_ids: list[str]
    memory: Memory = fold.REMEMBER_ALL

    @classmethod
    def of(
        cls, events: EventBatch, known_at_ms: Int64, memory: Memory = fold.REMEMBER_ALL
    ) -> KnownEvents:
        """From events in any order; those of one moment stay as they came."""
        # A producer's clock may be ahead. An event that counted before it occurred would be in the
        # vector and, a moment later, in the label as well.
        known_at_ms = np.maximum(known_at_ms, events.occurred_at_ms)
        order, n = np.argsort(known_at_ms, kind="stable"), len(events)
        if (np.diff(order) < 0).any():  # else they are in order, and a copy would double the memory
            events = events.take(order)
        # As if read from one partition in this order: folding skips what lies at a lower offset.
        events = replace(
            events, partitions=[("", 0)], partition_index=np.zeros(n, np.int32),
            offsets=np.arange(n, dtype=np.int64),
        )  # fmt: skip
        codes, ids = events.customer_id.intern()
        # Numbers follow the ids, so that what comes later can't change them or their groups' order.
        rank = np.argsort(np.argsort(np.array(ids, dtype=np.str_), kind="stable"))
        customer = rank[codes].astype(np.int32)
        return cls(events, known_at_ms[order], customer, sorted(ids), memory)

    @property
    def first_ms(self) -> Int64:
        """(customers,) when the first event of each became known."""
        first = np.full(len(self.customer_ids), np.iinfo(np.int64).max)
        np.minimum.at(first, self.customer, self.known_at_ms)
        return first


def at_cutoffs(known: KnownEvents, cutoffs_ms: Sequence[int]) -> Moments:
    """At each of the ascending cut-offs every customer who was known by then, and not forgotten."""
    parts = list(known_by(known, cutoffs_ms))
    times = [np.full(len(p), c, np.int64) for p, c in zip(parts, cutoffs_ms, strict=True)]
    nothing = np.zeros(0, np.int64)
    return distinct(
        np.concatenate([nothing, *parts]).astype(np.int32), np.concatenate([nothing, *times])
    )


def known_by(known: KnownEvents, cutoffs_ms: Sequence[int]) -> Iterator[Int64]:
    """For each of the ascending cut-offs (k,) int64: the customers who were known by then, and not
    forgotten."""
    newest = np.full(len(known.customer_ids), NEVER, np.int64)
    start = 0
    for cutoff in cutoffs_ms:
        stop = int(np.searchsorted(known.known_at_ms, cutoff))
        at_ms = known.events.occurred_at_ms[start:stop]
        np.maximum.at(newest, known.customer[start:stop], at_ms)
        start = stop
        remembered = ~is_forgotten(newest, cutoff, known.memory)
        yield np.flatnonzero((newest != NEVER) & remembered)


def after_events(known: KnownEvents, from_ms: int, to_ms: int) -> Moments:
    """1 ms after each moment in [from_ms, to_ms) at which events of a customer became known."""
    inside = (known.known_at_ms >= from_ms) & (known.known_at_ms < to_ms)
    # Only what is known before a moment counts, hence the 1 ms.
    return distinct(known.customer[inside], known.known_at_ms[inside] + 1)


def distinct(customer: Int32, as_of_ms: Int64) -> Moments:
    """In order, each pair once."""
    order = np.lexsort((as_of_ms, customer))
    customer, as_of_ms = customer[order], as_of_ms[order]
    new = np.ones(len(customer), np.bool_)
    new[1:] = (np.diff(customer) != 0) | (np.diff(as_of_ms) != 0)
    return Moments(customer[new], as_of_ms[new])


def rows_at(
    known: KnownEvents, moments: Moments, space: FeatureSpace
) -> Iterator[tuple[Int64, sparse.csr_matrix]]:
    """(positions (k,) in moments, their rows (k, F)); every position once.

    Raises nothing for a customer without an event before its moment, or one who is forgotten then:
    its row is empty but for calendar features.
    """
    order = np.lexsort((known.known_at_ms, known.customer))
    times = np.unique(known.known_at_ms)
    width = len(times) + 1
    key = known.customer[order].astype(np.int64) * width
    key += np.searchsorted(times, known.known_at_ms[order])
    numbers = moments.customer.astype(np.int64) * width
    end = np.searchsorted(key, numbers + np.searchsorted(times, moments.as_of_ms))
    start = np.searchsorted(key, numbers)
    same = np.zeros(len(end), np.bool_)
    same[1:] = moments.customer[1:] == moments.customer[:-1]
    # A customer's next moment folds only what became known since its last one.
    start[same] = end[np.flatnonzero(same) - 1]
    firsts = np.flatnonzero(~same)
    counts = np.diff(np.append(firsts, len(end)))
    for group in range(0, len(firsts), GROUP_CUSTOMERS):
        some = slice(group, group + GROUP_CUSTOMERS)
        yield from _rounds(known, moments, space, order, start, end, firsts[some], counts[some])


def _rounds(  # type: ignore[no-untyped-def]
    known, moments, space, order, start, end, firsts, counts
) -> Iterator[tuple[Int64, sparse.csr_matrix]]:
    """One group: round k folds events order[start[p]:end[p]] of each customer's k-th moment p."""
    ids = [known.customer_ids[c] for c in moments.customer[firsts].tolist()]
    states = empty_states(ids)
    for k in range(int(counts.max(initial=0))):
        going_on = np.flatnonzero(counts > k)
        if len(going_on) < len(counts):
            states, firsts, counts = take(states, going_on), firsts[going_on], counts[going_on]
        at = firsts + k
        lengths = end[at] - start[at]
        ends = np.cumsum(lengths)
        rows = np.arange(int(lengths.sum())) + np.repeat(start[at] - (ends - lengths), lengths)
        owner = np.repeat(np.arange(len(at), dtype=np.int32), lengths)
        # In the order of the log, as a consumer sees them.
        in_order = np.argsort(order[rows], kind="stable")
        events = known.events.take(order[rows][in_order])
        states = fold.fold_events(
            states, events, owner[in_order], space, memory=known.memory
        ).states
        as_of_ms = moments.as_of_ms[at]
        yield at, csr.build(without_forgotten(states, as_of_ms, known.memory), space, as_of_ms)
