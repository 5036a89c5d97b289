"""Traces through the pipeline: which events' contexts reach which output records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.errors import BusUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.model.engines.native import NativeEngine
from tests.live.pipeline_parts import SPACE, Log, batch, event, pipeline

PARENTS = [{"traceparent": f"00-{n:032x}-{n:016x}-01"} for n in range(1, 9)]


class NotedTrace:
    """One attempt; each header names the event that it goes on from."""

    def __init__(self, traces: NotedTraces, traced: Any) -> None:
        self._traces = traces
        self.headers = {
            customer.encode(): [("traceparent", str(position[2]).encode())]
            for customer, (position, _) in traced.items()
        }

    def close(self) -> None:
        self._traces.story.append("closed")

    def fail(self, error: Exception) -> None:
        self._traces.story.append(f"failed: {error}")


class NotedTraces:
    def __init__(self) -> None:
        self.story: list[str] = []
        self.stages: list[str] = []

    def open(self, report: BatchReport, traced: Any) -> NotedTrace:
        self.story.append(f"opened with {len(traced)}")
        self.stages = [name for name, _, _ in report.intervals]
        return NotedTrace(self, traced)


def traced_batch(customers: list[str], rows: dict[int, int], first: int = 10) -> RecordBatch:
    """Events of customers from offset `first` on; rows: by row the context that it has."""
    records = batch(encode_events([event(customer) for customer in customers]), first)
    contexts = {("events", 0, first + row): PARENTS[n] for row, n in rows.items()}
    return replace(records, trace_contexts=contexts)


def test_a_record_goes_on_with_the_newest_traced_event_of_its_customer(
    engine: NativeEngine,
) -> None:
    traces = NotedTraces()
    log = Log(traced_batch(["ann", "bob", "ann", "cid", "ann"], {0: 1, 2: 2, 3: 3}))
    pipeline(log, MemoryStore(SPACE.fingerprint), engine, traces=traces).step()
    assert log.headers == {b"ann": [("traceparent", b"12")], b"cid": [("traceparent", b"13")]}
    assert traces.story == ["opened with 2", "closed"]
    assert traces.stages == [
        "poll", "decode", "load", "apply", "save", "save", "csr", "score", "encode"
    ]  # fmt: skip


def test_an_event_that_is_refused_or_published_already_is_not_traced(engine: NativeEngine) -> None:
    traces = NotedTraces()
    records = traced_batch(["ann", "bob", "cid"], {0: 1, 1: 2, 2: 3})
    records.values[1] = b"no event"  # type: ignore[index]
    log = Log(records)
    log.offsets = {("events", 0): 11}
    pipeline(log, MemoryStore(SPACE.fingerprint), engine, traces=traces).step()
    assert log.headers == {b"cid": [("traceparent", b"12")]}


def test_an_attempt_that_fails_is_told_and_the_next_one_is_another_trace(
    engine: NativeEngine,
) -> None:
    traces = NotedTraces()
    log = Log(traced_batch(["ann"], {0: 1}))
    log.failures = [BusUnavailable("away")]
    steps = pipeline(log, MemoryStore(SPACE.fingerprint), engine, traces=traces)
    with pytest.raises(BusUnavailable):
        steps.step()
    steps.step()
    assert traces.story == ["opened with 1", "failed: away", "opened with 1", "closed"]
    assert log.headers == {b"ann": [("traceparent", b"10")]}


@pytest.mark.parametrize("broken", ["open", "close", "fail"])
def test_a_fault_of_traces_costs_no_batch_and_is_logged_once(
    engine: NativeEngine, broken: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fault(*_: object) -> None:
        raise ValueError("a span can't be made")

    monkeypatch.setattr(NotedTraces if broken == "open" else NotedTrace, broken, fault)
    log = Log(traced_batch(["ann"], {0: 1}))
    log.failures = [BusUnavailable("away")]
    steps = pipeline(log, MemoryStore(SPACE.fingerprint), engine, traces=NotedTraces())
    with pytest.raises(BusUnavailable):
        steps.step()
    steps.step()
    assert len(log.values) == 1
    assert steps.idle
    assert caplog.text.count("a micro-batch has no trace") == 1


def test_without_traces_no_record_has_a_header(engine: NativeEngine) -> None:
    log = Log(traced_batch(["ann"], {0: 1}))
    pipeline(log, MemoryStore(SPACE.fingerprint), engine).step()
    assert (log.headers, len(log.values)) == ({}, 1)
