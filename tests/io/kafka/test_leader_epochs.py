"""LeaderEpochs: which records can't be those that were read before, and what a client is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream_scorer.errors import BusUnavailable, Halt
from stream_scorer.io.kafka import leader_epochs
from stream_scorer.io.kafka.leader_epochs import (
    UNKNOWN_EPOCH,
    LeaderEpochs,
    is_truncation,
    seek_with_epochs,
    truncation,
)

TP = ("events", 0)


@dataclass
class Record:
    """What is asked of a message."""

    at: int
    epoch: int | None

    def offset(self) -> int:
        return self.at

    def leader_epoch(self) -> int | None:
        return self.epoch


def check(known: dict[int, int], *records: tuple[int, int | None]) -> None:
    epochs = LeaderEpochs()
    for offset, epoch in known.items():
        epochs.know(TP, offset, epoch)
    epochs.check(TP, [Record(*record) for record in records])  # type: ignore[misc]


@pytest.mark.parametrize(
    "records",
    [[(60, 0), (119, 4)], [(60, 3), (119, 3), (120, 7)], [(120, 7), (121, 8)], [(60, None)]],
)
def test_records_up_to_what_was_read_have_its_epoch_or_older_ones(records: Any) -> None:
    check({120: 4}, *records)


@pytest.mark.parametrize("records", [[(60, 0), (80, 5)], [(119, 5)]])
def test_a_record_with_a_newer_epoch_below_what_was_read_is_another_one(records: Any) -> None:
    first = records[-1][0]
    said = rf"events\[0\]: Kafka lost its records from offset {first} on after they were read.*"
    with pytest.raises(Halt, match=said + "set store.namespace and kafka.group_id to new names"):
        check({40: 0, 120: 4}, *records)


def test_each_of_several_known_offsets_is_compared() -> None:
    check({60: 2, 120: 4}, (59, 2), (60, 3))
    with pytest.raises(Halt, match="from offset 59 on"):
        check({60: 2, 120: 4}, (59, 3))


def test_an_epoch_belongs_to_its_offset_alone() -> None:
    epochs = LeaderEpochs()
    epochs.know(TP, 10, 3)
    epochs.know(TP, 20, None)
    epochs.know(TP, 10, 2)
    assert [epochs.at(TP, o) for o in (10, 11, 20)] == [3, UNKNOWN_EPOCH, UNKNOWN_EPOCH]
    epochs.know(TP, 30, 4)
    epochs.drop_below(TP, 30)
    assert [epochs.at(TP, o) for o in (10, 30)] == [UNKNOWN_EPOCH, 4]
    epochs.forget([TP])
    assert epochs.at(TP, 30) == UNKNOWN_EPOCH


@dataclass
class Client:
    """A consumer that has not begun to fetch for the first `refusals` seeks."""

    refusals: int = 0
    code: int = KafkaError._STATE
    asked: list[tuple[int, int | None]] = field(default_factory=list)

    def seek(self, partition: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise KafkaException(KafkaError(self.code))
        self.asked.append((partition.offset, partition.leader_epoch))


def seek(client: Client, offset: int = 10) -> None:
    epochs = LeaderEpochs()
    epochs.know(TP, offset, 3)
    starts = {TP: offset, ("events", 1): 10}  # of the second one no epoch is known
    seek_with_epochs(client, starts, epochs)  # type: ignore[arg-type]


def test_the_client_is_asked_where_an_epoch_is_known() -> None:
    seek(client := Client())
    assert client.asked == [(10, 3)]


def test_before_the_first_offset_there_is_nothing_to_ask_for() -> None:
    seek(client := Client(), 0)
    assert client.asked == []


def test_a_client_that_has_not_begun_to_fetch_is_asked_again() -> None:
    seek(client := Client(refusals=3))
    assert client.asked == [(10, 3)]


def test_a_client_that_never_begins_to_fetch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_epochs, "ASSIGNED_SECONDS", 0.1)
    with pytest.raises(BusUnavailable, match=r"events\[0\] was assigned, and after 0.1 s"):
        seek(Client(refusals=10**6))


def test_another_refusal_is_reported_as_what_it_is() -> None:
    with pytest.raises(BusUnavailable, match="comparing leader epochs"):
        seek(Client(refusals=1, code=KafkaError._UNKNOWN_PARTITION))


# As librdkafka 2.16 says it: with auto.offset.reset "error" under the code of an offset reset.
CUT = (
    "Partition log truncation detected at offset 120 (leader epoch 4): broker end offset is 80 "
    "(offset leader epoch 0). Reset to INVALID.: Local: Partition log truncation detected"
)
NO_EPOCH = (
    "No epoch found less or equal to offset 10 (leader epoch 5): broker end offset is -1 (offset "
    "leader epoch 5). Reset using configured policy.: Local: Partition log truncation detected"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [(CUT, "lost its records from offset 80 on"), (NO_EPOCH, "lost its newest records after")],
)
@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION])
def test_what_librdkafka_says_of_a_truncation_is_recognised(
    code: int, text: str, said: str
) -> None:
    error = KafkaError(code, text)
    assert is_truncation(error)
    assert said in str(truncation(TP, error))


def test_an_offset_that_retention_deleted_is_no_truncation() -> None:
    reason = "fetch failed due to requested offset not available on the broker: Broker: Offset out"
    assert not is_truncation(KafkaError(KafkaError._AUTO_OFFSET_RESET, reason))
