"""What the product imports of clients, time, threads and chance is replaced in a world."""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import greenlet
import redis
from forgetting import replaced
from scheduler import SimulatedTime
from shop import engine, model, space
from simulated_consumer import SimulatedConsumer
from simulated_producer import NeverReturns, SimulatedProducer

from stream_scorer.io.kafka import consumer as kafka_consumer
from stream_scorer.io.kafka import producer as kafka_producer
from stream_scorer.io.kafka.group_offsets import Owner, metadata_of, owner_in
from stream_scorer.io.stores import redis as redis_store
from stream_scorer.live import consumer as live_consumer
from stream_scorer.live import served_model
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings

if TYPE_CHECKING:
    from world import World

RECORDS_PER_SCRIPT = 2  # so that a save of a few customers takes several calls
PRODUCT = ("stream_scorer.live.", "stream_scorer.io.kafka.", "stream_scorer.io.stores.")


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
        # Of this process alone: others run while the target waits.
        process = id(greenlet.getcurrent())
        NeverReturns.hanging.discard(process)
        # The product catches all that is raised on its thread, also what nothing would raise.
        with suppress(NeverReturns):
            self._target()
        self._alive = process in NeverReturns.hanging

    def join(self, timeout: float | None = None) -> None:
        """It has run already."""

    def is_alive(self) -> bool:
        return self._alive


class InlineExecutor:
    """In place of the thread that scores, which calls no client: what it computes is there at once,
    and is handed out when the product asks for it."""

    def __init__(self, _threads: int, **_options: Any) -> None:
        """Nothing is started."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done

    def shutdown(self) -> None:
        """Nothing is running."""


class SimulatedAdmin:
    """In place of KafkaAdmin: the topics never change, and the group is of one namespace."""

    def __init__(self, world: World) -> None:
        self._world = world

    def identity(self, topic: str) -> str:
        return f"id of {topic}"

    def owners(self, group: str, topic: str) -> set[Owner]:
        self._world.client_call("admin")
        owners = (owner_in(m) for _, _, m in self._world.broker.committed.values())
        return {owner for owner in owners if owner.namespace}

    def give_to(self, group: str, topic: str, owner: Owner) -> None:
        self._world.client_call("admin")
        committed = self._world.broker.committed
        for tp, (offset, epoch, metadata) in list(committed.items()):
            if owner_in(metadata).namespace:
                committed[tp] = offset, epoch, metadata_of(owner)

    def partitions(self, topic: str) -> int:
        self._world.client_call("admin")
        return self._world.broker.partitions[topic]

    def positions(self, group: str, topic: Any) -> dict[tuple[str, int], Any]:
        self._world.client_call("admin")
        committed = self._world.broker.committed
        return {
            (topic.name, p): SimpleNamespace(committed=committed.get((topic.name, p), (None,))[0])
            for p in range(topic.partitions)
        }

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
    put(live_consumer, "ThreadPoolExecutor", InlineExecutor)
    put(live_consumer, "KafkaAdmin", lambda *_a, **_o: SimulatedAdmin(world))
    put(redis.Redis, "from_url", lambda *_a, **_o: world.redis_client())
    put(redis_store, "RECORDS_PER_SCRIPT", RECORDS_PER_SCRIPT)
    put(artefact, "load", lambda *_a, **_o: model())
    put(served_model, "open_engine", lambda *_a, **_o: engine())
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
        with replaced(world, SimulatedAdmin):
            yield
    finally:
        logger.removeHandler(world.warnings)
        logger.propagate = passes_on
        for owner, name, value in reversed(before):
            setattr(owner, name, value)
