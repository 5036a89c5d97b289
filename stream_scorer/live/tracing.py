"""Traces of micro-batches, as the pipeline sees them: which events' traces go on in which records.

What makes spans of them is io/telemetry/traces.py, which is read only where traces are on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from stream_scorer.core.events.batch import Position, TraceHeaders
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.state import topic_hash
from stream_scorer.io.batch_report import BatchReport

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
