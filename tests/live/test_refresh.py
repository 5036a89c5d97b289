"""Refresher on a real Redis: whose scores are published again, when, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import redis

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.propensity_encoder import PublishedPropensities, decode_propensities
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.core.features import fold
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.core.trend import TrendTable
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import BusUnavailable, StoreRewound
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.refresh_store import RefreshRequest, RefreshStore
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.jobs.run import _appliers
from stream_scorer.live.refresh import Refresher
from stream_scorer.live.scoring import Scoring
from stream_scorer.model import artefact
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import RefreshSettings, Settings
from tests.model.symbol_json import symbol_json

DAY_MS = 86_400_000
EVENT_MS = 20_000 * DAY_MS
NOW_MS = EVENT_MS + 10 * DAY_MS + 5000
CATEGORIES = ("soup", "bread")
SPACE = FeatureSpace.compile(
    [Feature("bought", by=("category_id",), half_lives=("2d",))], {"category_id": CATEGORIES}
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> NativeEngine:
    path: Path = tmp_path_factory.mktemp("model") / "m"
    rule, spec = LabelRule("category_id", (("purchase",),), 1), NetworkSpec((2,), 0.0, True, ())
    index = np.arange(len(CATEGORIES))
    layout, draw = Layout.of(SPACE, rule, index), np.random.default_rng(1)
    shapes = layout.shapes(spec).items()
    parameters = {n: draw.normal(0, 0.5, shape).astype(np.float32) for n, shape in shapes}
    symbol = symbol_json(layout, spec)
    artefact.save(TrainedModel(SPACE, rule, index, spec, parameters, symbol), path)
    return NativeEngine(artefact.load(path, SPACE.fingerprint))


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


class Engine:
    """Another model version of the same parameters."""

    def __init__(self, engine: NativeEngine, version: str) -> None:
        self.categories, self.classes = engine.categories, engine.classes
        self.model_version, self.score = version, engine.score
        self.fingerprint, self.warm_up = engine.fingerprint, engine.warm_up
        self.use_trend = engine.use_trend


class Member:
    """A member that owns some partitions of the topic `events`, and what it published."""

    def __init__(
        self, server: EmbeddedRedis, engine: NativeEngine, *partitions: int, **refresh: Any
    ) -> None:
        overrides: dict[str, Any] = {
            "kafka": {"input_topic": "events"},
            "store": {"namespace": "shop", "time_to_live_seconds": 0},
            "refresh": {"customers_per_second": 1_000_000, "least_change": 0, **refresh},
        }
        self.settings = Settings.load(None, overrides=overrides, environment={})
        self.store = RedisStore(redis.Redis(port=server.port), "shop", SPACE.fingerprint)
        self.now_ms, self.seconds = NOW_MS, 1000.0
        policy = PublishPolicy("all")
        self.engine = engine
        self.scoring = Scoring(engine, SPACE, policy, lambda: self.now_ms)
        self.committed = {("events", p): 100 for p in partitions}
        self.next_offsets, self.behind = dict(self.committed), dict.fromkeys(self.committed, 0)
        self.begun = dict.fromkeys(self.committed, 0)
        self.offsets_sent: list[Any] = []
        self.failures: list[Exception] = []
        self.values: list[bytes] = []
        self.pipeline = SimpleNamespace(idle=True)
        self.source = SimpleNamespace(
            acknowledged=lambda: self.committed, lag=lambda: self.behind,
            publishes_from=lambda: self.begun,
            handed_out=lambda: self.next_offsets,
        )  # fmt: skip
        self.sink = self
        self.metrics = Metrics()
        for tp, offset in self.committed.items():
            self.store.begin({tp: 0})
            self.store.advance({tp: offset})
        self.begin_anew()

    def begin_anew(self) -> None:
        """As after a restart of the process."""
        consumer: Any = self
        self.refresher = Refresher(consumer, self.metrics, lambda: self.now_ms, self._clock)

    def _clock(self) -> float:
        self.seconds += 0.0001
        return self.seconds

    def deliver(self, keys: Any, values: Any, dead_letters: Any, next_offsets: Any) -> None:
        if self.failures:
            raise self.failures.pop()
        self.offsets_sent.append(next_offsets)
        self.values += values

    def partition_count(self) -> int:
        return 2

    def work(self, slices: int = 40) -> PublishedPropensities:
        """What these slices published."""
        self.values.clear()
        for _ in range(slices):
            self.refresher.slice()
            self.seconds += 0.5
        return decode_propensities(self.values)

    def add(self, *customers: str, partition: int = 0, offset: int = 50, topic: str = "events",
            at_ms: int = EVENT_MS) -> None:  # fmt: skip
        """One event of each customer, saved and, where it lies below the committed offset,
        published."""
        events = [
            {"event_id": c, "customer_id": c, "event_type": "purchase", "category_id": "soup",
             "occurred_at": at_ms} for c in customers
        ]  # fmt: skip
        n = len(events)
        records = RecordBatch(
            list(encode_events(events)), [None] * n, [(topic, partition)], np.zeros(n, np.int32),
            np.arange(offset, offset + n), np.zeros(n, np.int64),
        )  # fmt: skip
        batch, _ = Decoder(lambda _key: None, max_record_bytes=1000).decode(records)
        customer, ids = batch.customer_id.intern()
        loaded = self.store.load(ids)
        states = fold.fold_events(loaded, batch, customer, SPACE).states
        assert not len(self.store.save(states, np.arange(n), loaded))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"stream_scorer_{name}", labels)


@pytest.fixture
def member(server: EmbeddedRedis, engine: NativeEngine) -> Member:
    redis.Redis(port=server.port).flushall()
    return Member(server, engine, 0)


def test_quiet_customers_are_scored_as_of_now_once_in_a_round(member: Member) -> None:
    member.add("ann", "bob")
    found = member.work()
    assert sorted(found.customer_ids) == ["ann", "bob"]
    assert found.as_of_ms.tolist() == [NOW_MS, NOW_MS]
    assert sorted(found.offset.tolist()) == [50, 51]
    assert not len(member.work())
    member.now_ms += DAY_MS
    assert member.work().as_of_ms.tolist() == [NOW_MS + DAY_MS] * 2


def test_a_customer_who_acted_since_the_round_began_is_left_alone(member: Member) -> None:
    member.add("ann", at_ms=NOW_MS - 1000)
    assert not len(member.work())
    assert member.metric("refresh_customers_total", outcome="fresh") == 1


def test_an_event_after_a_refresh_makes_its_mark_void(member: Member) -> None:
    member.add("ann")
    member.work()
    # It came late: it is published as of a moment before the refresh.
    member.add("ann", offset=60, at_ms=EVENT_MS + 1000)
    member.now_ms += DAY_MS
    found = member.work()
    assert (found.offset.tolist(), found.as_of_ms.tolist()) == ([60], [NOW_MS + DAY_MS])


def test_a_restart_goes_on_where_the_round_was(
    server: EmbeddedRedis, engine: NativeEngine, member: Member
) -> None:
    member = Member(server, engine, 0, customers_per_second=40)
    member.add(*(f"c{i}" for i in range(40)))
    first = member.work(2)
    assert 0 < len(first) < 40
    member.begin_anew()
    second = member.work()
    assert sorted(first.customer_ids + second.customer_ids) == sorted(f"c{i}" for i in range(40))


def test_a_record_ahead_of_what_is_published_waits_for_its_micro_batch(member: Member) -> None:
    member.add("ann", offset=100)
    assert not len(member.work())
    assert member.metric("refresh_customers_total", outcome="waiting") == 1


def test_nothing_is_refreshed_while_a_batch_is_not_finished(member: Member) -> None:
    member.add("ann")
    member.pipeline.idle = False
    assert not len(member.work())


def test_a_partition_that_lags_is_refreshed_once_it_has_caught_up(member: Member) -> None:
    member.add("ann")
    member.behind["events", 0] = member.settings.batch.max_events + 1
    assert not len(member.work())
    member.behind["events", 0] = 0
    assert len(member.work()) == 1


def test_a_partition_whose_lag_is_not_known_yet_waits_as_one_that_lags(member: Member) -> None:
    member.add("ann")
    del member.behind["events", 0]
    assert not len(member.work())
    member.behind["events", 0] = 0
    assert len(member.work()) == 1


def test_each_customer_belongs_to_the_member_that_owns_its_newest_partition(
    member: Member, server: EmbeddedRedis, engine: NativeEngine
) -> None:
    member.add("ann", "bob")
    member.add("bob", "cid", partition=1, offset=60)
    other = Member(server, engine, 1)
    assert member.work().customer_ids == ["ann"]
    assert sorted(other.work().customer_ids) == ["bob", "cid"]


def test_customers_known_from_files_alone_are_refreshed_by_one_member(
    member: Member, server: EmbeddedRedis, engine: NativeEngine
) -> None:
    ids = [f"c{i}" for i in range(20)]
    member.add(*ids, topic="files")
    ours, theirs = member.work(), Member(server, engine, 1).work()
    assert sorted(ours.customer_ids + theirs.customer_ids) == sorted(ids)
    assert set(ours.offset.tolist()) == {-1}
    assert 0 < len(ours) < 20
    assert not len(member.work())


def test_scores_that_hardly_move_are_not_published_until_they_have_moved_enough(
    member: Member, server: EmbeddedRedis, engine: NativeEngine
) -> None:
    member.add("ann")
    member.work()
    calm = Member(server, engine, 0, least_change=0.01)
    published = []
    # By then the customer's vector has all but faded.
    for day in range(1, 8):
        calm.now_ms = NOW_MS + day * DAY_MS
        published.append(len(calm.work()))
    assert sum(published) < 7
    assert calm.metric("refresh_customers_total", outcome="unmoved") == 7 - sum(published)


def test_small_changes_add_up_against_what_was_published_last(
    member: Member, server: EmbeddedRedis, engine: NativeEngine
) -> None:
    member.add("ann", at_ms=NOW_MS - DAY_MS)
    member.work()
    states = member.store.load(["ann"])
    moments = [np.array([NOW_MS + day * DAY_MS]) for day in (0, 1, 2)]
    now, one, two = (member.scoring.scores(states, at)[0, :, 1] for at in moments)
    daily, both = np.abs(one - now).max(), np.abs(two - now).max()
    calm = Member(server, engine, 0, least_change=float((daily + both) / 2))
    calm.now_ms += DAY_MS
    assert not len(calm.work())
    calm.now_ms += DAY_MS
    assert len(calm.work()) == 1


def test_scores_with_a_trend_that_is_not_known_any_more_are_published_again(
    member: Member, server: EmbeddedRedis, engine: NativeEngine
) -> None:
    """What was published can't be computed again then, so nobody knows how far it has moved."""
    member.add("ann", "bob")
    member.work()
    member.add("bob", offset=60, at_ms=NOW_MS + 3 * DAY_MS)
    calm = Member(server, engine, 0, least_change=1)

    class Shop:
        """In place of ShopTrend: it knows the days from a week ago on."""

        def __init__(self) -> None:
            self.asked: list[bool] = []

        def table(self, as_of_ms: Any, *, published: bool = True) -> TrendTable:
            self.asked.append(published)
            today = calm.now_ms // DAY_MS
            return TrendTable(today - 7, np.zeros((8, 1, 2), np.float32))

    shop: Any = Shop()
    calm.scoring = Scoring(engine, SPACE, PublishPolicy("all"), lambda: calm.now_ms, trend=shop)
    calm.now_ms = NOW_MS + 7 * DAY_MS
    assert not len(calm.work())
    assert shop.asked
    assert not any(shop.asked)  # nothing was published, so no row of an early day was either
    calm.now_ms += DAY_MS
    assert calm.work().customer_ids == ["ann"]
    calm.now_ms += DAY_MS
    assert not len(calm.work())


def test_all_are_refreshed_after_the_model_has_changed(
    member: Member, engine: NativeEngine
) -> None:
    member.add("ann")
    member.add("bob", offset=60, at_ms=NOW_MS - 1000)  # fresh, but of the other model
    member.work()
    member.scoring.serve(Engine(engine, "v2"))
    found = member.work()
    assert sorted(found.customer_ids) == ["ann", "bob"]
    assert set(found.model_versions) == {"v2"}
    assert not len(member.work())
    assert member.metric("scores", model_version="v2") == 2


def test_a_model_that_changed_while_nobody_ran_is_noticed(
    member: Member, engine: NativeEngine
) -> None:
    member.add("ann", at_ms=NOW_MS - 1000)
    assert not len(member.work())
    member.scoring.serve(Engine(engine, "v2"))
    member.begin_anew()
    # The events that this process published since its start are of the new model.
    member.source.publishes_from = lambda: {("events", 0): 80}
    member.add("bob", offset=90, at_ms=NOW_MS - 1000)
    assert member.work().customer_ids == ["ann"]


def test_all_due_begins_a_round_though_none_are_scheduled(
    member: Member, server: EmbeddedRedis, engine: NativeEngine
) -> None:
    quiet = Member(server, engine, 0, every="")
    quiet.add("ann")
    quiet.work()
    quiet.scoring.serve(Engine(engine, "v2"))
    assert not len(quiet.work())
    quiet.refresher.all_due("model v2 was activated")
    assert quiet.work().customer_ids == ["ann"]


def test_a_request_is_done_as_of_its_moment_and_noted(member: Member) -> None:
    member.add("ann", at_ms=NOW_MS - 2000)
    member.add("bob", offset=60, at_ms=NOW_MS - 500)
    member.work()
    asking = RefreshStore(member.store, "shop", "events")
    asking.ask(RefreshRequest("r1", NOW_MS, NOW_MS - 1000))
    found = member.work()
    assert (found.customer_ids, found.as_of_ms.tolist()) == (["ann"], [NOW_MS - 1000])
    (kept,) = asking.partitions([("events", 0)])
    assert (kept.answered, kept.finished, kept.refreshed) == ("r1", True, 1)


def test_a_page_that_kafka_did_not_confirm_is_tried_again(member: Member) -> None:
    member.add("ann")
    member.failures.append(BusUnavailable("no answer"))
    with pytest.raises(BusUnavailable):
        member.work()
    assert member.work().customer_ids == ["ann"]


def test_nothing_is_published_from_a_store_that_lost_writes(
    member: Member, server: EmbeddedRedis
) -> None:
    member.add("ann")
    client = redis.Redis(port=server.port)
    client.set("shop:watermark:events:0", 10)
    with pytest.raises(StoreRewound):
        member.work()
    assert not member.values
    # Nor while the lost events are read again.
    assert not len(member.work())
    client.set("shop:watermark:events:0", 100)
    assert len(member.work()) == 1


def test_a_mark_lives_as_long_as_the_record(member: Member, server: EmbeddedRedis) -> None:
    client = redis.Redis(port=server.port)
    member.add("ann")
    member.work()
    assert client.strlen("shop:r:ann") == 28
    assert client.ttl("shop:r:ann") == -1
    states, _, _ = member.refresher._store.load(["ann"])
    member.refresher._store.note(states, [b"m"], EVENT_MS, 3_600_000)
    assert 0 < client.pttl("shop:r:ann") <= 2 * 3_600_000
    client.delete("shop:c:ann", "shop:r:ann")
    member.refresher._store.note(states, [b"m"], EVENT_MS, 3_600_000)
    assert not client.exists("shop:r:ann")


def erasing(member: Member, customer: str, *then: Callable[[], None]) -> Callable[..., None]:
    """In place of a member's `deliver`: after it, once, the customer is forgotten on request."""
    real, waiting = member.deliver, [*then]

    def deliver(*given: Any) -> None:
        real(*given)
        if waiting:
            Erasures(member.store.server, "shop", SPACE.fingerprint).erase({customer: NOW_MS})
            for act in waiting:
                act()
            waiting.clear()

    return deliver


def test_the_score_of_a_customer_who_is_forgotten_meanwhile_is_taken_back_and_not_noted(
    member: Member, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.add("ann", "bob")
    monkeypatch.setattr(member, "deliver", erasing(member, "ann", lambda: None))
    member.values.clear()
    for _ in range(40):
        member.refresher.slice()
    assert len(member.values) == 3
    assert member.values[-1] is None, "the tombstone is the last word"
    client = redis.Redis(port=server.port)
    assert client.keys("shop:r:*") == [b"shop:r:bob"]


def test_who_comes_back_while_her_score_is_taken_back_has_the_score_of_what_she_did_since(
    member: Member, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def comes_back() -> None:
        member.add("ann", offset=60, at_ms=NOW_MS + 1)

    member.add("ann")
    monkeypatch.setattr(member, "deliver", erasing(member, "ann", comes_back))
    found = member.work(3)
    assert found.offset.tolist() == [50, 60]
    assert found.as_of_ms[1] == NOW_MS + 1
    # What was before the request is not noted, nor is what took it back.
    assert redis.Redis(port=server.port).keys("shop:r:*") == []


def test_a_score_that_could_not_be_taken_back_is_so_with_the_next_page(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.add("ann")
    away = [BusUnavailable("Kafka is away")]
    monkeypatch.setattr(
        member, "deliver", erasing(member, "ann", lambda: member.failures.extend(away))
    )
    with pytest.raises(BusUnavailable):
        member.work()
    member.add("bob")
    member.values.clear()
    for _ in range(40):
        member.refresher.slice()
        member.seconds += 0.5
    assert member.values[0] is None


def test_the_committed_offsets_go_with_every_page(member: Member) -> None:
    member.add("ann")
    member.work()
    assert member.offsets_sent == [{("events", 0): 100}]


def test_the_rate_is_kept(member: Member, server: EmbeddedRedis, engine: NativeEngine) -> None:
    member.add(*(f"c{i}" for i in range(40)))
    slow = Member(server, engine, 0, customers_per_second=8)
    # A quarter of it at once, however long the slices lie apart; the first one looks for customers.
    assert len(slow.work(6)) == 5 * 2


def test_the_age_of_the_oldest_score_is_that_of_the_last_whole_round(member: Member) -> None:
    member.add("ann")
    member.work()
    member.now_ms += 3000
    member.work(3)
    assert member.metric("oldest_score_seconds") == 8.0
    assert member.metric("refresh_progress") == 1


def test_other_limits_hold_from_now_on(
    member: Member, server: EmbeddedRedis, engine: NativeEngine
) -> None:
    member.add(*(f"c{i}" for i in range(40)))
    slow = Member(server, engine, 0, every="", customers_per_second=8)
    assert not len(slow.work(5))
    slow.refresher.limit(slow.settings.refresh.model_copy(update={"every": "1d"}))
    assert len(slow.work(6)) == 5 * 2
    fast: dict[str, Any] = {"every": "1d", "customers_per_second": 1_000_000}
    slow.refresher.limit(slow.settings.refresh.model_copy(update=fast))
    assert len(slow.work(5)) == 30
    slow.refresher.limit(slow.settings.refresh.model_copy(update={**fast, "least_change": 1}))
    slow.now_ms += DAY_MS
    assert not len(slow.work())
    assert slow.metric("refresh_customers_total", outcome="unmoved") == 40


def test_every_setting_of_refreshing_is_taken_while_it_runs() -> None:
    nothing: Any = None
    fields = {f"refresh.{name}" for name in RefreshSettings.model_fields}
    assert fields <= _appliers(nothing, nothing, nothing, None).keys()


def rest_after_a_round(member: Member) -> None:
    """A slice has just refreshed a customer, so that the next ones do nothing for a while."""
    member.add("ann")
    member.work()
    member.now_ms += DAY_MS
    for _ in range(40):
        member.refresher.slice()
        if member.values:
            break
    member.refresher._pace._credit_seconds = -60.0


def test_a_model_that_served_only_while_the_refresher_rested_is_noted(
    member: Member, engine: NativeEngine
) -> None:
    rest_after_a_round(member)
    member.scoring.serve(Engine(engine, "v2"))
    member.refresher.slice()
    # v2 scores the events from 100 to 149, and is rolled back.
    member.next_offsets["events", 0] = member.committed["events", 0] = 150
    member.store.advance({("events", 0): 150})
    member.scoring.serve(engine)
    member.refresher.slice()
    (kept,) = RefreshStore(member.store, "shop", "events").partitions([("events", 0)])
    versions = [kept.served_at(offset) for offset in (99, 100, 149, 150)]
    assert versions == [engine.model_version, "v2", "v2", engine.model_version]


def test_what_another_member_noted_of_a_partition_that_came_back_is_kept(
    member: Member, server: EmbeddedRedis, engine: NativeEngine
) -> None:
    rest_after_a_round(member)
    other = Member(server, engine, 0)
    other.scoring.serve(Engine(engine, "v2"))
    other.begun = {("events", 0): 100}
    other.work(1)
    member.begun = {("events", 0): 150}
    member.refresher.slice()
    (kept,) = RefreshStore(member.store, "shop", "events").partitions([("events", 0)])
    versions = [kept.served_at(offset) for offset in (99, 100, 149, 150)]
    assert versions == [engine.model_version, "v2", "v2", engine.model_version]


def test_age_of_the_oldest_score_is_not_known_where_a_partition_never_saw_a_round(
    member: Member,
) -> None:
    member.add("ann")
    member.work()
    member.now_ms += DAY_MS
    member.work()
    assert member.metric("oldest_score_seconds") is not None
    assert not np.isnan(member.metric("oldest_score_seconds") or 0)
    tp = ("events", 1)
    member.begun[tp] = member.next_offsets[tp] = 0
    member.committed[tp] = 100
    member.behind[tp] = 10**9  # so that no round begins there
    member.store.begin({tp: 0})
    member.store.advance({tp: 100})
    member.work()
    assert np.isnan(member.metric("oldest_score_seconds") or 0)
    member.committed.clear()
    member.work()
    assert np.isnan(member.metric("oldest_score_seconds") or 0)
