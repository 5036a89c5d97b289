"""Customers forgotten on request in a world, by `customers.erasing` as it is: whoever asked asks
again until it is done, and once more where Redis lost writes since, as the documents say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from scheduler import SimulatedTime
from shop import settings_of
from simulated_log import COMMITTED, TopicPartition

from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.core.features.state import NEVER
from stream_scorer.customers import erasing, tombstones
from stream_scorer.errors import BusUnavailable, Unavailable
from stream_scorer.live.erased_samples import ErasedSamples

if TYPE_CHECKING:
    from installing import SimulatedAdmin
    from world import World

AGAIN_SECONDS = 5.0
LIST_KEY = b"s:erased"


@dataclass
class Request:
    """at_ms: the moment that was asked for. boundaries_ms: of each time that the records were
    erased. done: whether a receipt said so, after which Redis had lost writes `losses` times."""

    customer: str
    at_ms: int
    boundaries_ms: list[int]
    done: bool = False
    losses: int = 0


def ask_until_done(world: World, request: Request) -> None:
    """The body of the process that asks."""
    settings = settings_of("whoever-asks", "at_least_once")
    clock_ms = int(1000 * SimulatedTime(world.scheduler).time())
    try:
        while not request.done:
            losses = world.redis.losses
            try:
                receipt = erasing.erase(
                    settings, {request.customer: request.at_ms}, version="simulated",
                    clock_ms=lambda: clock_ms,
                )  # fmt: skip
            except Unavailable as error:
                world.note(f"forgetting {request.customer}: {type(error).__name__}: {error}")
                world.scheduler.sleep(AGAIN_SECONDS)
                continue
            (customer,) = receipt.customers
            request.boundaries_ms.append(nearest_ms(parse_iso_8601(customer.forgotten_at)))
            request.done, request.losses = receipt.done, losses
            world.note(
                f"forgot {request.customer} up to {customer.forgotten_at}: {receipt.problem}"
            )
            if not request.done:
                world.scheduler.sleep(AGAIN_SECONDS)
    except Exception as error:
        world.crashes.append(f"forgetting {request.customer}: {type(error).__name__}: {error}")


def lost_though_known(world: World, request: Request) -> list[str]:
    """A member that goes on knows of the request, and Redis does not."""
    listed = NEVER
    for line in world.redis.data.get(LIST_KEY, b"").splitlines():
        boundary_ms, customer = json.loads(line)
        if customer == request.customer:
            listed = max(listed, boundary_ms)
    known = max(
        (
            slot.erasures.boundary_of(request.customer)
            for slot in world.slots
            if slot.process is not None and not slot.process.ended and slot.erasures is not None
        ),
        default=NEVER,
    )
    if listed >= known:
        return []
    return [f"a member knows that {request.customer} was forgotten, and Redis lost it"]


@contextmanager
def unseen_progress(_what: str, _total: int) -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(advance=lambda _count: None)


class SimulatedReader:
    """In place of TopicReader: what is committed up to the last stable offset of now."""

    def __init__(
        self, world: World, topic: str, from_offsets: Mapping[TopicPartition, int] | None
    ) -> None:
        if world.client_call("read topic") == "before":
            raise BusUnavailable("no broker answers")
        self._logs = {tp: log for tp, log in world.broker.logs.items() if tp[0] == topic}
        self.log = {tp: (log.first, log.stable_end) for tp, log in self._logs.items()}
        starts = from_offsets or {}
        self.ranges = {
            tp: (max(starts.get(tp, first), first), end) for tp, (first, end) in self.log.items()
        }

    def __iter__(self) -> Iterator[RecordBatch]:
        for tp, (first, end) in self.ranges.items():
            log = self._logs[tp]
            at = [o for o in range(first, end) if log.records[o].state == COMMITTED]
            records = [log.records[o] for o in at]
            yield RecordBatch(
                [r.value for r in records], [r.key for r in records], [tp],
                np.zeros(len(at), np.int32), np.array(at, np.int64),
                np.array([r.timestamp_ms for r in records], np.int64),
            )  # fmt: skip

    def close(self) -> None:
        """Nothing to close."""


def replaced(world: World, admin: type[SimulatedAdmin]) -> ExitStack:
    """What `customers.erasing` imports, while a world is played."""
    clock, stack = SimulatedTime(world.scheduler), ExitStack()

    def reader(
        _properties: Any, topic: str, *, batch_records: int,
        from_offsets: Mapping[TopicPartition, int] | None = None,
    ) -> SimulatedReader:  # fmt: skip
        return SimulatedReader(world, topic, from_offsets)

    for owner, name, value in (
        (tombstones, "KafkaAdmin", lambda *_a: admin(world)),
        (tombstones, "TopicReader", reader),
        (tombstones, "time", clock),
        (erasing, "time", clock),
        (tombstones, "progress", unseen_progress),
        (erasing, "progress", unseen_progress),
        (erasing, "still_held", lambda *_a: ()),
        # Nothing is sampled here, and looking for it takes a call for each day.
        (erasing, "remove_samples", lambda *_a: ErasedSamples()),
    ):
        stack.enter_context(patch.object(owner, name, value))
    return stack
