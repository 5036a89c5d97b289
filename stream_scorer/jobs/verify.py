"""`stream-scorer verify`: are the vectors in Redis what the input topic says they should be?

N customers are drawn by a seeded hash of their ids. Watermarks are read first, then their records,
then the topic: every event of theirs up to the offsets that the record holds, and below the
watermark, which promises that all before it is stored. These are folded by the code that the
consumer folds with, and must give the stored record bit for bit. The same hash finds customers of
the topic who should be in the store and are not. What was never in the topic, or is no longer,
can't be checked: such customers are counted apart.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xxhash

from stream_scorer.core.events.batch import EventBatch, Int64, TopicPartition
from stream_scorer.core.features import fold
from stream_scorer.core.features.parity import Difference, differences
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import CustomerStates, take, topic_hash
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.live.consumer import clock_ms, open_store
from stream_scorer.past.sources import TOPIC, PastEvents, Refused, open_past, valid_batches
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings

BATCH_RECORDS = 50_000
LISTED = 1000


@dataclass(frozen=True)
class _Sample:
    """The drawn customers; `bound` is the hash of the last one, None where all were drawn."""

    ids: list[str]
    seed: int
    bound: int | None

    def covers(self, customer_id: str) -> bool:
        """Whether the customer would have been drawn, had the store had it."""
        return self.bound is None or _hash(customer_id, self.seed) <= self.bound


@dataclass(frozen=True)
class Verification(Result):
    """ok: something was checked, and nothing differs. Counts are of customers, but for `events`.

    absent: in the topic but not in the store, and so counted in `different` too. unverifiable:
    events of theirs were never in the topic, or are no longer. differences: the first `LISTED`.
    """

    ok: bool
    checked: int
    different: int
    absent: int
    unverifiable: int
    events: int
    seed: int
    differences: tuple[Difference, ...]
    seconds: float


def verify(settings: Settings, sample: int, seed: int | None) -> Verification:
    """Compare `sample` customers (0: all) of the store with the topic.

    seed: draws the same customers again; None: by the clock. Raises Unavailable where a server is
    away, and FingerprintMismatch where the store is of another declaration.
    """
    started = time.monotonic()
    seed = clock_ms() if seed is None else seed
    space = settings.feature_space()
    store = open_store(settings, space)
    store.claim()
    with open_past(settings, [TOPIC], batch_records=BATCH_RECORDS) as past:
        marks = store.watermarks(list(past.ranges))
        ids = [i for page in store.customer_ids() for i in page]
    drawn = _drawn(ids, sample, seed)
    stored = store.load(drawn.ids)
    # Opened again: what the records hold by now lies before the ends of now.
    with open_past(settings, [TOPIC], batch_records=BATCH_RECORDS) as past:
        known, lost_history = _verifiable(stored, past)
        recompute = _Recompute(settings, space, take(stored, known), marks, past, drawn)
        recompute.run()
    found = differences(recompute.stored, recompute.states(), space)
    absent = recompute.absent()
    found += absent
    different = {d.customer_id for d in found}
    return Verification(
        ok=bool(len(known)) and not found,
        checked=len(known),
        different=len(different),
        absent=len(absent),
        unverifiable=lost_history,
        events=recompute.events,
        seed=seed,
        differences=tuple(found[:LISTED]),
        seconds=round(time.monotonic() - started, 3),
    )


def in_words(result: Verification, shown: int = 20) -> list[str]:
    """The result for people, with the first `shown` differences."""
    lines = [
        f"{d.customer_id}: {d.what}: {d.stored} stored, {d.recomputed} recomputed"
        for d in result.differences[:shown]
    ]
    if len(result.differences) > shown:
        lines.append("... and more; --json lists them")
    lines.append(
        f"{result.checked:,} customers recomputed from {result.events:,} events in "
        f"{result.seconds:.1f} s: {result.different:,} differ"
    )
    if result.absent:
        lines.append(f"{result.absent:,} of them are in the topic but not in the store")
    if result.unverifiable:
        lines.append(
            f"{result.unverifiable:,} could not be checked: some of their events are not, or no "
            "longer, in the topic"
        )
    return lines


class _Recompute:
    """The checked customers' records, folded from the topic."""

    def __init__(
        self,
        settings: Settings,
        space: FeatureSpace,
        stored: CustomerStates,
        marks: dict[TopicPartition, int],
        past: PastEvents,
        drawn: _Sample,
    ) -> None:
        self.stored, self.events = stored, 0
        self._settings, self._space, self._past, self._drawn = settings, space, past, drawn
        self._store = MemoryStore(space.fingerprint)
        self._row = {customer: i for i, customer in enumerate(stored.customer_ids)}
        self._skipped = set(drawn.ids) - self._row.keys()
        self._marks = marks
        self._limits = _limits(stored, list(past.ranges), marks)
        self._strangers: dict[str, int] = {}  # not stored: time of their newest record

    def run(self) -> None:
        """Read the topic to its end."""
        settings = self._settings
        with progress("reading the topic", self._past.most_records) as meter:
            for batch in valid_batches(settings, self._past, Refused()):
                meter.advance(len(batch))
                self._fold(batch.events)
                stamps = batch.origin.timestamps_ms[batch.events.record_index]
                self._note_strangers(batch.events, stamps)

    def states(self) -> CustomerStates:
        """Rows as in `stored`."""
        return self._store.load(self.stored.customer_ids)

    def absent(self) -> list[Difference]:
        """Customers whose events lie below the watermark and who have no record, though none of
        theirs can have reached its time to live."""
        ttl_ms = 1000 * self._settings.store.time_to_live_seconds
        oldest = clock_ms() - ttl_ms if ttl_ms else 0
        return [
            Difference(customer, "record", "none", "some")
            for customer, at in sorted(self._strangers.items())
            if at >= oldest
        ]

    def _fold(self, events: EventBatch) -> None:
        codes, ids = events.customer_id.intern()
        row = np.array([self._row.get(i, -1) for i in ids], np.int64)[codes]
        places = {tp: i for i, tp in enumerate(self._past.ranges)}
        place = np.array([places[tp] for tp in events.partitions], np.int64)
        limit = self._limits[np.maximum(row, 0), place[events.partition_index]]
        events = events.take(np.flatnonzero((row >= 0) & (events.offsets <= limit)))
        self.events += len(events)
        customer, ids = events.customer_id.intern()
        applied = fold.fold_events(
            self._store.load(ids), events, customer, self._space,
            remember_event_ids=self._settings.events.remember_event_ids,
        )  # fmt: skip
        self._store.save(applied.states, np.flatnonzero(applied.changed))

    def _note_strangers(self, events: EventBatch, stamps: Int64) -> None:
        marks = np.array([self._marks.get(tp, 0) for tp in events.partitions], np.int64)
        below = np.flatnonzero(events.offsets < marks[events.partition_index])
        codes, ids = events.customer_id.take(below).intern()
        newest = np.zeros(len(ids), np.int64)
        np.maximum.at(newest, codes, stamps[below])
        for customer, at in zip(ids, newest.tolist(), strict=True):
            if customer in self._row or customer in self._skipped:
                continue
            if self._drawn.covers(customer):
                self._strangers[customer] = max(at, self._strangers.get(customer, 0))


def _drawn(ids: list[str], sample: int, seed: int) -> _Sample:
    unique = sorted(set(ids))
    if not sample or sample >= len(unique):
        return _Sample(unique, seed, None)
    chosen = heapq.nsmallest(sample, unique, key=lambda i: _hash(i, seed))
    return _Sample(sorted(chosen), seed, max(_hash(i, seed) for i in chosen))


def _hash(customer_id: str, seed: int) -> int:
    return xxhash.xxh64_intdigest(customer_id.encode(), seed)


def _sources(states: CustomerStates) -> Iterator[tuple[int, tuple[int, int], int]]:
    """(row, (topic hash, partition), offset) of everything that fed the records."""
    a = states.arrays
    rows = np.repeat(np.arange(len(states)), np.diff(a.source_at)).tolist()
    topics, partitions = a.source_topic.tolist(), a.source_partition.tolist()
    offsets = a.source_offset.tolist()
    for row, topic, partition, offset in zip(rows, topics, partitions, offsets, strict=True):
        yield row, (topic, partition), offset


def _verifiable(stored: CustomerStates, past: PastEvents) -> tuple[Int64, int]:
    """Rows whose events are all in the topic as far as one can tell, and how many others."""
    whole = {(topic_hash(t), p) for (t, p), (first, _) in past.ranges.items() if first == 0}
    known = np.ones(len(stored), np.bool_)
    for row, source, _ in _sources(stored):
        known[row] &= source in whole
    known &= np.diff(stored.arrays.source_at) > 0  # deleted since its id was read
    rows = np.flatnonzero(known)
    return rows, len(stored) - len(rows)


def _limits(
    stored: CustomerStates, partitions: list[TopicPartition], marks: dict[TopicPartition, int]
) -> Int64:
    """(B, P): of customer b the last offset of partition p that its record must hold."""
    places = {(topic_hash(t), p): i for i, (t, p) in enumerate(partitions)}
    below = np.array([marks.get(tp, 0) - 1 for tp in partitions], np.int64)
    limits = np.tile(below, (max(len(stored), 1), 1))
    for row, source, offset in _sources(stored):
        limits[row, places[source]] = max(limits[row, places[source]], offset)
    return limits
