"""The shop's trend as the live consumer keeps it, against the counts that a replay makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core.events.batch import NULL
from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace
from stream_scorer.core.trend import NO_DAY, DailyCounts, TrendTable
from stream_scorer.core.trend_record import (
    KEPT_DAYS,
    TrendPlan,
    TrendRecord,
    oldest_day,
    shop_table,
)
from stream_scorer.errors import InputError

WORDS = ("soup", "bread", "milk")
TODAY = 20_000
SPACE = FeatureSpace.compile(
    [
        Feature("trend", "trend", by=("category_id",), half_lives=("2d", "14d", "90d")),
        Feature("bought", "trend", ("purchase",), ("category_id",), half_lives=("1d", "7d")),
    ],
    {"category_id": WORDS},
)
_PLAN = TrendPlan.of(SPACE)
assert _PLAN is not None
PLAN: TrendPlan = _PLAN
Counted = tuple[int, int, int]  # day, category of the first trend, and of the second


def columns(events: list[Counted]) -> tuple[Any, Any, Any]:
    """Offsets from 0, moments and categories."""
    rows = np.array(events, np.int64).reshape(-1, 3)
    return np.arange(len(rows)), rows[:, 0] * DAY_MS + 5, rows[:, 1:].astype(np.int32)


def record_of(events: list[Counted], cuts: tuple[int, ...] = ()) -> TrendRecord:
    """The record of a log, added in batches that end at `cuts`."""
    record = TrendRecord.empty(PLAN, 0)
    offset, at, category = columns(events)
    ends = [*sorted(cut for cut in cuts if cut < len(events)), len(events)]
    start = 0
    for end in ends:
        record.add(offset[start:end], at[start:end], category[start:end], end)
        start = end
    return record


def counts_of(events: list[Counted]) -> DailyCounts:
    """What a replay counts."""
    rows = [(t, e[0], e[1 + t]) for e in events for t in range(2) if e[1 + t] != NULL]
    feature, day, category = np.array(sorted(rows), np.int32).reshape(-1, 3).T
    first = [min((d for f, d, _ in rows if f == t), default=NO_DAY) for t in range(2)]
    one = np.ones(len(rows), np.int64)
    parts = [
        DailyCounts(feature[i : i + 1], day[i : i + 1], category[i : i + 1], one[i : i + 1],
                    np.array(first, np.int64))
        for i in range(len(rows))
    ]  # fmt: skip
    return DailyCounts.sum([DailyCounts.none(SPACE), *parts])


def log(seed: int, days: int, events: int, late: int = 0) -> list[Counted]:
    draw = np.random.default_rng(seed)
    day = TODAY - days + np.sort(draw.integers(0, days, events))
    day -= np.where(draw.random(events) < 0.1, draw.integers(0, late + 1, events), 0)
    first = draw.integers(0, len(WORDS), events)
    second = np.where(draw.random(events) < 0.5, first, NULL)
    return list(zip(day.tolist(), first.tolist(), second.tolist(), strict=True))


def test_the_sum_of_partitions_records_gives_the_contrasts_of_a_replay() -> None:
    logs = [log(seed, 500, 3000) for seed in range(3)]
    records = [record_of(one, (10, 999, 1000)) for one in logs]
    first = oldest_day(records)
    live = shop_table(PLAN, records, first, TODAY + 3)
    past = TrendTable.of(SPACE, counts_of([e for one in logs for e in one]), first, TODAY + 3)
    # What lies beyond the window of a replay has less than a thousandth of the weight.
    np.testing.assert_allclose(live.contrasts, past.contrasts, atol=2e-3)
    assert np.abs(live.contrasts).max() > 0.05
    assert (live.first_day, live.contrasts.shape) == (first, past.contrasts.shape)


def test_an_event_that_comes_days_late_counts_on_its_own_day() -> None:
    events = [(TODAY, 0, 0), (TODAY - KEPT_DAYS, 1, NULL), (TODAY - 1, 1, 1)]
    record = record_of(events)
    live = shop_table(PLAN, [record], TODAY - KEPT_DAYS, TODAY + 1)
    past = TrendTable.of(SPACE, counts_of(events), TODAY - KEPT_DAYS, TODAY + 1)
    np.testing.assert_allclose(live.contrasts, past.contrasts, atol=1e-6)


def test_an_event_that_comes_later_than_that_counts_on_the_oldest_day_that_is_kept() -> None:
    record = record_of([(TODAY, 0, 0), (TODAY - 100, 1, NULL)])
    same = record_of([(TODAY, 0, 0), (TODAY - KEPT_DAYS, 1, NULL)])
    assert record.encode() == same.encode()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.lists(st.integers(0, 80), max_size=6))
def test_the_record_has_the_same_bytes_however_its_log_is_cut(
    seed: int, days: int, cuts: list[int]
) -> None:
    events = log(seed, days, 80, late=20)
    assert record_of(events, tuple(cuts)).encode() == record_of(events).encode()


def test_events_below_the_records_offset_count_once() -> None:
    events = log(1, 20, 50)
    record, (offset, at, category) = record_of(events), columns(events)
    before = record.encode()
    record.add(offset[:30], at[:30], category[:30], 30)
    assert record.encode() == before
    longer = [*events, (TODAY, 2, 2)]
    offset, at, category = columns(longer)
    record.add(offset[20:], at[20:], category[20:], len(longer))
    assert record.encode() == record_of(longer).encode()


def test_a_record_is_decoded_as_it_was_encoded_and_goes_on() -> None:
    events = log(3, 30, 200, late=10)
    record = record_of(events[:150])
    again = TrendRecord.decode(record.encode(), PLAN, "key")
    assert again.encode() == record.encode()
    offset, at, category = columns(events)
    for one in (record, again):
        one.add(offset[150:], at[150:], category[150:], len(events))
        assert one.encode() == record_of(events).encode()
    empty = TrendRecord.empty(PLAN, 17)
    assert TrendRecord.decode(empty.encode(), PLAN, "key").encode() == empty.encode()


@pytest.mark.parametrize("change", ["bit", "cut", "magic", "plan"])
def test_a_damaged_record_or_one_of_another_declaration_is_refused(change: str) -> None:
    data = bytearray(record_of(log(1, 20, 50)).encode())
    plan = PLAN
    if change == "bit":
        data[-3] ^= 1
    elif change == "cut":
        del data[100:]
    elif change == "magic":
        data[0] ^= 1
    else:
        plan = TrendPlan(PLAN.half_lives, PLAN.words, PLAN.fingerprint ^ 1)
    with pytest.raises(InputError, match=r"NS:trend:events:0.*stream-scorer rollout"):
        TrendRecord.decode(bytes(data), plan, "NS:trend:events:0")


def test_days_before_the_oldest_known_one_have_its_contrasts() -> None:
    records = [record_of(log(1, 60, 500)), record_of([(TODAY - 20, 0, 0)])]
    oldest = oldest_day(records)
    table = shop_table(PLAN, records, oldest - 5, oldest + 2)
    assert table.covers(oldest - 5, oldest + 2)
    assert (table.contrasts[:6] == table.contrasts[5]).all()
    assert (table.contrasts[6] != table.contrasts[5]).any()
    only_earlier = shop_table(PLAN, records, oldest - 5, oldest - 2)
    np.testing.assert_array_equal(only_earlier.contrasts, table.contrasts[:4])


def test_a_shop_without_events_has_no_contrast() -> None:
    for records in ([], [TrendRecord.empty(PLAN, 0)]):
        table = shop_table(PLAN, records, TODAY, TODAY + 1)
        assert table.contrasts.shape == (2, 3, len(WORDS))
        assert not table.contrasts.any()


def test_a_declaration_without_trend_has_no_plan() -> None:
    assert TrendPlan.of(FeatureSpace.compile([Feature("all")], {})) is None
