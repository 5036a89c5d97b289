"""Work that waits for Redis or computes, on threads beside the one that answers requests.

No more than a few calls wait for a thread: whoever comes then is told to come again, which is
better for them than an answer that comes late, and keeps memory bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from stream_scorer.errors import Unavailable

P = ParamSpec("P")
Answer = TypeVar("Answer")


class Busy(Unavailable):
    """So many wait already that another one would wait for too long."""


class Workers:
    """threads: so many calls run at once. most_waiting: so many more may wait for a thread.
    under_way: how many run or wait now."""

    def __init__(self, name: str, threads: int, most_waiting: int) -> None:
        self._most, self.under_way = threads + most_waiting, 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, call: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """What `call` returns or raises. Raises Busy. For one event loop alone."""
        if self.under_way >= self._most:
            raise Busy(f"{self.under_way} requests wait already", "ask again in a moment")
        self.under_way += 1
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))
        # Where the one who asked has gone, the call still runs, and counts until it is done.
        asked.add_done_callback(self._done)
        return await asyncio.shield(asked)

    def _done(self, asked: asyncio.Future[Answer]) -> None:
        self.under_way -= 1
        if not asked.cancelled():
            asked.exception()  # seen, also where nobody waits for it any more

    def close(self) -> None:
        """Begin nothing that waits; what runs goes on."""
        self._threads.shutdown(wait=False, cancel_futures=True)
