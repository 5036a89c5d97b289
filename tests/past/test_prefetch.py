"""Reading ahead: the same items in the same order, errors where they belong, and an early end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stream_scorer.past.prefetch import read_ahead


def numbers(count: int, broken_at: int | None = None) -> Iterator[int]:
    for i in range(count):
        if i == broken_at:
            raise OSError("cut short")
        yield i


@pytest.mark.parametrize("most_ahead", [1, 2, 5])
def test_items_come_in_order(most_ahead: int) -> None:
    with read_ahead(numbers(30), most_ahead) as items:
        assert list(items) == list(range(30))


def test_what_making_raises_comes_after_what_was_made_before() -> None:
    with read_ahead(numbers(9, broken_at=5)) as items:
        assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(OSError, match="cut short"):
            next(items)


@pytest.mark.parametrize("most_ahead", [1, 3])
def test_no_more_items_are_made_ahead_than_allowed(most_ahead: int) -> None:
    started = threading.Semaphore(0)
    making = 0

    def counted() -> Iterator[int]:
        nonlocal making
        for i in range(20):
            making += 1
            started.release()
            yield i

    with read_ahead(counted(), most_ahead) as items:
        for taken in range(1, 10):
            next(items)
            started.acquire()
            assert making <= taken + most_ahead


def test_an_early_end_stops_the_thread_and_closes_what_it_reads() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield from numbers(3)
        finally:
            closed.set()

    threads = threading.active_count()
    with read_ahead(endless()) as items:
        next(items)
    assert closed.is_set()
    assert threading.active_count() == threads
