"""The path of one event: poll, decode, load, apply, save, csr, score, encode, publish, commit.

`Pipeline.step` is that list. Source, store, scoring and sink are arguments, so this module knows no
server and no file format.

Why the order is safe: records are saved before the watermark moves, propensities are confirmed
before offsets are committed, and a record holds the offsets that it was made from. After a crash
between any two lines the same events are read again; they are skipped, and their customers are
scored again. What lies below the committed offset was published already: where it is read again,
because the store lost writes, it is folded and nothing is published for it. `step` keeps its batch
until everything is done, so that after `Unavailable` the same call goes on with the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import Bool, DeadLetter, RecordBatch, TopicPartition
from stream_scorer.core.events.customer_rates import CustomerRates
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.record_keys import foreign_keys
from stream_scorer.core.features.preparation import Preparation, PreparedEvents
from stream_scorer.core.features.state import (
    CustomerStates,
    source_positions,
    split_customers,
    take,
    topic_hash,
)
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.store import Store
from stream_scorer.live.scoring import Scoring
from stream_scorer.live.store_fold import StoreFold


class Source(Protocol):
    """Where records come from, and where it is committed that they are done: Kafka."""

    def poll(self) -> RecordBatch: ...
    def owned(self, records: RecordBatch) -> RecordBatch: ...
    def committed(self) -> Mapping[TopicPartition, int]: ...
    def commit(self, next_offsets: dict[TopicPartition, int]) -> None: ...
    def leader_epochs(
        self, next_offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]: ...


class Sink(Protocol):
    """Where propensities and dead letters go: Kafka. `deliver` returns when all are confirmed."""

    def deliver(
        self,
        keys: list[bytes],
        values: list[bytes],
        dead_letters: list[DeadLetter],
        next_offsets: dict[TopicPartition, int],
    ) -> None: ...


class Pipeline:
    """One micro-batch at a time through the whole path. Not thread-safe; one owner."""

    def __init__(
        self,
        source: Source,
        store: Store,
        scoring: Scoring,
        sink: Sink,
        *,
        decoder: Decoder,
        preparation: Preparation,
        clock_ms: Callable[[], int],
        rates: CustomerRates | None = None,
    ) -> None:
        self._source, self._store, self._scoring, self._sink = source, store, scoring, sink
        self._decoder, self._preparation, self._clock_ms = decoder, preparation, clock_ms
        self._fold = StoreFold(store, preparation.space, rates=rates)
        self._unfinished: RecordBatch | None = None

    @property
    def idle(self) -> bool:
        """Whether all that was polled is published and its offsets passed to the source."""
        return self._unfinished is None

    def step(self) -> BatchReport:
        """Take one micro-batch to the end. Raises Unavailable (call again), StoreRewound, Halt."""
        report = BatchReport()
        with report.stage("poll"):
            if self._unfinished is None:
                records = self._source.poll()
            else:
                # Between two attempts the group may have taken partitions away; their new owner has
                # them.
                records = self._source.owned(self._unfinished)
        self._unfinished = records if len(records) else None
        if self._unfinished is None:
            self._fold.applied = self._fold.too_old = 0
            return report
        report.records, report.next_offsets = len(records), records.next_offsets()
        published = self._source.committed()
        with report.stage("decode"):
            batch = DecodedBatch(*self._decoder.decode(records), records)
            prepared = self._preparation.prepare(batch, self._clock_ms())
            report.dead_letters = _unpublished(prepared.dead_letters, published)
            report.foreign_keys = foreign_keys(batch.events, records.keys)
            report.ignored = prepared.ignored
        states = self._fold.fold(prepared, report)
        report.split_customers = split_customers(states)
        rows = _reached(states, report.next_offsets) & _is_new(prepared, published)
        states = take(states, np.flatnonzero(rows))
        with report.stage("save"):
            # After all records: the watermark promises that everything before it is stored.
            epochs = self._source.leader_epochs(report.next_offsets)
            self._store.advance(report.next_offsets, epochs)
        # As of each customer's own newest event, not of now, so a replay publishes the same bits.
        keys, values = self._scoring.records(
            states, states.arrays.newest_ms, records.partitions, report
        )
        # Never back: after a crash what lies between would be published once more.
        commits = {tp: max(o, published.get(tp, 0)) for tp, o in report.next_offsets.items()}
        with report.stage("publish"):
            self._sink.deliver(keys, values, report.dead_letters, commits)
        with report.stage("commit"):
            # After the confirmation, or a crash between the two would lose propensities. With
            # exactly_once the transaction of `deliver` has committed already, and this does
            # nothing.
            self._source.commit(commits)
        # Nobody waits for a challenger in the shadow.
        self._scoring.compare(report)
        report.customers, report.propensities = len(states), len(values)
        self._count_all_attempts(report)
        self._unfinished = None
        return report

    def _count_all_attempts(self, report: BatchReport) -> None:
        """What an earlier attempt applied, or found too old, was skipped by this one, and is no
        duplicate."""
        before = self._fold.applied - report.applied + self._fold.too_old - report.too_old
        report.duplicates -= min(before, report.duplicates)
        report.applied, self._fold.applied = self._fold.applied, 0
        report.too_old, self._fold.too_old = self._fold.too_old, 0
        report.refused_writes, self._fold.refused_writes = self._fold.refused_writes, 0


def _reached(states: CustomerStates, next_offsets: dict[TopicPartition, int]) -> Bool:
    """(B,), whether a customer's record holds nothing beyond this batch.

    A record that is ahead (it was saved, then its owner died or lost the partition) will be read up
    to: the batch that reaches its offset scores it, so it is not published twice from one position.
    """
    partitions = list(next_offsets)
    index, offsets = source_positions(states, partitions)
    ends = np.array([next_offsets[tp] for tp in partitions], np.int64)
    return np.asarray((index < 0) | (offsets < ends[index]))


def _is_new(prepared: PreparedEvents, published: Mapping[TopicPartition, int]) -> Bool:
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


def _unpublished(
    dead_letters: list[DeadLetter], published: Mapping[TopicPartition, int]
) -> list[DeadLetter]:
    """Those of records at or beyond the offset that `published` gives their partition."""
    return [d for d in dead_letters if d.offset >= published.get((d.topic, d.partition), 0)]
