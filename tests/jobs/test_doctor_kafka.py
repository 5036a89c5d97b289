"""`doctor` looks at Kafka: what is wrong is one line, and the remedy is said once."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from stream_scorer.checks.finding import Finding
from stream_scorer.checks.kafka import _bound, kafka_findings
from stream_scorer.checks.record_sample import sample_findings
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.partitioners import partition_of_key
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.io.kafka import newest_records
from stream_scorer.io.kafka.admin import GroupPosition
from stream_scorer.io.kafka.producer import BY_KEY, ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.settings.tree import Settings


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.load(config, environment={})


def with_kafka(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"properties": {"foo.bar": "1"}}, "no such property"),
        ({"properties": {"session.timeout.ms": "x"}}, "correct it"),
        ({"bootstrap_servers": "127.0.0.1:1"}, "nothing listens there"),
    ],
    ids=["name", "value", "refused"],
)
def test_the_remedy_of_an_error_is_said_once(
    settings: Settings, changes: dict[str, Any], remedy: str
) -> None:
    (found,) = kafka_findings(with_kafka(settings, **changes))
    assert remedy in str(found.remedy)
    assert remedy not in found.found


PARTITIONERS = [
    "murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a",
]  # fmt: skip
IDS = [f"customer {i}" for i in range(300)]


@pytest.fixture
def send(settings: Settings, kafka: EmbeddedKafka) -> Callable[..., None]:
    """send(ids, keys=those, partitioner="murmur2_random", partition=BY_KEY): events of the ids."""
    kafka.create(settings.kafka.input_topic)

    def sent(
        ids: list[str], keys: list[bytes | None] | None = None,
        partitioner: str = "murmur2_random", partition: int = BY_KEY,
    ) -> None:  # fmt: skip
        producer = ConfirmedProducer(
            {"bootstrap.servers": kafka.bootstrap_servers, "partitioner": partitioner}
        )
        events = [
            {"event_id": f"{i}", "customer_id": i, "event_type": "view", "occurred_at": 1}
            for i in ids
        ]
        wanted = [i.encode() for i in ids] if keys is None else keys
        producer.send(settings.kafka.input_topic, wanted, encode_events(events), partition)
        assert producer.settle() == []
        producer.close()

    return sent


def looked_at(settings: Settings) -> list[Finding]:
    kafka = settings.kafka
    with TopicReader(kafka.consumer_properties(), kafka.input_topic, batch_records=1) as reader:
        return list(sample_findings(settings, reader.log))


@pytest.mark.parametrize("partitioner", PARTITIONERS)
def test_partitions_of_keys_are_those_of_the_client(
    settings: Settings, send: Callable[..., None], partitioner: str
) -> None:
    draw = random.Random(1)
    keys = [draw.randbytes(draw.randrange(1, 40)) for _ in range(400)]
    send(["c"] * len(keys), keys, partitioner)
    kafka = settings.kafka
    with TopicReader(kafka.consumer_properties(), kafka.input_topic, batch_records=999) as reader:
        (batch,) = reader
    found = [batch.partitions[i][1] for i in batch.partition_index.tolist()]
    assert len(set(found)) == 4
    assert [partition_of_key(partitioner, key or b"", 4) for key in batch.keys] == found


def test_records_as_they_should_be_are_good(settings: Settings, send: Callable[..., None]) -> None:
    send(IDS)
    (found,) = looked_at(settings)
    assert found.ok
    assert found.found.startswith("the newest 300 looked at: keyed by customer")


def test_a_topic_without_records_is_good(settings: Settings, kafka: EmbeddedKafka) -> None:
    kafka.create(settings.kafka.input_topic)
    (found,) = looked_at(settings)
    assert (found.ok, found.found) == (
        True, "there are none yet, so their keys can't be looked at"
    )  # fmt: skip


def test_another_partitioner_is_found_and_customers_in_two_partitions(
    settings: Settings, send: Callable[..., None]
) -> None:
    send(IDS[:100])
    send(IDS[50:150], partitioner="consistent_random")
    misplaced, split = looked_at(settings)
    expected = sum(
        partition_of_key("murmur2", i.encode(), 4) != partition_of_key("consistent", i.encode(), 4)
        for i in IDS[50:150]
    )
    assert misplaced.found.startswith(f"{expected} of the newest 200 are in another partition")
    twice = sum(
        partition_of_key("murmur2", i.encode(), 4) != partition_of_key("consistent", i.encode(), 4)
        for i in IDS[50:100]
    )
    assert split.found.startswith(f"{twice} of 150 customers of the newest 200 records are in two")
    assert "kafka.partitioner" in str(misplaced.remedy)
    assert "kafka.partitioner" in str(split.remedy)
    other = settings.kafka.model_copy(update={"partitioner": "consistent_random"})
    assert (
        "in another partition" in looked_at(settings.model_copy(update={"kafka": other}))[0].found
    )


def test_keys_that_are_not_the_customer_id_are_counted(
    settings: Settings, send: Callable[..., None]
) -> None:
    send(IDS[:7], [None, None, b"session", *(i.encode() for i in IDS[3:7])])
    (found,) = looked_at(settings)
    assert found.found == "3 of the newest 7 have another key than the customer id, or none"
    assert found.remedy == "key the producers' records by customer_id"


def test_records_that_are_no_events_are_one_line(settings: Settings, kafka: EmbeddedKafka) -> None:
    kafka.create(settings.kafka.input_topic)
    producer = ConfirmedProducer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.send(settings.kafka.input_topic, [b"k"] * 3, [b"junk", None, b""])
    producer.settle()
    (found,) = looked_at(settings)
    assert found.found.startswith("none of the newest 3 is an event, such as customer-events[")


def test_only_the_newest_records_are_read(
    settings: Settings, send: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest_records, "MOST_RECORDS_OF_PARTITION", 10)
    send(["old"] * 50, [b"foreign"] * 50, partition=2)
    send(["new"] * 10, [b"new"] * 10, partition=2)
    found = looked_at(settings)
    assert not any("another key" in f.found for f in found)
    assert all("newest 10" in f.found for f in found)


def test_brokers_that_do_not_answer_while_records_are_read_are_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest_records, "MOST_SECONDS", 1.0)
    topic = settings.kafka.input_topic
    away = with_kafka(settings, bootstrap_servers="127.0.0.1:1")
    (found,) = sample_findings(away, {(topic, 0): (0, 5)})
    assert "they can't be looked at" in found.found
    assert "nothing listens there" in str(found.remedy)


def test_brokers_that_accept_and_never_answer_are_one_line(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers = f"127.0.0.1:{listener.getsockname()[1]}"
        (found,) = kafka_findings(with_kafka(settings, bootstrap_servers=servers))
    assert servers in found.found
    assert not found.ok


def test_a_roll_out_that_lasts_is_no_problem_and_a_third_namespace_is(
    settings: Settings, redis_server: EmbeddedRedis
) -> None:
    topic = settings.kafka.input_topic
    named = {
        (topic, p): GroupPosition(0, 9, 9, name) for p, name in enumerate(("next", "stream-scorer"))
    }
    (found,) = _bound(settings, named)
    assert "stop the members of next" in str(found.remedy)
    with redis.Redis(port=redis_server.port) as client:
        RedisStore(client, settings.store.namespace, 0).share_group_with("next", "1")
    (found,) = _bound(settings, named)
    assert found.ok
    assert found.found.endswith("1 of 2 partitions are read for next")
    (found,) = _bound(settings, {**named, (topic, 2): GroupPosition(0, 9, 9, "third")})
    assert not found.ok
