"""`dead-letters list|replay`: what is shown, what goes back, and that nothing goes back twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.core.avro.dead_letter_encoder import encode_dead_letters
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter, Reason
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import InputError
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.jobs import dead_letters
from stream_scorer.past.dead_letters import Choice
from stream_scorer.settings.tree import Settings

AT_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z
INPUT, DEAD = "customer-events", "customer-events-dead-letters"


def dead_letter(offset: int, reason: Reason = Reason.UNDECODABLE, **changed: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "topic": INPUT, "partition": 0, "offset": offset, "timestamp_ms": AT_MS + offset,
        "reason": reason, "detail": "as reported", "key": b"key %d" % offset,
        "value": b"value %d" % offset,
    }  # fmt: skip
    return DeadLetter(**(fields | changed))


DEAD_LETTERS = [
    dead_letter(0),
    dead_letter(1, Reason.UNKNOWN_SCHEMA),
    dead_letter(2, Reason.EMPTY_VALUE, key=None, value=None, timestamp_ms=NO_TIMESTAMP),
    dead_letter(3, Reason.EMPTY_VALUE, value=b""),
    dead_letter(4, Reason.OVERSIZED, value=b"x" * 1000),
    dead_letter(5, Reason.UNKNOWN_SCHEMA, partition=3, key=b"\xff\x00"),
    dead_letter(1, Reason.UNKNOWN_SCHEMA),  # written twice, as after a crash before the commit
    dead_letter(-1, Reason.OVERSIZED, topic="category-propensities", partition=-1),
]


@pytest.fixture(scope="module")
def kafka() -> Any:
    with EmbeddedKafka() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded Kafka never answers what is allowed; tests/containers/test_kafka_rights.py asks
    a real one."""
    monkeypatch.setattr(KafkaAdmin, "operations", lambda *_: None)


@pytest.fixture
def settings(kafka: EmbeddedKafka, request: pytest.FixtureRequest) -> Settings:
    """A group and topics of this test's own, with DEAD_LETTERS in the dead-letter topic."""
    name = request.node.name.split("[")[0][:60]
    topics = {"input_topic": f"{name}-in", "dead_letter_topic": f"{name}-dead"}
    servers = {"bootstrap_servers": kafka.bootstrap_servers, "group_id": name}
    made = Settings.load(None, overrides={"kafka": servers | topics}, environment={})
    kafka.create(*topics.values())
    repeated = [
        DeadLetter(**{n: getattr(a, n) for n in DeadLetter.__slots__} | {"topic": f"{name}-in"})
        if a.topic == INPUT else a
        for a in DEAD_LETTERS
    ]  # fmt: skip
    values: list[bytes | None] = []
    for number, one in enumerate(repeated):
        values += encode_dead_letters([one], AT_MS + 60_000 * number, 100)
    produce(made, [a.key for a in repeated], values)
    return made


def produce(settings: Settings, keys: list[bytes | None], values: list[bytes | None]) -> None:
    producer = ConfirmedProducer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.send(settings.kafka.dead_letter_topic, keys, values)
    assert producer.settle() == []


def held(settings: Settings, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    with TopicReader(settings.kafka.consumer_properties(), topic, batch_records=100) as reader:
        return sorted(
            (pair for b in reader for pair in zip(b.keys, b.values, strict=True)), key=repr
        )


def partitions(settings: Settings) -> list[tuple[int, bytes]]:
    """The records of the input topic, with their partitions."""
    properties = settings.kafka.consumer_properties()
    with TopicReader(properties, settings.kafka.input_topic, batch_records=100) as reader:
        return sorted(
            (b.partitions[p][1], v or b"")
            for b in reader
            for p, v in zip(b.partition_index.tolist(), b.values, strict=True)
        )


def test_list_shows_the_newest_and_counts_all(settings: Settings) -> None:
    produce(settings, [b"someone else's"], [b"not ours"])
    report = dead_letters.listing(settings, Choice(), limit=3)
    assert json.loads(json.dumps(report.as_json())) == report.as_json()
    assert report.matched == 8
    assert report.unreadable == 1
    assert report.reasons == {
        "unknown_schema": 3, "empty_value": 2, "oversized": 2, "undecodable": 1,
    }  # fmt: skip
    assert [row.offset for row in report.dead_letters] == [5, 1, -1]
    assert report.dead_letters[0].as_json() == {
        "topic": settings.kafka.input_topic, "partition": 3, "offset": 5,
        "time": "2023-11-14T22:13:20.005Z", "failed_at": "2023-11-14T22:18:20.000Z",
        "reason": "unknown_schema", "detail": "as reported", "key": "\\xff\x00", "bytes": 7,
        "cut": False, "replayed": False,
    }  # fmt: skip
    words = dead_letters.listing_in_words(report)
    assert words[0].endswith(" 3:5 unknown_schema (7 bytes): as reported")
    assert "3 unknown_schema" in words[3]
    assert words[4] == "the newest 3 are shown; --limit 0 shows all"


def test_list_chooses_by_reason_and_time_of_failure(settings: Settings) -> None:
    def offsets(choice: Choice) -> list[int]:
        rows = dead_letters.listing(settings, choice, limit=0).dead_letters
        return [row.offset for row in rows]

    assert offsets(Choice.of(["empty_value", "undecodable"])) == [0, 2, 3]
    assert offsets(Choice.of(from_ms=AT_MS + 300_000, to_ms=AT_MS + 420_000)) == [5, 1]
    assert offsets(Choice.of(["undecodable"], from_ms=AT_MS + 1)) == []


def test_replay_puts_back_key_and_bytes_once_and_leaves_out_what_is_cut(settings: Settings) -> None:
    report = dead_letters.replay(settings, Choice())
    assert report.as_json() | {"seconds": 0} == {
        "topic": settings.kafka.input_topic, "matched": 8, "replayed": 5, "already": 0,
        "repeated": 1, "cut": 1, "foreign": 1, "refused": 0, "seconds": 0,
    }  # fmt: skip
    back = (*DEAD_LETTERS[:4], DEAD_LETTERS[5])
    wanted = [(a.key, a.value) for a in back]
    assert held(settings, settings.kafka.input_topic) == sorted(wanted, key=repr)
    # Each in its own partition, though the partitioner would have chosen others.
    assert partitions(settings) == sorted((a.partition, a.value or b"") for a in back)
    assert dead_letters.replay_in_words(report)[2] == (
        "1 left out: their original bytes were cut (publish.max_dead_letter_bytes)"
    )


def test_what_was_replayed_is_marked_and_does_not_go_back_again(settings: Settings) -> None:
    first = dead_letters.replay(settings, Choice.of(["unknown_schema"]))
    assert (first.matched, first.replayed, first.repeated) == (3, 2, 1)
    listed = dead_letters.listing(settings, Choice(), limit=0)
    assert listed.replayed == 3
    assert listed.unreadable == 0
    assert {row.offset for row in listed.dead_letters if row.replayed} == {1, 5}
    second = dead_letters.replay(settings, Choice())
    assert (second.replayed, second.already) == (3, 3)
    assert len(held(settings, settings.kafka.input_topic)) == 5


def test_replay_of_chosen_positions(settings: Settings) -> None:
    report = dead_letters.replay(settings, Choice.of(positions=["3:5", "0:3", "0:99"]))
    assert (report.matched, report.replayed) == (2, 2)
    keys = {key for key, _ in held(settings, settings.kafka.input_topic)}
    assert keys == {b"\xff\x00", b"key 3"}


def test_replay_leaves_the_live_group_alone(settings: Settings) -> None:
    dead_letters.replay(settings, Choice())
    kafka = settings.kafka
    properties = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": kafka.group_id}
    probe = Consumer(properties)
    topics = (kafka.input_topic, kafka.dead_letter_topic)
    partitions = [KafkaPartition(topic, p) for topic in topics for p in range(4)]
    assert {p.offset for p in probe.committed(partitions, 10)} == {-1001}
    probe.close()


@pytest.mark.parametrize(
    ("reasons", "positions", "said"),
    [
        (["bad luck"], [], "--reason: 'bad luck': the reasons are undecodable, unknown_schema"),
        ([], ["7"], "--at: '7': write PARTITION:OFFSET"),
        ([], ["0:-1"], "--at: '0:-1'"),
    ],
)
def test_wrong_choice_is_reported(reasons: list[str], positions: list[str], said: str) -> None:
    with pytest.raises(InputError) as refused:
        Choice.of(reasons, positions)
    assert str(refused.value).startswith(said)


def test_command_line(settings: Settings, tmp_path: Path) -> None:
    kafka = settings.kafka
    config = tmp_path / "scorer.toml"
    config.write_text(
        f"[kafka]\nbootstrap_servers = '{kafka.bootstrap_servers}'\n"
        f"input_topic = '{kafka.input_topic}'\ndead_letter_topic = '{kafka.dead_letter_topic}'\n"
    )

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(cli.app, ["dead-letters", *arguments, "-c", str(config)])

    undecided = call("replay")
    assert (undecided.exit_code, undecided.stdout) == (2, "")
    assert call("replay", "--all", "--at", "0:1").exit_code == 2
    replayed = call("replay", "--at", "0:1", "--json")
    assert (replayed.exit_code, json.loads(replayed.stdout)["replayed"]) == (0, 1)
    listed = call(
        "list", "--reason", "undecodable", "--reason", "unknown_schema",
        "--to", "2023-11-14T22:17:00Z", "--json",
    )  # fmt: skip
    assert listed.exit_code == 0
    rows = json.loads(listed.stdout)["dead_letters"]
    assert [(row["offset"], row["replayed"]) for row in rows] == [(0, False), (1, True)]
    words = call("list")
    assert words.stdout.splitlines()[-1] == "2 of them were replayed"
