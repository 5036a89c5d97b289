"""Records of the shop's trend through kills, rebalances, zombies, and a Redis that goes back."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace
from stream_scorer.core.features.trend_events import TrendEvents
from stream_scorer.core.trend_record import TrendPlan, TrendRecord
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.live.trend_keeper import TrendKeeper

SPACE = FeatureSpace.compile(
    [Feature("trend", "trend", by=("category_id",), half_lives=("2d", "14d"))],
    {"category_id": ("soup", "bread", "milk")},
)
_PLAN = TrendPlan.of(SPACE)
assert _PLAN is not None
PLAN: TrendPlan = _PLAN
TP = ("events", 3)
EVENTS = 60
DRAW = np.random.default_rng(1)
OCCURRED_MS = (20_000 + np.sort(DRAW.integers(0, 30, EVENTS))) * DAY_MS
CATEGORY = DRAW.integers(0, 3, (EVENTS, 1)).astype(np.int32)


opened: list[RedisServer] = []


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[Any]:
    with redis.Redis(port=server.port) as connection:
        connection.flushall()
        yield connection


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()


def part(start: int, stop: int) -> TrendEvents:
    rows = np.arange(start, stop)
    index = np.zeros(len(rows), np.int32)
    return TrendEvents([TP], index, rows, OCCURRED_MS[rows], CATEGORY[rows])


def expected(stop: int, start: int = 0) -> TrendRecord:
    record = TrendRecord.empty(PLAN, start)
    record.add(np.arange(start, stop), OCCURRED_MS[start:stop], CATEGORY[start:stop], stop)
    return record


def trends(client: Any) -> TrendStore:
    opened.append(RedisServer(client))
    return TrendStore(opened[-1], "NS", PLAN)


def keeper_of(client: Any, start: int | None = 0, every_seconds: float = 1e9) -> TrendKeeper:
    store = trends(client)
    return TrendKeeper(store, lambda _tps: {} if start is None else {TP: start}, every_seconds)


def stored(client: Any) -> TrendRecord:
    return trends(client).load([TP])[TP]


def test_after_a_kill_the_next_owner_reads_what_was_not_saved_again(client: Any) -> None:
    killed = keeper_of(client)
    assert killed.begin({TP: 0}, {TP: 0}) == {TP: 0}
    killed.add(part(0, 20), {TP: 20})
    killed.save()
    killed.add(part(20, 35), {TP: 35})  # the watermark is at 35, and so is the committed offset
    following = keeper_of(client)
    assert following.begin({TP: 35}, {TP: 0}) == {TP: 20}
    following.add(part(20, EVENTS), {TP: EVENTS})
    following.save()
    assert stored(client).encode() == expected(EVENTS).encode()


def test_a_kill_before_the_first_save_loses_nothing(client: Any) -> None:
    killed = keeper_of(client)
    killed.begin({TP: 0}, {TP: 0})
    killed.add(part(0, 20), {TP: 20})
    following = keeper_of(client)
    assert following.begin({TP: 20}, {TP: 0}) == {TP: 0}


def test_a_partition_that_is_given_up_is_saved(client: Any) -> None:
    giving = keeper_of(client)
    giving.begin({TP: 0}, {TP: 0})
    giving.add(part(0, 20), {TP: 20})
    giving.release([TP])
    assert keeper_of(client).begin({TP: 20}, {TP: 0}) == {TP: 20}


def test_a_zombie_does_not_take_the_record_back(client: Any) -> None:
    zombie, owner = keeper_of(client), keeper_of(client)
    zombie.begin({TP: 0}, {TP: 0})
    zombie.add(part(0, 20), {TP: 20})
    owner.begin({TP: 0}, {TP: 0})
    owner.add(part(0, 40), {TP: 40})
    owner.save()
    zombie.save()
    assert stored(client).next_offset == 40


def test_events_that_kafka_no_longer_holds_are_missed_and_reported(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    killed = keeper_of(client)
    killed.begin({TP: 0}, {TP: 0})
    killed.add(part(0, 20), {TP: 20})
    killed.save()
    following = keeper_of(client)
    assert following.begin({TP: 40}, {TP: 30}) == {TP: 30}
    assert "lacks 10 offsets from 20 on: scores go on" in caplog.text
    following.add(part(30, 40), {TP: 40})
    following.save()
    assert (stored(client).missed, stored(client).next_offset) == (10, 40)


@pytest.mark.parametrize("start", [0, None])
def test_a_record_that_was_deleted_is_counted_again_from_the_log(
    client: Any, start: int | None
) -> None:
    owner = keeper_of(client, start)
    assert owner.begin({TP: 20}, {TP: 0}) == {TP: 0}
    owner.add(part(0, 30), {TP: 30})
    owner.save()
    assert stored(client).encode() == expected(30).encode()


def test_of_a_deleted_record_that_kafka_no_longer_holds_all_of_the_rest_is_counted(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert keeper_of(client).begin({TP: 20}, {TP: 5}) == {TP: 5}
    assert "Kafka's log begins at 5, so the shop's trend lacks 5 offsets from 0" in caplog.text
    assert stored(client).missed == 5


def test_a_partition_that_a_namespace_begins_late_misses_nothing(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert keeper_of(client, 20).begin({TP: 20}, {TP: 20}) == {TP: 20}
    assert not caplog.records
    assert stored(client).missed == 0


def test_what_redis_lost_of_a_partition_without_events_is_saved_again(client: Any) -> None:
    owner = keeper_of(client)
    owner.begin({TP: 0}, {TP: 0})
    owner.add(part(0, 20), {TP: 20})
    owner.save()
    client.flushall()
    owner.compare({})
    owner.save()
    assert stored(client).encode() == expected(20).encode()


def test_a_redis_that_is_away_stops_nothing_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with EmbeddedRedis() as server, redis.Redis(port=server.port) as client:
        owner = keeper_of(client, every_seconds=0.0)
        owner.begin({TP: 0}, {TP: 0})
        owner.add(part(0, 20), {TP: 20})
        client.shutdown(nosave=True)
        owner.save_due()
        owner.save_due()
        owner.release([TP])
        assert caplog.text.count("the shop's trend is not saved") == 1
        with pytest.raises(StoreUnavailable):
            owner.begin({TP: 0}, {TP: 0})


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_each_event_counts_once(client: Any, seed: int) -> None:
    """Kills, hand-overs, saves, zombies, and a Redis that goes back with its watermark."""
    draw = random.Random(seed)
    watermark, history = 0, []
    owner, zombies = keeper_of(client), []
    at = owner.begin({TP: 0}, {TP: 0})[TP]
    while watermark < EVENTS:
        history.append((watermark, {key: client.get(key) for key in client.scan_iter()}))
        action = draw.choice(
            ["read", "read", "read", "save", "kill", "release", "zombie", "rewind"]
        )
        if action == "read":
            stop = min(at + draw.randint(1, 9), EVENTS)
            owner.add(part(at, stop), {TP: stop})
            at, watermark = stop, max(watermark, stop)
        elif action == "save":
            owner.save()
        elif action in ("kill", "release"):
            if action == "release":
                owner.release([TP])
            else:
                zombies.append(owner)
            owner = keeper_of(client)
            at = owner.begin({TP: watermark}, {TP: 0})[TP]
        elif action == "zombie" and zombies:
            draw.choice(zombies).save()
        elif action == "rewind":
            watermark, keys = draw.choice(history)
            client.flushall()
            client.mset(keys)
            at = min(at, watermark)  # as the consumer seeks, with what it has in memory
    owner.save()
    assert stored(client).encode() == expected(EVENTS).encode()
