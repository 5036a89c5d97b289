"""Loop: what it reports and finishes at its end."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.core.events.dead_letter_window import DeadLetterWindow
from stream_scorer.errors import Halt
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.loop import Loop
from stream_scorer.live.stop import Stop


def test_lost_order_is_logged_though_the_consumer_stops_before_its_next_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop, reports = Stop(), [BatchReport(records=1), BatchReport(records=3, foreign_keys=2)]
    reports[-1].split_customers = 1

    def step() -> BatchReport:
        stop.asked = len(reports) == 1
        return reports.pop(0)

    consumer: Any = SimpleNamespace(
        pipeline=SimpleNamespace(step=step, finish=BatchReport, idle=True),
        source=SimpleNamespace(
            lag=dict, lag_seconds=lambda *_: {}, handed_out=dict, assignment=lambda: (1, 0)
        ),
        evictions=SimpleNamespace(evicted=int),
        space=SimpleNamespace(vocabularies={}),
        verify=lambda: None,
    )
    with caplog.at_level(logging.WARNING):
        Loop(consumer, DeadLetterWindow(1.0, 100), Metrics(), stop).run()
    (keys, split) = caplog.messages
    assert keys.startswith("2 events had another key than the customer id")
    assert split.startswith("1 times a customer had events in two partitions")


def test_what_is_folded_already_is_finished_before_too_many_dead_letters_stop_the_consumer() -> (
    None
):
    dead = DeadLetter("events", 0, 0, 0, Reason.UNDECODABLE, "", None, None, 0)
    bad = BatchReport(records=1, dead_letters=[dead])
    finished = [BatchReport(records=2)]
    consumer: Any = SimpleNamespace(
        pipeline=SimpleNamespace(step=lambda: bad, finish=finished.pop, idle=False),
        source=SimpleNamespace(
            lag=dict, lag_seconds=lambda *_: {}, handed_out=dict, assignment=lambda: (1, 0)
        ),
        evictions=SimpleNamespace(evicted=int),
        space=SimpleNamespace(vocabularies={}),
        verify=lambda: None,
    )
    loop = Loop(consumer, DeadLetterWindow(0.1, 1), Metrics(), Stop())
    with pytest.raises(Halt, match="dead letters"):
        loop.run()
    assert (loop.totals.records, finished) == (3, [])
