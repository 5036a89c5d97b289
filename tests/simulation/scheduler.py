"""One thread of control for many processes: who runs next is drawn from a seed, time is simulated.

Each process is a greenlet that runs until a simulated client is called. Before the call, and again
before the answer is given, it hands control back to the scheduler, which lets the world do what it
has to (faults, background work of clients) and draws who runs next. Nothing else can interleave, so
the same seed gives the same run, to the last call.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import greenlet

START_SECONDS = 1_000.0
LONGEST_STEP_SECONDS = 0.02
IDLE_STEP_SECONDS = 1.0
EPOCH_SECONDS = 1_600_000_000  # what the processes take for the time of day at 0


class Killed(BaseException):
    """The process was killed; no `except Exception` of the product may see it."""


@dataclass
class Process:
    """One simulated process: `body` runs in a greenlet of its own."""

    name: str
    body: Callable[[], None]
    wake_at: float = 0.0
    suspended_until: float = 0.0
    dead: bool = False
    outcome: BaseException | None = None
    ended: bool = False

    def __post_init__(self) -> None:
        self.greenlet = greenlet.greenlet(self._run)

    def _run(self) -> None:
        try:
            self.body()
        except Killed:
            self.dead = True
        except Exception as error:
            self.outcome = error
        self.ended = True


class Scheduler:
    """Clock and baton. `hook` is called between any two calls of clients."""

    def __init__(self, seed: int, hook: Callable[[], None]) -> None:
        self.random = random.Random(seed)
        self.now = START_SECONDS
        self.calls = 0
        self.processes: list[Process] = []
        self.current: Process | None = None
        self._hook = hook
        self._hub = greenlet.getcurrent()

    def start(self, name: str, body: Callable[[], None]) -> Process:
        process = Process(name, body)
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        """End it where it stands: none of its clients does anything any more."""
        process.dead = True
        if not process.greenlet:  # it has not begun, or is over
            process.ended = True
        if not process.ended:
            before, self.current = self.current, process
            process.greenlet.throw(Killed())
            self.current = before

    def step(self) -> None:
        """Let the world act, then one process run up to its next call."""
        self.calls += 1
        self._hook()
        self.processes = [p for p in self.processes if not p.ended]
        ready = [
            p for p in self.processes if p.wake_at <= self.now and p.suspended_until <= self.now
        ]
        if not ready:
            wakes = [max(p.wake_at, p.suspended_until) for p in self.processes]
            self.now = min([*wakes, self.now + IDLE_STEP_SECONDS])
            return
        self.now += self.random.random() * LONGEST_STEP_SECONDS
        chosen = ready[int(self.random.random() * len(ready))]
        self.current = chosen
        chosen.greenlet.switch()
        self.current = None

    def yield_control(self) -> None:
        """For clients, before a call and before its answer."""
        process = self.current
        if process is None:  # the world itself asks
            return
        if process.dead:
            raise Killed
        self._hub.switch()
        if process.dead:
            raise Killed

    def sleep(self, seconds: float) -> None:
        """The process waits, and others run."""
        process = self.current
        assert process is not None
        process.wake_at = self.now + max(seconds, 0.0)
        self.yield_control()


class SimulatedTime:
    """In place of the module `time` in the product's modules."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def monotonic(self) -> float:
        return self._scheduler.now

    def perf_counter(self) -> float:
        return self._scheduler.now

    def time(self) -> float:
        return EPOCH_SECONDS + self._scheduler.now

    def time_ns(self) -> int:
        return int(self.time() * 1000) * 1_000_000

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds)
