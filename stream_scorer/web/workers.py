"""Work that waits for Redis or computes, on threads beside the one that answers requests.

No more than a few calls wait for a thread: whoever comes then is told to come again, which is
better for them than an answer that comes late, and keeps memory bounded. So is one whose turn has
not come after `WAIT_SECONDS`, as where Redis answers slowly.

A call passes from thread to thread twice, in a process that may consume events meanwhile. An
executor of the standard library makes two futures of each call and takes four locks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, ParamSpec, TypeVar

from stream_scorer.errors import Unavailable

P = ParamSpec("P")
Answer = TypeVar("Answer")

WAIT_SECONDS = 10.0  # less than a server allows an answer to take


class Busy(Unavailable):
    """So many wait already that another one would wait for too long."""


class _Asked(NamedTuple):
    call: Callable[[], Any]
    answer: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    until: float  # of time.monotonic: when it need not begin any more


class Workers:
    """threads: so many calls run at once. most_waiting: so many more may wait for a thread.
    under_way: how many run or wait now."""

    def __init__(self, name: str, threads: int, most_waiting: int) -> None:
        self._most, self.under_way = threads + most_waiting, 0
        self._name, self._count, self._started = name, threads, False
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()

    async def run(self, call: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """What `call` returns or raises. Raises Busy. For one event loop alone."""
        if self.under_way >= self._most:
            raise Busy(f"{self.under_way} requests wait already", "ask again in a moment")
        if not self._started:
            self._start()
        self.under_way += 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._asked.put(
            _Asked(lambda: call(*args, **kwargs), answer, loop, time.monotonic() + WAIT_SECONDS)
        )
        # Where the one who asked has gone, the call still runs, and counts until it is done.
        return await answer

    def close(self) -> None:
        """Begin nothing that waits; what runs goes on."""
        with suppress(Empty):
            while asked := self._asked.get_nowait():
                with suppress(RuntimeError):  # the loop has ended
                    asked.loop.call_soon_threadsafe(asked.answer.cancel)
        for _ in range(self._count):
            self._asked.put(None)

    def _start(self) -> None:
        self._started = True
        for number in range(self._count):
            # Daemons: what waits for a server must not hold up the end of the process.
            threading.Thread(
                target=self._work, name=f"{self._name} {number}", daemon=True
            ).start()  # fmt: skip

    def _work(self) -> None:
        while asked := self._asked.get():
            found, error = None, None
            try:
                if time.monotonic() > asked.until:
                    raise Busy(
                        f"other requests kept this one waiting for {WAIT_SECONDS:.0f} s",
                        "ask again in a moment",
                    )  # fmt: skip
                found = asked.call()
            except BaseException as raised:
                error = raised
            with suppress(RuntimeError):  # the loop has ended
                asked.loop.call_soon_threadsafe(self._done, asked.answer, found, error)
            del asked, found, error  # nothing is held while it waits for the next

    def _done(
        self, answer: asyncio.Future[Answer], found: Answer, error: BaseException | None
    ) -> None:
        self.under_way -= 1
        if answer.done():  # nobody waits for it any more
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)
