"""Whether the producers key records by customer and send them where kafka.partitioner says.

Where they do not, a customer's events come in no order, or two members work on one customer. The
newest records of each partition are looked at; `verify` counts over all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing

from stream_scorer.checks.clocks import record_clock_findings
from stream_scorer.checks.finding import Finding
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.core.events.partitioners import partition_of_key
from stream_scorer.core.events.record_keys import KEY_REMEDY, SPLIT_REMEDY, foreign_keys
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.kafka.newest_records import newest_records
from stream_scorer.live.consumer import clock_ms, lookup_of
from stream_scorer.settings.tree import Settings

REGISTRY_SECONDS = 5.0
MAKE_EVENTS = (
    "see how docs/how-to/bring-your-events.md has them, and check [schema_registry] and "
    "events.schema_directory"
)


def sample_findings(
    settings: Settings, ranges: Mapping[TopicPartition, tuple[int, int]]
) -> Iterator[Finding]:
    """What is wrong with the newest records of the input topic; nothing is joined or committed.

    ranges: of each partition of the topic the log's first offset, and the one after its last.
    """
    check = f"records of {settings.kafka.input_topic}"
    if all(first >= end for first, end in ranges.values()):
        yield Finding(check, "there are none yet, so their keys can't be looked at")
        return
    try:
        records = newest_records(settings.kafka.consumer_properties(), ranges)
        problems = list(_problems(settings, records, len(ranges), check))
        problems += record_clock_findings(records, clock_ms(), check)
    except StreamScorerError as error:
        remedy = error.remedy or "see that brokers and schema registry answer, and run it again"
        yield Finding(check, f"they can't be looked at: {error.found}", remedy)
        return
    yield from problems
    if not problems:
        yield Finding(
            check,
            f"the newest {len(records):,} looked at: keyed by customer, and each in the partition "
            f"that {settings.kafka.partitioner} gives",
        )


def _problems(
    settings: Settings, records: RecordBatch, partitions: int, check: str
) -> Iterator[Finding]:
    total = f"of the newest {len(records):,}"
    partitioner = settings.kafka.partitioner
    found_in = records.partition_index.tolist()
    wanted = [
        partition_of_key(partitioner, key, partitions) if key is not None else None
        for key in records.keys
    ]
    misplaced = [
        i
        for i, where in enumerate(wanted)
        if where is not None and where != records.partitions[found_in[i]][1]
    ]
    if misplaced:
        yield Finding(
            check,
            f"{len(misplaced):,} {total} are in another partition than kafka.partitioner = "
            f'"{partitioner}" gives for their key, such as {_position(records, misplaced[0])}',
            SPLIT_REMEDY,
        )
    with closing(lookup_of(settings, REGISTRY_SECONDS)) as lookup:
        decoder = Decoder(
            lookup, max_record_bytes=settings.events.max_record_bytes, ahead=lookup.ahead
        )
        events, refused = decoder.decode(records)
    if len(refused) == len(records):
        first = refused[0]
        found = f"none {total} is an event, such as {first.topic}[{first.partition}] at "
        yield Finding(check, f"{found}{first.offset}: {first.reason.value}", MAKE_EVENTS)
        return
    foreign = foreign_keys(events, records.keys)
    if foreign:
        found = f"{foreign:,} {total} have another key than the customer id, or none"
        yield Finding(check, found, KEY_REMEDY)
    codes, customers = events.customer_id.intern()
    places: dict[int, set[int]] = defaultdict(set)
    for code, record in zip(codes.tolist(), events.record_index.tolist(), strict=True):
        places[code].add(found_in[record])
    split = [code for code, where in places.items() if len(where) > 1]
    if split:
        found = f"{len(split):,} of {len(customers):,} customers {total} records are in two "
        yield Finding(check, f"{found}partitions", SPLIT_REMEDY)


def _position(records: RecordBatch, i: int) -> str:
    topic, partition = records.partitions[int(records.partition_index[i])]
    return f"{topic}[{partition}] at {int(records.offsets[i])}"
