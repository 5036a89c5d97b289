"""KafkaSink on librdkafka's mock cluster: what is confirmed, refused, too large, or transactional.

The mock cluster commits transactions but keeps no offsets of theirs and fences nobody; that is
tested on Apache Kafka (tests/containers).
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.avro.dead_letter_encoder import decode_dead_letters
from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.errors import BusUnavailable, Halt
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.sink import KafkaSink

NOW_MS = 1_700_000_000_000
MOST_POLLS = 100


def dead_letter(value: bytes | None, key: bytes | None = b"k") -> DeadLetter:
    return DeadLetter("events", 3, 41, NOW_MS, Reason.UNDECODABLE, "broken", key, value)


def make_sink(address: str, name: str, **properties: Any) -> KafkaSink:
    return KafkaSink(
        {"bootstrap.servers": address, "delivery.timeout.ms": 5000, **properties},
        f"{name}-out",
        f"{name}-dead",
        max_dead_letter_bytes=1000,
        clock_ms=lambda: NOW_MS,
    )


def read_all(address: str, topic: str, count: int) -> list[Message]:
    """Exactly `count` records of a topic, of whichever partition."""
    reader = Consumer({"bootstrap.servers": address, "group.id": "reader"})
    reader.assign([KafkaPartition(topic, p, 0) for p in range(4)])
    found: list[Message] = []
    for _ in range(MOST_POLLS):
        found += [m for m in reader.consume(count + 1, 0.1) if m.error() is None]
        if len(found) >= count:
            break
    reader.close()
    assert len(found) == count
    return found


def test_all_is_there_when_deliver_returns(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "all")
    keys = [b"c%d" % i for i in range(2000)]
    sink.deliver(keys, [b"p" + k for k in keys], [dead_letter(b"raw"), dead_letter(None, None)], {})
    found = read_all(mock_kafka, "all-out", 2000)
    assert {m.key(): m.value() for m in found} == {k: b"p" + k for k in keys}
    dead = read_all(mock_kafka, "all-dead", 2)
    assert sorted(m.key() or b"" for m in dead) == [b"", b"k"]
    assert dead_letter(b"raw") in decode_dead_letters([m.value() or b"" for m in dead])
    sink.close()


def test_headers_reach_the_records_that_they_are_given_for(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "headed", **{"queue.buffering.max.messages": 10})
    keys = [b"c%d" % i for i in range(40)]
    headers = {key: [("traceparent", b"of " + key)] for key in keys[5:25]}
    sink.deliver(keys, keys, [dead_letter(b"raw")], {}, headers)
    found = {m.key(): m.headers() for m in read_all(mock_kafka, "headed-out", 40)}
    assert found == {key: headers.get(key) for key in keys}
    assert [m.headers() for m in read_all(mock_kafka, "headed-dead", 1)] == [None]
    sink.close()


def test_a_record_with_headers_that_is_too_large_becomes_a_dead_letter(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "headed-large", **{"message.max.bytes": 2000})
    headers = {b"a": [("traceparent", b"1")]}
    sink.deliver([b"a", b"b"], [b"x" * 5000, b"y"], [], {}, headers)
    (dead,) = read_all(mock_kafka, "headed-large-dead", 1)
    assert (dead.key(), dead.headers()) == (b"a", None)
    assert [m.key() for m in read_all(mock_kafka, "headed-large-out", 1)] == [b"b"]
    sink.close()


def test_one_key_is_always_in_the_partition_that_java_would_choose(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "partition")
    sink.deliver([b"21", b"foobar"], [b"", b""], [], {})
    # murmur2, from Kafka's own UtilsTest: "21" -> -973932308, "foobar" -> -790332482
    expected = {b"21": (-973932308 & 0x7FFFFFFF) % 4, b"foobar": (-790332482 & 0x7FFFFFFF) % 4}
    found = read_all(mock_kafka, "partition-out", 2)
    assert {m.key(): m.partition() for m in found} == expected
    sink.close()


def test_queue_smaller_than_the_batch_is_waited_for(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "queue", **{"queue.buffering.max.messages": 10})
    sink.deliver([b"k"] * 55, [b"v"] * 55, [], {})
    read_all(mock_kafka, "queue-out", 55)
    sink.close()


def test_propensities_too_large_for_the_topic_become_a_dead_letter(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "large", **{"message.max.bytes": 2000})
    sink.deliver([b"a", b"b"], [b"x" * 5000, b"y"], [], {})
    (dead,) = decode_dead_letters([m.value() or b"" for m in read_all(mock_kafka, "large-dead", 1)])
    assert (dead.topic, dead.reason, dead.key) == ("large-out", Reason.OVERSIZED, b"a")
    assert "5000 bytes" in dead.detail
    assert [m.key() for m in read_all(mock_kafka, "large-out", 1)] == [b"b"]
    sink.close()


def test_dead_letter_too_large_for_its_topic_keeps_fewer_bytes(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "cut", **{"message.max.bytes": 1000})
    sink.deliver([], [], [dead_letter(b"z" * 10_000)], {})
    (dead,) = decode_dead_letters([m.value() or b"" for m in read_all(mock_kafka, "cut-dead", 1)])
    assert dead.value == b"z" * 62
    sink.deliver([], [], [dead_letter(b"z" * 10_000, b"k" * 5000)], {})
    read_all(mock_kafka, "cut-dead", 2)
    sink.close()


def test_dead_letter_that_no_size_fits_halts(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "never", **{"message.max.bytes": 1000})
    hopeless = DeadLetter("events", 0, 0, 0, Reason.UNDECODABLE, "d" * 5000, None, b"")
    with pytest.raises(Halt, match=r"never-dead refuses a record of \d+ bytes"):
        sink.deliver([], [], [hopeless], {})
    sink.close()


def test_servers_that_do_not_answer_are_unavailable() -> None:
    producer = ConfirmedProducer(
        {"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 300, "linger.ms": 0}
    )
    producer.send("t", [b"k"], [b"v"])
    with pytest.raises(BusUnavailable, match="delivering 1 records"):
        producer.settle()


class Unconfirmed:
    """A client whose queue still holds records when the time for `flush` is over."""

    def produce_batch(
        self, _topic: str, records: list[Any], _partition: int, **_options: Any
    ) -> int:
        return len(records)

    def flush(self, _seconds: float) -> int:
        return 3

    def list_topics(self, topic: str, timeout: float) -> Any:
        code = KafkaError.UNKNOWN_TOPIC_OR_PART if topic == "gone" else KafkaError.NO_ERROR
        error = KafkaError(code) if code else None
        return SimpleNamespace(topics={topic: SimpleNamespace(error=error)})


def test_a_topic_that_is_gone_is_named(mock_kafka: str) -> None:
    producer = ConfirmedProducer({"bootstrap.servers": mock_kafka})
    producer.client = Unconfirmed()  # type: ignore[assignment]
    for topic in ("there", "gone"):
        producer.send(topic, [b"k"], [b"v"])
    with pytest.raises(BusUnavailable, match=r"records for gone, there; there is no topic gone: "):
        producer.settle()


class Slow:
    """A client that takes one record of each call, and whose clock moves a second each time."""

    def __init__(self) -> None:
        self.seconds, self.taken = 0, 0

    def produce_batch(
        self, _topic: str, records: list[Any], _partition: int, **_options: Any
    ) -> int:
        self.seconds += 1
        self.taken += 1
        for record in records[1:]:
            record["_error"] = KafkaError(KafkaError._QUEUE_FULL)
        return 1

    def poll(self, _seconds: float) -> int:
        return 0


def test_a_long_publish_goes_on_while_kafka_takes_records(
    mock_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More seconds than one record may take, though each of them had its own."""
    made = ConfirmedProducer({"bootstrap.servers": mock_kafka, "delivery.timeout.ms": 2000})
    slow = Slow()
    made.client = slow  # type: ignore[assignment]
    monkeypatch.setattr(time, "monotonic", lambda: float(slow.seconds))
    made.send("t", [b"k"] * 50, [b"v"] * 50)
    assert slow.taken == 50


def test_records_without_an_answer_are_not_taken_for_delivered(mock_kafka: str) -> None:
    sink = make_sink(mock_kafka, "unanswered")
    sink._producer.client = Unconfirmed()  # type: ignore[assignment]
    with pytest.raises(BusUnavailable, match="did not confirm 3 records"):
        sink.deliver([b"k"] * 4, [b"v"] * 4, [], {})


def test_transaction_carries_records_and_starts_again_after_one_too_large(
    mock_kafka: str,
) -> None:
    member = Consumer({"bootstrap.servers": mock_kafka, "group.id": "t"})
    input_topic = ConfirmedProducer({"bootstrap.servers": mock_kafka})
    input_topic.send("events", [b"k"], [b"v"])
    assert input_topic.settle() == []
    properties = {"transactional.id": "t-1", "message.max.bytes": 2000}
    sink = KafkaSink(
        {"bootstrap.servers": mock_kafka, "delivery.timeout.ms": 5000, **properties},
        "tx-out", "tx-dead", max_dead_letter_bytes=1000, clock_ms=lambda: NOW_MS,
        group_metadata=member.consumer_group_metadata,
    )  # fmt: skip
    sink.deliver([b"a"], [b"1"], [], {("events", 0): 5})
    sink.deliver([b"b", b"c"], [b"x" * 5000, b"2"], [dead_letter(b"raw")], {("events", 0): 9})
    dead = decode_dead_letters([m.value() or b"" for m in read_all(mock_kafka, "tx-dead", 3)])
    # The mock cluster shows the aborted attempt too: its one dead letter, then both.
    assert [d.reason for d in dead].count(Reason.OVERSIZED) == 1
    keys = [m.key() for m in read_all(mock_kafka, "tx-out", 3)]
    assert sorted(k or b"" for k in keys) == [b"a", b"c", b"c"]
    sink.close()
    member.close()
