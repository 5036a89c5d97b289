"""Customers' records folded anew from their events, to be compared with those in the store.

The events are those of the input topic, after those of the event files that were replayed into the
namespace first, where there are such. Of each drawn customer every event is folded up to the
offsets that its record holds, and below the watermark, which promises that all before it is stored;
of files, all. Of a customer who was forgotten on request, what occurred up to that moment is left
out. What lies before the offset from which a partition was read into the namespace is
left out here too. The same hash that drew the customers finds those who should be in the store and
are not.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from stream_scorer.core.events.batch import (
    Bool,
    EventBatch,
    Int64,
    RecordBatch,
    TopicPartition,
)
from stream_scorer.core.events.record_keys import foreign_keys
from stream_scorer.core.events.refused import Refused
from stream_scorer.core.features import fold
from stream_scorer.core.features.erasure import boundary_sources, erased_ms, erased_states
from stream_scorer.core.features.parity import Difference
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates, topic_hash
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.redis import kept_longer_ms
from stream_scorer.past.sources import PastEvents, valid_batches
from stream_scorer.past.trend_recomputation import TrendRecomputation
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings

FOR_EVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Sample:
    """The drawn customers; `bound` is the hash of the last one, None where all were drawn."""

    ids: list[str]
    seed: int
    bound: int | None

    def covers(self, customer_id: str) -> bool:
        """Whether the customer would have been drawn, had the store had it."""
        return self.bound is None or _hash(customer_id, self.seed) <= self.bound


@dataclass(frozen=True)
class Extent:
    """Of each partition that fed a namespace, which offsets it was read from and up to.

    starts: of those that are known, the first offset. marks: the first offset that need not be
    stored. firsts: the first that can still be read.
    """

    starts: Mapping[TopicPartition, int]
    marks: Mapping[TopicPartition, int]
    firsts: Mapping[TopicPartition, int]

    @classmethod
    def of(
        cls,
        pasts: Sequence[PastEvents],
        starts: Mapping[TopicPartition, int],
        marks: Mapping[TopicPartition, int],
    ) -> Extent:
        """Of all that feeds a namespace: starts and marks are the store's, of topics.

        Of files all events are stored, and all can be read again.
        """
        firsts = {tp: first for past in pasts for tp, (first, _) in past.ranges.items()}
        files = [
            (source, 0)
            for past in pasts
            if past.numbering is not None
            for source in past.numbering.source_of.values()
        ]
        return cls(
            starts, {**marks, **dict.fromkeys(files, FOR_EVER)}, firsts | dict.fromkeys(files, 0)
        )

    def whole(self) -> set[tuple[int, int]]:
        """(topic hash, partition) of those of which all that was read can be read again."""
        return {
            (topic_hash(tp[0]), tp[1])
            for tp, first in self.firsts.items()
            if first <= self.starts.get(tp, 0)
        }


class Recomputation:
    """Records of the customers in `stored`, folded from `pasts`, one after the other.

    extent: of all their partitions; its marks were read before `stored` was. drawn: who was asked
    for, stored or not. After `run`, `events` says how many were folded, and `foreign_keys` how many
    of the topic's have another key than the customer id. trend: counts the same events.
    """

    def __init__(
        self,
        settings: Settings,
        space: FeatureSpace,
        stored: CustomerStates,
        extent: Extent,
        pasts: Sequence[PastEvents],
        drawn: Sample,
        trend: TrendRecomputation | None = None,
    ) -> None:
        self._trend = trend
        self.stored, self.events, self.foreign_keys = stored, 0, 0
        self._settings, self._space, self._pasts, self._drawn = settings, space, pasts, drawn
        self._store = MemoryStore(space.fingerprint)
        # A customer who was forgotten on request begins at the boundary, whatever the log has.
        boundaries = erased_ms(stored)
        erased = np.flatnonzero(boundaries != NEVER)
        of_erased = erased_states([stored.customer_ids[i] for i in erased], boundaries[erased])
        self._store.save(of_erased, np.arange(len(erased)))
        self._row = {customer: i for i, customer in enumerate(stored.customer_ids)}
        self._drawn_ids = frozenset(drawn.ids)
        self._extent = extent
        self._column_of = {tp: i for i, tp in enumerate(extent.firsts)}
        self._limits = _limits(stored, list(extent.firsts), extent.marks)
        # Customers who are in the topic and should be stored: until when Redis must keep them.
        self._unstored: dict[str, int] = {}

    def run(self) -> None:
        """Read all of them to their ends."""
        for past in self._pasts:
            self._read(past)

    def _read(self, past: PastEvents) -> None:
        with progress(f"reading {past.name}", past.most_records) as meter:
            for batch in valid_batches(self._settings, past, Refused()):
                meter.advance(len(batch), past.expected_records())
                if self._trend is not None:
                    self._trend.add(batch.events)
                is_read = self._is_read(batch.events)
                self._fold(batch.events, is_read)
                if isinstance(batch.origin, RecordBatch):
                    self.foreign_keys += foreign_keys(batch.events, batch.origin.keys)
                stamps = batch.origin.timestamps_ms[batch.events.record_index]
                self._note_unstored(batch.events, is_read, stamps)

    def states(self) -> CustomerStates:
        """Rows as in `stored`."""
        return self._store.load(self.stored.customer_ids)

    def absent(self, now_ms: int) -> list[Difference]:
        """Customers whose events lie below the watermark and who have no record, though Redis can't
        have removed any of theirs yet.
        """
        return [
            Difference(customer, "record", "none", "some")
            for customer, until in sorted(self._unstored.items())
            if until >= now_ms
        ]

    def _fold(self, events: EventBatch, is_read: Bool) -> None:
        codes, ids = events.customer_id.intern()
        row = np.array([self._row.get(i, -1) for i in ids], np.int64)[codes]
        column = np.array([self._column_of[tp] for tp in events.partitions], np.int64)
        limit = self._limits[np.maximum(row, 0), column[events.partition_index]]
        # What came after the record was read must not count; it is in the topic already.
        inside = (row >= 0) & (events.offsets <= limit) & is_read
        events = events.take(np.flatnonzero(inside))
        self.events += len(events)
        customer, ids = events.customer_id.intern()
        applied = fold.fold_events(
            self._store.load(ids), events, customer, self._space,
            memory=self._settings.memory(),
        )  # fmt: skip
        self._store.save(applied.states, np.flatnonzero(applied.changed))

    def _is_read(self, events: EventBatch) -> Bool:
        """(n,) which events do not lie before what was read of their partition."""
        starts = [self._extent.starts.get(tp, 0) for tp in events.partitions]
        return np.asarray(events.offsets >= np.array(starts, np.int64)[events.partition_index])

    def _note_unstored(self, events: EventBatch, is_read: Bool, stamps: Int64) -> None:
        marks = np.array([self._extent.marks.get(tp, 0) for tp in events.partitions], np.int64)
        is_below = events.offsets < marks[events.partition_index]
        below = np.flatnonzero(is_below & is_read)
        codes, ids = events.customer_id.take(below).intern()
        ttl_ms = self._settings.memory().time_to_live_ms
        kept = np.zeros(len(ids), np.int64)
        # A record was written no earlier than its event arrived, and stays until then at the least.
        forgotten = np.maximum(events.occurred_at_ms[below] + ttl_ms, stamps[below])
        until = forgotten + kept_longer_ms(ttl_ms) if ttl_ms else np.full(len(below), FOR_EVER)
        np.maximum.at(kept, codes, until)
        for customer, at in zip(ids, kept.tolist(), strict=True):
            # Who was drawn was stored when ids were read: without a record that can be compared
            # the customer is unverifiable, and not absent.
            if customer not in self._drawn_ids and self._drawn.covers(customer):
                self._unstored[customer] = max(at, self._unstored.get(customer, 0))


def drawn_customers(ids: Sequence[str], sample: int, seed: int) -> Sample:
    """`sample` of the customers (0: all), those whose seeded hashes are least."""
    unique = sorted(set(ids))
    if not sample or sample >= len(unique):
        return Sample(unique, seed, None)
    chosen = heapq.nsmallest(sample, unique, key=lambda i: _hash(i, seed))
    return Sample(sorted(chosen), seed, max(_hash(i, seed) for i in chosen))


def _hash(customer_id: str, seed: int) -> int:
    return xxhash.xxh64_intdigest(customer_id.encode(), seed)


def _sources(states: CustomerStates) -> Iterator[tuple[int, tuple[int, int], int]]:
    """(row, (topic hash, partition), offset) of everything that fed the records."""
    a = states.arrays
    of_logs = ~boundary_sources(a)
    rows = np.repeat(np.arange(len(states)), np.diff(a.source_at))[of_logs].tolist()
    topics, partitions = a.source_topic[of_logs].tolist(), a.source_partition[of_logs].tolist()
    offsets = a.source_offset[of_logs].tolist()
    for row, topic, partition, offset in zip(rows, topics, partitions, offsets, strict=True):
        yield row, (topic, partition), offset


def verifiable(stored: CustomerStates, extent: Extent) -> tuple[Int64, int]:
    """Rows whose events can all be read again as far as one can tell, and how many others."""
    whole = extent.whole()
    known = np.ones(len(stored), np.bool_)
    for row, source, _ in _sources(stored):
        known[row] &= source in whole
    known &= np.diff(stored.arrays.source_at) > 0  # deleted since its id was read
    rows = np.flatnonzero(known)
    return rows, len(stored) - len(rows)


def _limits(
    stored: CustomerStates, partitions: list[TopicPartition], marks: Mapping[TopicPartition, int]
) -> Int64:
    """(B, P): of customer b the last offset of partition p that its record must hold."""
    column_of = {(topic_hash(t), p): i for i, (t, p) in enumerate(partitions)}
    below = np.array([marks.get(tp, 0) - 1 for tp in partitions], np.int64)
    limits = np.tile(below, (max(len(stored), 1), 1))
    for row, source, offset in _sources(stored):
        column = column_of[source]
        limits[row, column] = max(limits[row, column], offset)
    return limits
