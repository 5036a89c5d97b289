"""Lag in seconds: a bound of how long the oldest unread record has waited."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import NO_TIMESTAMP
from stream_scorer.io.kafka.lag import Lag

TP = ("events", 0)


def test_where_nothing_is_unread_it_is_zero() -> None:
    assert Lag().seconds({TP: 0}, 5_000) == {TP: 0.0}


def test_it_counts_from_the_last_record_that_was_read() -> None:
    lag = Lag()
    lag.read(TP, 2_000)
    assert lag.seconds({TP: 3}, 5_000) == {TP: 3.0}
    lag.read(TP, 4_500)
    assert lag.seconds({TP: 3}, 5_000) == {TP: 0.5}


def test_it_counts_from_when_nothing_was_unread_where_that_is_later() -> None:
    """As in a quiet night: the last record is hours old, and the next one has only come."""
    lag = Lag()
    lag.read(TP, 1_000)
    lag.seconds({TP: 0}, 60_000)
    assert lag.seconds({TP: 1}, 62_000) == {TP: 2.0}


def test_an_older_timestamp_behind_a_newer_one_takes_nothing_back() -> None:
    lag = Lag()
    lag.read(TP, 4_000)
    lag.read(TP, 1_000)
    assert lag.seconds({TP: 1}, 5_000) == {TP: 1.0}


def test_it_is_not_known_before_anything_was_read() -> None:
    lag = Lag()
    assert lag.seconds({TP: 7}, 5_000) == {}
    lag.read(TP, NO_TIMESTAMP)
    assert lag.seconds({TP: 7}, 5_000) == {}
    lag.read(TP, 1_000)
    lag.begin_anew([TP])
    assert lag.seconds({TP: 7}, 5_000) == {}, "what is read again may be older"


def test_a_record_of_the_future_has_not_waited() -> None:
    lag = Lag()
    lag.read(TP, 9_000)
    assert lag.seconds({TP: 1}, 5_000) == {TP: 0.0}


class Client:
    """Fetched up to offset 10 of each partition; the brokers have 15, where they answer."""

    def __init__(self, *, answers: bool, fetched: int = 10) -> None:
        self.answers, self.asked, self.fetched = answers, 0, fetched

    def get_watermark_offsets(
        self, _partition: KafkaPartition, _timeout: float = -1, cached: bool = False
    ) -> tuple[int, int]:
        if cached:
            return min(self.fetched, 0), self.fetched
        self.asked += 1
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return 0, 15


@pytest.mark.parametrize(
    ("paused", "answers", "records", "asked"),
    [
        (False, True, 0, 0),  # what was fetched half a second ago is new enough
        (True, True, 5, 3),
        (True, False, 0, 1),  # not for each partition anew
    ],
)
def test_brokers_are_asked_where_nothing_was_fetched_lately(
    paused: bool, answers: bool, records: int, asked: int
) -> None:
    client: Any = Client(answers=answers)
    read = {("events", number): 10 for number in range(3)}
    found = Lag().of(cast(Consumer, client), read, (), paused=paused)
    assert found == dict.fromkeys(read, records)
    assert client.asked == asked


def test_it_is_not_known_before_the_first_fetch_was_answered() -> None:
    """No lag would say that all is read."""
    client: Any = Client(answers=True, fetched=OFFSET_INVALID)
    lag = Lag()
    assert lag.of(cast(Consumer, client), {TP: 0}, ()) == {}
    assert lag.of(cast(Consumer, client), {TP: 10}, (), paused=True) == {TP: 5}
    assert lag.seconds({TP: 5}, 5_000) == {}, "it was never seen at its end"
