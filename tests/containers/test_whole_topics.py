"""Reading whole topics and replaying dead letters on Apache Kafka: what the mock cluster lacks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from confluent_kafka import Producer
from servers import QUIET_CLIENT, KafkaServer

from stream_scorer.core.avro.dead_letter_encoder import encode_dead_letters
from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.jobs import dead_letters
from stream_scorer.past.dead_letters import Choice
from stream_scorer.settings.tree import Settings

pytestmark = pytest.mark.containers


def values(kafka: KafkaServer, topic: str) -> list[bytes | None]:
    properties = {"bootstrap.servers": kafka.bootstrap, "group.id": topic}
    with TopicReader(properties, topic, batch_records=10) as reader:
        return [value for batch in reader for value in batch.values]


def test_a_topic_that_ends_in_aborted_and_open_transactions_is_read_to_its_end(
    kafka: KafkaServer, topic: Callable[..., str], unique: str
) -> None:
    name = topic()
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": unique, **QUIET_CLIENT}
    )
    producer.init_transactions(30)
    for value, end in (
        (b"committed", producer.commit_transaction),
        (b"aborted", producer.abort_transaction),
        (b"open", producer.flush),
    ):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush(30)
        end(30)
    assert values(kafka, name) == [b"committed"]
    producer.abort_transaction(30)
    assert values(kafka, name) == [b"committed"]


def test_what_the_input_topic_refuses_does_not_go_back_and_is_not_marked(
    kafka: KafkaServer, topic: Callable[..., str]
) -> None:
    events, dead = topic(config={"max.message.bytes": 2000}), topic()
    sizes = [10, 5000, 20, 1500, 1500]
    originals = [Random(size).randbytes(size) for size in sizes]
    spoilt = [
        DeadLetter(events, 0, i, 1, Reason.UNDECODABLE, "spoilt", b"k", original)
        for i, original in enumerate(originals)
    ]
    kafka.produce(dead, [(b"k", value) for value in encode_dead_letters(spoilt, 1, 10_000)])
    overrides = {
        "bootstrap_servers": kafka.bootstrap, "input_topic": events, "dead_letter_topic": dead,
    }  # fmt: skip
    settings = Settings.load(None, overrides={"kafka": overrides}, environment={})
    report = dead_letters.replay(settings, Choice())
    assert (report.matched, report.replayed, report.refused) == (5, 4, 1)
    assert sorted(values(kafka, events)) == sorted(v for v in originals if len(v) < 2000)  # type: ignore[type-var]
    kafka.configure_topic(events, {"max.message.bytes": 10_000})
    report = dead_letters.replay(settings, Choice())
    assert (report.replayed, report.already, report.refused) == (1, 4, 0)
    assert sorted(values(kafka, events)) == sorted(originals)  # type: ignore[type-var]
