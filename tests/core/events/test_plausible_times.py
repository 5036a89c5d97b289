"""The plausible window of event times: one rule for live records, replays and files."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter, EventBatch, RecordBatch
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.time_units import unit_question
from stream_scorer.core.events.validation import EventRules, validate

EARLIEST_MS = 631_152_000_000  # 1990
NOW_MS = 1_795_000_000_000  # November 2026
GOOD_MS = 1_767_225_600_000  # 2026-01-01
SKEW_MS = 300_000
RULES = EventRules(frozenset({"view"}), None, False, SKEW_MS, EARLIEST_MS)


def judged(
    at_ms: int, stamp_ms: int = NO_TIMESTAMP, now_ms: int = NOW_MS
) -> tuple[EventBatch, list[DeadLetter]]:
    row = {"event_id": "e", "customer_id": "c", "event_type": "view", "occurred_at": at_ms}
    records = RecordBatch(
        encode_events([row]), [None], [("events", 0)], np.zeros(1, np.int32),
        np.zeros(1, np.int64), np.full(1, stamp_ms, np.int64),
    )  # fmt: skip
    events, _ = Decoder(lambda _: None, max_record_bytes=1000).decode(records)
    return validate(events, records, RULES, now_ms)


@pytest.mark.parametrize(
    ("at_ms", "question"),
    [
        (GOOD_MS // 1000, "times 1,000 it would be 2026-01-01T00:00:00Z: seconds?"),
        (GOOD_MS * 1000, "divided by 1,000 it would be 2026-01-01T00:00:00Z: microseconds?"),
        (GOOD_MS * 10**6, "divided by 1,000,000 it would be 2026-01-01T00:00:00Z: nanoseconds?"),
        (GOOD_MS // 86_400_000, "times 86,400,000 it would be 2026-01-01T00:00:00Z: days?"),
    ],
)
def test_a_time_in_another_unit_is_refused_with_the_unit_that_it_seems_to_be_in(
    at_ms: int, question: str
) -> None:
    events, (dead_letter,) = judged(at_ms)
    assert len(events) == 0
    assert dead_letter.detail.endswith(question), dead_letter.detail


@pytest.mark.parametrize(
    ("at_ms", "reason"),
    [
        (-1, "time_negative"),
        (0, "time_too_early"),
        (EARLIEST_MS - 1, "time_too_early"),
        (EARLIEST_MS, None),
        (NOW_MS + SKEW_MS, None),
        (NOW_MS + SKEW_MS + 1, "time_in_future"),
        (253_402_214_400_000, "time_in_future"),
        (2**63 - 1, "time_in_future"),
        (-(2**63), "time_negative"),
    ],
)
def test_a_time_outside_the_window_is_refused_at_the_millisecond(
    at_ms: int, reason: str | None
) -> None:
    events, dead_letters = judged(at_ms)
    assert [d.reason.value for d in dead_letters] == ([] if reason is None else [reason])
    assert len(events) == (reason is None)
    assert all(f"{at_ms} ms" in d.detail for d in dead_letters)


def test_a_record_of_kafka_is_judged_by_its_own_time() -> None:
    assert judged(GOOD_MS + SKEW_MS, GOOD_MS)[1] == []
    (dead_letter,) = judged(GOOD_MS + SKEW_MS + 1, GOOD_MS)[1]
    assert "after 2026-01-01T00:05:00Z" in dead_letter.detail


@pytest.mark.parametrize("stamp_ms", [0, GOOD_MS // 1000, GOOD_MS * 1000, 253_402_214_400_000])
def test_a_record_time_that_is_implausible_itself_neither_refuses_nor_admits(stamp_ms: int) -> None:
    assert judged(GOOD_MS, stamp_ms)[1] == []
    assert judged(253_402_214_400_000, stamp_ms)[1] != []


def test_a_later_replay_decides_as_the_live_consumer_did() -> None:
    for at_ms in (GOOD_MS, GOOD_MS + SKEW_MS, GOOD_MS + SKEW_MS + 1):
        live = judged(at_ms, GOOD_MS, now_ms=GOOD_MS + 20)
        later = judged(at_ms, GOOD_MS, now_ms=NOW_MS)
        assert live[1] == later[1]


def test_no_unit_is_proposed_that_gives_no_plausible_time() -> None:
    assert unit_question(253_402_214_400_000, EARLIEST_MS, NOW_MS) == ""
    assert moment_text(253_402_214_400_000) == "9999-12-31T00:00:00Z"
