"""The shop's trend from the consumer's counts in Redis to scores, `verify`, `doctor`, `export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis

from stream_scorer.checks.trend import trend_findings
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.propensity_encoder import PublishedPropensities, decode_propensities
from stream_scorer.core.canary import in_canary
from stream_scorer.core.features import csr
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.trend import TrendTable
from stream_scorer.core.trend_record import KEPT_DAYS, TrendPlan, TrendRecord, shop_table
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.propensities import FILE
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.announcements import Announcement, ModelIdentity
from stream_scorer.io.stores.refresh_store import RefreshRequest, RefreshStore
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.jobs.export import export
from stream_scorer.jobs.replay import propensities, rebuild, replay
from stream_scorer.jobs.verify import in_words, verify
from stream_scorer.live.consumer import Consumer, open_store
from stream_scorer.live.refresh import Refresher
from stream_scorer.live.served_model import identity_of, open_announced
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import Settings
from tests.jobs.trend_shop import CONFIG, DAY, DAYS, START, event_rows
from tests.model.symbol_json import symbol_json

SERVERS = """
[kafka]
bootstrap_servers = "{kafka}"
[redis]
url = "{redis}"
[store]
time_to_live_seconds = 0
trend_save_seconds = 3600
[batch]
max_events = 300
max_age_ms = 50
[publish]
mode = "all"
[refresh]
every = ""
"""
END = START + DAYS * DAY
ROWS = sorted(event_rows(), key=lambda row: row["occurred_at"])


@pytest.fixture
def settings(tmp_path: Path, kafka: EmbeddedKafka, redis_server: EmbeddedRedis) -> Settings:
    path = tmp_path / "scorer.toml"
    servers = SERVERS.format(kafka=kafka.bootstrap_servers, redis=redis_server.url)
    path.write_text(servers + CONFIG)
    found = Settings.load(path, environment={})
    save_model(found, tmp_path / "model", 2)
    return found


def save_model(settings: Settings, path: Path, seed: int) -> None:
    """Of random parameters, in which the trend weighs much."""
    space, rule, spec = settings.feature_space(), settings.label_rule(), NetworkSpec((4,))
    layout, draw = Layout.of(space, rule, np.arange(3)), np.random.default_rng(seed)
    parameters = {
        name: draw.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    parameters["trend_weight"] = np.full_like(parameters["trend_weight"], 3)
    parameters["input_weight"][list(layout.trend)] = 0  # the day itself
    parameters["linear_weight"][list(layout.trend)] = 0
    symbol = symbol_json(layout, spec)
    trained = artefact.TrainedModel(space, rule, np.arange(3), spec, parameters, symbol)
    artefact.save(trained, path)


def publish(settings: Settings, rows: list[dict[str, Any]]) -> None:
    producer = ConfirmedProducer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    keys = [row["customer_id"].encode() for row in rows]
    producer.send(settings.kafka.input_topic, keys, encode_events(rows))
    assert producer.settle() == []
    producer.close()


def regrouped(settings: Settings) -> Settings:
    """With a group of another name: the mock cluster gives partitions to one member of each. It
    can't say that the group before has no members any more, so the namespace is taken from it."""
    with redis.Redis.from_url(settings.redis.url) as client:
        client.delete(f"{settings.store.namespace}:group:{settings.kafka.input_topic}")
    group = settings.kafka.model_copy(update={"group_id": uuid4().hex})
    return settings.model_copy(update={"kafka": group})


def consume(settings: Settings, end: Callable[[Consumer], None] = lambda _consumer: None) -> int:
    """Read all that the topic has; how many propensities that published."""
    published = 0
    with Consumer(regrouped(settings)) as consumer:
        consumer.warm_up()
        consumer.join()
        # Two minutes at most: on a busy machine the embedded broker has taken half of one.
        for _ in range(2400):
            published += consumer.pipeline.step().propensities
            lag = consumer.source.lag()
            if len(lag) == consumer.partition_count() and not any(lag.values()):
                break
        else:
            pytest.fail(f"not read within 2,400 steps: {lag}")
        assert consumer.trend is not None
        consumer.trend.check(Metrics())
        end(consumer)
    return published


def stored(settings: Settings) -> dict[Any, TrendRecord]:
    plan = TrendPlan.of(settings.feature_space())
    assert plan is not None
    store = open_store(settings, settings.feature_space())
    trends = TrendStore(store.server, settings.store.namespace, plan)
    found = trends.load(trends.partitions())
    store.close()
    return found


def replayed(settings: Settings, folder: Path, day: int) -> TrendTable:
    """What a replay of files says of one day."""
    write_events(folder / "events.avro", ROWS)
    replay(settings, [folder / "events.avro"], folder / "snapshot", [day * DAY])
    found = Snapshot.open(folder / "snapshot").trend
    assert found is not None
    return found


def test_consumers_count_each_event_once_though_one_was_killed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(settings, ROWS[:2000])
    assert consume(settings) > 0
    publish(settings, ROWS[2000:])
    with monkeypatch.context() as killed:  # nothing that it counted gets to Redis
        killed.setattr(TrendStore, "save", lambda *_: None)
        assert consume(settings) > 0
    assert sum(record.next_offset for record in stored(settings).values()) == 2000
    read_again = consume(settings)
    assert read_again == 0
    report = verify(settings, 0, seed=1)
    assert (report.ok, report.trend_differences, report.trends_unverifiable) == (True, (), 0)
    assert report.trends_checked == len(stored(settings)) > 1
    assert sum(record.next_offset for record in stored(settings).values()) == len(ROWS)
    day = (END - 6 * DAY) // DAY
    past = replayed(settings, tmp_path, day)
    plan = TrendPlan.of(settings.feature_space())
    assert plan is not None
    live = shop_table(plan, stored(settings).values(), day, day)
    assert np.abs(past.contrasts).max() > 0.3
    np.testing.assert_allclose(live.contrasts, past.contrasts, atol=2e-3)


def test_customers_are_scored_with_the_trend_of_their_day(settings: Settings) -> None:
    publish(settings, ROWS)
    tables: list[Any] = []

    def look(consumer: Consumer) -> None:
        assert consumer.trend is not None
        tables.append(consumer.trend.table(np.array([END])))
        assert consumer.scoring._table is not None
        assert consumer.trend.early_rows > 0  # of customers whose newest event is weeks old

    consume(settings, look)
    (table,) = tables
    assert table.last_day == END // DAY
    assert table.first_day <= END // DAY - KEPT_DAYS
    plan = TrendPlan.of(settings.feature_space())
    assert plan is not None
    whole = shop_table(plan, stored(settings).values(), table.first_day, table.last_day)
    np.testing.assert_array_equal(table.contrasts, whole.contrasts)


def test_switched_models_canaries_and_refreshes_score_with_the_trend_of_their_moment(
    settings: Settings, tmp_path: Path
) -> None:
    for seed, name in enumerate(("next", "canary"), start=3):
        save_model(settings, tmp_path / name, seed)
    canary = {"path": tmp_path / "canary", "mode": "canary", "share": 0.5}
    challenger = settings.challenger.model_copy(update=canary)
    settings = settings.model_copy(update={"challenger": challenger})
    publish(settings, ROWS[:3000])
    now_ms = END + DAY
    found: list[tuple[PublishedPropensities, CustomerStates, TrendTable]] = []

    def switch(consumer: Consumer) -> None:
        said = Announcement(1, identity_of(tmp_path / "next"), ModelIdentity("", "", ""), 0)
        consumer.serve(open_announced(settings, consumer.space, said))
        publish(settings, ROWS[3000:])
        records = 0
        while records < 1000:
            records += consumer.pipeline.step().records
        newest: dict[bytes, bytes] = {}
        deliver, sink = consumer.sink.deliver, cast(Any, consumer.sink)

        def noted(keys: list[bytes], values: list[bytes], *others: Any) -> None:
            # An event's may still come: a batch is delivered a step after it is folded.
            moments: list[int] = decode_propensities(values).as_of_ms.tolist() if values else []
            newest.update(
                (key, value)
                for key, value, moment in zip(keys, values, moments, strict=True)
                if moment == now_ms
            )
            deliver(keys, values, *others)

        sink.deliver = noted
        refresher = Refresher(consumer, Metrics(), lambda: now_ms)
        topic = settings.kafka.input_topic
        asking = RefreshStore(consumer.store, settings.store.namespace, topic)
        asking.ask(RefreshRequest("all", now_ms, None))
        for _ in range(2400):
            consumer.pipeline.step()  # finds out how far behind the partitions are
            refresher.slice()
            if len(newest) == 60:
                break
        published = decode_propensities(list(newest.values()))
        assert consumer.trend is not None
        table = consumer.trend.table(np.array([now_ms]))
        found.append((published, consumer.store.load(published.customer_ids), table))

    consume(settings, switch)
    ((published, states, table),) = found
    assert len(published) == 60
    matrix = csr.build(states, settings.feature_space(), published.as_of_ms)
    scores, versions = [], []
    for name in ("next", "canary"):
        loaded = artefact.load(tmp_path / name)
        engine = open_engine(loaded, "native")
        engine.use_trend(table)
        scores.append(engine.score(matrix)[:, :, 1])
        versions.append(loaded.manifest.model_version)
    theirs = in_canary(published.customer_ids, 0.5, challenger.salt)
    assert 0 < theirs.sum() < 60
    assert published.model_versions == [versions[one] for one in theirs.tolist()]
    assert published.probabilities is not None
    expected = np.where(theirs[:, None], scores[1], scores[0])
    np.testing.assert_allclose(published.probabilities, expected, rtol=0, atol=1e-6)
    assert np.abs(table.contrasts[-1]).max() > 0.3


def test_a_namespace_built_from_the_topic_has_the_trend_that_a_consumer_goes_on_with(
    settings: Settings,
) -> None:
    publish(settings, ROWS[:3000])
    rebuild(settings, ["topic"], "built")
    store = settings.store.model_copy(update={"namespace": "built"})
    built = settings.model_copy(update={"store": store})
    before = stored(built)
    assert sum(record.next_offset for record in before.values()) == 3000
    assert verify(built, 0, seed=1).trends_checked == len(before)
    publish(settings, ROWS[3000:])
    consume(built)
    assert verify(built, 0, seed=1).ok
    assert sum(record.next_offset for record in stored(built).values()) == 4000


def test_a_replay_of_the_topic_to_propensities_has_the_trend_of_one_of_files(
    settings: Settings, tmp_path: Path
) -> None:
    publish(settings, ROWS)
    write_events(tmp_path / "events.avro", ROWS)
    found = []
    for source, out in (("topic", "a"), (tmp_path / "events.avro", "b")):
        propensities(settings, [source], tmp_path / out, batch_records=700)
        rows = pq.read_table(tmp_path / out / FILE)
        found.append((rows["customer_id"].to_pylist(), rows["probabilities"].to_pylist()))
    assert found[0][0] == found[1][0]
    assert len(found[0][0]) == 60
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=0, atol=1e-6)


def test_a_namespace_built_from_files_counts_them_once_though_it_is_built_twice(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    write_events(tmp_path / "files" / "a.avro", ROWS[:1000])
    write_events(tmp_path / "files" / "b.avro", ROWS[1000:])
    store = settings.store.model_copy(update={"namespace": "built"})
    built = settings.model_copy(update={"store": store})
    rebuild(settings, [tmp_path / "files"], "built")
    (once,) = stored(built).values()
    rebuild(settings, [tmp_path / "files"], "built")
    (twice,) = stored(built).values()
    assert once.encode() == twice.encode()
    assert once.next_offset == len(ROWS)


def test_verify_and_doctor_say_what_is_wrong_with_a_record(
    settings: Settings, redis_server: EmbeddedRedis
) -> None:
    publish(settings, ROWS)
    rebuild(settings, ["topic"], "built")
    store = settings.store.model_copy(update={"namespace": "built"})
    built = settings.model_copy(update={"store": store})
    assert [f.ok for f in trend_findings(built)] == [True]
    records = stored(built)
    tp, record = next(iter(records.items()))
    key = f"built:trend:{tp[0]}:{tp[1]}"
    record.sums[0, 0] *= 1.001
    with redis.Redis(port=redis_server.port) as client:
        client.set(key, record.encode())
        report = verify(built, 0, seed=1)
        assert (report.ok, report.different, len(report.trend_differences)) == (False, 0, 1)
        assert f"{tp[0]}[{tp[1]}]: a decayed sum is" in "\n".join(in_words(report))
        record.missed = 7
        client.set(key, record.encode())
        assert verify(built, 0, seed=1).trends_unverifiable == 1
        assert "7 offsets that could not be counted" in _found(built)
        client.set(key, b"other")
        assert f"{key}" in _found(built)
        client.delete(key)
        client.set("built:trends", b"")
        assert f"there is no record of partitions {tp[1]}" in _found(built).replace(",", "")


def _found(settings: Settings) -> str:
    return "\n".join(f.found for f in trend_findings(settings) if f.remedy)


def test_an_export_carries_the_trend_that_the_store_knows(
    settings: Settings, tmp_path: Path
) -> None:
    publish(settings, ROWS)
    rebuild(settings, ["topic"], "built")
    store = settings.store.model_copy(update={"namespace": "built"})
    built = settings.model_copy(update={"store": store})
    done = export(built, tmp_path / "now", END)
    table = Snapshot.open(tmp_path / "now").trend
    assert table is not None
    assert (done.early_trend_days, table.first_day, table.last_day) == (0, END // DAY, END // DAY)
    assert np.abs(table.contrasts).max() > 0.3
    rows = export(built, tmp_path / "own", None)
    table = Snapshot.open(tmp_path / "own").trend
    assert table is not None
    assert rows.early_trend_days == END // DAY - 1 - KEPT_DAYS - table.first_day
