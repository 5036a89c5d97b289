"""What goes wrong in a world: one function for each kind of fault that a plan draws.

The number of a fault chooses its member, its amount, or which of several ways it goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from shop import DAY_MS, FIRST_DAY, INPUT

if TYPE_CHECKING:
    from world import Slot, World


def running(world: World, number: int) -> Slot | None:
    """The member that it hits: mostly the one whose moment it is."""
    running = [s for s in world.slots if s.process is not None and not s.process.ended]
    now = [s for s in running if s.process is world.whose_moment]
    if now and number // 1009 % 4:
        return now[0]
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


def taken_and_given_back(world: World, number: int) -> None:
    """A member is suspended for so long that the others take over; they stop before it wakes."""
    slot = running(world, number)
    if slot is None or slot.process is None:
        return
    if len(world.slots) == 1:
        world.add_slot()
    seconds = (47, 50, 55, 58)[number // 7 % 4]  # the group waits for 45, a transaction for 60
    world.note(f"suspended {slot.client_id} for {seconds} s")
    slot.process.suspended_until = world.scheduler.now + seconds
    back_after = (1, 10, 40)[number // 31 % 3]

    def others_stop() -> None:
        for other in world.slots:
            if other is not slot:
                other.stop.asked = True
                other.start_at = world.scheduler.now + back_after

    world.at(world.scheduler.now + seconds - 5.0, lambda: world.append_held_back(3))
    world.at(world.scheduler.now + seconds - (number // 97 % 4 + 0.5) / 2, others_stop)


def cut_off(world: World, number: int) -> None:
    """Nothing of a member reaches the group's coordinator for a while; all else goes on."""
    slot = running(world, number)
    for client in world.clients:
        if slot is not None and client.process is slot.process:
            client.cut_off_until = world.scheduler.now + (5, 50, 60, 100)[number // 7 % 4]
            world.note(f"cut off {slot.client_id}")


def redis_rewind(world: World, number: int) -> None:
    far = number // 7 % 4 == 0
    world.redis.rewind(
        number // 31 % (100 if far else 6) + 1,
        restarts=True, forgets_scripts=number % 2 == 0,
    )  # fmt: skip


def redis_failover(world: World, number: int) -> None:
    """To a replica that lacks the newest writes; it has the scripts."""
    world.redis.rewind((1, 1, 2, 3)[number // 7 % 4], restarts=True, forgets_scripts=False)


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


def delivery_lost(world: World, number: int) -> None:
    world.armed["flush"] = ("before", "before and late", "after", "in part", "all")[number % 5]


def offsets_lost(world: World, number: int) -> None:
    world.armed["send offsets"] = ("before", "after", "stuck")[number % 3]


def end_of_transaction_lost(world: World, number: int) -> None:
    name = ("commit transaction", "commit transaction", "abort transaction")[number % 3]
    ways = ("before", "after", "late", "late and logged", "unanswered", "done and unanswered")
    world.armed[name] = ways[number // 3 % len(ways)]


def forget(world: World, number: int) -> None:
    """A customer is forgotten on request: up to a moment between or behind those of her events."""
    at_ms = (FIRST_DAY + number // 7 % 12) * DAY_MS
    world.forget(f"c{number % world.plan.customers}", at_ms)


def retention(world: World, number: int) -> None:
    log = world.broker.logs[INPUT, number % world.plan.partitions]
    log.first = max(log.first, int((number // 7 % 100) / 100 * log.end))


KINDS: dict[str, Callable[[World, int], None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        kill, suspend, stop, new_member, taken_and_given_back, cut_off, redis_rewind,
        redis_failover, redis_flush, redis_evicts, redis_away, kafka_away, redis_answer_lost,
        redis_command_late, commit_lost, delivery_lost, offsets_lost, end_of_transaction_lost,
        retention, forget,
    )
}  # fmt: skip
