"""Kafka's access control lists: the documented rights are enough, and a missing one is named."""

from __future__ import annotations

import json
import re
import uuid
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
from harness.member import Member
from harness.stream import EVENT_TYPES, VOCABULARIES
from servers import KafkaServer, RedisServer

from stream_scorer.checks.finding import Finding
from stream_scorer.core.avro.dead_letter_encoder import encode_dead_letters
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import DeadLetter, Reason, RecordBatch
from stream_scorer.errors import Halt, InputError, StreamScorerError
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.io.kafka.transaction import Transaction
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.jobs import dead_letters, publish, replay, topics, verify
from stream_scorer.jobs.doctor import doctor
from stream_scorer.past.dead_letters import Choice
from stream_scorer.result import Result
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
INPUT, OUTPUT, DEAD, GROUP, PREFIX = "in", "out", "dead", "scorers", "scoring"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-on-your-servers.md"
NAMES = {
    "topic `kafka.input_topic`": (ResourceType.TOPIC, INPUT),
    "topic `kafka.output_topic`": (ResourceType.TOPIC, OUTPUT),
    "topic `kafka.dead_letter_topic`": (ResourceType.TOPIC, DEAD),
    "group `kafka.group_id`": (ResourceType.GROUP, GROUP),
    "transactional ids that begin with `kafka.transactional_id`": (
        ResourceType.TRANSACTIONAL_ID, PREFIX,
    ),
}  # fmt: skip
WORDS = {
    AclOperation.READ: "Read", AclOperation.WRITE: "Write", AclOperation.CREATE: "Create",
    AclOperation.DESCRIBE: "Describe", AclOperation.DESCRIBE_CONFIGS: "DescribeConfigs",
}  # fmt: skip
Right = tuple[Any, str, Any]


def rights_of(verb: str) -> list[Right]:
    """Those that the table of the page gives for it."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    operations = {word: operation for operation, word in WORDS.items()}
    found = [
        (*NAMES[resource], operations[word])
        for to, resource, words in rows
        if to == verb
        for word in words.split(", ")
    ]
    assert found, f"the table has no rows for {verb}"
    return found


RUN = rights_of("`run`")
DOCTOR = [*RUN, *rights_of("`doctor`, besides what `run` needs")]
TRANSACTIONS = rights_of('`run` with `delivery = "exactly_once"`, besides')


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
    prefixed = kind == ResourceType.TRANSACTIONAL_ID
    pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
    return AclBinding(
        kind, name, pattern, "User:scorer", "*", operation,
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
            "delivery_timeout_ms": 5000, "transactional_id": PREFIX, "client_id": "host",
        },
        "redis": {"url": redis_server.url}, "model": {"path": str(tmp_path)},
        "vocabularies": {"category_id": ["bread", "milk"]},
        "features": [{"name": "bought", "by": ["category_id"], "half_lives": ["7d"]}],
        "store": {"namespace": f"rights-{uuid.uuid4().hex}"},
    }  # fmt: skip
    return Settings.load(None, overrides=overrides, environment={})


def about_kafka(settings: Settings) -> list[Finding]:
    starts = ("kafka", "topic", "group", "history", "records", "transactional")
    return [f for f in doctor(settings).findings if f.check.startswith(starts)]


def test_the_documented_rights_are_enough(settings: Settings, allow: Callable[..., None]) -> None:
    allow(DOCTOR)
    assert [f for f in about_kafka(settings) if not f.ok] == []
    event = {"customer_id": "c", "event_type": "view", "event_id": "1", "occurred_at": 1}
    allow([*DOCTOR, (ResourceType.TOPIC, INPUT, AclOperation.WRITE)])  # as `publish` needs it
    producer = ConfirmedProducer(settings.kafka.producer_properties())
    producer.send(INPUT, [b"c"], encode_events([event]))
    producer.settle()
    allow(DOCTOR)
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


@pytest.mark.parametrize("missing", DOCTOR, ids=lambda r: f"{r[1]}-{r[2].name}")
def test_each_right_that_is_missing_is_named_by_doctor(
    settings: Settings, allow: Callable[..., None], missing: tuple[Any, str, Any]
) -> None:
    allow([right for right in DOCTOR if right != missing])
    kind, name, operation = missing
    wrong = [f for f in about_kafka(settings) if not f.ok]
    resource = "topic" if kind == ResourceType.TOPIC else "group"
    about = [f for f in wrong if f"{resource} {name}" in f"{f.check} {f.remedy}"]
    assert about, [f"{f.check}: {f.found}; {f.remedy}" for f in wrong]
    if kind == ResourceType.GROUP:
        assert len(wrong) == 1
    # READ and WRITE bring DESCRIBE with them, so without them it is that which is missed first.
    words = {"READ": ("Read", "Describe"), "WRITE": ("Write", "Describe")}
    expected = words.get(operation.name, ("DescribeConfigs",))
    assert any(word in str(f.remedy) for f in about for word in expected)
    assert not any("does not exist" in f.found for f in wrong)


def test_a_topic_that_may_be_described_and_not_read_is_named(
    settings: Settings, allow: Callable[..., None]
) -> None:
    described = (ResourceType.TOPIC, INPUT, AclOperation.DESCRIBE)
    allow([described, *DOCTOR[1:]])
    wrong = [f for f in about_kafka(settings) if not f.ok]
    assert [(f.check, f.remedy) for f in wrong] == [
        (f"topic {INPUT}", f"allow this user Read on topic {INPUT}")
    ]
    source = KafkaSource(
        settings.kafka.consumer_properties(), INPUT, MemoryStore(1), max_events=10, max_age_ms=100
    )
    with pytest.raises(Halt, match=f"allow this user Read on topic {INPUT}"):
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
        with pytest.raises(
            Halt, match=rf"topic {INPUT}.*allow this user (Describe|Read) on topic {INPUT}"
        ):
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


EVENT = {
    "event_id": "1", "customer_id": "c", "event_type": "view", "category_id": "milk",
    "occurred_at": 1_700_000_000_000,
}  # fmt: skip


@pytest.fixture
def filled(guarded: KafkaServer) -> None:
    """An event and a record that is none in the input topic, and a dead letter."""
    producer = ConfirmedProducer({"bootstrap.servers": guarded.bootstrap, **AS_ADMIN})
    (value,) = encode_events([EVENT])
    producer.send(INPUT, [b"c", b"c"], [value, b"no event"])
    dead = DeadLetter(INPUT, 0, 0, 1_700_000_000_000, Reason.UNDECODABLE, "bad", b"c", value)
    producer.send(DEAD, [b"c"], encode_dead_letters([dead], 1_700_000_000_000, 1000))
    assert producer.settle() == []
    producer.close()


def events_file(folder: Path) -> Path:
    file = folder / "events.jsonl"
    file.write_text(json.dumps(EVENT) + "\n")
    return file


VERBS: dict[str, Callable[[Settings, Path], Result]] = {
    "`topics check`": lambda settings, _: topics.check(settings),
    "`publish`": lambda settings, folder: publish.publish(settings, [events_file(folder)]),
    "`verify`": lambda settings, _: verify.verify(settings, 0, 1),
    "`replay topic`": lambda settings, _: replay.rebuild(
        settings, ["topic"], f"rights-{uuid.uuid4().hex}", threads=1
    ),
    "`dead-letters list`": lambda settings, _: dead_letters.listing(settings, Choice(), 0),
    "`dead-letters replay`": lambda settings, _: dead_letters.replay(settings, Choice()),
}


def said_of(call: Callable[[], Result], caplog: pytest.LogCaptureFixture) -> str:
    """The one line that the verb ends with, by exit status 2; or what it reports and logs."""
    caplog.clear()
    try:
        found = call()
    except InputError as error:
        return str(error)
    return f"{found}{caplog.text}"


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.strip("`"))
@pytest.mark.usefixtures("filled")
def test_the_rights_of_each_verb_are_enough_and_each_missing_one_is_named(
    settings: Settings, allow: Callable[..., None], verb: str, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    rights = rights_of(verb)

    def call() -> Result:
        return VERBS[verb](settings, tmp_path)

    allow(rights)
    assert "llow this user" not in said_of(call, caplog)
    for missing in rights:
        left = [right for right in rights if right != missing]
        _, name, operation = missing
        if operation == AclOperation.DESCRIBE:  # which Kafka then misses first
            left = [right for right in left if right[1] != name]
        allow(left)
        said = said_of(call, caplog)
        expected = f"allow this user {WORDS[operation]} on"
        assert f"{expected} topic {name}" in said or (
            f"{name} is" in said and f"{expected} it" in said
        )


def test_the_right_to_create_topics_is_enough_and_a_missing_one_is_named(
    settings: Settings, allow: Callable[..., None]
) -> None:
    names = {"input_topic": "a-in", "output_topic": "a-out", "dead_letter_topic": "a-dead"}
    kafka = settings.kafka.model_copy(update=names)
    wanted = settings.model_copy(update={"kafka": kafka})
    rights = [(kind, f"a-{name}", right) for kind, name, right in rights_of("`topics create`")]
    for missing in rights:
        allow([right for right in rights if right != missing])
        with pytest.raises(InputError, match=f"allow this user Create on topic {missing[1]}$"):
            topics.create(wanted)
    allow(rights)
    # Those before the one that was missing were made.
    assert [made.created for made in topics.create(wanted).topics] == [False, False, True]


@pytest.mark.parametrize("rights", [[], [(*TRANSACTIONS[0][:2], AclOperation.DESCRIBE)]])
def test_doctor_sees_that_transactional_ids_may_not_be_used(
    settings: Settings, allow: Callable[..., None], rights: list[Right]
) -> None:
    kafka = settings.kafka.model_copy(update={"delivery": "exactly_once"})
    once = settings.model_copy(update={"kafka": kafka})
    allow([*DOCTOR, *rights])
    (wrong,) = [f for f in about_kafka(once) if not f.ok]
    assert wrong.check == f"transactional id {PREFIX}"
    assert f"allow this user Write on the transactional ids that begin with {PREFIX}" in str(
        wrong.remedy
    )
    allow([*DOCTOR, *TRANSACTIONS])
    assert [f for f in about_kafka(once) if not f.ok] == []
    allow(DOCTOR)
    assert [f for f in about_kafka(settings) if not f.ok] == [], "at least once needs none"


def test_doctor_does_not_fence_a_producer_that_runs(
    settings: Settings, allow: Callable[..., None]
) -> None:
    kafka = settings.kafka.model_copy(update={"delivery": "exactly_once"})
    once = settings.model_copy(update={"kafka": kafka})
    allow([*DOCTOR, *TRANSACTIONS])
    producer = ConfirmedProducer(kafka.producer_properties())
    transaction = Transaction(producer.client, lambda: b"")
    with transaction.begun():
        assert [f for f in about_kafka(once) if not f.ok] == []
        producer.send(OUTPUT, [b"c"], [b"score"])
        assert producer.settle() == []
        transaction.abort()
    producer.close()


@pytest.mark.parametrize("missing", [*RUN, *TRANSACTIONS], ids=lambda r: f"{r[1]}-{r[2].name}")
@pytest.mark.usefixtures("filled")
def test_run_ends_with_one_line_where_a_right_is_missing(
    settings: Settings, allow: Callable[..., None], missing: Right, model: Path, tmp_path: Path,
) -> None:  # fmt: skip
    kafka = settings.kafka.model_dump(include={*settings.kafka.model_fields_set})
    kafka["password"] = USERS["scorer"]
    if missing in TRANSACTIONS:
        kafka["delivery"] = "exactly_once"
    sections = {
        "kafka": kafka, "redis": {"url": settings.redis.url}, "model": {"path": str(model)},
        "store": {"namespace": settings.store.namespace}, "publish": {"mode": "all"},
        "events": {"event_types": EVENT_TYPES},
        "vocabularies": VOCABULARIES, "telemetry": {"port": 0},
    }  # fmt: skip
    member = Member(tmp_path, "member", sections)
    allow([right for right in RUN if right != missing])
    member.start()
    assert member.ended(60) == 2, member.log()
    (line,) = [x for x in member.log().splitlines() if x.startswith("stream-scorer: ")]
    kind, name, operation = missing
    assert f"allow this user {WORDS[operation]} on " in line
    assert name in line or kind == ResourceType.TRANSACTIONAL_ID
    assert "Traceback" not in member.log()
