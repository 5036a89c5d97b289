"""Batches that overlap: one is scored while the next is polled and folded; order and guarantees."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.errors import BusUnavailable, StoreRewound, StoreUnavailable
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.live.pipeline import MOST_IN_A_ROW, Pipeline
from stream_scorer.model.engines.native import NativeEngine
from tests.live.pipeline_parts import (
    SPACE,
    Log,
    NotedStore,
    Overtaken,
    batch,
    event,
    pipeline,
    records_of,
)


@pytest.fixture(scope="module")
def worker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def backlog(*batches: RecordBatch) -> Log:
    """All of them can be polled at once."""
    log = Log(*batches)
    log.backlog = True
    return log


def three() -> list[RecordBatch]:
    """Batches of one event each, of ann, bob and ann again."""
    values = encode_events([event("ann"), event("bob"), event("ann", "milk")])
    return [batch([value], offset) for offset, value in enumerate(values)]


def test_a_batch_is_folded_before_the_one_in_front_of_it_is_delivered(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    log = backlog(*three())
    line = pipeline(log, NotedStore(log.story), engine, worker=worker)
    assert line.step().next_offsets == {("events", 0): 1}
    assert log.story == ["save 1", "advance 1", "save 1", "advance 2", "deliver 1", "commit 1"]
    assert not line.idle
    assert line.step().next_offsets == {("events", 0): 2}
    assert log.story[6:] == ["save 1", "advance 3", "deliver 1", "commit 2"]
    assert line.step().next_offsets == {("events", 0): 3}
    assert log.story[10:] == ["deliver 1", "commit 3"]
    assert line.idle
    assert log.published.customer_ids == ["ann", "bob", "ann"]
    assert log.published.offset.tolist() == [0, 1, 2]


def test_without_a_complete_batch_nothing_waits_for_another(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    log = Log(*three())
    line = pipeline(log, NotedStore(log.story), engine, worker=worker)
    line.step()
    assert log.story == ["save 1", "advance 1", "deliver 1", "commit 1"]
    assert line.idle


def test_overlapping_batches_publish_the_same_bits(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    draw = np.random.default_rng(5)
    values = encode_events(
        [event(f"c{draw.integers(9)}", at=int(draw.integers(10**9))) for _ in range(300)]
    )
    batches = [batch(values[i : i + 20], i) for i in range(0, 300, 20)]
    seen = []
    for log, pool in ((Log(*batches), None), (backlog(*batches), worker)):
        store = MemoryStore(SPACE.fingerprint)
        line = pipeline(log, store, engine, worker=pool)
        reports = [line.step() for _ in batches]
        assert [r.records for r in reports] == [20] * 15
        seen.append((log.values, log.story, records_of(store), sum(r.applied for r in reports)))
    assert seen[0] == seen[1]


def test_now_and_then_a_batch_ends_with_none_behind_it(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    """Or a model switch and a refresh would wait for the end of a backlog."""
    values = encode_events([event("ann", at=i) for i in range(1000, 1100)])
    log = backlog(*[batch([value], offset) for offset, value in enumerate(values)])
    line = pipeline(log, MemoryStore(SPACE.fingerprint), engine, worker=worker)
    idle = []
    for _ in values:
        line.step()
        idle.append(line.idle)
    assert [n for n, found in enumerate(idle) if found][:2] == [7, 15] == [
        MOST_IN_A_ROW - 1, 2 * MOST_IN_A_ROW - 1,
    ]  # fmt: skip


def two_partitions(offset: int) -> RecordBatch:
    values = encode_events([event("ann"), event("bob")])
    return RecordBatch(
        values, [b"ann", b"bob"], [("events", 0), ("events", 1)], np.array([0, 1], np.int32),
        np.full(2, offset), np.full(2, 0),
    )  # fmt: skip


def test_a_partition_that_goes_while_the_next_batch_is_polled_is_neither_delivered_nor_committed(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    first = two_partitions(0)
    log = backlog(first, batch([first.values[0]], 1))
    committed: list[dict[tuple[str, int], int]] = []
    log.commit = committed.append  # type: ignore[method-assign, assignment]
    line = pipeline(log, MemoryStore(SPACE.fingerprint), engine, worker=worker)
    polled: list[None] = []

    def rebalance() -> None:
        polled.append(None)
        if len(polled) == 2:
            del log.claimed[1]

    log.polled = rebalance
    assert line.step().records == 0
    assert (log.values, committed) == ([], [])
    # What is left of both is done again, in their order.
    assert [line.step().records for _ in range(2)] == [1, 1]
    assert committed == [{("events", 0): 1}, {("events", 0): 2}]
    assert log.published.customer_ids == ["ann"]  # its record is ahead until the second batch


def test_a_partition_that_went_and_came_back_is_not_taken_for_the_one_before(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    """Others may have read it meanwhile, and its next offset may be the same by chance."""
    log = backlog(*three())
    line = pipeline(log, MemoryStore(SPACE.fingerprint), engine, worker=worker)
    polled: list[None] = []

    def rebalance() -> None:
        polled.append(None)
        if len(polled) == 2:
            log.claimed[0] += 1

    log.polled = rebalance
    assert line.step().records == 0
    assert log.story == []
    # The second batch was polled after the partition came back.
    assert line.step().next_offsets == {("events", 0): 2}


def test_refused_writes_of_a_batch_that_is_given_up_are_reported_with_the_next(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    """As of a member that was suspended: another has written, and owns the partition."""
    batches, theirs = three(), MemoryStore(SPACE.fingerprint)
    other = pipeline(Log(*batches), theirs, engine)
    for _ in batches:
        other.step()
    log = backlog(*batches)
    line = pipeline(log, Overtaken(theirs, 1), engine, worker=worker)
    polled: list[None] = []

    def rebalance() -> None:
        polled.append(None)
        log.claimed[0] = len(polled) - 1

    log.polled = rebalance
    assert line.step().records == 0
    log.polled = lambda: None
    assert line.step().refused_writes == 1


class Failing(MemoryStore):
    """Raises the next of `failures` from `save`, None for none."""

    def __init__(self, *failures: Exception | None) -> None:
        super().__init__(SPACE.fingerprint)
        self.failures = list(failures)

    def save(self, states: Any, rows: Any, made_from: Any = None) -> Any:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return super().save(states, rows, made_from)


@pytest.mark.parametrize(
    "failure", [StoreUnavailable("no server"), StoreRewound({("events", 0): 0})]
)
def test_what_the_next_batch_fails_with_does_not_hold_back_the_one_in_front(
    engine: NativeEngine, worker: ThreadPoolExecutor, failure: Exception
) -> None:
    log = backlog(*three())
    line = pipeline(log, Failing(None, failure), engine, worker=worker)
    assert line.step().next_offsets == {("events", 0): 1}
    assert log.story == ["deliver 1", "commit 1"]
    assert not line.idle
    with pytest.raises(type(failure)):
        line.step()
    report = line.step()
    assert (report.next_offsets, report.applied, report.duplicates) == ({("events", 0): 2}, 1, 0)


def test_batches_that_kafka_did_not_take_are_delivered_in_their_order(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    log, store = backlog(*three()), MemoryStore(SPACE.fingerprint)
    log.failures = [BusUnavailable("no broker")]
    line = pipeline(log, store, engine, worker=worker)
    with pytest.raises(BusUnavailable):
        line.step()
    assert log.story == []
    reports = [line.step() for _ in range(3)]
    assert log.story == ["deliver 1", "commit 1", "deliver 1", "commit 2", "deliver 1", "commit 3"]
    # Both were applied by the first attempt.
    assert [(r.applied, r.duplicates) for r in reports] == [(1, 0)] * 3
    assert log.published.customer_ids == ["ann", "bob", "ann"]


def test_a_stop_publishes_what_is_folded_and_polls_no_more(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    log = backlog(*three())
    line = pipeline(log, MemoryStore(SPACE.fingerprint), engine, worker=worker)
    line.step()
    assert line.finish().next_offsets == {("events", 0): 2}
    assert line.finish().records == 0
    assert log.story == ["deliver 1", "commit 1", "deliver 1", "commit 2"]
    assert line.idle


def test_a_batch_that_failed_is_not_finished_by_a_stop(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    log = backlog(*three())
    line = pipeline(log, Failing(StoreUnavailable("no server")), engine, worker=worker)
    with pytest.raises(StoreUnavailable):
        line.step()
    assert line.finish().records == 0
    assert log.story == []


def test_what_is_dropped_is_neither_delivered_nor_scored_any_more(
    engine: NativeEngine, worker: ThreadPoolExecutor
) -> None:
    log = backlog(*three())
    line: Pipeline = pipeline(log, MemoryStore(SPACE.fingerprint), engine, worker=worker)
    line.step()
    line.drop()
    assert line.idle
    assert worker._work_queue.empty()
    line.step()
    assert log.story == ["deliver 1", "commit 1", "deliver 1", "commit 3"]
