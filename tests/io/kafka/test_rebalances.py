"""Rebalances: what is counted of them, and how long they kept events waiting."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from stream_scorer.core.events.batch import NO_TIMESTAMP, RecordBatch
from stream_scorer.io.kafka.rebalances import Rebalances

NOW_MS = 1_000_000
ONE, TWO = ("events", 1), ("events", 2)


class Noted:
    """What rebalances report, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.changes: list[str] = []
        self.silences: list[float] = []
        self.rebalances = Rebalances(lambda: self.now_ms, self.changes.append, self.silences.append)

    def read(self, partition: int, first_offset: int, times_ms: list[int]) -> None:
        n = len(times_ms)
        self.rebalances.read(
            RecordBatch(
                [b"v"] * n, [b"k"] * n, [("events", partition)], np.zeros(n, np.int32),
                np.arange(first_offset, first_offset + n), np.array(times_ms, np.int64),
            )
        )  # fmt: skip


@pytest.fixture
def noted() -> Noted:
    return Noted()


def test_each_kind_is_counted_and_logged(noted: Noted, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        noted.rebalances.assigned([TWO, ONE])
        noted.rebalances.revoked([ONE])
        noted.rebalances.lost([TWO])
        noted.rebalances.assigned([])
        noted.rebalances.evicted([ONE])
    assert noted.changes == ["assigned", "revoked", "lost", "assigned", "lost"]
    assert caplog.messages[0] == "partitions assigned: events[1], events[2]"
    assert caplog.messages[3] == "partitions assigned: nothing"


def test_the_first_event_to_publish_tells_how_long_it_waited_and_no_later_one(noted: Noted) -> None:
    noted.rebalances.begun({ONE: 12})
    noted.now_ms += 500
    # The first two are read again for something else, and were published before.
    noted.read(1, 10, [NOW_MS - 90_000, NOW_MS - 80_000, NOW_MS - 7_000, NOW_MS - 100])
    noted.read(1, 14, [NOW_MS - 50])
    assert noted.silences == [7.5]


def test_what_is_read_again_for_something_else_alone_tells_nothing_yet(noted: Noted) -> None:
    noted.rebalances.begun({ONE: 12})
    noted.read(1, 10, [NOW_MS - 90_000])
    assert noted.silences == []
    noted.read(1, 12, [NOW_MS - 2_000])
    assert noted.silences == [2.0]


def test_an_event_that_came_after_the_partition_was_begun_had_not_to_wait(noted: Noted) -> None:
    noted.rebalances.begun({ONE: 0, TWO: 0})
    noted.now_ms += 60_000
    noted.read(1, 0, [NOW_MS + 59_000])
    noted.read(2, 0, [NO_TIMESTAMP])
    noted.read(1, 1, [NOW_MS - 1_000])
    assert noted.silences == []


def test_partitions_count_alone_and_those_that_went_do_not(noted: Noted) -> None:
    noted.rebalances.begun({ONE: 0, TWO: 5})
    noted.rebalances.gone([ONE])
    noted.read(1, 0, [NOW_MS - 1_000])
    noted.read(2, 5, [NOW_MS - 3_000])
    assert noted.silences == [3.0]
