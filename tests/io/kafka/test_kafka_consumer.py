"""KafkaSource on librdkafka's mock cluster: where it starts, what it hands out, what it commits."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from confluent_kafka import OFFSET_INVALID, Consumer, Message, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.errors import BusUnavailable, Halt, HistoryGone, StoreUnavailable
from stream_scorer.io.kafka import consumer as kafka_consumer
from stream_scorer.io.kafka import partition_starts
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.group_offsets import NOBODY, Owner, metadata_of, owner_in
from stream_scorer.io.kafka.membership import Membership

MOST_POLLS = 200  # of 100 ms each: an answer that takes longer than this is a failure


@dataclass
class Marks:
    """The watermarks of a store, kept by hand."""

    marks: dict[TopicPartition, int] = field(default_factory=dict)
    failures: int = 0
    epochs: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)
    begun: dict[TopicPartition, int] = field(default_factory=dict)

    def watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("not now")
        return {tp: self.marks[tp] for tp in partitions if tp in self.marks}

    def watermark_epochs(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        return {tp: self.epochs[tp] for tp in partitions if tp in self.epochs}

    def begin(self, offsets: dict[TopicPartition, int]) -> None:
        self.begun |= offsets

    def release(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            self.begun.pop(tp, None)


MINE = Owner("mine", "1")


@dataclass
class Starts:
    """Commits starts in a transaction, if asked again."""

    asked: list[dict[TopicPartition, int]] = field(default_factory=list)

    def __call__(self, offsets: dict[TopicPartition, int]) -> None:
        self.asked.append(offsets)
        if len(self.asked) == 1:
            raise BusUnavailable("the group is rebalancing")


@dataclass
class Scenario:
    """A topic of its own, with so many records in partition 0, and a source that reads it."""

    topic: str
    address: str
    marks: Marks
    source: KafkaSource

    def read(self, count: int) -> RecordBatch:
        """The batch that completes `count` records."""
        total = 0
        for _ in range(MOST_POLLS):
            batch = self.source.poll()
            total += len(batch)
            if total >= count:
                return batch
        raise AssertionError(f"{total} of {count} records came")

    def first_batch(self) -> RecordBatch:
        return self.read(1)

    def produce(self, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.address})
        for value in values:
            producer.produce(self.topic, value=value, partition=0)
        assert producer.flush(10) == 0

    def committed(self) -> int:
        return self.committed_as()[0]

    def committed_after_polls(self, offset: int) -> bool:
        """Whether this becomes the committed offset: a commit is answered later than it is sent,
        and where another one is on its way it is sent later."""
        for _ in range(MOST_POLLS):
            if self.committed() == offset:
                return True
            assert len(self.source.poll()) == 0
        return False

    def committed_as(self) -> tuple[int, Owner]:
        """The committed offset, and whom its metadata names."""
        probe = Consumer({"bootstrap.servers": self.address, "group.id": self.topic})
        found = probe.committed([KafkaPartition(self.topic, 0)], 10)[0]
        probe.close()
        return found.offset, owner_in(found.metadata)


@pytest.fixture(scope="module")
def scenarios(mock_kafka: str) -> Iterator[dict[str, Scenario]]:
    """All at once, since a new group's first join takes the mock cluster three seconds."""
    logger = logging.getLogger("librdkafka")
    producer = Producer({"bootstrap.servers": mock_kafka}, logger=logger)
    started = {}

    def start(
        topic: str, *, values: int = 10, committed: int | None = None, mark: int | None = None,
        value_bytes: int = 1, failures: int = 0, epoch: int = -1,
        mark_epoch: int | None = None, in_transaction: Starts | None = None,
        partner: Owner = NOBODY, max_events: int = 1000,
    ) -> None:  # fmt: skip
        for _ in range(values):
            producer.produce(topic, value=b"v" * value_bytes, key=b"k", partition=0)
        assert producer.flush(20) == 0
        if committed is not None:
            probe = Consumer({"bootstrap.servers": mock_kafka, "group.id": topic})
            offset = KafkaPartition(
                topic, 0, committed, metadata=metadata_of(partner), leader_epoch=epoch
            )
            probe.commit(offsets=[offset], asynchronous=False)
            probe.close()
        marks = Marks({} if mark is None else {(topic, 0): mark}, failures)
        if mark is not None and mark_epoch is not None:
            marks.epochs = {(topic, 0): (mark, mark_epoch)}
        properties = {"bootstrap.servers": mock_kafka, "group.id": topic}
        source = KafkaSource(
            properties, topic, marks, max_events=max_events, max_age_ms=100,
            in_transaction=in_transaction, owner=MINE, partner=lambda: partner,
        )  # fmt: skip
        source.join()
        started[topic] = Scenario(topic, mock_kafka, marks, source)

    start("new", values=0)
    start("mark-below-commit", committed=7, mark=4)
    start("mark-above-commit", committed=3, mark=8)
    start("mark-alone", mark=6)
    start("emptied-store", committed=7)
    start("gone", values=12, value_bytes=900_000, mark=2)
    start("emptied-store-gone", values=12, value_bytes=900_000, committed=12)
    start("recreated", committed=50, mark=50)
    start("store-away", failures=1)
    for topic in ("commit", "commit-later", "seek", "wait", "lost", "forgotten", "start-forgotten",
                  "start-later", "metadata", "held", "held-forgotten",
                  "consume-fails"):  # fmt: skip
        start(topic)
    start("transactional", in_transaction=Starts())
    start("seek-gone", values=12, value_bytes=900_000)
    start("ahead", values=4, max_events=6)
    start("same-log", committed=7, mark=7, epoch=0)
    start("another-log", committed=7, mark=7, mark_epoch=5)  # the mock cluster's only epoch is 0
    start("another-log-below", committed=2, mark=7, mark_epoch=5)
    start("not-asked", committed=7, mark=7, epoch=0)
    start("newer-records", committed=4, mark=8)
    start("partner", committed=6, mark=4, partner=Owner("old", "1"))
    start("partner-ahead", committed=3, mark=8, partner=Owner("old", "1"))
    yield started
    for scenario in started.values():
        scenario.source.close()
    producer.close()


def test_tombstones_null_keys_and_timestamps_are_carried_through(
    scenarios: dict[str, Scenario], mock_kafka: str
) -> None:
    producer = Producer({"bootstrap.servers": mock_kafka})
    producer.produce("new", value=b"a", key=None, partition=1, timestamp=1234)
    producer.produce("new", value=None, key=b"k", partition=1, timestamp=1235)
    producer.produce("new", value=b"", key=b"", partition=1, timestamp=1236)
    assert producer.flush(10) == 0
    batch = scenarios["new"].read(3)
    assert batch.values == [b"a", None, b""]
    assert batch.keys == [None, b"k", b""]
    assert batch.timestamps_ms.tolist() == [1234, 1235, 1236]
    assert batch.offsets.tolist() == [0, 1, 2]
    assert batch.partitions == [("new", 1)]
    assert (batch.partition_index.dtype, batch.offsets.dtype) == (np.int32, np.int64)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("name", "start"),
    [("mark-below-commit", 4), ("mark-above-commit", 3), ("mark-alone", 6), ("emptied-store", 0)],
)
def test_reading_starts_at_the_lower_of_committed_offset_and_watermark(
    scenarios: dict[str, Scenario], name: str, start: int, caplog: pytest.LogCaptureFixture
) -> None:
    batch = scenarios[name].first_batch()
    assert batch.first_offsets() == {(name, 0): start}
    assert scenarios[name].marks.begun[(name, 0)] == start
    assert name != "mark-alone" or scenarios[name].committed() == start
    went_back = name in ("mark-below-commit", "emptied-store")
    assert ("lacks its newest writes" in caplog.text) == went_back


@pytest.mark.parametrize("name", ["gone", "emptied-store-gone"])
def test_offsets_that_kafka_no_longer_holds_are_not_skipped(
    scenarios: dict[str, Scenario], name: str
) -> None:
    with pytest.raises(HistoryGone, match=r"needs events from offset \d.*restore"):
        scenarios[name].first_batch()


def test_topic_that_was_created_again_is_noticed(scenarios: dict[str, Scenario]) -> None:
    with pytest.raises(Halt, match="at offset 50, but Kafka's log ends at 10: the topic was del"):
        scenarios["recreated"].first_batch()


def test_log_that_has_the_epoch_of_the_committed_offset_is_read_on(
    scenarios: dict[str, Scenario],
) -> None:
    scenario = scenarios["same-log"]
    batch = scenario.read(3)
    assert batch.offsets.tolist()[-1] == 9
    following = batch.next_offsets()
    scenario.source.commit(following)
    assert scenario.source.leader_epochs(following) == {("same-log", 0): 0}
    assert [p.leader_epoch for p in scenario.source.for_commit(following)] == [0]
    assert scenario.source.leader_epochs({("same-log", 0): 3, ("other", 0): 3}) == {}
    assert scenario.committed_after_polls(10)
    probe = Consumer({"bootstrap.servers": scenario.address, "group.id": "same-log"})
    stored = probe.committed([KafkaPartition("same-log", 0)], 10)[0]
    probe.close()
    assert (stored.offset, stored.leader_epoch) == (10, 0)


def test_nothing_is_read_until_the_broker_was_asked_about_the_log(
    scenarios: dict[str, Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when a partition is assigned nor when it is read again from an earlier offset."""
    scenario = scenarios["not-asked"]

    def refuse(*_arguments: object) -> None:
        raise BusUnavailable("not now")

    with monkeypatch.context() as refusing:
        refusing.setattr(kafka_consumer, "seek_with_epochs", refuse)
        for _ in range(2):
            with pytest.raises(BusUnavailable, match="not now"):
                scenario.first_batch()
        assert scenario.source.lag() == {}
    batch = scenario.read(3)
    assert batch.offsets.tolist()[-1] == 9
    with monkeypatch.context() as refusing:
        refusing.setattr(kafka_consumer, "seek_with_epochs", refuse)
        with pytest.raises(BusUnavailable, match="not now"):
            scenario.source.seek({("not-asked", 0): 8})
        assert ("not-asked", 0) not in scenario.source.lag()
    assert scenario.first_batch().offsets.tolist()[0] == 7  # the start is found anew


def test_log_without_the_epoch_of_the_watermark_is_refused(
    scenarios: dict[str, Scenario],
) -> None:
    with pytest.raises(Halt, match=r"another-log\[0\]: Kafka lost its newest records after they"):
        scenarios["another-log"].first_batch()


def test_start_below_an_offset_whose_epoch_is_known_is_read(scenarios: dict[str, Scenario]) -> None:
    """Its own epoch is not known, so that only newer epochs below the offset would show a cut."""
    assert scenarios["another-log-below"].read(8).offsets.tolist()[-1] == 9


def test_a_newer_epoch_below_the_watermark_is_refused(scenarios: dict[str, Scenario]) -> None:
    scenario = scenarios["newer-records"]
    # Older than any record of the mock cluster.
    scenario.source._offsets.epochs._known = {("newer-records", 0): {8: -2}}
    with pytest.raises(Halt, match=r"newer-records\[0\]: Kafka lost its records from offset 4 on"):
        scenario.first_batch()


def test_store_that_is_away_at_assignment_is_asked_again(scenarios: dict[str, Scenario]) -> None:
    with pytest.raises(StoreUnavailable):
        scenarios["store-away"].first_batch()
    assert len(scenarios["store-away"].read(10))


def test_only_commit_commits_more_than_the_start(scenarios: dict[str, Scenario]) -> None:
    scenario = scenarios["commit"]
    batch = scenario.read(10)
    # The start: without it the next owner would begin at the watermark, past what is not published.
    assert scenario.committed() == 0
    scenario.source.commit(batch.next_offsets() | {("commit", 99): 5})
    assert scenario.committed_after_polls(10)
    assert scenario.source.lag()[("commit", 0)] == 0


def test_source_of_a_transactional_sink_commits_only_a_start_and_that_in_a_transaction(
    scenarios: dict[str, Scenario],
) -> None:
    scenario = scenarios["transactional"]
    starts = scenario.source._in_transaction
    assert isinstance(starts, Starts)
    with pytest.raises(BusUnavailable, match="rebalancing"):
        scenario.first_batch()  # nothing is read before the start is committed
    scenario.source.commit(scenario.read(10).next_offsets())
    assert starts.asked == [{("transactional", p): 0 for p in range(4)}] * 2
    assert scenario.committed() == OFFSET_INVALID
    assert scenario.source.committed()["transactional", 0] == 10


def test_seek_reads_again_and_ignores_partitions_of_others(scenarios: dict[str, Scenario]) -> None:
    scenario = scenarios["seek"]
    scenario.read(10)
    before = scenario.source.claims()
    scenario.source.seek({("seek", 0): 4, ("seek", 99): 0})
    after = scenario.source.claims()
    assert before.keys() == after.keys()
    assert [tp for tp, claim in before.items() if after[tp] != claim] == [("seek", 0)]
    assert scenario.first_batch().offsets.tolist() == [4, 5, 6, 7, 8, 9]


def test_seek_to_what_kafka_no_longer_holds_halts(scenarios: dict[str, Scenario]) -> None:
    scenarios["seek-gone"].first_batch()
    with pytest.raises(HistoryGone):
        scenarios["seek-gone"].source.seek({("seek-gone", 0): 0})


def test_nothing_is_lost_or_doubled_while_waiting(scenarios: dict[str, Scenario]) -> None:
    scenario = scenarios["wait"]
    scenario.read(10)
    scenario.produce(b"before")
    scenario.source.wait(0.3)
    scenario.produce(b"after")
    # Nothing was fetched since, so that the client does not know of it.
    assert scenario.source.lag()["wait", 0] == 2
    batches = [scenario.read(1)]
    while sum(map(len, batches)) < 2:
        batches.append(scenario.read(1))
    assert [v for b in batches for v in b.values] == [b"before", b"after"]
    assert scenario.source.lag()["wait", 0] == 0


def test_an_evicted_member_commits_nothing_until_its_rebalance_is_handled(
    scenarios: dict[str, Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka has joined again by itself: the group would take the commit for the new member's,
    of partitions that another may have read on from."""
    scenario = scenarios["commit-later"]
    batch = scenario.read(10)
    with monkeypatch.context() as evicted:
        evicted.setattr(scenario.source._membership, "_member_id", "the member before")
        scenario.source.commit(batch.next_offsets())
        assert len(scenario.source.poll()) == 0
        assert scenario.committed() == 0
    # What was kept is committed without another event.
    assert scenario.committed_after_polls(10)


def test_lost_partition_is_neither_kept_nor_committed(scenarios: dict[str, Scenario]) -> None:
    scenario = scenarios["lost"]
    batch = scenario.read(10)
    assert ("lost", 0) in scenario.source.claims()
    # What librdkafka calls when another member has the partitions already.
    lost = [KafkaPartition("lost", p) for p in range(4)]
    scenario.source._on_lost(scenario.source._consumer, lost)
    assert scenario.source.claims() == {}
    scenario.source.commit(batch.next_offsets())
    assert scenario.committed() == 0
    assert scenario.marks.begun == {}
    assert len(scenario.source.poll()) == 0


class Renamed:
    """The client, after the group evicted its member and took it in under a new id."""

    def __init__(self, client: Any, member_id: str) -> None:
        self._client, self._member_id = client, member_id

    def memberid(self) -> str:
        return self._member_id

    def consumer_group_metadata(self) -> bytes:
        return b"generation 9 of " + self._member_id.encode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_member_that_was_forgotten_gives_up_its_partitions_and_starts_them_anew(
    scenarios: dict[str, Scenario],
) -> None:
    scenario = scenarios["forgotten"]
    batch, claims = scenario.read(10), scenario.source.claims()
    # What librdkafka calls when the same partitions come back without having been revoked.
    scenario.source._on_assign(Renamed(scenario.source._consumer, "another"), [])  # type: ignore[arg-type]
    assert scenario.source.claims() == {}
    scenario.source.commit(batch.next_offsets())
    assert scenario.committed() == 0
    assert scenario.first_batch().offsets.tolist()[0] == 0
    # What was polled before is told apart from what is polled from now on.
    assert scenario.source.claims().keys() == claims.keys()
    assert not scenario.source.claims().items() & claims.items()


def test_start_that_waits_to_be_committed_is_dropped_where_the_group_had_forgotten_the_member(
    scenarios: dict[str, Scenario],
) -> None:
    """Committed under the new membership it would take back what another member committed since."""
    scenario = scenarios["start-forgotten"]
    batch = scenario.read(10)
    scenario.source.commit(batch.next_offsets())
    assert scenario.committed_after_polls(10)
    tp = ("start-forgotten", batch.partitions[0][1])
    scenario.source._offsets.committed.clear()
    # A start whose commit was not answered, of a partition that is not read yet.
    scenario.source._give_up(scenario.source._consumer, [tp])
    scenario.source._offsets.add({tp: 0})
    again = [KafkaPartition(*tp)]
    scenario.source._on_revoke(Renamed(scenario.source._consumer, "another"), again)  # type: ignore[arg-type]
    assert scenario.committed() == 10


def test_start_is_not_committed_by_a_client_that_joined_again_by_itself(
    scenarios: dict[str, Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = scenarios["start-later"]
    with monkeypatch.context() as evicted:
        evicted.setattr(Membership, "is_current", lambda *_: False)
        assert sum(len(scenario.source.poll()) for _ in range(20)) == 0
        assert scenario.committed() < 0
    assert len(scenario.read(10)) == 10


def test_group_metadata_is_of_the_rebalance_that_was_handled_not_the_client_s_newest(
    scenarios: dict[str, Scenario],
) -> None:
    source = scenarios["metadata"].source
    scenarios["metadata"].read(10)
    client, before = source._consumer, source.group_metadata()
    source._consumer = Renamed(client, "joined again meanwhile")  # type: ignore[assignment]
    assert source.group_metadata() == before
    source._on_assign(source._consumer, [])
    assert source.group_metadata() == b"generation 9 of joined again meanwhile"
    source._consumer = client


@pytest.mark.parametrize(("name", "offset", "start"), [("partner", 6, 4), ("partner-ahead", 3, 3)])
def test_a_partition_of_the_other_namespace_of_a_roll_out_is_taken_over_at_its_committed_offset(
    scenarios: dict[str, Scenario], name: str, offset: int, start: int
) -> None:
    scenario = scenarios[name]
    assert scenario.first_batch().offsets.tolist()[0] == start
    # What is below it is published; the name says who reads from now on.
    assert scenario.source.committed()[name, 0] == offset
    assert scenario.committed_as() == (offset, MINE)


def test_poll_ahead_gives_a_complete_batch_or_none_and_keeps_what_came(
    scenarios: dict[str, Scenario],
) -> None:
    scenario = scenarios["ahead"]
    for _ in range(MOST_POLLS):
        assert len(scenario.source.poll(ahead=True)) == 0
        if len(scenario.source._held) == 4:
            break
        time.sleep(0.1)
    assert scenario.source.handed_out()["ahead", 0] == 0
    scenario.produce(b"a", b"b", b"c")
    for _ in range(MOST_POLLS):
        if len(batch := scenario.source.poll(ahead=True)):
            break
        time.sleep(0.1)
    assert batch.offsets.tolist() == [0, 1, 2, 3, 4, 5]
    assert scenario.first_batch().offsets.tolist() == [6]


def test_what_was_received_before_a_partition_is_begun_anew_does_not_come_before_its_start(
    scenarios: dict[str, Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the records between the start and what was received would be taken for read."""
    # The start is found by the very next poll.
    monkeypatch.setattr(partition_starts, "LOOKUP_SECONDS", 10.0)
    scenario = scenarios["held-forgotten"]
    source = scenario.source
    scenario.read(10)
    scenario.produce(b"a", b"b")
    while not source._held:  # a complete batch is a thousand records
        source.poll(ahead=True)
        time.sleep(0.01)
    source._on_assign(Renamed(source._consumer, "another"), [])  # type: ignore[arg-type]
    offsets: list[int] = []
    while len(offsets) < 12:
        offsets += scenario.first_batch().offsets.tolist()
    assert offsets == list(range(12))


def test_what_came_before_a_call_of_the_client_failed_is_not_lost(
    scenarios: dict[str, Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = scenarios["consume-fails"]
    source, failures = scenario.source, [BusUnavailable("no broker"), None]
    while not source._held:  # a complete batch is a thousand records
        source.poll(ahead=True)
    held = len(source._held)
    consume = source._consume

    def fails_once(most: int, seconds: float) -> list[Message]:
        failure = failures.pop() if failures else None
        if failure is not None:
            raise failure
        return consume(most, seconds)

    monkeypatch.setattr(source, "_consume", fails_once)
    # What a rebalance callback failed with comes with the records of the same call.
    source._errors.keep(BusUnavailable("no coordinator"))
    for _ in range(2):
        with pytest.raises(BusUnavailable):
            source.poll()
    assert len(source._held) >= held
    assert scenario.read(10).offsets.tolist()[-1] == 9
    assert source.handed_out()["consume-fails", 0] == 10


def test_seek_drops_what_was_held_while_waiting(scenarios: dict[str, Scenario]) -> None:
    source = scenarios["held"].source
    assert scenarios["held"].first_batch().offsets.tolist()[0] == 0
    scenarios["held"].produce(b"a", b"b")
    while not source._held:  # as `wait` does, which receives what was on its way when it paused
        source._held += source._consume(2, 0.1)
    source.seek({("held", 0): 0})
    offsets: list[int] = []
    while len(offsets) < 12:
        offsets += scenarios["held"].first_batch().offsets.tolist()
    assert offsets == list(range(12))
