"""A member for tests of the supervisor: `fake_member.py DIRECTORY --member NUMBER/PROCESSES/FD`.

What it does stands in DIRECTORY/NUMBER, one word a start: "serve", "stuck", or an exit status.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from stream_scorer.live.stop import Stop
from stream_scorer.processes.channel import supervised


class Moves:
    def __init__(self, *, alive: bool) -> None:
        self._alive = alive

    def alive(self, _now: float) -> tuple[bool, str]:
        return self._alive, "moves" if self._alive else "no step has ended for 400 s"

    def ready(self, _now: float) -> tuple[bool, str]:
        return self._alive, "3 partitions are read" if self._alive else "stuck"


def main() -> None:
    directory, member = Path(sys.argv[1]), sys.argv[3]
    plan = directory / member.partition("/")[0]
    does, *later = plan.read_text().split()
    plan.write_text(" ".join(later or [does]))
    if does.isdigit():
        sys.exit(int(does))
    stop = Stop(hangup_rereads=True)
    with stop.on_signals():
        end = supervised(member, stop)
        text = f"# TYPE pid gauge\npid {os.getpid()}\n# EOF\n"
        end.show(Moves(alive=does == "serve"), lambda _a, _n: ("", text.encode()), time.monotonic)
        while not stop.asked:
            signal.sigtimedwait([], 0.05)
            if stop.reread_asked:
                stop.reread_asked = False
                (directory / f"reread-{end.number}").touch()


main()
