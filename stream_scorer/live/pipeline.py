"""The path of one event: poll, decode, load, apply, save, csr, score, encode, publish, commit.

Source, store, engine and sink are arguments, and two real ones of each exist.

Why the order is safe: records are saved before the watermark moves, propensities are confirmed
before offsets are committed, and a record holds the offsets that it was made from. A crash between
any two lines leads to the same events being read again; they are skipped, and their customers are
scored again. `step` keeps its batch until all is done, so that after `Unavailable` the same call
resumes the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stream_scorer.core.avro.propensity_encoder import PropensityEncoder
from stream_scorer.core.events.batch import DeadLetter, Int64, RecordBatch, TopicPartition
from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.fold_plan import APPLIED
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import (
    CustomerStates,
    Float32,
    concatenate_states,
    source_positions,
    take,
)
from stream_scorer.core.propensities import PublishPolicy, published_in_full, select
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.store import Store
from stream_scorer.model.engines.engine import Engine
from stream_scorer.runtime import Threads

SAVE_ATTEMPTS = 5


class Source(Protocol):
    """Where records come from: Kafka, or event files."""

    def poll(self) -> RecordBatch: ...
    def owned(self, records: RecordBatch) -> RecordBatch: ...
    def commit(self, next_offsets: dict[TopicPartition, int]) -> None: ...


class Prepares(Protocol):
    """What turns records into events by customer: a Preparation, or one that did so ahead."""

    def prepare(self, records: RecordBatch, now_ms: int) -> PreparedEvents: ...


class Sink(Protocol):
    """Where propensities and dead letters go: Kafka, or files."""

    def deliver(
        self,
        keys: list[bytes],
        values: list[bytes],
        dead_letters: list[DeadLetter],
        next_offsets: dict[TopicPartition, int],
    ) -> None: ...


@dataclass(frozen=True)
class Rules:
    """Everything a step decides by."""

    space: FeatureSpace
    publish: PublishPolicy


class Pipeline:
    """One micro-batch at a time through the whole path. Not thread-safe; one owner."""

    def __init__(
        self,
        source: Source,
        store: Store,
        engine: Engine | None,
        sink: Sink,
        *,
        rules: Rules,
        preparation: Prepares,
        encoder: PropensityEncoder | None,
        clock_ms: Callable[[], int],
        threads: int = 1,
    ) -> None:
        self._source, self._store, self._engine, self._sink = source, store, engine, sink
        self._rules, self._preparation, self._encoder = rules, preparation, encoder
        self._clock_ms, self._workers = clock_ms, Threads(threads)
        self._unfinished: RecordBatch | None = None
        self._refused_writes = 0  # not yet reported: a refused batch often fails later on
        self._applied = 0  # events of the unfinished batch, by all attempts

    def step(self) -> BatchReport:
        """Take one micro-batch to the end. Raises Unavailable (call again), StoreRewound, Halt."""
        report = BatchReport()
        with report.stage("poll"):
            if self._unfinished is None:
                records = self._source.poll()
            else:
                records = self._source.owned(self._unfinished)
        self._unfinished = records if len(records) else None
        if self._unfinished is None:
            self._applied = 0
            return report
        report.records, report.next_offsets = len(records), records.next_offsets()
        with report.stage("decode"):
            prepared = self._preparation.prepare(records, self._clock_ms())
            report.dead_letters = prepared.dead_letters
        states = _reached(self._fold(prepared, report), report.next_offsets)
        with report.stage("save"):
            self._store.advance(report.next_offsets)
        keys, values = self._propensities(states, records.partitions, report)
        with report.stage("publish"):
            self._sink.deliver(keys, values, report.dead_letters, report.next_offsets)
        with report.stage("commit"):
            self._source.commit(report.next_offsets)
        report.customers, report.propensities = len(states), len(values)
        report.refused_writes, self._refused_writes = self._refused_writes, 0
        # What an earlier attempt applied was skipped by this one, and is no duplicate.
        report.duplicates -= min(self._applied - report.applied, report.duplicates)
        report.applied, self._applied = self._applied, 0
        self._unfinished = None
        return report

    def _fold(self, prepared: PreparedEvents, report: BatchReport) -> CustomerStates:
        """Load, apply and save until no write is refused; the states of every customer touched."""
        ids, stream = prepared.customer_ids, prepared.stream
        with report.stage("load"):
            states = self._store.load(ids)
        for _ in range(SAVE_ATTEMPTS):
            with report.stage("apply"):
                applied = fold.fold_stream(states, stream, self._rules.space, workers=self._workers)
            with report.stage("save"):
                refused = self._store.save(applied.states, np.flatnonzero(applied.changed))
            written = ~np.isin(stream.customer, refused)
            fresh = applied.outcome[written] == APPLIED
            self._applied += int(fresh.sum())
            report.applied += int(fresh.sum())
            report.duplicates += int((~fresh).sum())
            if not len(refused):
                return applied.states
            # Another owner wrote newer records: take theirs, and skip what they hold.
            self._refused_writes += len(refused)
            with report.stage("load"):
                theirs = self._store.load([ids[i] for i in refused.tolist()])
                states = _replaced(applied.states, refused, theirs)
                again = np.flatnonzero(~written)
                stream = stream.take(again)
        raise StoreUnavailable(f"another consumer keeps overwriting {len(refused)} customers")

    def _propensities(
        self, states: CustomerStates, partitions: list[TopicPartition], report: BatchReport
    ) -> tuple[list[bytes], list[bytes]]:
        """Keys and values of the output records, one for each customer; none without an engine."""
        if self._engine is None or self._encoder is None:
            return [], []
        with report.stage("csr"):
            matrix = csr.build(states, self._rules.space, states.arrays.newest_ms)
        with report.stage("score"):
            scores = self._engine.score(matrix)
        with report.stage("encode"):
            return self._encoded(states, scores, partitions, self._encoder)

    def _encoded(
        self,
        states: CustomerStates,
        scores: Float32,
        partitions: list[TopicPartition],
        encoder: PropensityEncoder,
    ) -> tuple[list[bytes], list[bytes]]:
        index, offsets = source_positions(states, partitions)
        keys = [customer_id.encode() for customer_id in states.customer_ids]
        head = (keys, states.arrays.newest_ms, self._clock_ms(), partitions, index, offsets)
        if self._rules.publish.mode == "all":
            return keys, encoder.encode_all(*head, published_in_full(scores))
        return keys, encoder.encode_entries(*head, *select(scores, self._rules.publish))


def _reached(states: CustomerStates, next_offsets: dict[TopicPartition, int]) -> CustomerStates:
    """Those whose record holds nothing beyond this batch.

    A record that is ahead (it was saved, then its owner died or lost the partition) will be read up
    to: the batch that reaches its offset scores it, so it is not published twice from one position.
    """
    partitions = list(next_offsets)
    index, offsets = source_positions(states, partitions)
    ends = np.array([next_offsets[tp] for tp in partitions], np.int64)
    ahead = (index >= 0) & (offsets >= ends[index])
    return take(states, np.flatnonzero(~ahead))


def _replaced(states: CustomerStates, rows: Int64, by: CustomerStates) -> CustomerStates:
    """`states` with `rows` (k,) replaced by the k rows of `by`."""
    both = concatenate_states(states, by)
    source = np.arange(len(states))
    source[rows] = len(states) + np.arange(len(by))
    return take(both, source)
