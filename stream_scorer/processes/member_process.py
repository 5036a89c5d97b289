"""One process that is a member of the consumer group, seen from its supervisor."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from multiprocessing import Pipe

from stream_scorer.processes.channel import SupervisorEnd


class MemberProcess:
    """Started when it is made. `channel` leads to it; started: the moment, in seconds."""

    def __init__(self, command: Sequence[str], number: int, processes: int, now: float) -> None:
        """command: a program that takes `--member NUMBER/PROCESSES/DESCRIPTOR` beside its own
        arguments."""
        here, there = Pipe()
        self.number, self.started = number, now
        with there:
            member = f"{number}/{processes}/{there.fileno()}"
            self._process = subprocess.Popen(
                [*command, "--member", member],
                stdin=subprocess.DEVNULL, pass_fds=[there.fileno()],
                # Ctrl-C in a terminal signals its whole group, where a member would get a second
                # request to stop from its supervisor, which ends it at once.
                start_new_session=True,
            )  # fmt: skip
        self.channel = SupervisorEnd(here, now)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def status(self) -> int | None:
        """Its exit status, below 0 where a signal ended it; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it now: what it did not commit, the next owner of its partitions reads again."""
        self._process.kill()

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait()
