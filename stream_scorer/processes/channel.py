"""The channel between a supervisor and one member: a pair of connected sockets, one at each end.

The supervisor asks how the member is, at most one question at a time, and the member answers with
JSON: whether it is alive and ready, and its metrics. Requests to stop, and to read the config
again, come the same way rather than as signals: where systemd stops a service it signals every
process of it, and a second signal would end a member in the middle of its micro-batch. A member
whose channel is closed has lost its supervisor, however that ended, and stops as well.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

from stream_scorer.errors import InputError
from stream_scorer.live.stop import Stop
from stream_scorer.runtime import share_cores

Verdict = tuple[bool, str]

QUESTION, STOP, REREAD = b"how are you", b"stop", b"read the config again"
MAX_REQUEST_BYTES = 64
MAX_ANSWER_BYTES = 16 << 20  # a member's metrics are a hundred kilobytes
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Health(Protocol):
    """Seconds are of a clock that only grows; each answer has its reason."""

    def alive(self, now: float) -> Verdict: ...
    def ready(self, now: float) -> Verdict: ...


@dataclass(frozen=True)
class Answer:
    """How a member is; metrics: as OpenMetrics text, "" while it starts."""

    alive: Verdict
    ready: Verdict
    metrics: str


STARTING = Answer((True, "starting"), (False, "starting"), "")


class MemberEnd:
    """The member's end: a thread that answers until the supervisor is gone.

    number: of this member, from 1 on; processes: how many members the supervisor keeps.
    """

    def __init__(self, descriptor: int, number: int, processes: int, stop: Stop) -> None:
        """descriptor: of the inherited socket. Raises OSError where it is none."""
        os.set_inheritable(descriptor, False)  # not for processes that this one starts; checks it
        self.number, self.processes = number, processes
        self._connection, self._stop = Connection(descriptor), stop
        self._answer: Callable[[], Answer] = lambda: STARTING
        threading.Thread(target=self._serve, name="supervisor", daemon=True).start()

    def show(
        self,
        health: Health,
        exposition: Callable[[str, Sequence[str]], tuple[str, bytes]],
        clock: Callable[[], float],
    ) -> None:
        """From now on answers come from these. clock: in seconds, as `health` takes it."""

        def answer() -> Answer:
            now = clock()
            metrics = exposition(OPENMETRICS, ())[1].decode()
            return Answer(health.alive(now), health.ready(now), metrics)

        self._answer = answer

    def _serve(self) -> None:
        try:
            while True:
                request = self._connection.recv_bytes(MAX_REQUEST_BYTES)
                if request == QUESTION:
                    answer = self._answer()
                    found = {"alive": answer.alive, "ready": answer.ready}
                    told = json.dumps({**found, "metrics": answer.metrics})
                    self._connection.send_bytes(told.encode())
                elif request == REREAD:
                    os.kill(os.getpid(), signal.SIGHUP)
                else:
                    self._ask_to_stop()
        except (EOFError, OSError):
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        if not self._stop.asked:
            os.kill(os.getpid(), signal.SIGTERM)


class SupervisorEnd:
    """The supervisor's end: nothing here waits for the member.

    `answer` is the newest one, and `answered` the moment at which it came, in seconds; before the
    first one those of the start.
    """

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self._is_asked = False
        self.answer, self.answered = STARTING, now

    def ask(self) -> None:
        """Ask how the member is, unless a question is still open."""
        if not self._is_asked:
            self._is_asked = self._send(QUESTION)

    def read(self, now: float) -> None:
        """Take the answer, where one has come."""
        try:
            if not self._connection.poll():
                return
            found = json.loads(self._connection.recv_bytes(MAX_ANSWER_BYTES))
        except (EOFError, OSError):
            return  # the process has ended, or is about to
        self.answer = Answer(tuple(found["alive"]), tuple(found["ready"]), found["metrics"])
        self.answered, self._is_asked = now, False

    def request(self, what: bytes) -> None:
        """Ask the member to do `what`: STOP or REREAD. Without effect where it has ended."""
        self._send(what)

    def close(self) -> None:
        """Of a process that has ended."""
        self._connection.close()

    def _send(self, message: bytes) -> bool:
        try:
            self._connection.send_bytes(message)
        except OSError:
            return False
        return True


def supervised(member: str, stop: Stop) -> MemberEnd:
    """The channel to the supervisor that started this process, of whose cores it takes its share.

    member: NUMBER/PROCESSES/DESCRIPTOR, as MemberProcess gives it. Raises InputError for any other.
    """
    parts = re.fullmatch(r"(\d{1,4})/(\d{1,4})/(\d{1,9})", member)
    try:
        if parts is None:
            raise OSError
        number, processes, descriptor = map(int, parts.groups())
        found = MemberEnd(descriptor, number, processes, stop)
    except OSError:
        remedy = "is what `run --processes` gives to the processes that it starts; leave it out"
        raise InputError("--member", member, remedy) from None
    share_cores(processes)
    return found
