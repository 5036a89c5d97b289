"""Which table of the shop's trend a member scores with, and when it reads others' records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace
from stream_scorer.core.trend import TrendTable
from stream_scorer.core.trend_record import KEPT_DAYS, TrendPlan, TrendRecord
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live import shop_trend
from stream_scorer.live.shop_trend import ShopTrend, clip_days

SPACE = FeatureSpace.compile(
    [Feature("trend", "trend", by=("category_id",), half_lives=("2d", "14d"))],
    {"category_id": ("soup", "bread")},
)
_PLAN = TrendPlan.of(SPACE)
assert _PLAN is not None
PLAN: TrendPlan = _PLAN
TODAY = 20_000
MINE, OTHER = ("events", 0), ("events", 1)


def record_of(day: int, events: int = 30) -> TrendRecord:
    record = TrendRecord.empty(PLAN, 0)
    days = np.sort(np.random.default_rng(day).integers(day - 20, day, events))
    days[-1] = day
    category = np.zeros((events, 1), np.int32)
    record.add(np.arange(events), days * DAY_MS, category, events)
    return record


class Stored:
    """The records in Redis."""

    def __init__(self) -> None:
        self.plan, self.records, self.readings = PLAN, dict[TopicPartition, TrendRecord](), 0
        self.away = False

    def partitions(self) -> list[TopicPartition]:
        if self.away:
            raise StoreUnavailable("not now")
        self.readings += 1
        return sorted(self.records)

    def load(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, TrendRecord]:
        return {tp: self.records[tp] for tp in partitions}


class Kept:
    """The records of this member's partitions."""

    def __init__(self) -> None:
        self.records: dict[TopicPartition, TrendRecord] = {}

    def save_due(self) -> None:
        """Nothing is stored."""

    def compare(self, stored: Any) -> None:
        """Nothing is stored."""


class Member:
    """A member on a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        clock = type("Clock", (), {"monotonic": lambda: self.seconds})
        monkeypatch.setattr(shop_trend, "time", clock)
        self.stored, self.kept, self.metrics = Stored(), Kept(), Metrics()
        stored: Any = self.stored
        kept: Any = self.kept
        self.trend = ShopTrend(stored, kept, "events", lambda: TODAY * DAY_MS)

    def table(self, *days: int) -> TrendTable:
        return self.trend.table(np.array(days) * DAY_MS)

    def metric(self, name: str) -> float | None:
        self.trend.check(self.metrics)
        return self.metrics.registry.get_sample_value(f"stream_scorer_trend_{name}")


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    return Member(monkeypatch)


def test_a_new_day_reads_the_records_of_others_again(member: Member) -> None:
    member.stored.records[OTHER] = record_of(TODAY)
    member.trend.read()
    before = member.table(TODAY)
    assert (before.first_day, before.last_day) == (TODAY - KEPT_DAYS, TODAY)
    assert member.table(TODAY - 1) is before
    member.stored.records[OTHER] = record_of(TODAY + 1, 60)
    member.seconds += 10
    after = member.table(TODAY + 1)
    assert (after.last_day, member.stored.readings) == (TODAY + 1, 2)
    assert (after.contrasts[-2] != before.contrasts[-1]).any()


def test_days_that_pass_in_seconds_do_not_read_redis_for_each(member: Member) -> None:
    member.trend.read()
    for day in range(20):
        member.kept.records[MINE] = record_of(TODAY + day)
        assert member.table(TODAY + day).last_day == TODAY + day
        member.seconds += 0.5
    assert member.stored.readings <= 3


def test_events_of_years_ago_get_their_days_while_the_clock_says_today(member: Member) -> None:
    assert member.table(TODAY).last_day == TODAY  # as at the start
    long_ago = TODAY - 5_000
    member.kept.records[MINE] = record_of(long_ago)
    table = member.table(long_ago)
    assert (table.first_day, table.last_day) == (long_ago - KEPT_DAYS, long_ago)
    assert member.table(TODAY).last_day == TODAY  # a refresh
    assert member.table(long_ago - 1).covers(long_ago - 1, long_ago - 1)


def test_all_records_are_read_again_every_few_minutes(member: Member) -> None:
    member.stored.records[OTHER] = record_of(TODAY)
    before = member.table(TODAY)
    member.stored.records[OTHER] = record_of(TODAY, 90)
    member.seconds += shop_trend.READ_SECONDS + 1
    member.trend.check(member.metrics)
    after = member.table(TODAY)
    assert (after.contrasts != before.contrasts).any()


def test_a_redis_that_is_away_leaves_the_trend_as_it_was_and_is_logged_once(
    member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    member.stored.records[OTHER] = record_of(TODAY)
    before = member.table(TODAY)
    member.stored.away = True
    for _ in range(3):
        member.seconds += 1000
        member.trend.check(member.metrics)
    after = member.table(TODAY + 1)
    np.testing.assert_array_equal(after.part(TODAY, TODAY).contrasts, before.contrasts[-1:])
    assert caplog.text.count("the shop's trend can't be read") == 1


def test_a_partition_that_is_days_behind_is_logged_and_shown(
    member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    member.stored.records = {
        MINE: record_of(TODAY), OTHER: record_of(TODAY - 4), ("files", 0): record_of(TODAY - 99),
    }  # fmt: skip
    member.stored.records[MINE].missed = 7
    with caplog.at_level(logging.WARNING):
        member.trend.read()
        member.trend.read()
    assert caplog.text.count("counted of partitions 1 are more than 3 days older") == 1
    assert member.metric("age_seconds") == 4 * DAY_MS / 1000
    assert member.metric("missed_offsets") == 7


def test_rows_of_days_before_the_oldest_known_one_get_its_trend_and_are_counted(
    member: Member,
) -> None:
    member.kept.records[MINE] = record_of(TODAY)
    days = np.array([TODAY - 300, TODAY, TODAY - KEPT_DAYS])
    table = member.table(*days)
    assert member.metric("early_rows_total") == 1
    matrix = sparse.csr_matrix(np.stack([np.ones(3), days], axis=1).astype(np.float32))
    clip_days(matrix, np.array([1]), days * DAY_MS, table)
    assert matrix.toarray()[:, 1].tolist() == [TODAY - KEPT_DAYS, TODAY, TODAY - KEPT_DAYS]
    assert (matrix.toarray()[:, 0] == 1).all()
