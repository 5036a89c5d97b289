"""The simulated world of one schedule: brokers, a Redis, and the consumers as they are.

`play` runs a plan to its end. The product's own classes run unchanged (live/consumer.py with its
source, store, pipeline and sink, and live/loop.py around them); what they import of
confluent_kafka, redis, time, threads and random numbers is replaced while a world is played.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from faults import KINDS
from forgetting import Request, ask_until_done, lost_though_known
from installing import Warnings, installed
from plan import LAST_CALL, Fault, Plan
from scheduler import EPOCH_SECONDS, Process, Scheduler, SimulatedTime
from shop import DEAD_LETTERS, INPUT, OUTPUT, events_of, metrics, model, settings_of, warm_engine
from simulated_consumer import SimulatedConsumer
from simulated_group import Group
from simulated_log import COMMITTED, Broker
from simulated_redis import SimulatedRedis, SimulatedServer

from stream_scorer.errors import Halt, HistoryGone, Unavailable
from stream_scorer.live import consumer as live_consumer
from stream_scorer.live.kept_erasures import KeptErasures
from stream_scorer.live.loop import Loop
from stream_scorer.live.refresh import Refresher
from stream_scorer.live.stop import Stop

MOST_CALLS = 30_000
HELD_BACK = 4  # events that come after the faults, or where a fault asks for them
BEYOND_REPAIR = "redis evicts"  # then the store may lack what the log has: consumers stop
PATIENCE_SECONDS = 200.0  # longer than any call of Kafka takes, also while a member is suspended
QUIET_SECONDS = 12.0  # in which an idle consumer looks at Redis at least twice
# Where faults do most harm: half of them come just before the next call of one of these names.
MOMENTS = (
    "committed", "committed answered", "watermark offsets", "rebalance callback", "commit",
    "commit sent", "flush", "flush answered", "between two records", "send offsets",
    "send offsets answered", "commit transaction", "commit transaction answered",
    "abort transaction", "init transactions", "MGET", "MGET answered", "EVALSHA",
    "EVALSHA answered", "first evalsha answered", "SCRIPT LOAD", "GET answered",
)  # fmt: skip
FAILOVER_MOMENTS = (
    "first evalsha answered", "EVALSHA answered", "MGET answered", "committed answered",
)  # fmt: skip
# Warnings that say that vectors lack events, after which a consumer goes on.
SAYS_WHAT_IS_MISSING = re.compile("events before it were deleted|Redis has evicted")


@dataclass
class Slot:
    """The place of one member, which a supervisor starts again when its process ended."""

    client_id: str
    process: Process | None = None
    stop: Stop = field(default_factory=Stop)
    start_at: float = 0.0
    retired: bool = False
    erasures: KeptErasures | None = None  # what its process knows of them


class World:
    """All that the processes of one schedule share, and what happens to it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = random.Random(f"{plan.seed} world")
        self.scheduler = Scheduler(plan.seed, self._between_calls)
        partitions = {INPUT: plan.partitions, OUTPUT: 2, DEAD_LETTERS: 1}
        self.broker = Broker(partitions)
        self.group = Group(self.broker, [(INPUT, p) for p in range(plan.partitions)])
        self.redis = SimulatedServer()
        self.redis.clock = SimulatedTime(self.scheduler).time
        self.clients: list[SimulatedConsumer] = []
        self.slots: list[Slot] = []
        for _ in range(plan.members):
            self.add_slot()
        self.said: list[str] = []
        self.warnings = Warnings()
        self.crashes: list[str] = []
        self.story: list[str] = []
        self.redis_away_until = self.kafka_away_until = 0.0
        self.requests: list[Request] = []  # to forget a customer
        self.armed: dict[str, str] = {}  # call -> how its answer gets lost
        self._late: list[tuple[int, Callable[[], object]]] = []
        self._timed: list[tuple[float, Callable[[], object]]] = []
        self.whose_moment: Process | None = None  # who was about to make the call of a fault
        self._faults = list(plan.active_faults)
        self._waiting_for: dict[str, list[Fault]] = {}  # call -> faults that come just before it
        self._reached: list[tuple[Fault, str, Process | None]] = []
        self._to_come = events_of(plan)
        self.events = {event.value: event for event in self._to_come}
        self._proxied = self.random.random() < 0.5  # connections outlast a restart of Redis
        self._quiet_since: float | None = None
        for _ in range(plan.backlog):
            self._append()

    def add_slot(self) -> None:
        """Room for one more member."""
        self.slots.append(Slot(f"m{len(self.slots)}"))

    # What simulated clients call.

    def client_call(self, name: str) -> str | None:
        """Before a call of a Kafka client: others run; returns how its answer gets lost."""
        self._reach(name)
        self.scheduler.yield_control()
        if self.scheduler.now < self.kafka_away_until and not name.endswith("answered"):
            return "before"
        return self.armed.pop(name, None)

    def _reach(self, name: str) -> None:
        """A process is about to make this call: what waits for the moment happens now."""
        self._reached += [
            (fault, f"before {name}", self.scheduler.current)
            for fault in self._waiting_for.pop(name, [])
        ]

    def later(self, act: Callable[[], object]) -> None:
        """Something that is still on its way arrives after some more calls."""
        self._late.append((self.scheduler.calls + self.random.randint(1, 60), act))

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Something that happens at a moment."""
        self._timed.append((seconds, act))

    def is_cut_off(self) -> bool:
        """Whether the process that asks can't reach the group's coordinator."""
        mine = (c for c in self.clients if c.process is self.scheduler.current)
        return any(client.is_cut_off() for client in mine)

    def misused(self, what: str) -> None:
        """A member called a client as it must not."""
        self.crashes.append(f"{what} (call {self.scheduler.calls})")

    def shuffled(self, names: list[Any]) -> list[Any]:
        self.random.shuffle(names)
        return names

    def redis_client(self) -> SimulatedRedis:
        """A client with a connection of its own."""
        run = [self.redis.run]

        def before(name: str) -> str | None:
            self._reach(name)
            self.scheduler.yield_control()
            if name.endswith("answered"):
                return None
            if self.scheduler.now < self.redis_away_until:
                return "before"
            if run[0] != self.redis.run:
                run[0] = self.redis.run
                if not self._proxied:
                    return "before"
            return self.armed.pop("redis", None)

        return SimulatedRedis(self.redis, before, self.later)

    # What happens between two calls.

    def _between_calls(self) -> None:
        calls, now = self.scheduler.calls, self.scheduler.now
        while self._faults and self._faults[0].at_call <= calls:
            fault = self._faults.pop(0)
            moments = FAILOVER_MOMENTS if fault.kind == "redis failover" else MOMENTS
            moment = (fault.number >> 10) % (2 * len(moments))
            if moment < len(moments):
                self._waiting_for.setdefault(moments[moment], []).append(fault)
            else:
                self._reached.append((fault, "at once", None))
        while self._reached:
            fault, moment_name, self.whose_moment = self._reached.pop(0)
            self.note(f"{fault.kind} ({fault.number % 1000}), {moment_name}")
            KINDS[fault.kind](self, fault.number)
        for due in [entry for entry in self._late if entry[0] <= calls]:
            self._late.remove(due)
            due[1]()
        for timed in [entry for entry in self._timed if entry[0] <= now]:
            self._timed.remove(timed)
            timed[1]()
        expected = len(self._to_come) - (HELD_BACK if self._faults or self._timed else 0)
        left = max(LAST_CALL - calls, 1)
        if expected > 0 and self.random.random() < 1.5 * expected / left:
            self._append()
        for client in self.clients:
            if self.random.random() < 0.5:
                client.background()
        self.group.expire(now)
        self.broker.expire_transactions(now)
        for slot in self.slots:
            self._supervise(slot)

    def forget(self, customer: str, at_ms: int) -> None:
        """Somebody asks that nothing of this customer counts up to this moment."""
        self.requests.append(Request(customer, at_ms, []))
        self._ask(self.requests[-1])

    def _ask(self, request: Request) -> None:
        request.done = False
        self.scheduler.start("whoever asks", lambda: ask_until_done(self, request))

    def append_held_back(self, count: int) -> None:
        """Now, so that there is something to do in this moment."""
        for _ in range(count):
            self._append()

    def _append(self) -> None:
        if not self._to_come:
            return
        event = self._to_come.pop(0)
        at_ms = int(1000 * (EPOCH_SECONDS + self.scheduler.now))
        self.broker.append((INPUT, event.partition), event.key, event.value, at_ms)

    def _supervise(self, slot: Slot) -> None:
        process = slot.process
        if process is not None and process.ended:
            slot.process, slot.stop = None, Stop()
            self.clients = [c for c in self.clients if c.process is not process]
            self._judge(slot, process)
        if slot.process is None and not slot.retired and self.scheduler.now >= slot.start_at:
            slot.erasures = None
            slot.process = self.scheduler.start(slot.client_id, lambda: self._consume(slot))

    def _consume(self, slot: Slot) -> None:
        """The body of a member's process, as jobs/run.py."""
        plan = self.plan
        settings = settings_of(slot.client_id, plan.delivery, plan.micro_batch, plan.hot_bytes)
        with live_consumer.Consumer(settings) as consumer:
            slot.erasures = consumer.erasures
            consumer.join()
            window = settings.dead_letter_window(live=True)
            seconds = SimulatedTime(self.scheduler).monotonic
            refresher = Refresher(consumer, metrics(), live_consumer.clock_ms, seconds)
            between: list[Callable[[], None]] = []
            if consumer.trend is not None:
                between.append(partial(consumer.trend.check, metrics()))
            between += [refresher.slice] if plan.refresh else []
            Loop(consumer, window, metrics(), slot.stop, between).run()

    def _judge(self, slot: Slot, process: Process) -> None:
        """What the end of a process means: started again, or it said what it can't do."""
        error = process.outcome
        slot.start_at = max(slot.start_at, self.scheduler.now + 1.0)
        if error is not None:
            self.note(f"{slot.client_id} ended: {type(error).__name__}: {error}")
        if error is None or isinstance(error, Unavailable):
            return
        if isinstance(error, Halt) and "another member took over" in str(error):
            return
        slot.retired = True
        if isinstance(error, HistoryGone) or (isinstance(error, Halt) and self.may_halt):
            self.said.append(str(error))
        else:
            self.crashes.append(f"{slot.client_id}: {type(error).__name__}: {error}")

    @property
    def may_halt(self) -> bool:
        """Whether something happened that no consumer can get over."""
        return any(f.kind == BEYOND_REPAIR for f in self.plan.active_faults)

    def note(self, text: str) -> None:
        self.story.append(f"call {self.scheduler.calls}, {self.scheduler.now:.1f} s: {text}")

    # The end.

    def is_over(self) -> bool:
        """Nothing more will happen: all is read, committed and stored, and stayed so for a while;
        or every member said that it can't go on."""
        if all(slot.retired for slot in self.slots):
            return True
        to_come = self._faults or self._reached or self._to_come or self._late or self._timed
        to_come = to_come or not all(request.done for request in self.requests)
        if to_come or not self._is_done():
            self._quiet_since = None
            return False
        if self._quiet_since is None:
            self._quiet_since = self.scheduler.now
        if self.scheduler.now <= self._quiet_since + QUIET_SECONDS:
            return False
        again = [r for r in self.requests if r.losses < self.redis.losses]
        lost = [text for r in again for text in lost_though_known(self, r)]
        # A member may be waiting for an answer of Kafka; then it looks as soon as it goes on.
        if lost and self.scheduler.now <= self._quiet_since + PATIENCE_SECONDS:
            return False
        self.crashes += lost
        for request in again:
            self._ask(request)
        return not again

    def _is_done(self) -> bool:
        return self._all_go_on() and self._all_is_read()

    def _all_go_on(self) -> bool:
        """Whether every member runs that can, and has all partitions between them."""
        for slot in self.slots:
            process = slot.process
            if not slot.retired and (
                process is None or process.suspended_until > self.scheduler.now
            ):
                return False
        if any(client.is_cut_off() for client in self.clients):
            return False
        read = {(p.topic, p.partition) for c in self.clients for p in c.assignment()}
        return len(read) == self.plan.partitions

    def _all_is_read(self) -> bool:
        for (topic, partition), log in self.broker.logs.items():
            last = max((i for i, r in enumerate(log.records) if r.state == COMMITTED), default=-1)
            if topic != INPUT:
                if log.stable_end != log.end:
                    return False
                continue
            mark = self.redis.data.get(f"s:watermark:{topic}:{partition}".encode(), b"-1")
            if self.broker.committed.get((topic, partition), (-1, 0, ""))[0] <= last:
                return False
            if last >= 0 and int(mark) <= last:
                return False
        return True


def play(plan: Plan) -> World:
    """Run the plan until nothing more happens, or too long."""
    model(), warm_engine()
    world = World(plan)
    with installed(world):
        while world.scheduler.calls < MOST_CALLS and not world.is_over():
            world.scheduler.step()
        if world.scheduler.calls >= MOST_CALLS:
            world.crashes.append(f"not finished after {MOST_CALLS} calls")
        for process in world.scheduler.processes:
            world.scheduler.kill(process)
        world.said += [text for text in world.warnings.texts if SAYS_WHAT_IS_MISSING.search(text)]
    return world
