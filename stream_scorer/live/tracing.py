"""Traces of micro-batches, as the pipeline sees them: which events' traces go on in which records.

What makes spans of them is io/telemetry/traces.py, which is read only where traces are on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from stream_scorer.core.events.batch import Position, TraceHeaders
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.state import topic_hash
from stream_scorer.io.batch_report import BatchReport

log = logging.getLogger(__name__)

MOST_COMPLAINTS = 10  # about traces, that are logged
MOST_TRACED = 32  # events of a micro-batch; each is a span and a link
Traced = Mapping[str, tuple[Position, TraceHeaders]]
OutputHeaders = Mapping[bytes, list[tuple[str, bytes]]]


class BatchTrace(Protocol):
    """One attempt to publish a batch. headers: of output records, by their key."""

    @property
    def headers(self) -> OutputHeaders: ...
    def close(self) -> None: ...
    def fail(self, error: Exception) -> None: ...


class Traces(Protocol):
    """Begins the trace of a batch that is scored. traced: by customer whom it publishes, the event
    whose trace goes on in the customer's record."""

    def open(self, report: BatchReport, traced: Traced) -> BatchTrace: ...


class _NoTrace:
    headers: OutputHeaders = MappingProxyType({})

    def close(self) -> None:
        """Nothing was begun."""

    def fail(self, error: Exception) -> None:
        """Nothing was begun."""


class NoTraces:
    """Where traces are off."""

    def open(self, report: BatchReport, traced: Traced) -> BatchTrace:
        """A trace without spans or headers."""
        return _NoTrace()


class GuardedTraces:
    """Others' traces, whose faults cost spans and never a batch: each kind is logged once."""

    def __init__(self, traces: Traces) -> None:
        self._traces, self._complaints = traces, set[str]()

    def open(self, report: BatchReport, traced: Traced) -> BatchTrace:
        """Theirs, guarded as well; one without spans where they fail."""
        found: list[BatchTrace] = []
        self.try_to(lambda: found.append(self._traces.open(report, traced)))
        return _GuardedTrace(self, found[0]) if found else _NoTrace()

    def try_to(self, work: Callable[[], object]) -> None:
        """Do what may fail."""
        try:
            work()
        except Exception as error:  # whatever is wrong with a span, events must not wait for it
            complaint = f"{type(error).__name__}: {error}"
            if complaint not in self._complaints and len(self._complaints) < MOST_COMPLAINTS:
                self._complaints.add(complaint)
                log.exception("a micro-batch has no trace")


class _GuardedTrace:
    def __init__(self, guard: GuardedTraces, trace: BatchTrace) -> None:
        self._guard, self._trace, self.headers = guard, trace, trace.headers

    def close(self) -> None:
        """As of the trace."""
        self._guard.try_to(self._trace.close)

    def fail(self, error: Exception) -> None:
        """As of the trace."""
        self._guard.try_to(lambda: self._trace.fail(error))


def traced_customers(
    contexts: Mapping[Position, TraceHeaders],
    prepared: PreparedEvents,
    published: Collection[str],
) -> Traced:
    """By customer in `published`, the newest of its events that has a context."""
    stream, wanted = prepared.stream, set(published)
    found = {}
    for position, headers in contexts.items():
        topic, partition, offset = position
        sources = (stream.topic == topic_hash(topic)) & (stream.partition == partition)
        of_event = (stream.offset == offset) & sources[stream.source]
        for row in np.flatnonzero(of_event).tolist():
            customer = prepared.customer_ids[int(stream.customer[row])]
            if customer in wanted:
                found[customer] = position, headers
    return found
