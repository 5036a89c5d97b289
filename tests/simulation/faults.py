"""What goes wrong in a world: one function for each kind of fault that a plan draws.

The number of a fault chooses its member, its amount, or which of several ways it goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from shop import INPUT

if TYPE_CHECKING:
    from world import Slot, World


def running(world: World, number: int) -> Slot | None:
    running = [s for s in world.slots if s.process is not None and not s.process.ended]
    return running[number % len(running)] if running else None


def kill(world: World, number: int) -> None:
    slot = running(world, number)
    if slot is not None and slot.process is not None:
        world.note(f"killed {slot.client_id}")
        world.scheduler.kill(slot.process)
        slot.start_at = world.scheduler.now + (number // 7) % 3 * 10


def suspend(world: World, number: int) -> None:
    slot = running(world, number)
    if slot is not None and slot.process is not None:
        seconds = (2, 20, 50, 70, 130)[number // 7 % 5]
        world.note(f"suspended {slot.client_id} for {seconds} s")
        slot.process.suspended_until = world.scheduler.now + seconds


def stop(world: World, number: int) -> None:
    slot = running(world, number)
    if slot is not None:
        slot.stop.asked = True
        slot.start_at = world.scheduler.now + (number // 7) % 3 * 20


def new_member(world: World, number: int) -> None:
    world.add_slot()


def redis_rewind(world: World, number: int) -> None:
    far = number // 7 % 4 == 0
    world.redis.rewind(
        number // 31 % (100 if far else 6) + 1,
        restarts=True, forgets_scripts=number % 2 == 0,
    )  # fmt: skip


def redis_failover(world: World, number: int) -> None:
    """To a replica that lacks the newest writes; it has the scripts."""
    world.redis.rewind(number // 7 % 3 + 1, restarts=True, forgets_scripts=False)


def redis_flush(world: World, number: int) -> None:
    world.redis.flush()


def redis_evicts(world: World, number: int) -> None:
    """An operator set a limit and another policy, and took both back."""
    world.redis.evict(number)


def redis_away(world: World, number: int) -> None:
    world.redis_away_until = world.scheduler.now + (1, 10, 70)[number % 3]


def kafka_away(world: World, number: int) -> None:
    world.kafka_away_until = world.scheduler.now + (1, 10, 50)[number % 3]


def redis_answer_lost(world: World, number: int) -> None:
    world.armed["redis"] = "after"


def redis_command_late(world: World, number: int) -> None:
    world.armed["redis"] = "late"


def commit_lost(world: World, number: int) -> None:
    world.armed["commit"] = ("before", "after")[number % 2]


def flush_lost(world: World, number: int) -> None:
    world.armed["flush"] = ("before", "after")[number % 2]


def offsets_lost(world: World, number: int) -> None:
    world.armed["send offsets"] = ("before", "after", "stuck")[number % 3]


def end_of_transaction_lost(world: World, number: int) -> None:
    name = ("commit transaction", "commit transaction", "abort transaction")[number % 3]
    world.armed[name] = ("before", "after", "late", "late and logged")[number // 3 % 4]


def retention(world: World, number: int) -> None:
    log = world.broker.logs[INPUT, number % world.plan.partitions]
    log.first = max(log.first, int((number // 7 % 100) / 100 * log.end))


KINDS: dict[str, Callable[[World, int], None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        kill, suspend, stop, new_member, redis_rewind, redis_failover, redis_flush, redis_evicts,
        redis_away, kafka_away, redis_answer_lost, redis_command_late, commit_lost, flush_lost,
        offsets_lost, end_of_transaction_lost, retention,
    )
}  # fmt: skip
