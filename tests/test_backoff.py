"""Delays between attempts: exponential growth, a cap, and full jitter."""

from __future__ import annotations

import random
from itertools import islice

from stream_scorer.backoff import delays


def test_limits_double_up_to_the_cap() -> None:
    limits = list(islice(delays(0.1, 1.0, lambda: 1.0), 6))
    assert limits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_the_first_limit_is_capped_too() -> None:
    assert next(delays(7.0, 5.0, lambda: 1.0)) == 5.0


def test_delays_fill_the_whole_range_below_the_limit() -> None:
    first = [next(delays(0.4, 5.0, random.Random(seed).random)) for seed in range(1000)]
    assert 0 <= min(first) < 0.02
    assert 0.38 < max(first) < 0.4
    assert 0.18 < sum(first) / len(first) < 0.22


def test_two_members_do_not_retry_in_step() -> None:
    one = list(islice(delays(0.1, 5.0, random.Random(1).random), 20))
    other = list(islice(delays(0.1, 5.0, random.Random(2).random), 20))
    assert not set(one) & set(other)


def test_the_same_seed_gives_the_same_delays() -> None:
    one = list(islice(delays(0.1, 5.0, random.Random(1).random), 20))
    again = list(islice(delays(0.1, 5.0, random.Random(1).random), 20))
    assert one == again
