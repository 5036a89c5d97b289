"""Several members of one consumer group in processes of this machine, kept running by this one.

One Python process keeps about one core busy, so a machine with several needs several members. The
supervisor starts them, and starts one again that ends: after a delay that grows while it goes on
ending, so that a server that is away is not asked by all of them at once. It does what a container
platform does with one process: a member that says that it is stuck, or no longer answers, is
killed and started again. A stop, and a request to read the config again, are passed on.

The first member is alone until it is ready, or for `ALONE_SECONDS`: what is wrong with the config
or the model is then said once. Where a member ends with exit status
2, bad input, before any was ever ready, the rest is stopped and the supervisor ends with it. Later
a config that has become wrong must not end the members that run, so then it is tried again.

Customers do not depend on the supervisor: a member that is killed is like one that crashed, and a
supervisor that is killed leaves members that notice and stop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from stream_scorer.backoff import delays
from stream_scorer.io.telemetry.supervisor_metrics import SupervisorMetrics
from stream_scorer.live.stop import Stop
from stream_scorer.log_events import event
from stream_scorer.processes.channel import REREAD, STOP, Answer, Verdict
from stream_scorer.processes.member_process import MemberProcess

log = logging.getLogger(__name__)

STEP_SECONDS = 0.1
ASK_SECONDS = 2.0
ALONE_SECONDS = 30.0
# Python answers on a thread of its own; an import or a library that holds the interpreter's lock
# for this long is not known.
UNANSWERED_SECONDS = 60.0
FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS = 1.0, 60.0
STEADY_SECONDS = 60.0  # a member that ran so long begins again with the first delay
BAD_INPUT = 2

Start = Callable[[int, float], MemberProcess]


@dataclass
class _Slot:
    """The place of one member. again_at: when it is started, unless one runs. delays: to come."""

    number: int
    again_at: float
    process: MemberProcess | None = None
    delays: Iterator[float] | None = None
    starts: int = field(default=0)


class Supervisor:
    """Keeps `processes` members running until `stop`.

    start: starts the member of a number, from 1 on, at a moment. clock: seconds that only grow.
    random: a number from 0 to below 1 at each call. `health` and `texts` are for other threads.
    """

    def __init__(
        self,
        start: Start,
        processes: int,
        stop: Stop,
        metrics: SupervisorMetrics,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._start, self._stop, self._metrics = start, stop, metrics
        self._clock, self._random = clock, random
        self._slots = [_Slot(number, 0.0) for number in range(1, processes + 1)]
        self._began = 0.0
        self._asked_at = clock()
        self._was_ready = False
        self._answers: dict[int, Answer] = {}
        for slot in self._slots:
            metrics.up(slot.number, is_up=False)

    def run(self, sleep: Callable[[float], None]) -> int:
        """Until `stop`, or until a member refuses its input; the exit status."""
        status, self._began = 0, self._clock()
        while not self._stop.asked and not status:
            status = self._step(self._clock())
            sleep(STEP_SECONDS)
        for slot in self._slots:
            if slot.process is not None:
                slot.process.channel.request(STOP)
        ended = [slot.process.wait() for slot in self._slots if slot.process is not None]
        self._answers = {}
        return status or int(any(ended))

    def kill(self) -> None:
        """End all members now; from any thread."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()

    def texts(self) -> dict[str, str]:
        """By number of a member its metrics as OpenMetrics text, at most `ASK_SECONDS` old."""
        return {str(n): answer.metrics for n, answer in self._answers.items() if answer.metrics}

    def alive(self, _now: float) -> Verdict:
        """It is, as members are watched by this process and not by whoever asks."""
        return True, f"{len(self._answers)} of {len(self._slots)} processes run"

    def ready(self, _now: float) -> Verdict:
        """Whether every member is, and which one is not."""
        answers = self._answers
        for slot in self._slots:
            answer = answers.get(slot.number)
            is_ready, why = (False, "not running") if answer is None else answer.ready
            if not is_ready:
                return False, f"process {slot.number}: {why}"
        return True, f"all {len(self._slots)} processes are ready"

    def _step(self, now: float) -> int:
        if self._stop.reread_asked:
            self._stop.reread_asked = False
            for slot in self._slots:
                if slot.process is not None:
                    slot.process.channel.request(REREAD)
        asks = now - self._asked_at >= ASK_SECONDS
        if asks:
            self._asked_at = now
        answers: dict[int, Answer] = {}
        for slot in self._slots:
            process = slot.process
            if process is None:
                self._start_again(slot, now)
            elif (status := process.status()) is not None:
                self._ended(slot, process, status, now)
                if status == BAD_INPUT and not self._was_ready:
                    return BAD_INPUT
            else:
                if asks:
                    process.channel.ask()
                process.channel.read(now)
                self._kill_stuck(process, now)
                answers[slot.number] = process.channel.answer
        self._answers = answers
        self._was_ready = self._was_ready or any(a.ready[0] for a in answers.values())
        return 0

    def _start_again(self, slot: _Slot, now: float) -> None:
        waits_for_first = slot.number > 1 and not self._was_ready
        if now < slot.again_at or (waits_for_first and now - self._began < ALONE_SECONDS):
            return
        slot.process = self._start(slot.number, now)
        slot.starts += 1
        self._metrics.up(slot.number, is_up=True)
        if slot.starts > 1:
            self._metrics.restarted(slot.number)
        log.info(
            "process %d started: pid %d", slot.number, slot.process.pid,
            extra=event("process_started", process=slot.number, pid=slot.process.pid),
        )  # fmt: skip

    def _ended(self, slot: _Slot, process: MemberProcess, status: int, now: float) -> None:
        process.channel.close()
        slot.process = None
        self._metrics.up(slot.number, is_up=False)
        if slot.delays is None or now - process.started >= STEADY_SECONDS:
            slot.delays = delays(FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS, self._random)
        delay = next(slot.delays)
        slot.again_at = now + delay
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        log.error(
            "process %d ended with %s, which its own lines above explain; its partitions go to "
            "the others, and it is started again in %.0f s", slot.number, how, delay,
            extra=event("process_ended", process=slot.number, status=status),
        )  # fmt: skip

    def _kill_stuck(self, process: MemberProcess, now: float) -> None:
        silent = now - process.channel.answered
        is_alive, why = process.channel.answer.alive
        if silent > UNANSWERED_SECONDS:
            is_alive, why = False, f"has not answered for {silent:.0f} s"
        if not is_alive:
            log.error(
                "process %d is killed and started again: %s", process.number, why,
                extra=event("process_killed", process=process.number),
            )  # fmt: skip
            process.kill()
