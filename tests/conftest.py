"""Fixtures for all rooms: event batches from plain rows; and pytest's hooks of two modules."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tier_counts
import without_mxnet
from avro_bytes import long, text

from stream_scorer.core.events.batch import EventBatch, StringColumn
from stream_scorer.log_events import LOG_EVENTS

Row = dict[str, Any]

# Before MXNet is imported: by default its threads spin while they wait. On a machine that ran other
# tests at the same time (load 20 on two cores) the tests of training took 26 s with this, and more
# than 250 s without it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

pytest_addoption = tier_counts.add_option

# Some tests end a process that they start by SIGHUP. A runner under nohup has it ignored, and
# processes would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """As plugins: a conftest's hooks are not called where a conftest below can't be imported."""
    for plugin in (tier_counts, without_mxnet):
        config.pluginmanager.register(plugin)


class _Mistyped(logging.Handler):
    """Notes fields of log events that have another type than is declared."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        for name, value in getattr(record, "fields", {}).items():
            event = getattr(record, "event", "")
            if type(value) is not LOG_EVENTS[event].fields[name]:
                self.found.add(f"{name} of {event} is {value!r}")


@pytest.fixture(scope="session", autouse=True)
def _log_events_have_the_declared_types() -> Iterator[None]:
    """Of whatever the tests of this session make the package log."""
    handler, logger = _Mistyped(), logging.getLogger("stream_scorer")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert not handler.found


def _map_bytes(attributes: dict[str, str]) -> bytes:
    if not attributes:
        return b"\0"
    texts = [text(t.encode()) for pair in attributes.items() for t in pair]
    return long(len(attributes)) + b"".join(texts) + b"\0"


def event_batch(rows: Sequence[Row], topic: str = "events") -> EventBatch:
    """Columns of rows like {"customer": "a", "type": "view", "at": 5, "offset": 0, ...}."""
    spans = [_map_bytes(r.get("attributes", {})) for r in rows]
    lengths = np.array([len(s) for s in spans], np.int32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    partitions = sorted({int(r.get("partition", 0)) for r in rows})
    index = {p: i for i, p in enumerate(partitions)}
    n = len(rows)
    return EventBatch(
        event_id=StringColumn.of([r.get("id", f"e{i}") for i, r in enumerate(rows)]),
        customer_id=StringColumn.of([r["customer"] for r in rows]),
        event_type=StringColumn.of([r.get("type", "purchase") for r in rows]),
        category_id=StringColumn.of([r.get("category") for r in rows]),
        product_id=StringColumn.of([r.get("product") for r in rows]),
        value=np.array([r.get("value") or 0.0 for r in rows], np.float64),
        has_value=np.array([r.get("value") is not None for r in rows], np.bool_),
        occurred_at_ms=np.array([r["at"] for r in rows], np.int64),
        attributes=StringColumn(np.frombuffer(b"".join(spans), np.uint8), starts, lengths),
        partitions=[(topic, p) for p in partitions],
        partition_index=np.array([index[int(r.get("partition", 0))] for r in rows], np.int32),
        offsets=np.array([r.get("offset", i) for i, r in enumerate(rows)], np.int64),
        record_index=np.arange(n, dtype=np.int64),
    )


@pytest.fixture(scope="session")
def make_events() -> Callable[..., EventBatch]:
    """The builder `event_batch`, for any room."""
    return event_batch
