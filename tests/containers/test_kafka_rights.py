"""Kafka's access control lists: the documented rights are enough, and a missing one is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import launch
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from servers import KafkaServer, RedisServer

from stream_scorer.checks.finding import Finding
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.errors import Halt, StreamScorerError
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.jobs import topics
from stream_scorer.jobs.doctor import doctor
from stream_scorer.settings.tree import Settings

pytestmark = pytest.mark.containers

USERS = {"admin": "admin-secret", "scorer": "scorer-secret"}
AS_ADMIN: dict[str, object] = {
    "security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN",
    "sasl.username": "admin", "sasl.password": USERS["admin"],
}  # fmt: skip
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required "
BROKER = {
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,"
    "CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.client.plain.sasl.jaas.config": LOGIN
    + " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
    + ";",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    # The broker's own connections have no user.
    "super.users": "User:ANONYMOUS;User:admin",
}
INPUT, OUTPUT, DEAD, GROUP = "in", "out", "dead", "scorers"
# The table of docs/how-to/run-on-your-servers.md.
RIGHTS = [
    (ResourceType.TOPIC, INPUT, AclOperation.READ),
    (ResourceType.TOPIC, INPUT, AclOperation.DESCRIBE_CONFIGS),
    (ResourceType.TOPIC, OUTPUT, AclOperation.WRITE),
    (ResourceType.TOPIC, OUTPUT, AclOperation.DESCRIBE_CONFIGS),
    (ResourceType.TOPIC, DEAD, AclOperation.WRITE),
    (ResourceType.TOPIC, DEAD, AclOperation.DESCRIBE_CONFIGS),
    (ResourceType.GROUP, GROUP, AclOperation.READ),
]


@pytest.fixture(scope="module")
def guarded(have: Callable[[Callable[[], Any]], Any]) -> Iterator[KafkaServer]:
    server = have(lambda: launch.start_kafka(BROKER, client=AS_ADMIN))
    for name, config in (
        (INPUT, {"retention.ms": -1}), (OUTPUT, {"cleanup.policy": "compact"}),
        (DEAD, {"retention.ms": -1}),
    ):  # fmt: skip
        server.create_topic(name, 1, config)
    yield server
    server.remove()


def binding(right: tuple[Any, str, Any]) -> AclBinding:
    kind, name, operation = right
    return AclBinding(
        kind, name, ResourcePatternType.LITERAL, "User:scorer", "*", operation,
        AclPermissionType.ALLOW,
    )  # fmt: skip


@pytest.fixture
def allow(guarded: KafkaServer) -> Iterator[Callable[[list[tuple[Any, str, Any]]], None]]:
    """allow(rights): the user has these, and no others."""
    anything: Any = None  # the client's types do not know that None stands for any
    everything = AclBindingFilter(
        ResourceType.ANY, anything, ResourcePatternType.ANY, "User:scorer", anything,
        AclOperation.ANY, AclPermissionType.ANY,
    )  # fmt: skip

    def clear() -> None:
        for future in guarded.admin.delete_acls([everything]).values():
            future.result(30)

    def set_rights(rights: list[tuple[Any, str, Any]]) -> None:
        clear()
        made = guarded.admin.create_acls([binding(r) for r in rights]) if rights else {}
        for future in made.values():
            future.result(30)

    yield set_rights
    clear()


@pytest.fixture
def settings(guarded: KafkaServer, redis_server: RedisServer, tmp_path: Path) -> Settings:
    overrides = {
        "kafka": {
            "bootstrap_servers": guarded.bootstrap, "security_protocol": "sasl_plaintext",
            "sasl_mechanism": "PLAIN", "username": "scorer", "password": USERS["scorer"],
            "group_id": GROUP, "input_topic": INPUT, "output_topic": OUTPUT,
            "dead_letter_topic": DEAD, "input_partitions": 1, "output_partitions": 1,
            "delivery_timeout_ms": 5000,
        },
        "redis": {"url": redis_server.url}, "model": {"path": str(tmp_path)},
    }  # fmt: skip
    return Settings.load(None, overrides=overrides, environment={})


def about_kafka(settings: Settings) -> list[Finding]:
    starts = ("kafka", "topic", "group", "history")
    return [f for f in doctor(settings).findings if f.check.startswith(starts)]


def test_the_documented_rights_are_enough(settings: Settings, allow: Callable[..., None]) -> None:
    allow(RIGHTS)
    assert [f for f in about_kafka(settings) if not f.ok] == []
    event = {"customer_id": "c", "event_type": "view", "event_id": "1", "occurred_at": 1}
    allow([*RIGHTS, (ResourceType.TOPIC, INPUT, AclOperation.WRITE)])  # as `publish` needs it
    producer = ConfirmedProducer(settings.kafka.producer_properties())
    producer.send(INPUT, [b"c"], encode_events([event]))
    producer.settle()
    allow(RIGHTS)
    producer.send(OUTPUT, [b"c"], [b"score"])
    producer.send(DEAD, [b"c"], [b"dead"])
    assert producer.settle() == []
    producer.close()
    source = KafkaSource(
        settings.kafka.consumer_properties(), INPUT, MemoryStore(1), max_events=10, max_age_ms=100
    )
    batch = next(b for b in _batches(source) if len(b))
    source.commit(batch.next_offsets())
    source.close()


def _batches(source: KafkaSource) -> Iterator[RecordBatch]:
    for _ in range(300):
        yield source.poll()


@pytest.mark.parametrize("missing", RIGHTS, ids=lambda r: f"{r[1]}-{r[2].name}")
def test_each_right_that_is_missing_is_named_by_doctor(
    settings: Settings, allow: Callable[..., None], missing: tuple[Any, str, Any]
) -> None:
    allow([right for right in RIGHTS if right != missing])
    kind, name, operation = missing
    wrong = [f for f in about_kafka(settings) if not f.ok]
    resource = "topic" if kind == ResourceType.TOPIC else "group"
    about = [f for f in wrong if f"{resource} {name}" in f"{f.check} {f.remedy}"]
    assert about, [f"{f.check}: {f.found}; {f.remedy}" for f in wrong]
    # READ and WRITE bring DESCRIBE with them, so without them it is that which is missed first.
    words = {"READ": ("Read", "Describe"), "WRITE": ("Write", "Describe")}
    expected = words.get(operation.name, ("DescribeConfigs",))
    assert any(word in str(f.remedy) for f in about for word in expected)
    assert not any("does not exist" in f.found for f in wrong)


def test_a_topic_that_may_be_described_and_not_read_is_named(
    settings: Settings, allow: Callable[..., None]
) -> None:
    described = (ResourceType.TOPIC, INPUT, AclOperation.DESCRIBE)
    allow([described, *RIGHTS[1:]])
    wrong = [f for f in about_kafka(settings) if not f.ok]
    assert [(f.check, f.remedy) for f in wrong] == [
        (f"topic {INPUT}", f"allow this user Read on topic {INPUT}")
    ]
    source = KafkaSource(
        settings.kafka.consumer_properties(), INPUT, MemoryStore(1), max_events=10, max_age_ms=100
    )
    with pytest.raises(Halt, match="allow this user to use the topic"):
        list(_batches(source))
    source.close()


def test_a_topic_that_may_not_be_described_is_not_called_absent(
    settings: Settings, allow: Callable[..., None]
) -> None:
    allow([])
    for call in (
        lambda: topics.check(settings),
        lambda: TopicReader(settings.kafka.consumer_properties(), INPUT, batch_records=1),
    ):
        with pytest.raises(Halt, match=rf"topic {INPUT}.*allow this user to use the topic"):
            call()


def test_a_wrong_password_is_named_by_every_client(settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"username": "nobody"})
    wrong = settings.model_copy(update={"kafka": kafka})
    producer = ConfirmedProducer(kafka.producer_properties())
    producer.send(INPUT, [b"c"], [b"v"])
    for call in (
        lambda: topics.check(wrong),
        lambda: TopicReader(kafka.consumer_properties(), INPUT, batch_records=1),
        producer.settle,
    ):
        with pytest.raises(StreamScorerError, match=r"kafka\.username"):
            call()
    found = [f for f in about_kafka(wrong) if not f.ok]
    assert "uthentication" in found[0].found
