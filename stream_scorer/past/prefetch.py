"""Reading and preparing past events while those before are folded.

One thread reads a batch ahead of the one that is prepared, another prepares a batch ahead of the
one that is taken; the compiled loops of all release the interpreter. Batches come in order, so
nothing depends on timing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import numpy as np

from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.core.features.preparation import Preparation, PreparedEvents

BATCHES_AHEAD = 1  # beside the one that is being made
Item = TypeVar("Item")
NOTHING = RecordBatch(
    [], [], [], np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64)
)


class _Ahead(NamedTuple):
    records: RecordBatch
    events: PreparedEvents


class PastSource:
    """`pipeline.Source` and preparation of past events; `ended` when a poll found no more."""

    def __init__(self, ahead: Iterator[_Ahead], now_ms: int) -> None:
        self._ahead, self._now_ms = ahead, now_ms
        self._newest: _Ahead | None = None
        self.ended = False

    def poll(self) -> RecordBatch:
        """The next batch; an empty one at the end."""
        self._newest = next(self._ahead, None)
        self.ended = self._newest is None
        return NOTHING if self._newest is None else self._newest.records

    def prepare(self, records: RecordBatch, now_ms: int) -> PreparedEvents:
        """As `Preparation.prepare`, of what was polled last; done already, so now_ms is known."""
        assert self._newest is not None
        assert records is self._newest.records
        assert now_ms == self._now_ms
        return self._newest.events

    def owned(self, records: RecordBatch) -> RecordBatch:
        """All of them: nobody else reads here."""
        return records

    def commit(self, next_offsets: dict[TopicPartition, int]) -> None:
        """No group, so no offsets."""


@contextmanager
def past_source(
    records: Iterable[RecordBatch], preparation: Preparation, now_ms: int, *, ahead: bool
) -> Iterator[PastSource]:
    """A source of `records` prepared as of now_ms; by threads of their own where `ahead`.

    What reading raises is raised by `poll`.
    """
    if not ahead:
        yield PastSource(_prepared(records, preparation, now_ms), now_ms)
        return
    with _ahead(records) as read, _ahead(_prepared(read, preparation, now_ms)) as prepared:
        yield PastSource(prepared, now_ms)


def _prepared(
    records: Iterable[RecordBatch], preparation: Preparation, now_ms: int
) -> Iterator[_Ahead]:
    for batch in records:
        yield _Ahead(batch, preparation.prepare(batch, now_ms))


@contextmanager
def _ahead(items: Iterable[Item]) -> Iterator[Iterator[Item]]:
    """The same items, made by a thread that is at most `BATCHES_AHEAD` before who takes them.

    What making them raises comes after those before; at the end the thread is over.
    """
    made: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(BATCHES_AHEAD)
    stop = threading.Event()

    def work() -> None:
        making = iter(items)
        try:
            for item in making:
                if stop.is_set():
                    break
                made.put((item,))
            last: BaseException | None = None
        except BaseException as error:  # whatever it is, it belongs to the reader of the queue
            last = error
        finally:
            if isinstance(making, Generator):
                making.close()
        made.put(last)

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        yield _taken(made)
    finally:
        stop.set()
        while thread.is_alive():  # it may wait for room
            try:
                made.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()


def _taken(made: queue.Queue[tuple[Item] | BaseException | None]) -> Iterator[Item]:
    while (batch := made.get()) is not None:
        if isinstance(batch, BaseException):
            raise batch
        yield batch[0]
