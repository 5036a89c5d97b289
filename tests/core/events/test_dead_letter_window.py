"""The stop rule: a share over a window, decided only once the window is full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.core.events.dead_letter_window import DeadLetterParts, DeadLetterWindow
from stream_scorer.errors import TooManyDeadLetters


def dead_letters(count: int, reason: Reason = Reason.UNKNOWN_SCHEMA) -> list[DeadLetter]:
    return [DeadLetter("t", 0, i, -1, reason, "schema id 7", None, None) for i in range(count)]


def numbered(numbers: Sequence[int]) -> list[DeadLetter]:
    return [replace(d, record=n) for d, n in zip(dead_letters(len(numbers)), numbers, strict=True)]


@pytest.mark.parametrize("batch_records", [10, 100, 250, 1000])
def test_a_large_batch_is_judged_like_small_ones(batch_records: int) -> None:
    window = DeadLetterWindow(0.5, 100)
    bad = range(400, 470)

    def all_batches() -> None:
        for first in range(0, 1000, batch_records):
            inside = [n - first for n in bad if first <= n < first + batch_records]
            window.add(batch_records, numbered(inside))

    with pytest.raises(TooManyDeadLetters, match="of the last 100 records"):
        all_batches()


def test_parts_that_another_process_counted_are_judged_alike() -> None:
    parts, window = DeadLetterParts(10), DeadLetterWindow(0.5, 100, live=False)
    parts.add(1000, numbered(range(400, 470)))
    parts.add(1000, [])
    parts.add(1000, [])
    assert len(parts.parts) == 9, "neighbours without a dead letter are one"

    def all_parts() -> None:
        for part in parts.parts:
            window.add_part(part)

    with pytest.raises(TooManyDeadLetters, match="are refused"):
        all_parts()


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
