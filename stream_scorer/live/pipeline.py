"""The path of one event: poll, decode, load, apply, save, csr, score, encode, publish, commit.

`Pipeline.step` is that list. Source, store, scoring and sink are arguments, so this module knows no
server and no file format.

Why the order is safe: records are saved before the watermark moves, propensities are confirmed
before offsets are committed, and a record holds the offsets that it was made from. After a crash
between any two lines the same events are read again; they are skipped, and their customers are
scored again. What lies below the committed offset was published already: where it is read again,
because the store lost writes, it is folded and nothing is published for it. `step` keeps its batch
until everything is done, so that after `Unavailable` the same call goes on with the same batch.

Under a backlog batches overlap: while a worker thread scores batch n, this thread polls, decodes
and folds batch n+1; then it delivers and commits n while n+1 is scored. Only csr, score and encode
run on the worker. They touch no server, so every call of Kafka and Redis, and every rebalance
callback, stays on one thread. A crash finds records that are one batch further ahead of the
committed offsets than without overlap, which is what a crash between save and commit leaves, too.
Polling n+1 may take partitions of n away. So a batch holds the claims that the source had on its
partitions when it was polled: where one of them has changed, by a rebalance or because the store
lost writes, nothing of that partition is delivered or committed, and its next owner, or a later
poll, reads it again. At most two batches are on their way, and they are delivered in their order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import DeadLetter, Int64, RecordBatch, TopicPartition
from stream_scorer.core.events.customer_rates import CustomerRates
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.record_keys import foreign_keys
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.core.features.state import (
    NEVER,
    split_customers,
    take,
)
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.store import Store
from stream_scorer.live.scoring import Scoring
from stream_scorer.live.store_fold import StoreFold
from stream_scorer.live.tracing import (
    GuardedTraces,
    NoTraces,
    OutputHeaders,
    Traced,
    Traces,
    traced_customers,
)
from stream_scorer.live.trend_keeper import TrendKeeper
from stream_scorer.live.unpublished import is_new, is_reached, record_times_ms, unpublished

# Then one batch ends with none behind it: model switches, refreshes and the like happen between
# batches. Eight full ones take a few tenths of a second.
MOST_IN_A_ROW = 8


class Source(Protocol):
    """Where records come from, and where it is committed that they are done: Kafka.

    `poll` ahead gives a complete batch that is there already, or none, and does not wait. `claims`
    gives each partition that is read a number; another one each time that it is read from an
    offset that does not follow the last record.
    """

    def poll(self, *, ahead: bool = False) -> RecordBatch: ...
    def claims(self) -> Mapping[TopicPartition, int]: ...
    def committed(self) -> Mapping[TopicPartition, int]: ...
    def commit(self, next_offsets: dict[TopicPartition, int]) -> None: ...
    def leader_epochs(
        self, next_offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]: ...


class Sink(Protocol):
    """Where propensities and dead letters go: Kafka. `deliver` returns when all are confirmed.

    headers: of some of the propensity records, by key.
    """

    def deliver(
        self,
        keys: list[bytes],
        values: list[bytes],
        dead_letters: list[DeadLetter],
        next_offsets: dict[TopicPartition, int],
        headers: OutputHeaders,
    ) -> None: ...


@dataclass(eq=False)
class _Batch:
    """A micro-batch on its way; `applied`, `too_old`, `erased` and `refused_writes` are of all
    attempts.

    claims: the source's on its partitions when it was polled, which began and ended at `polled`.
    commits: the offsets to commit. times_ms: of the records that are published for. traced: the
    events whose traces go on. scored: keys and values of the output records, None until it is
    folded.
    """

    records: RecordBatch
    claims: dict[TopicPartition, int]
    polled: tuple[float, float]
    report: BatchReport = field(default_factory=BatchReport)
    commits: dict[TopicPartition, int] = field(default_factory=dict)
    traced: Traced = field(default_factory=dict)
    times_ms: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    scored: Future[tuple[list[bytes], list[bytes]]] | None = None
    applied: int = 0
    too_old: int = 0
    erased: int = 0
    refused_writes: int = 0


class Pipeline:
    """Micro-batches through the whole path, in their order. Not thread-safe; one owner.

    worker: one thread, which scores a batch while the next is folded; None: no batches overlap.
    trend: counts what events add to the shop's trend, where the declaration has one.
    """

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
        worker: Executor | None = None,
        trend: TrendKeeper | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._source, self._store, self._scoring, self._sink = source, store, scoring, sink
        self._decoder, self._preparation, self._clock_ms = decoder, preparation, clock_ms
        self._fold = StoreFold(store, preparation.space, rates=rates)
        self._worker, self._trend = worker, trend
        self._traces = NoTraces() if traces is None else GuardedTraces(traces)
        self._batches: deque[_Batch] = deque()
        self._in_a_row = 0
        # Of batches that were given up since the last report.
        self._refused_writes = 0
        # What the batch behind the first one failed with; raised once the first one is done.
        self._failure: StreamScorerError | None = None

    @property
    def idle(self) -> bool:
        """Whether all that was polled is published and its offsets passed to the source."""
        return not self._batches and self._failure is None

    def step(self) -> BatchReport:
        """Take one micro-batch to the end. Raises Unavailable (call again), StoreRewound, Halt."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        batch = self._first()
        if batch is None:
            return BatchReport()
        if batch.scored is None:
            self._begin(batch)
        self._begin_next()
        return self._end(batch)

    def finish(self) -> BatchReport:
        """Take what is folded already to its end, and poll nothing. Raises as `step`."""
        if self._batches and self._batches[0].scored is not None:
            return self._end(self._batches[0])
        return BatchReport()

    def drop(self) -> None:
        """Give up what is on its way, and wait until nothing is being scored."""
        self._begin_again()
        while self._batches:
            self._give_up_first()
        self._failure = None

    def _first(self) -> _Batch | None:
        """The batch to go on with, without records of partitions that went away meanwhile."""
        while self._batches:
            batch = self._batches[0]
            if not self._is_ours(batch):
                self._begin_again()
                self._leave_out(batch)
            if len(batch.records):
                return batch
            self._give_up_first()
        return self._polled(ahead=False)

    def _give_up_first(self) -> None:
        self._refused_writes += self._batches.popleft().refused_writes

    def _polled(self, *, ahead: bool) -> _Batch | None:
        began = time.perf_counter()
        records = self._source.poll(ahead=ahead)
        if not len(records):
            return None
        claims = self._source.claims()
        mine = {tp: claims[tp] for tp in records.next_offsets()}
        batch = _Batch(records, mine, (began, time.perf_counter()))
        self._batches.append(batch)
        return batch

    def _begin_next(self) -> None:
        """Poll and fold the batch behind the first one, where a complete one is there already."""
        # A challenger is compared on what was scored last, so with one no batches overlap.
        if self._worker is None or self._scoring.challenger is not None or len(self._batches) > 1:
            return
        self._in_a_row = (self._in_a_row + 1) % MOST_IN_A_ROW
        if not self._in_a_row:
            return
        try:
            batch = self._polled(ahead=True)
            if batch is not None:
                self._begin(batch)
        except StreamScorerError as error:
            self._failure = error

    def _is_ours(self, batch: _Batch) -> bool:
        claims = self._source.claims()
        return all(claims.get(tp) == claim for tp, claim in batch.claims.items())

    def _leave_out(self, batch: _Batch) -> None:
        """Forget the records of partitions that are not read as when the batch was polled."""
        claims = self._source.claims()
        batch.claims = {tp: n for tp, n in batch.claims.items() if claims.get(tp) == n}
        keep = np.array([tp in batch.claims for tp in batch.records.partitions], np.bool_)
        rows = np.flatnonzero(keep[batch.records.partition_index])
        batch.records = batch.records.take(rows)

    def _begin_again(self) -> None:
        """What is on its way is to be folded and scored again; events that the store has already
        are skipped then."""
        for batch in self._batches:
            if batch.scored is not None:
                batch.scored.exception()  # waits: the engine may be used elsewhere afterwards
                batch.scored = None

    def _begin(self, batch: _Batch) -> None:
        """Decode, fold and save a batch, and let it be scored."""
        records, report = batch.records, BatchReport()
        report.took("poll", *batch.polled)
        batch.report = report
        report.records, report.next_offsets = len(records), records.next_offsets()
        published = dict(self._source.committed())
        with report.stage("decode"):
            decoded = DecodedBatch(*self._decoder.decode(records), records)
            prepared = self._preparation.prepare(decoded, self._clock_ms())
            report.dead_letters = unpublished(prepared.dead_letters, published)
            report.foreign_keys = foreign_keys(decoded.events, records.keys)
            report.ignored, report.watched = prepared.ignored, prepared.watched
            batch.times_ms = record_times_ms(records, prepared.dead_letters, published)
        try:
            states = self._fold.fold(prepared, report)
        finally:
            self._take_counts(batch)
        if self._trend is not None and prepared.trend is not None:
            self._trend.add(prepared.trend, report.next_offsets)
        report.split_customers = split_customers(states)
        rows = is_reached(states, report.next_offsets) & is_new(prepared, published)
        # Of a customer who was forgotten on request and has done nothing since, nothing is known.
        rows &= states.arrays.newest_ms != NEVER
        states = take(states, np.flatnonzero(rows))
        if records.trace_contexts:
            ids = states.customer_ids
            batch.traced = traced_customers(records.trace_contexts, prepared, ids)
        with report.stage("save"):
            # After all records: the watermark promises that everything before it is stored.
            epochs = self._source.leader_epochs(report.next_offsets)
            self._store.advance(report.next_offsets, epochs)
        report.customers = report.propensities = len(states)
        # Never back: after a crash what lies between would be published once more.
        batch.commits = {tp: max(o, published.get(tp, 0)) for tp, o in report.next_offsets.items()}
        # As of each customer's own newest event, not of now, so a replay publishes the same bits.
        as_of_ms = states.arrays.newest_ms
        # Here, as making it may ask Redis.
        table = self._scoring.trend_table(as_of_ms)
        job = partial(
            self._scoring.records, states, as_of_ms, records.partitions, report, table, sample=True
        )
        if self._worker is not None:
            batch.scored = self._worker.submit(job)
        else:
            batch.scored = Future()
            batch.scored.set_result(job())

    def _end(self, batch: _Batch) -> BatchReport:
        """Deliver and commit the first batch; an empty report where partitions of it went away
        since it was polled: then the next step does what is left of it again."""
        assert batch.scored is not None
        report = batch.report
        keys, values = batch.scored.result()
        if not self._is_ours(batch):
            self._begin_again()
            return BatchReport()
        trace = self._traces.open(report, batch.traced)
        try:
            with report.stage("publish"):
                self._sink.deliver(keys, values, report.dead_letters, batch.commits, trace.headers)
            report.waited_seconds = np.maximum(self._clock_ms() - batch.times_ms, 0) / 1000
            with report.stage("commit"):
                # After the confirmation, or a crash between the two would lose propensities. With
                # exactly_once the transaction of `deliver` has committed already, and this does
                # nothing.
                self._source.commit(batch.commits)
        except StreamScorerError as error:
            trace.fail(error)
            self._begin_again()
            raise
        # Nobody waits for a challenger in the shadow.
        self._scoring.compare(report)
        trace.close()
        self._count_all_attempts(batch)
        self._batches.popleft()
        return report

    def _take_counts(self, batch: _Batch) -> None:
        fold = self._fold
        batch.applied += fold.applied
        batch.too_old += fold.too_old
        batch.erased += fold.erased
        batch.refused_writes += fold.refused_writes
        fold.applied = fold.too_old = fold.erased = fold.refused_writes = 0

    def _count_all_attempts(self, batch: _Batch) -> None:
        """What an earlier attempt applied, or found too old, was skipped by this one, and is no
        duplicate."""
        report = batch.report
        before = batch.applied - report.applied + batch.too_old - report.too_old
        before += batch.erased - report.erased_events
        report.duplicates -= min(before, report.duplicates)
        report.applied, report.too_old = batch.applied, batch.too_old
        report.erased_events = batch.erased
        report.refused_writes = batch.refused_writes + self._refused_writes
        self._refused_writes = 0
