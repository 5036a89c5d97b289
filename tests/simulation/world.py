"""The simulated world of one schedule: brokers, a Redis, and the consumers as they are.

`play` runs a plan to its end. The product's own classes run unchanged (live/consumer.py with its
source, store, pipeline and sink, and live/loop.py around them); what they import of
confluent_kafka, redis, time, threads and random numbers is replaced while a world is played.
"""

from __future__ import annotations

import logging
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import redis
from plan import LAST_CALL, Plan
from scheduler import Process, Scheduler, SimulatedTime
from shop import DEAD_LETTERS, INPUT, OUTPUT, engine, events_of, metrics, model, settings_of, space
from simulated_consumer import SimulatedConsumer
from simulated_group import Group
from simulated_log import COMMITTED, Broker
from simulated_producer import NeverReturns, SimulatedProducer
from simulated_redis import SimulatedRedis, SimulatedServer

from stream_scorer.core.events.dead_letter_window import DeadLetterWindow
from stream_scorer.errors import Halt, HistoryGone, Unavailable
from stream_scorer.io.kafka import consumer as kafka_consumer
from stream_scorer.io.kafka import producer as kafka_producer
from stream_scorer.io.stores import redis as redis_store
from stream_scorer.live import consumer as live_consumer
from stream_scorer.live import group_binding
from stream_scorer.live.loop import Loop
from stream_scorer.live.stop import Stop
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings

MOST_CALLS = 30_000
# After these the store may hold what the log does not, or lack what the log has: consumers stop.
BEYOND_REPAIR = ("truncation", "redis evicts")
QUIET_SECONDS = 12.0  # in which an idle consumer looks at Redis at least twice
RECORDS_PER_SCRIPT = 2  # so that a save of a few customers takes several calls
# Warnings that say that vectors lack events, after which a consumer goes on.
SAYS_WHAT_IS_MISSING = re.compile("events before it were deleted|Redis has evicted")
PRODUCT = ("stream_scorer.live.", "stream_scorer.io.kafka.", "stream_scorer.io.stores.")


@dataclass
class Slot:
    """The place of one member, which a supervisor starts again when its process ended."""

    client_id: str
    process: Process | None = None
    stop: Stop = field(default_factory=Stop)
    start_at: float = 0.0
    retired: bool = False


class Warnings(logging.Handler):
    """Keeps what was logged as a warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class InlineThread:
    """In place of threading.Thread, where a call of a client must come back in time."""

    def __init__(self, target: Callable[[], None], **_options: Any) -> None:
        self._target, self._alive = target, False

    def start(self) -> None:
        NeverReturns.raised = False
        # The product catches all that is raised on its thread, also what nothing would raise.
        with suppress(NeverReturns):
            self._target()
        self._alive = NeverReturns.raised

    def join(self, timeout: float | None = None) -> None:
        """It has run already."""

    def is_alive(self) -> bool:
        return self._alive


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
        self.slots = [Slot(f"m{i}") for i in range(plan.members)]
        self.said: list[str] = []
        self.warnings = Warnings()
        self.crashes: list[str] = []
        self.story: list[str] = []
        self.redis_away_until = self.kafka_away_until = 0.0
        self._armed: dict[str, str] = {}  # call -> how its answer gets lost
        self._late: list[tuple[int, Callable[[], object]]] = []
        self._faults = list(plan.active_faults)
        self._to_come = events_of(plan.seed, plan.events, plan.customers, plan.partitions)
        self._proxied = self.random.random() < 0.5  # connections outlast a restart of Redis
        self._quiet_since: float | None = None

    # What simulated clients call.

    def client_call(self, name: str) -> str | None:
        """Before a call of a Kafka client: others run; returns how its answer gets lost."""
        self.scheduler.yield_control()
        if self.scheduler.now < self.kafka_away_until and not name.endswith("answered"):
            return "before"
        return self._armed.pop(name, None)

    def later(self, act: Callable[[], object]) -> None:
        """Something that is still on its way arrives after some more calls."""
        self._late.append((self.scheduler.calls + self.random.randint(1, 60), act))

    def shuffled(self, names: list[Any]) -> list[Any]:
        self.random.shuffle(names)
        return names

    def redis_client(self) -> SimulatedRedis:
        """A client with a connection of its own."""
        run = [self.redis.run]

        def before(name: str) -> str | None:
            self.scheduler.yield_control()
            if name.endswith("answered"):
                return None
            if self.scheduler.now < self.redis_away_until:
                return "before"
            if run[0] != self.redis.run:
                run[0] = self.redis.run
                if not self._proxied:
                    return "before"
            return self._armed.pop("redis", None)

        return SimulatedRedis(self.redis, before, self.later)

    # What happens between two calls.

    def _between_calls(self) -> None:
        calls, now = self.scheduler.calls, self.scheduler.now
        while self._faults and self._faults[0].at_call <= calls:
            fault = self._faults.pop(0)
            self.note(f"{fault.kind} ({fault.number % 1000})")
            getattr(self, "_" + fault.kind.replace(" ", "_"))(fault.number)
        for due in [entry for entry in self._late if entry[0] <= calls]:
            self._late.remove(due)
            due[1]()
        left = max(LAST_CALL - calls, 1)
        if self._to_come and self.random.random() < 1.5 * len(self._to_come) / left:
            self._append()
        for client in self.clients:
            if self.random.random() < 0.5:
                client.background()
        self.group.expire(now)
        self.broker.expire_transactions(now)
        for slot in self.slots:
            self._supervise(slot)

    def _append(self) -> None:
        event = self._to_come.pop(0)
        at_ms = int(1000 * self.scheduler.now)
        self.broker.append((INPUT, event.partition), event.key, event.value, at_ms)

    def _supervise(self, slot: Slot) -> None:
        process = slot.process
        if process is not None and process.ended:
            slot.process, slot.stop = None, Stop()
            self.clients = [c for c in self.clients if c.process is not process]
            self._judge(slot, process)
        if slot.process is None and not slot.retired and self.scheduler.now >= slot.start_at:
            slot.process = self.scheduler.start(slot.client_id, lambda: self._consume(slot))

    def _consume(self, slot: Slot) -> None:
        """The body of a member's process, as jobs/run.py."""
        settings = settings_of(slot.client_id, self.plan.delivery)
        with live_consumer.Consumer(settings) as consumer:
            consumer.join()
            limits = settings.dead_letters
            window = DeadLetterWindow(limits.max_share, limits.window_records)
            Loop(consumer, window, metrics(), slot.stop).run()

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
        return any(f.kind in BEYOND_REPAIR for f in self.plan.active_faults)

    def note(self, text: str) -> None:
        self.story.append(f"call {self.scheduler.calls}, {self.scheduler.now:.1f} s: {text}")

    # Faults. The number of each chooses which, how much, how.

    def _running(self, number: int) -> Slot | None:
        running = [s for s in self.slots if s.process is not None and not s.process.ended]
        return running[number % len(running)] if running else None

    def _kill(self, number: int) -> None:
        slot = self._running(number)
        if slot is not None and slot.process is not None:
            self.note(f"killed {slot.client_id}")
            self.scheduler.kill(slot.process)
            slot.start_at = self.scheduler.now + (number // 7) % 3 * 10

    def _suspend(self, number: int) -> None:
        slot = self._running(number)
        if slot is not None and slot.process is not None:
            seconds = (2, 20, 50, 70, 130)[number // 7 % 5]
            self.note(f"suspended {slot.client_id} for {seconds} s")
            slot.process.suspended_until = self.scheduler.now + seconds

    def _stop(self, number: int) -> None:
        slot = self._running(number)
        if slot is not None:
            slot.stop.asked = True
            slot.start_at = self.scheduler.now + (number // 7) % 3 * 20

    def _new_member(self, number: int) -> None:
        self.slots.append(Slot(f"m{len(self.slots)}"))

    def _redis_rewind(self, number: int) -> None:
        far = number // 7 % 4 == 0
        self.redis.rewind(
            number // 31 % (100 if far else 6) + 1,
            restarts=True, forgets_scripts=number % 2 == 0,
        )  # fmt: skip

    def _redis_failover(self, number: int) -> None:
        """To a replica that lacks the newest writes; it has the scripts."""
        self.redis.rewind(number // 7 % 3 + 1, restarts=True, forgets_scripts=False)

    def _redis_flush(self, number: int) -> None:
        self.redis.flush()

    def _redis_evicts(self, number: int) -> None:
        """An operator set a limit and another policy, and took both back."""
        self.redis.evict(number)

    def _redis_away(self, number: int) -> None:
        self.redis_away_until = self.scheduler.now + (1, 10, 70)[number % 3]

    def _kafka_away(self, number: int) -> None:
        self.kafka_away_until = self.scheduler.now + (1, 10, 50)[number % 3]

    def _redis_answer_lost(self, number: int) -> None:
        self._armed["redis"] = "after"

    def _redis_command_late(self, number: int) -> None:
        self._armed["redis"] = "late"

    def _commit_lost(self, number: int) -> None:
        self._armed["commit"] = ("before", "after")[number % 2]

    def _flush_lost(self, number: int) -> None:
        self._armed["flush"] = ("before", "after")[number % 2]

    def _offsets_lost(self, number: int) -> None:
        self._armed["send offsets"] = ("before", "after", "stuck")[number % 3]

    def _end_of_transaction_lost(self, number: int) -> None:
        name = ("commit transaction", "commit transaction", "abort transaction")[number % 3]
        self._armed[name] = ("before", "after", "late", "late and logged")[number // 3 % 4]

    def _retention(self, number: int) -> None:
        log = self.broker.logs[INPUT, number % self.plan.partitions]
        log.first = max(log.first, int((number // 7 % 100) / 100 * log.end))

    def _truncation(self, number: int) -> None:
        log = self.broker.logs[INPUT, number % self.plan.partitions]
        log.truncate(max(log.end - 1 - number // 7 % 3, log.first))

    # The end.

    def is_over(self) -> bool:
        """Nothing more will happen: all is read, committed and stored, and stayed so for a while;
        or every member said that it can't go on."""
        if all(slot.retired for slot in self.slots):
            return True
        if self._faults or self._to_come or self._late or not self._is_done():
            self._quiet_since = None
            return False
        if self._quiet_since is None:
            self._quiet_since = self.scheduler.now
        return self.scheduler.now > self._quiet_since + QUIET_SECONDS

    def _is_done(self) -> bool:
        for slot in self.slots:
            process = slot.process
            if not slot.retired and (
                process is None or process.suspended_until > self.scheduler.now
            ):
                return False
        read = {(p.topic, p.partition) for c in self.clients for p in c.assignment()}
        if len(read) < self.plan.partitions:
            return False
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


class SimulatedAdmin:
    """In place of KafkaAdmin: the topics never change, and the group is of one namespace."""

    def __init__(self, world: World) -> None:
        self._world = world

    def identity(self, topic: str) -> str:
        return f"id of {topic}"

    def namespaces(self, group: str, topic: str) -> set[str]:
        self._world.client_call("admin")
        metadata = (m for _, _, m in self._world.broker.committed.values())
        return {name for m in metadata if (name := m.rpartition(" ")[2])}

    def members(self, group: str) -> int:
        self._world.client_call("admin")
        return len(self._world.group.members)


@contextmanager
def installed(world: World) -> Iterator[None]:
    """The product's modules see the world in place of servers, clocks and chance."""
    clock, chance = SimulatedTime(world.scheduler), random.Random(world.plan.seed)
    threads = type("threading", (), {"Thread": InlineThread, "Lock": threading.Lock})
    before: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        before.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    put(kafka_consumer, "Consumer", lambda config, **_o: SimulatedConsumer(world, config))
    put(kafka_producer, "Producer", lambda config, logger: SimulatedProducer(world, config, logger))
    for module in (live_consumer, group_binding):
        put(module, "KafkaAdmin", lambda *_a, **_o: SimulatedAdmin(world))
    put(redis.Redis, "from_url", lambda *_a, **_o: world.redis_client())
    put(redis_store, "RECORDS_PER_SCRIPT", RECORDS_PER_SCRIPT)
    put(artefact, "load", lambda *_a, **_o: model())
    put(live_consumer, "open_engine", lambda *_a, **_o: engine())
    put(Settings, "feature_space", lambda _self: space())
    for name, module in list(sys.modules.items()):
        if name.startswith(PRODUCT):
            for attribute, real, simulated in (
                ("time", time, clock), ("random", random, chance), ("threading", threading, threads)
            ):  # fmt: skip
                if module.__dict__.get(attribute) is real:
                    put(module, attribute, simulated)
    logger = logging.getLogger("stream_scorer")
    logger.addHandler(world.warnings)
    passes_on, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(world.warnings)
        logger.propagate = passes_on
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def play(plan: Plan) -> World:
    """Run the plan until nothing more happens, or too long."""
    model(), engine()
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
