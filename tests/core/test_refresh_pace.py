"""How many customers a refresh takes at once, and how often."""

from __future__ import annotations

import pytest

from stream_scorer.core.refresh_pace import (
    BUSY_SHARE,
    FEWEST,
    IDLE_SHARE,
    LEAST_SLICE_SECONDS,
    MOST,
    MOST_SLICE_SECONDS,
    PART_OF_TURN,
    Pace,
    TokenBucket,
)


def played(
    turn_seconds: float, each_seconds: float, waited_seconds: float, *, busy: bool = True,
    per_second: float = 1e6, seconds: float = 60.0,
) -> tuple[float, float, float]:  # fmt: skip
    """Customers a second, share of the time, and the last slice's seconds, of a loop whose turns
    take so long and whose pages cost that much."""
    pace, now, customers, worked, last = Pace(per_second), 100.0, 0, 0.0, 0.0
    while now < 100 + seconds:
        now += turn_seconds
        if not pace.may_begin(now, busy=busy):
            continue
        if some := pace.page(now):
            last = some * each_seconds + waited_seconds
            pace.took(some, last, waited_seconds)
            customers, worked = customers + some, worked + last
        pace.ended(now, now + (last if some else 0.0))
        now += last if some else 0.0
    return customers / seconds, worked / seconds, last


@pytest.mark.parametrize("turn_seconds", [0.005, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("waited_seconds", [0.0, 0.002, 0.02])
def test_a_slice_is_a_part_of_a_turn_and_the_share_is_kept(
    turn_seconds: float, waited_seconds: float
) -> None:
    _, share, slice_seconds = played(turn_seconds, 50e-6, waited_seconds)
    assert share <= BUSY_SHARE + 0.01
    most = min(max(PART_OF_TURN * turn_seconds, LEAST_SLICE_SECONDS), MOST_SLICE_SECONDS)
    assert slice_seconds <= max(most, FEWEST * 50e-6 + waited_seconds * 1.25) + 1e-9


@pytest.mark.parametrize(("waited_seconds", "least"), [(0.004, 950), (0.015, 800)])
def test_a_thousand_a_second_fit_into_a_tenth_of_the_time_at_the_default_batch_age(
    waited_seconds: float, least: float
) -> None:
    # 60 us a customer, and such waits for a confirmation and for a transaction, were measured
    # on two cores with Kafka and Redis beside it.
    rate, share, _ = played(0.12, 60e-6, waited_seconds, per_second=1000)
    assert rate > least
    assert share <= BUSY_SHARE + 0.01


def test_a_slow_confirmation_is_shared_by_more_customers() -> None:
    few, _, _ = played(0.01, 60e-6, 0.002)
    many, _, _ = played(0.01, 60e-6, 0.04)
    assert few > FEWEST
    # Were the wait taken from the customers, it would be FEWEST / 0.04 * BUSY_SHARE = 100.
    assert many > 250


def test_without_events_half_of_the_time_may_be_used() -> None:
    busy, share, _ = played(0.01, 60e-6, 0.002)
    idle, idle_share, _ = played(0.01, 60e-6, 0.002, busy=False)
    assert idle > 2 * busy
    assert share < idle_share <= IDLE_SHARE


def test_the_rate_is_kept_with_pages_worth_their_cost() -> None:
    rate, _, slice_seconds = played(0.01, 10e-6, 0.002, busy=False, per_second=1000)
    assert 900 < rate <= 1025
    assert slice_seconds >= FEWEST * 10e-6 + 0.002


def test_another_rate_holds_from_now_on() -> None:
    pace = Pace(4)
    assert pace.page(0.0) == 1
    pace.allow(1e6)
    assert FEWEST <= pace.page(0.1) <= MOST


def test_a_pause_of_the_loop_makes_no_slice_longer_than_the_longest() -> None:
    pace = Pace(1e6)
    for turn in range(10):
        pace.may_begin(100.0 * turn, busy=True)
        pace.ended(100.0 * turn, 100.0 * turn + 0.001)
    assert pace.slice_seconds == MOST_SLICE_SECONDS


def test_tokens_come_at_the_rate_and_a_quarter_of_it_at_once() -> None:
    bucket = TokenBucket(100)
    assert bucket.available(0.0) == 25
    bucket.take(25)
    assert bucket.available(0.1) == 10
    bucket.take(4)
    assert bucket.available(0.1) == 6
    assert bucket.available(60.0) == 25


def test_a_slow_rate_gives_one_token_at_a_time() -> None:
    bucket = TokenBucket(0.5)
    assert bucket.available(0.0) == 1
    bucket.take(1)
    assert bucket.available(1.0) == 0
    assert bucket.available(2.0) == 1
