"""The stop rule: a share over a window, decided only once the window is full."""

from __future__ import annotations

import pytest

from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.core.events.dead_letter_window import DeadLetterWindow
from stream_scorer.errors import TooManyDeadLetters


def dead_letters(count: int, reason: Reason = Reason.UNKNOWN_SCHEMA) -> list[DeadLetter]:
    return [DeadLetter("t", 0, i, -1, reason, "schema id 7", None, None) for i in range(count)]


def test_nothing_is_decided_before_the_window_is_full() -> None:
    window = DeadLetterWindow(0.5, 100)
    window.add(99, dead_letters(99))


def test_share_above_the_limit_stops_and_says_why() -> None:
    window = DeadLetterWindow(0.5, 100)
    window.add(60, dead_letters(40))
    with pytest.raises(TooManyDeadLetters, match=r"60 of the last 100 .* unknown_schema \(schema"):
        window.add(40, dead_letters(20))


def test_share_at_the_limit_goes_on() -> None:
    window = DeadLetterWindow(0.5, 100)
    window.add(100, dead_letters(50))


def test_old_batches_leave_the_window() -> None:
    window = DeadLetterWindow(0.5, 100)
    window.add(100, dead_letters(50))
    for _ in range(10):
        window.add(50, [])
    window.add(100, dead_letters(50, Reason.UNDECODABLE))


def test_most_frequent_reason_is_named_with_its_detail() -> None:
    window = DeadLetterWindow(0.1, 10)
    with pytest.raises(TooManyDeadLetters, match=r"7 of them undecodable"):
        window.add(10, dead_letters(2) + dead_letters(7, Reason.UNDECODABLE))
