"""Health: what probes are told, at which moment."""

from __future__ import annotations

import pytest

from stream_scorer.live.health import (
    GRACE_SECONDS,
    PATIENCE_SECONDS,
    Health,
    most_quiet_seconds,
)

QUIET = 400.0


def reading(now: float = 100.0) -> Health:
    """A consumer that is warm, joined and reads three partitions."""
    health = Health(QUIET)
    health.warmed_up()
    health.joined(now)
    health.assigned(3)
    health.worked(now)
    return health


def test_a_start_is_alive_for_as_long_as_it_takes_and_not_ready() -> None:
    health = Health(QUIET)
    assert health.alive(1e9) == (True, "starting")
    assert health.ready(0.0) == (False, "starting: kernels and model are not ready yet")
    health.warmed_up()
    assert health.ready(0.0) == (False, "starting: it has not joined its group yet")
    health.joined(5.0)
    assert health.ready(6.0) == (False, "joined: the group has not given it partitions yet")
    health.assigned(0, begins=2)
    ready, reason = health.ready(6.0)
    assert (ready, "2 partitions came" in reason) == (False, True)
    health.assigned(2)
    assert health.ready(6.0) == (True, "2 partitions are read")


def test_a_member_that_got_no_partition_stands_by_and_is_ready() -> None:
    health = reading()
    health.assigned(0)
    ready, reason = health.ready(101.0)
    assert (ready, "stands by without partitions" in reason) == (True, True)


def test_a_loop_in_which_nothing_ends_is_not_ready_first_and_not_alive_then() -> None:
    health = reading(100.0)
    assert health.ready(100.0 + PATIENCE_SECONDS)[0]
    ready, reason = health.ready(101.0 + PATIENCE_SECONDS)
    assert (ready, "one step" in reason) == (False, True)
    assert health.alive(100.0 + QUIET)[0]
    alive, reason = health.alive(101.0 + QUIET)
    assert (alive, reason.startswith("no step has ended for 401 s")) == (False, True)
    health.worked(600.0)
    assert health.alive(600.0)[0]
    assert health.ready(600.0)[0]


def test_waiting_for_a_server_is_alive_and_after_a_while_not_ready() -> None:
    health = reading(100.0)
    now = 100.0
    while now < 1000.0:
        health.waits("redis", now)
        for _ in range(4):
            now += 0.25
            health.moved(now)
        assert health.alive(now)[0]
        assert health.ready(now)[0] == (now - 100.0 <= PATIENCE_SECONDS)
    assert health.ready(now) == (False, "has waited for redis for 900 s")
    health.worked(now)
    assert health.ready(now)[0]
    health.waits("kafka", now)
    assert health.ready(now + PATIENCE_SECONDS)[0], "a new wait counts from its own beginning"


def test_joining_anew_forgets_the_partitions_of_before() -> None:
    health = reading(100.0)
    health.joined(110.0)
    assert not health.ready(110.0)[0]
    health.assigned(1)
    assert health.ready(110.0)[0]


def test_stopping_is_alive_and_not_ready() -> None:
    health = reading(100.0)
    health.stops()
    assert health.alive(101.0) == (True, "stopping")
    assert health.ready(101.0) == (False, "stopping")


@pytest.mark.parametrize(
    ("poll_ms", "delivery_ms", "redis_seconds", "slowest"),
    [(300_000, 30_000, 5.0, 300.0), (10_000, 30_000, 5.0, 35.0), (10_000, 1_000, 20.0, 21.0)],
)
def test_a_loop_may_be_quiet_for_longer_than_any_of_its_clients(
    poll_ms: int, delivery_ms: int, redis_seconds: float, slowest: float
) -> None:
    found = most_quiet_seconds(poll_ms, delivery_ms, redis_seconds)
    assert found == slowest + GRACE_SECONDS
