"""When the consumer is asked to stop, and what happens where it can't.

SIGTERM, SIGINT and SIGHUP set a flag that the loop reads between micro-batches. A call of a client
may not come back for a minute while Kafka or Redis is frozen, and until then Python runs no signal
handler: the signal's number is also written to a socket, which a thread of its own waits at. When
the time for a stop is over, this thread ends the process. Nothing is lost by that: what was not
committed is read again by the next owner, as after a crash.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)

STOP_SECONDS = 8.0  # leaves two of the ten seconds after which container engines begin to kill
AGAIN_SECONDS = 1.0  # after a second signal
FOR_EVER = float("inf")


@dataclass
class Stop:
    """Whether the consumer was asked to stop."""

    asked: bool = False

    @contextmanager
    def on_signals(self, give_up: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Inside this context SIGTERM, SIGINT and SIGHUP ask to stop; a second ends the process.

        The process ends as well where this context is not left within `STOP_SECONDS` of the first
        one; `give_up` is called before that, on another thread.
        """
        before = {number: signal.getsignal(number) for number in _numbers()}

        def ask(number: int, _frame: object) -> None:
            log.info("%s: finishing this micro-batch", signal.Signals(number).name)
            self.asked = True
            # A second signal ends the process at once: whoever sends it does not want to wait.
            signal.signal(number, before[signal.Signals(number)])

        near, far = socket.socketpair()
        near.setblocking(False)  # as `set_wakeup_fd` asks
        watch = threading.Thread(
            target=self._watch, args=(far, set(before), give_up), name="stop", daemon=True
        )
        watch.start()
        wakeup = signal.set_wakeup_fd(near.fileno(), warn_on_full_buffer=False)
        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            near.close()
            watch.join()
            far.close()

    def _watch(
        self, signals: socket.socket, numbers: set[signal.Signals], give_up: Callable[[], None]
    ) -> None:
        """Ends the process where a stop takes too long; returns when `signals` is closed."""
        until, status = FOR_EVER, 0
        while True:
            wait = None if until == FOR_EVER else max(until - time.monotonic(), 0.0)
            if not select.select([signals], [], [], wait)[0]:
                log.warning(
                    "not stopped in time, still in %s: the last micro-batch is left to the next "
                    "owner, who reads it again",
                    _position(),
                )
                give_up()
                os._exit(status)
            received = signals.recv(64)
            if not received:
                return
            for number in received:
                if number not in numbers:
                    continue
                if until == FOR_EVER:
                    self.asked, until = True, time.monotonic() + STOP_SECONDS
                else:
                    until, status = min(until, time.monotonic() + AGAIN_SECONDS), 128 + number


def _numbers() -> list[signal.Signals]:
    numbers = [signal.SIGTERM, signal.SIGINT]
    # `nohup` ignores it, so that the process outlives its terminal.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def _position() -> str:
    """Where the main thread is: the innermost function of this package."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    package = __name__.partition(".")[0]
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] == package and frame.f_code.co_name.isidentifier():
            return f"{module}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "a call of a client"
