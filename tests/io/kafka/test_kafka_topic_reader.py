"""Reading a whole topic: to the ends of its start, every partition, as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.errors import BusUnavailable, ClientLost, InputError
from stream_scorer.io.kafka import topic_reader as kafka_topic_reader
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader


@pytest.fixture
def producer(mock_kafka: str) -> Iterator[ConfirmedProducer]:
    made = ConfirmedProducer({"bootstrap.servers": mock_kafka})
    yield made
    made.close()


def publish(producer: ConfirmedProducer, topic: str, values: list[bytes | None]) -> None:
    producer.send(topic, [b"%d" % i for i in range(len(values))], values)
    assert producer.settle() == []


def reader(mock_kafka: str, topic: str, batch_records: int = 7) -> TopicReader:
    properties = {"bootstrap.servers": mock_kafka, "group.id": "live"}
    return TopicReader(properties, topic, batch_records=batch_records)


def all_values(topic_reader: TopicReader) -> list[bytes | None]:
    return [value for batch in topic_reader for value in batch.values]


def test_every_partition_is_read_and_again_and_nothing_that_came_later(
    mock_kafka: str, producer: ConfirmedProducer
) -> None:
    values: list[bytes | None] = [b"v%d" % i for i in range(100)]
    publish(producer, "whole", [*values, None])
    with reader(mock_kafka, "whole") as topic_reader:
        publish(producer, "whole", [b"later"] * 10)
        batches = list(topic_reader)
        assert max(map(len, batches)) <= 7
        found = set()
        for batch in batches:
            partitions = [batch.partitions[i] for i in batch.partition_index.tolist()]
            found |= set(zip(partitions, batch.offsets.tolist(), strict=True))
        ranges = topic_reader.ranges.items()
        expected = {(tp, o) for tp, (low, high) in ranges for o in range(low, high)}
        assert found == expected
        assert len(expected) == topic_reader.most_records == 101
        assert len(topic_reader.ranges) == 4
        assert set(all_values(topic_reader)) == {*values, None}


def test_a_client_that_can_not_go_on_ends_the_reading(
    mock_kafka: str, producer: ConfirmedProducer
) -> None:
    publish(producer, "lost", [b"v"])
    with reader(mock_kafka, "lost") as topic_reader:
        topic_reader._on_client_error(KafkaError(KafkaError.UNKNOWN, fatal=True))
        with pytest.raises(ClientLost):
            list(topic_reader)


def test_an_empty_topic_ends_at_once(mock_kafka: str, producer: ConfirmedProducer) -> None:
    producer.client.list_topics("empty", timeout=10)
    with reader(mock_kafka, "empty") as topic_reader:
        assert all_values(topic_reader) == []


def test_the_group_it_is_named_after_sees_nothing_of_it(
    mock_kafka: str, producer: ConfirmedProducer
) -> None:
    publish(producer, "quiet", [b"v"] * 20)
    with reader(mock_kafka, "quiet") as topic_reader:
        assert len(all_values(topic_reader)) == 20
    probe = Consumer({"bootstrap.servers": mock_kafka, "group.id": "live"})
    partitions = [KafkaPartition("quiet", p) for p in range(4)]
    assert {p.offset for p in probe.committed(partitions, 10)} == {-1001}
    probe.close()


def test_a_topic_that_is_missing_is_named(mock_kafka: str) -> None:
    with pytest.raises(InputError, match="'absent': there is no such topic"):
        reader(mock_kafka, "absent")


def test_brokers_that_stop_answering_are_unavailable(
    mock_kafka: str, producer: ConfirmedProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(producer, "silent", [b"v"])
    monkeypatch.setattr(kafka_topic_reader, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(kafka_topic_reader, "POLL_SECONDS", 0.01)
    with reader(mock_kafka, "silent") as topic_reader:
        topic_reader.ranges = {
            tp: (high, high + 5) for tp, (_, high) in topic_reader.ranges.items()
        }
        with pytest.raises(BusUnavailable, match="no answer"):
            all_values(topic_reader)
