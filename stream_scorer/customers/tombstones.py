"""Tombstones of erased customers in the output topic: the last word about each of them.

A tombstone is a record without a value under the customer's id, by which compaction removes the
scores of before. A member may publish one more score after it: it had folded the customer's events,
or loaded the record for a refresh, before the record was erased. So, after the tombstones:

1. Wait until the group has committed what the erased records had been made of. A member commits
   after its delivery is confirmed, so what was on its way then is in the topic. Without members
   nothing is on its way, and who reads those events next finds the boundary. A refresh commits
   nothing; it takes less than `SETTLE_SECONDS` from its load to its delivery.
2. Read the topic from where it ended before the tombstones. Where a score that was made of erased
   events follows a customer's tombstone, send that customer's again, and read on.

A score of an event after the erasure stays: its source position lies above what the erased record
held. Not covered: a member that is suspended between a save and its delivery for longer than its
group waits, under `at_least_once`; it may publish one old score when it wakes, as it may of any
customer. `exactly_once` fences it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.core.features.state import topic_hash
from stream_scorer.errors import BusUnavailable
from stream_scorer.io.kafka.admin import KafkaAdmin, Topic
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.io.stores.erasures import ErasedRecord
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings

SETTLE_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 0.2
MOST_SENDINGS = 5
BATCH_RECORDS = 10_000
RECORDS_PER_SENDING = 10_000

Sources = Mapping[tuple[int, int], int]


@dataclass(frozen=True)
class SentTombstone:
    """The last tombstone of a customer, and how many were sent."""

    partition: int
    offset: int
    sent: int


class Tombstones:
    """To the output topic of the settings. Raises BusUnavailable, NotAllowed and Halt; building it
    does so where a topic is missing or this user may not ask, before anything is deleted."""

    def __init__(self, settings: Settings) -> None:
        kafka = self._kafka = settings.kafka
        self._admin = KafkaAdmin(kafka.client_properties())
        with closing(self._reader()) as reader:
            self._ends = {tp: end for tp, (_, end) in reader.log.items()}
        self._input = Topic(kafka.input_topic, self._admin.partitions(kafka.input_topic), None)
        self.members = self._admin.members(kafka.group_id)

    def send(
        self, erased: Mapping[str, ErasedRecord], wait_seconds: float
    ) -> tuple[dict[str, SentTombstone], str]:
        """A tombstone for each of these customers, who were erased just before; and what could not
        be made sure, "" where nothing is open.

        wait_seconds: how long members may take to commit what they had read.
        """
        waiting, sendings = list(erased), dict.fromkeys(erased, 0)
        found: dict[str, SentTombstone] = {}
        problem, starts = "", dict(self._ends)
        for _ in range(MOST_SENDINGS):
            self._produce(waiting)
            for customer in waiting:
                sendings[customer] += 1
            problem = self._committed(erased, wait_seconds)
            positions, waiting, starts = self._read_all(starts, erased, waiting, wait_seconds)
            for customer, (partition, offset) in positions.items():
                found[customer] = SentTombstone(partition, offset, sendings[customer])
            if not waiting:
                return found, problem
        return found, (
            f"scores of {len(waiting):,} customers were published again and again; is another "
            "namespace's group publishing to this topic? Run this again"
        )

    def _produce(self, customer_ids: Sequence[str]) -> None:
        producer = ConfirmedProducer(self._kafka.sender_properties())
        try:
            with progress("tombstones", len(customer_ids)) as meter:
                for first in range(0, len(customer_ids), RECORDS_PER_SENDING):
                    some = customer_ids[first : first + RECORDS_PER_SENDING]
                    keys = [customer.encode() for customer in some]
                    producer.send(self._kafka.output_topic, keys, [None] * len(some))
                    producer.settle()
                    meter.advance(len(some))
        finally:
            producer.close()

    def _committed(self, erased: Mapping[str, ErasedRecord], wait_seconds: float) -> str:
        """Wait until the group has committed all that the erased records were made of."""
        if not self._input.partitions or not self.members:
            return ""
        needed = needed_offsets(self._kafka.input_topic, [r.sources for r in erased.values()])
        until = time.monotonic() + wait_seconds
        while behind := self._behind(self._input, needed):
            # A member that was killed counts until its session ends; who gets its partitions reads
            # the erased customers' events again, and finds the boundary.
            self.members = self._admin.members(self._kafka.group_id)
            if not self.members:
                return ""
            if time.monotonic() > until:
                return (
                    f"members of group {self._kafka.group_id} have not committed partitions "
                    f"{', '.join(map(str, behind))} for {wait_seconds:g} s, so a score of before "
                    "may still be published; run this again when they read on (`doctor` says why)"
                )
            time.sleep(LOOK_AGAIN_SECONDS)
        time.sleep(SETTLE_SECONDS)
        return ""

    def _behind(self, topic: Topic, needed: Mapping[int, int]) -> list[int]:
        if not needed:
            return []
        positions = self._admin.positions(self._kafka.group_id, topic)
        return [
            p for p, offset in sorted(needed.items())
            if (at := positions.get((topic.name, p))) is not None and (at.committed or 0) < offset
        ]  # fmt: skip

    def _read_all(
        self,
        starts: Mapping[TopicPartition, int],
        erased: Mapping[str, ErasedRecord],
        sent: Collection[str],
        wait_seconds: float,
    ) -> tuple[dict[str, tuple[int, int]], list[str], dict[TopicPartition, int]]:
        """The position of the last tombstone of each customer of `sent`; who has an old score
        behind it; and where to read on. Raises BusUnavailable where a tombstone can't be seen."""
        input_hash = topic_hash(self._kafka.input_topic)
        tombstones: dict[str, tuple[int, int]] = {}
        stale, ends = set[str](), dict(starts)
        until = time.monotonic() + wait_seconds
        while True:
            with closing(self._reader(ends)) as reader:
                ends |= {tp: end for tp, (_, end) in reader.ranges.items()}
                for batch in reader:
                    for customer, at, value in _of_customers(batch, erased):
                        if value is None:
                            tombstones[customer] = at
                            stale.discard(customer)
                        elif is_stale(erased[customer], value, input_hash):
                            stale.add(customer)
            unseen = [customer for customer in sent if customer not in tombstones]
            if not unseen:
                return tombstones, sorted(stale), ends
            # What follows an open transaction is not shown before that has ended.
            if time.monotonic() > until:
                raise BusUnavailable(
                    f"topic {self._kafka.output_topic} does not show the tombstones of "
                    f"{len(unseen):,} customers after {wait_seconds:g} s"
                )
            time.sleep(LOOK_AGAIN_SECONDS)

    def _reader(self, starts: Mapping[TopicPartition, int] | None = None) -> TopicReader:
        return TopicReader(
            self._kafka.consumer_properties(), self._kafka.output_topic,
            batch_records=BATCH_RECORDS, from_offsets=starts,
        )  # fmt: skip


def needed_offsets(topic: str, sources: Sequence[Sources]) -> dict[int, int]:
    """By partition of the topic, the offset that has to be committed so that all that these records
    were made of was published."""
    needed: dict[int, int] = {}
    for of_record in sources:
        for (hashed, partition), offset in of_record.items():
            if hashed == topic_hash(topic):
                needed[partition] = max(offset + 1, needed.get(partition, 0))
    return needed


def is_stale(erased: ErasedRecord, value: bytes, input_topic_hash: int) -> bool:
    """Whether an output record was made from events that are erased."""
    record = decode_propensities([value])
    partition, offset = int(record.partition[0]), int(record.offset[0])
    if int(record.as_of_ms[0]) <= erased.boundary_ms or offset < 0:
        return True
    return offset <= erased.sources.get((input_topic_hash, partition), -1)


def _of_customers(
    batch: RecordBatch, wanted: Collection[str]
) -> list[tuple[str, tuple[int, int], bytes | None]]:
    """Customer, position and value of the records of `wanted`."""
    numbers = [batch.partitions[i][1] for i in batch.partition_index.tolist()]
    rows = zip(batch.keys, numbers, batch.offsets.tolist(), batch.values, strict=True)
    named = ((_text(key), (partition, offset), value) for key, partition, offset, value in rows)
    return [(customer, at, value) for customer, at, value in named if customer in wanted]


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
