"""Rates, levels and quantiles of the recent past."""

from __future__ import annotations

import random

import pytest

from stream_scorer.core.recent import Recent, quantile, steps_of_counter, steps_of_level

INFINITY = float("inf")


def test_samples_are_kept_for_as_long_as_asked_and_one_more() -> None:
    recent: Recent[str] = Recent(100)
    assert recent.before(10) is None
    for at in range(0, 500, 50):
        recent.add(at, f"at {at}")
    assert [at for at, _ in recent.samples] == [350, 400, 450]
    assert recent.before(60) == (350, "at 350")
    assert recent.before(1000) == (350, "at 350")
    recent.add(449, "set back")
    assert list(recent.samples) == [(449, "set back")]


def test_a_counter_is_shared_out_to_the_steps_that_it_grew_in() -> None:
    samples = [(0, 100.0), (500, 100.0), (2500, 140.0), (3000, 145.0)]
    assert steps_of_counter(samples, 3000, 1000, 3) == [10, 20, 15]
    assert steps_of_counter(samples, 3000, 1000, 5) == [0, 0, 10, 20, 15]
    assert steps_of_counter(samples, 2000, 1000, 1) == [20]


def test_a_counter_that_fell_began_anew() -> None:
    assert steps_of_counter([(0, 900.0), (1000, 30.0)], 1000, 1000, 1) == [30]


def test_no_growth_is_lost_and_none_made_up() -> None:
    draw = random.Random(3)
    at, count, samples = 0, 0.0, [(0, 0.0)]
    while at < 60_000:
        at += draw.randrange(1, 9000)
        count += draw.randrange(0, 1000)
        samples.append((at, count))
    steps = steps_of_counter(samples, 15_000 * (at // 15_000 + 1), 15_000, 40)
    assert sum(15 * step for step in steps) == pytest.approx(count)


def test_a_level_is_that_of_the_last_sample_before_the_end_of_a_step() -> None:
    samples = [(100, 7.0), (900, 8.0), (1000, 9.0), (2999, 3.0)]
    assert steps_of_level(samples, 3000, 1000, 4) == [0, 8, 9, 3]


def test_quantiles_lie_where_prometheus_puts_them() -> None:
    buckets = [(1.0, 10.0), (2.0, 30.0), (4.0, 40.0), (INFINITY, 40.0)]
    assert quantile(buckets, 0.5) == 1.5
    assert quantile(buckets, 0.25) == 1.0
    assert quantile(buckets, 1.0) == 4.0
    assert quantile([(1.0, 0.0), (INFINITY, 5.0)], 0.99) == 1.0, "beyond the last bound"
    assert quantile([(1.0, 0.0), (INFINITY, 0.0)], 0.5) is None
    assert quantile([], 0.5) is None
