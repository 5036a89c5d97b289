"""Retention on Apache Kafka: what `topics create` sets, and what a replay of the rest is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from servers import KafkaServer, RedisServer

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.errors import InputError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.kafka.group_offsets import Owner, metadata_of
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.jobs import topics
from stream_scorer.jobs.doctor import doctor
from stream_scorer.jobs.replay import Window, rebuild
from stream_scorer.jobs.rollout import rollout
from stream_scorer.live.consumer import open_store
from stream_scorer.settings.tree import Settings

pytestmark = pytest.mark.containers

START = 1_700_000_000_000
CONFIG = """
[vocabularies]
category_id = ["soup", "bread"]
[[features]]
name = "bought"
by = ["category_id"]
half_lives = ["2d", "inf"]
"""


def events(count: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "event_id": str(i), "customer_id": f"c{i % 7}", "event_type": "purchase",
            "category_id": ("soup", "bread")[i % 2], "occurred_at": START + 1000 * i,
        }
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def settings(
    kafka: KafkaServer, redis_server: RedisServer, unique: str, tmp_path: Path
) -> Settings:
    path = tmp_path / "scorer.toml"
    path.write_text(CONFIG)
    names = ("input_topic", "output_topic", "dead_letter_topic")
    overrides: dict[str, Any] = {
        "kafka": {
            "bootstrap_servers": kafka.bootstrap, "group_id": unique, "input_partitions": 1,
            **{name: f"{unique}-{name}" for name in names},
        },
        "redis": {"url": redis_server.url},
        "store": {"namespace": unique},
    }  # fmt: skip
    return Settings.load(path, overrides=overrides, environment={})


def published(kafka: KafkaServer, settings: Settings, some: list[dict[str, Any]]) -> None:
    """One record for each event, whose time is the event's."""
    producer = ConfirmedProducer({"bootstrap.servers": kafka.bootstrap})
    for event, value in zip(some, encode_events(some), strict=True):
        producer.client.produce(
            settings.kafka.input_topic, value, b"k", timestamp=event["occurred_at"]
        )
    assert producer.settle() == []
    producer.close()


def delete_up_to(kafka: KafkaServer, topic: str, offset: int) -> None:
    found = kafka.admin.delete_records([TopicPartition(topic, 0, offset)])
    next(iter(found.values())).result(30)


def sums_of(settings: Settings, namespace: str) -> dict[str, list[float]]:
    store = settings.store.model_copy(update={"namespace": namespace})
    space = settings.feature_space()
    found: dict[str, list[float]] = {}
    opened = open_store(settings.model_copy(update={"store": store}), space)
    for states in opened.scan():
        a = states.arrays
        for i, customer in enumerate(states.customer_ids):
            found[customer] = a.sum_value[a.sum_at[i] : a.sum_at[i + 1]].tolist()
    opened.close()
    return found


def log_without_its_oldest(
    kafka: KafkaServer, settings: Settings, whole: str
) -> list[dict[str, Any]]:
    """Publish events, replay them into the namespace `whole`, have the log lose 25; all events."""
    topics.create(settings)
    made = events()
    published(kafka, settings, made)
    rebuild(settings, ["topic"], whole)
    delete_up_to(kafka, settings.kafka.input_topic, 25)
    return made


def test_a_log_without_its_oldest_events_is_refused_until_the_files_were_replayed_first(
    kafka: KafkaServer, settings: Settings, unique: str, tmp_path: Path
) -> None:
    made = log_without_its_oldest(kafka, settings, f"{unique}-whole")
    with pytest.raises(InputError, match=r"begins at offset 25 \(2023-11-14T22:13:45.000Z\)"):
        rebuild(settings, ["topic"], f"{unique}-half")
    assert sums_of(settings, f"{unique}-half") == {}

    write_events(tmp_path / "all.avro", made)
    boundary = START + 25_000
    files = rebuild(settings, [tmp_path / "all.avro"], f"{unique}-both", Window(to_ms=boundary))
    rest = rebuild(settings, ["topic"], f"{unique}-both", Window(from_ms=boundary))
    assert (files.counts.applied, rest.counts.applied) == (25, 35)
    assert (files.counts.outside_window, rest.counts.outside_window) == (35, 0)
    assert sums_of(settings, f"{unique}-both") == sums_of(settings, f"{unique}-whole")

    later = Window(from_ms=boundary + 10_000)
    counts = rebuild(settings, ["topic"], f"{unique}-later", later).counts
    assert (counts.applied, counts.outside_window) == (25, 10)

    accepted = Window(missing_history="accept")
    assert rebuild(settings, ["topic"], f"{unique}-rest", accepted).counts.applied == 35


def test_a_roll_out_takes_from_files_what_the_log_lost(
    kafka: KafkaServer, settings: Settings, unique: str, tmp_path: Path
) -> None:
    made = log_without_its_oldest(kafka, settings, f"{unique}-whole")
    old = open_store(settings, settings.feature_space())
    old.claim()
    old.keep_identity()
    old.close()
    group = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": unique})
    metadata = metadata_of(Owner(unique, old.identity))
    offset = TopicPartition(settings.kafka.input_topic, 0, 50, metadata)
    group.commit(offsets=[offset], asynchronous=False)
    group.close()
    store = settings.store.model_copy(update={"namespace": f"{unique}-new"})
    new = settings.model_copy(update={"store": store})
    with pytest.raises(InputError, match=r"--topic-from TIME.*at the earliest 2023-11-14T22:13:45"):
        rollout(new, wait=False)

    write_events(tmp_path / "all.avro", made)
    found = rollout(new, [str(tmp_path / "all.avro")], START + 25_000, wait=False)
    assert (found.step, found.behind, found.moved) == ("model", 0, 0)
    assert sums_of(settings, f"{unique}-new") == sums_of(settings, f"{unique}-whole")


def test_a_log_of_which_nothing_is_left_is_refused_too(
    kafka: KafkaServer, settings: Settings, unique: str
) -> None:
    topics.create(settings)
    published(kafka, settings, events(10))
    delete_up_to(kafka, settings.kafka.input_topic, 10)
    with pytest.raises(InputError, match=r"holds no event any more \(next offset 10\)"):
        rebuild(settings, ["topic"], f"{unique}-none")


def test_a_compacted_input_topic_is_refused_and_reported(
    kafka: KafkaServer, settings: Settings, unique: str
) -> None:
    topics.create(settings)
    published(kafka, settings, events(10))
    kafka.configure_topic(settings.kafka.input_topic, {"cleanup.policy": "compact,delete"})
    with pytest.raises(InputError, match="compaction removes all but the newest events"):
        rebuild(settings, ["topic"], f"{unique}-compacted")
    problems = [p.found for t in topics.check(settings).topics for p in t.problems]
    assert any("compaction has removed" in found for found in problems)


def test_topics_are_made_to_keep_events_and_doctor_says_where_one_does_not(
    kafka: KafkaServer, settings: Settings
) -> None:
    topics.create(settings)
    assert topics.check(settings).ok
    kept = {f.check: f.found for f in doctor(settings).findings}
    assert "kept for ever" in kept[f"topic {settings.kafka.input_topic}"]
    assert "every event since its first" in kept[f"history of {settings.kafka.input_topic}"]

    week = {"retention.ms": 604_800_000, "retention.bytes": 1_000_000}
    kafka.configure_topic(settings.kafka.input_topic, week)
    published(kafka, settings, events(5))
    delete_up_to(kafka, settings.kafka.input_topic, 2)
    wrong = [f for f in doctor(settings).findings if not f.ok]
    texts = [f"{f.check}: {f.found}" for f in wrong]
    assert any("events are kept 7 days, kafka.input_retention says for ever" in t for t in texts)
    assert any("retention.bytes is 1000000" in t for t in texts)
    assert any("oldest events of 1 of 1 partitions were deleted" in t for t in texts)

    week_is_meant = settings.kafka.model_copy(update={"input_retention": "7d"})
    accepted = settings.model_copy(update={"kafka": week_is_meant})
    kafka.configure_topic(settings.kafka.input_topic, {"retention.bytes": -1})
    about = {f.check: f for f in doctor(accepted).findings}
    assert about[f"history of {settings.kafka.input_topic}"].ok
    assert "kept 7 days" in about[f"topic {settings.kafka.input_topic}"].found


def test_the_oldest_record_of_a_log_is_known_by_its_time(
    kafka: KafkaServer, settings: Settings, make_reader: Callable[[], TopicReader]
) -> None:
    topics.create(settings)
    published(kafka, settings, events(10))
    delete_up_to(kafka, settings.kafka.input_topic, 4)
    with make_reader() as reader:
        assert reader.first_record_ms((settings.kafka.input_topic, 0)) == START + 4000


@pytest.fixture
def make_reader(kafka: KafkaServer, settings: Settings) -> Callable[[], TopicReader]:
    properties = {"bootstrap.servers": kafka.bootstrap, "group.id": "g"}
    return lambda: TopicReader(properties, settings.kafka.input_topic, batch_records=3)
