"""When the consumer is asked to stop, and what happens where it can't.

SIGTERM and SIGINT set a flag that the loop reads between micro-batches. So does SIGHUP, except
where it asks to read the config again, as for `run`: then it is only noted, also during the start.
A terminal that hangs up sends SIGHUP as well: a process that had one and has lost it is asked to
stop, or it would run on with nobody knowing. Until the consumer
has been built and warmed up no event has been read, so there is nothing to finish: there a signal
abandons whatever is being done, by an exception. A call of a client
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stream_scorer.log_events import event

log = logging.getLogger(__name__)

STOP_SECONDS = 8.0  # leaves two of the ten seconds after which container engines begin to kill
AGAIN_SECONDS = 1.0  # after a second signal
# A terminal that hangs up is gone before Linux sends the signal. But a shell that ends sends it to
# its jobs while the terminal is still there: zsh by default, bash with `huponexit`.
HANGUP_SECONDS = 1.0
HANGUP_SLICE_SECONDS = 0.02
FOR_EVER = float("inf")


class StoppedBeforeStart(BaseException):
    """A signal asked to stop before any event was read; nobody but `Stop.on_signals` catches it."""


@dataclass
class Stop:
    """Whether the consumer was asked to stop, or to read the config again.

    hangup_rereads: SIGHUP asks to read the config again; else to stop.
    """

    asked: bool = False
    hangup_rereads: bool = False
    reread_asked: bool = field(default=False, init=False)
    _had_terminal: bool = field(default=False, init=False)
    _starting: bool = field(default=False, init=False)
    _give_up: Callable[[], None] = field(default=lambda: None, init=False)
    _handler: Callable[[int, object], None] | None = field(default=None, init=False)
    _numbers: frozenset[signal.Signals] = field(default=frozenset(), init=False)

    def started(self, give_up: Callable[[], None] = lambda: None) -> None:
        """From now on a signal lets the micro-batch be finished. Inside `on_signals` only.

        give_up: called, on another thread, before the process is ended because it did not stop.
        Raises StoppedBeforeStart where a signal came before.
        """
        # A signal's exception is lost where it is raised inside a finalizer.
        if self._starting and self.asked:
            raise StoppedBeforeStart
        self._starting, self._give_up = False, give_up
        if self._handler is not None:
            # Again, since MXNet may have set handlers of its own meanwhile.
            for number in self._numbers:
                signal.signal(number, self._handler)

    @contextmanager
    def on_signals(
        self, give_up: Callable[[], None] = lambda: None, *, starting: bool = False
    ) -> Iterator[None]:
        """Inside this context SIGTERM, SIGINT and SIGHUP ask to stop; a second ends the process.
        With `hangup_rereads` SIGHUP asks to read the config again.

        The process ends as well where this context is not left within `STOP_SECONDS` of the first
        one; `give_up` is called before that, on another thread. starting: until `started` a signal
        leaves the context at once, without an error. Inside another such context nothing is
        changed: that one takes the signals.
        """
        if self._handler is not None:
            yield
            return
        before = {number: signal.getsignal(number) for number in _numbers()}
        self._starting, self._give_up = starting, give_up
        self._had_terminal = _has_terminal()

        def ask(number: int, _frame: object) -> None:
            name = signal.Signals(number).name
            if number == signal.SIGHUP and self.hangup_rereads:
                if not self._had_terminal or _has_terminal(HANGUP_SECONDS):
                    self.reread_asked = True
                elif not self.asked:
                    # All that a stop needs, its time limit too, follows from this.
                    os.kill(os.getpid(), signal.SIGTERM)
                return
            self.asked = True
            # A second signal ends the process at once: whoever sends it does not want to wait.
            signal.signal(number, before[signal.Signals(number)])
            if self._starting:
                # A warning, since it may come before the settings say what is logged.
                log.warning("%s: stopped before the start was complete; no event was read", name)
                raise StoppedBeforeStart
            log.info("%s: finishing this micro-batch", name, extra=event("stop_asked", signal=name))

        self._handler, self._numbers = ask, frozenset(before)
        near, far = socket.socketpair()
        near.setblocking(False)  # as `set_wakeup_fd` asks
        watch = threading.Thread(
            target=self._watch, args=(far, self._stopping(before)), name="stop", daemon=True
        )
        watch.start()
        wakeup = signal.set_wakeup_fd(near.fileno(), warn_on_full_buffer=False)
        for number in before:
            signal.signal(number, ask)
        try:
            yield
        except StoppedBeforeStart:
            pass
        finally:
            self._handler = None
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            near.close()
            watch.join()
            far.close()

    def _stopping(self, numbers: Iterable[signal.Signals]) -> set[signal.Signals]:
        """The signals that ask to stop."""
        return {n for n in numbers if n != signal.SIGHUP or not self.hangup_rereads}

    def _watch(self, signals: socket.socket, numbers: set[signal.Signals]) -> None:
        """Ends the process where a stop takes too long; returns when `signals` is closed."""
        until, status = FOR_EVER, 0
        while True:
            wait = None if until == FOR_EVER else max(until - time.monotonic(), 0.0)
            if not select.select([signals], [], [], wait)[0]:
                left = (
                    "no event was read"
                    if self._starting
                    else "the last micro-batch is left to the next owner, who reads it again"
                )
                log.warning(
                    "not stopped in time, still in %s: %s", _position(), left,
                    extra=event("stop_timed_out"),
                )  # fmt: skip
                self._give_up()
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


def _has_terminal(after_seconds: float = 0.0) -> bool:
    """Whether standard input is a terminal, and is one still after so long."""
    until = time.monotonic() + after_seconds
    while os.isatty(0):
        if time.monotonic() >= until:
            return True
        time.sleep(HANGUP_SLICE_SECONDS)
    return False


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
