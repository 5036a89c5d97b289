"""`doctor` looks whether propensities lie where the partitioner puts them."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.checks.finding import Finding
from stream_scorer.checks.output_sample import output_findings, placed_findings
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.core.events.partitioners import partition_of_key
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.io.kafka.admin import KafkaAdmin, Topic
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.settings.connections import KafkaSettings

PARTITIONS = 4
KEYS = [f"customer-{n}".encode() for n in range(40)]


def placed(key: bytes, by: str = "murmur2_random") -> int:
    found = partition_of_key(by, key, PARTITIONS)
    assert found is not None
    return found


def looked_at(
    rows: list[tuple[bytes | None, int, int]], partitioner: str = "murmur2_random",
    input_partitions: int = PARTITIONS,
) -> list[Finding]:  # fmt: skip
    """Of (key, partition, time)."""
    keys = [key for key, *_ in rows]
    where = np.array([partition for _, partition, _ in rows], np.int32)
    times = np.array([at for *_, at in rows], np.int64)
    topics = [("out", partition) for partition in range(PARTITIONS)]
    offsets = np.arange(len(rows))
    records = RecordBatch([b""] * len(rows), keys, topics, where, offsets, times)
    check = "records of out"
    return list(placed_findings(check, partitioner, records, PARTITIONS, input_partitions))


def test_records_where_they_belong_are_good_and_the_join_with_the_input_is_said() -> None:
    rows: list[tuple[bytes | None, int, int]] = [(key, placed(key), 5) for key in KEYS]
    (found,) = looked_at(rows)
    assert (found.ok, found.warning) == (True, False)
    assert found.found == "the newest 40 looked at: each in the partition that murmur2_random gives"
    (other,) = looked_at(rows, input_partitions=6)
    assert other.ok
    assert "can't be joined partition by partition" in other.found


def test_the_newest_record_of_a_customer_in_another_partition_is_wrong() -> None:
    """Such as of a program that writes with librdkafka's own partitioner."""
    rows: list[tuple[bytes | None, int, int]] = [(key, placed(key), 5) for key in KEYS]
    rows += [(key, placed(key, "consistent_random"), 9) for key in KEYS[:20]]
    moved = sum(placed(key) != placed(key, "consistent_random") for key in KEYS[:20])
    found = looked_at(rows)
    assert [f.ok for f in found] == [False]
    assert found[0].found.startswith(f"of {moved} of 40 customers of the newest 60 records")
    assert "kafka.partitioner" in found[0].found
    assert "`refresh`" in str(found[0].remedy)


def test_an_older_record_elsewhere_is_a_warning_since_compaction_keeps_it() -> None:
    rows: list[tuple[bytes | None, int, int]] = [(KEYS[0], (placed(KEYS[0]) + 1) % 4, 5)]
    rows += [(key, placed(key), 9) for key in KEYS]
    (found,) = looked_at(rows)
    assert (found.ok, found.warning) == (True, True)
    assert "of 1 of 40 customers" in found.found
    assert "compaction keeps it" in found.found


def test_records_without_a_key_are_wrong() -> None:
    (found,) = looked_at([(None, 0, 5), (KEYS[0], placed(KEYS[0]), 5)])
    assert not found.ok
    assert found.found.startswith("1 of the newest 2 records have no key")


@pytest.mark.parametrize("partitioner", ["murmur2_random", "consistent_random"])
def test_records_of_a_topic_are_read_and_judged(partitioner: str) -> None:
    with EmbeddedKafka() as cluster:
        settings = KafkaSettings(
            bootstrap_servers=cluster.bootstrap_servers, output_topic="out", group_id="g"
        )
        cluster.create("out")
        admin = KafkaAdmin(settings.client_properties())
        topic = Topic("out", admin.partitions("out"), None)
        (empty,) = output_findings(settings, admin.ranges(topic), topic.partitions)
        assert empty.ok
        assert "none yet" in empty.found
        producer = ConfirmedProducer(
            {"bootstrap.servers": cluster.bootstrap_servers, "partitioner": partitioner}
        )
        producer.send("out", KEYS, [b"x"] * len(KEYS))
        assert producer.settle() == []
        producer.close()
        (found,) = output_findings(settings, admin.ranges(topic), topic.partitions)
        assert found.ok == (partitioner == "murmur2_random")
