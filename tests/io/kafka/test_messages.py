"""Messages of the client as columns: the same whether they are of one topic or of several."""

from __future__ import annotations

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, Message

from stream_scorer.core.events.batch import NO_TIMESTAMP
from stream_scorer.io.kafka.messages import record_batch


def message(topic: str, partition: int, offset: int, kind: int = TIMESTAMP_CREATE_TIME) -> Message:
    return Message(
        topic=topic, partition=partition, offset=offset, key=None if offset == 9 else b"k",
        value=b"%d" % offset, timestamp=(kind, 1_000 + offset),
    )  # fmt: skip


@pytest.mark.parametrize("second", ["events", "others"])
def test_columns_are_in_the_messages_order_and_partitions_ascend(second: str) -> None:
    batch = record_batch(
        [message("events", 7, 5), message(second, 2, 9), message("events", 7, 6),
         message("events", 4, 1, TIMESTAMP_NOT_AVAILABLE)]
    )  # fmt: skip
    assert batch.partitions == sorted({("events", 7), (second, 2), ("events", 4)})
    places = [batch.partitions[i] for i in batch.partition_index]
    assert places == [("events", 7), (second, 2), ("events", 7), ("events", 4)]
    assert batch.offsets.tolist() == [5, 9, 6, 1]
    assert list(batch.values) == [b"5", b"9", b"6", b"1"]
    assert list(batch.keys) == [b"k", None, b"k", b"k"]
    assert batch.timestamps_ms.tolist() == [1_005, 1_009, 1_006, NO_TIMESTAMP]
    types = [batch.partition_index.dtype, batch.offsets.dtype, batch.timestamps_ms.dtype]
    assert types == ["int32", "int64", "int64"]


def test_no_messages_are_a_batch_of_no_records() -> None:
    assert (len(record_batch([])), record_batch([]).partitions) == (0, [])
