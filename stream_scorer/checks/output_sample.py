"""Whether published propensities lie in the partitions that kafka.partitioner gives.

Whoever joins them with the input topic partition by partition, or looks one customer up, reads one
partition for each customer. A record elsewhere is not found there; and compaction, which works in
each partition by itself, keeps it for ever, so that it is the newest of its partition long after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stream_scorer.checks.finding import Finding
from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.core.events.partitioners import partition_of_key
from stream_scorer.errors import NotAllowed, StreamScorerError
from stream_scorer.io.kafka.newest_records import newest_records
from stream_scorer.settings.connections import KafkaSettings

REMEDY = (
    "see who else writes into the topic, or whether kafka.partitioner or the number of partitions "
    "was changed, and undo that; then make a new output topic (kafka.output_topic, `topics "
    "create`) and fill it with `refresh`, as no record of before moves"
)


def output_findings(
    kafka: KafkaSettings, ranges: Mapping[TopicPartition, tuple[int, int]], input_partitions: int
) -> Iterator[Finding]:
    """What is wrong with where the newest records of the output topic lie.

    ranges: of each of its partitions the log's first offset, and the one after its last.
    """
    check = f"records of {kafka.output_topic}"
    if all(first >= end for first, end in ranges.values()):
        yield Finding(check, "there are none yet, so their partitions can't be looked at")
        return
    try:
        records = newest_records(kafka.consumer_properties(), ranges)
    except NotAllowed:
        yield Finding(check, "this user may not read it, so partitions of keys are not looked at")
        return
    except StreamScorerError as error:
        remedy = error.remedy or "see that the brokers answer, and run it again"
        yield Finding(check, f"they can't be looked at: {error.found}", remedy)
        return
    yield from placed_findings(check, kafka.partitioner, records, len(ranges), input_partitions)


def placed_findings(
    check: str, partitioner: str, records: RecordBatch, partitions: int, input_partitions: int
) -> Iterator[Finding]:
    """records: the newest of each partition."""
    places = [records.partitions[i][1] for i in records.partition_index.tolist()]
    newest: dict[bytes, int] = {}
    times = records.timestamps_ms.tolist()
    for row, key in enumerate(records.keys):
        if key is not None and (key not in newest or times[row] >= times[newest[key]]):
            newest[key] = row
    total = f"of the newest {len(records):,} records"
    unkeyed = sum(key is None for key in records.keys)
    if unkeyed:
        yield Finding(
            check,
            f"{unkeyed:,} {total} have no key: they are of no customer, and compaction bars them",
            "see who else writes into the topic, and stop it",
        )
    wanted = {key: partition_of_key(partitioner, key, partitions) for key in newest}
    elsewhere = [row for key, row in newest.items() if wanted[key] not in (None, places[row])]
    gives = f'kafka.partitioner = "{partitioner}" gives'
    if elsewhere:
        first = elsewhere[0]
        yield Finding(
            check,
            f"of {len(elsewhere):,} of {len(newest):,} customers {total} the newest lies in "
            f"another partition than {gives}, such as partition {places[first]} at "
            f"{int(records.offsets[first])}",
            REMEDY,
        )
    wrong = {
        key
        for row, key in enumerate(records.keys)
        if key is not None and wanted[key] not in (None, places[row])
    } - {records.keys[row] for row in elsewhere}
    if wrong:
        yield Finding(
            check,
            f"of {len(wrong):,} of {len(newest):,} customers {total} an older one lies in another "
            f"partition than {gives}, where compaction keeps it beside the newest",
            REMEDY,
            warning=True,
        )
    if not (elsewhere or wrong or unkeyed):
        found = f"the newest {len(records):,} looked at: each in the partition that {partitioner} "
        found += "gives"
        if partitions != input_partitions:
            found += (
                f"; of {partitions} partitions where the input topic has {input_partitions}, so "
                "the two can't be joined partition by partition"
            )
        yield Finding(check, found)
