"""StartLookup: what the group and the log say of partitions that came, while others are read."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.errors import BusUnavailable
from stream_scorer.io.kafka.start_lookup import StartLookup

ONE, TWO = ("in", 1), ("in", 2)


class Client:
    """A consumer client whose coordinator answers once `answers` is set."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.refuses = False

    def committed(self, partitions: Any, _timeout: float) -> Any:
        assert self.answers.wait(60)
        if self.refuses:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return [KafkaPartition(p.topic, p.partition, 10 + p.partition) for p in partitions]

    def get_watermark_offsets(self, partition: Any, _timeout: float) -> tuple[int, int]:
        return partition.partition, 100


def test_a_coordinator_that_does_not_answer_is_not_waited_for() -> None:
    client: Any = Client()
    lookup = StartLookup(client, {TWO, ONE}, {})
    assert not lookup.finished(0.05)
    client.answers.set()
    assert lookup.finished(60)
    answers, ranges = lookup.answers()
    assert [(a.partition, a.offset) for a in answers] == [(1, 11), (2, 12)]
    assert ranges == {ONE: (1, 100), TWO: (2, 100)}


def test_what_is_found_of_a_partition_that_was_given_up_meanwhile_is_left_out() -> None:
    client: Any = Client()
    lookup = StartLookup(client, {ONE, TWO}, {})
    lookup.discard([ONE])
    client.answers.set()
    assert lookup.finished(60)
    answers, ranges = lookup.answers()
    assert (lookup.partitions, [a.partition for a in answers], list(ranges)) == ([TWO], [2], [TWO])


def test_a_question_that_failed_is_raised_where_the_answer_is_asked_for() -> None:
    client: Any = Client()
    client.refuses = True
    client.answers.set()
    lookup = StartLookup(client, {ONE}, {})
    assert lookup.finished(60)
    with pytest.raises(BusUnavailable, match="reading committed offsets"):
        lookup.answers()
