"""KafkaSource, KafkaSink and the topic jobs on Apache Kafka: what the mock cluster can't show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from random import Random
from threading import Event
from typing import Any

import launch
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from servers import KafkaServer

from stream_scorer.core.avro.dead_letter_encoder import decode_dead_letters
from stream_scorer.core.events.batch import Reason, TopicPartition
from stream_scorer.errors import BusUnavailable, ClientLost, Halt
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.sink import KafkaSink
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.jobs import topics
from stream_scorer.jobs.doctor import doctor
from stream_scorer.settings.tree import Settings

pytestmark = pytest.mark.containers

MOST_POLLS = 600  # of 50 ms each
Make = Callable[..., Any]


@pytest.fixture
def member(kafka: KafkaServer) -> Iterator[Make]:
    """member(topic, group, store=None, **kwargs) -> a source that has joined."""
    with ExitStack() as stack:

        def make(topic: str, group: str, store: Any = None, **kwargs: Any) -> KafkaSource:
            source = source_of(kafka, topic, group, store, **kwargs)
            stack.callback(source.close)
            source.join()
            return source

        yield make


@pytest.fixture
def sink(kafka: KafkaServer) -> Iterator[Make]:
    """sink(output, dead, source=None, name="") -> a sink, with a source a transactional one."""
    with ExitStack() as stack:

        def make(
            output: str,
            dead: str,
            source: KafkaSource | None = None,
            name: str = "",
            **more: Any,
        ) -> KafkaSink:
            properties = {
                "bootstrap.servers": kafka.bootstrap,
                "delivery.timeout.ms": 10_000,
                **more,
            }
            if source is not None:
                properties["transactional.id"] = name
            made = KafkaSink(
                properties, output, dead, max_dead_letter_bytes=1000, clock_ms=lambda: 0,
                group_metadata=None if source is None else source.group_metadata,
            )  # fmt: skip
            stack.callback(made.close)
            return made

        yield make


def source_of(
    kafka: KafkaServer, topic: str, group: str, store: Any = None, **kwargs: Any
) -> KafkaSource:
    properties = {"bootstrap.servers": kafka.bootstrap, "group.id": group}
    store = MemoryStore(1) if store is None else store
    return KafkaSource(properties, topic, store, max_events=100, max_age_ms=50, **kwargs)


def read(source: KafkaSource, count: int) -> dict[TopicPartition, int]:
    """Next offsets after `count` records or more."""
    found: dict[TopicPartition, int] = {}
    total = 0
    for _ in range(MOST_POLLS):
        batch = source.poll()
        total += len(batch)
        found |= batch.next_offsets()
        if total >= count:
            return found
    raise AssertionError(f"{total} of {count} records came")


def test_nothing_lags_behind_the_end_of_a_transaction(
    kafka: KafkaServer, topic: Make, member: Make, unique: str
) -> None:
    """Its marker takes an offset that no consumer gets; the committed one stays below the end."""
    name = topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": unique})
    producer.init_transactions(30)
    source = member(name, unique)
    for number in range(3):
        producer.begin_transaction()
        producer.produce(name, key=b"k", value=b"%d" % number)
        producer.commit_transaction(30)
        source.commit(read(source, 1))
        for _ in range(MOST_POLLS):
            source.poll()
            if source.lag() == {(name, 0): 0}:
                break
        assert source.lag() == {(name, 0): 0}
    admin = KafkaAdmin({"bootstrap.servers": kafka.bootstrap})
    positions = admin.positions(unique, admin.topics([name])[name])
    assert positions[name, 0].end - (positions[name, 0].committed or 0) == 1
    assert admin.with_waiting(unique, positions)[name, 0].lag == 0
    kafka.produce(name, [(b"k", b"more")] * 2)
    positions = admin.positions(unique, admin.topics([name])[name])
    assert admin.with_waiting(unique, positions)[name, 0].lag == 2
    for _ in range(MOST_POLLS):
        source.poll()
        if not source.lag()[name, 0]:
            break
    source.seek({(name, 0): 0})
    assert source._lag.ends == {}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_member_for_whom_there_is_no_partition_knows_that_the_group_has_answered(
    kafka: KafkaServer, topic: Make, unique: str, protocol: str
) -> None:
    """With the protocol "consumer" the client does not call back for it: its epoch shows it."""
    name = topic()
    with ExitStack() as stack:
        sources = []
        for _ in range(2):
            properties = {
                "bootstrap.servers": kafka.bootstrap, "group.id": unique, "group.protocol": protocol
            }  # fmt: skip
            source = KafkaSource(properties, name, MemoryStore(1), max_events=9, max_age_ms=50)
            stack.callback(source.close)
            source.join()
            assert source.assignment() == (None, 0)
            sources.append(source)
        for _ in range(MOST_POLLS):
            found = [source.assignment() for source in sources if source.poll() is not None]
            if sorted(found, key=str) == [(0, 0), (1, 0)]:
                return
        raise AssertionError(found)


def test_members_share_partitions_and_nothing_is_lost_when_they_come_and_go(
    kafka: KafkaServer, topic: Make, member: Make, unique: str
) -> None:
    name, store = topic(partitions=6), MemoryStore(1)
    kafka.produce(name, [(b"%d" % i, b"%d" % i) for i in range(2000)])
    seen: Counter[bytes] = Counter()

    def take(source: KafkaSource) -> int:
        batch = source.poll()
        seen.update(v for v in batch.values if v is not None)
        store.advance(batch.next_offsets())
        source.commit(batch.next_offsets())
        return len(batch)

    first = member(name, unique, store)
    while not take(first):
        pass
    second = member(name, unique, store)
    for _ in range(MOST_POLLS):
        take(first), take(second)
        if len(seen) == 2000 and len(first.lag()) == len(second.lag()) == 3:
            break
    assert first.lag().keys().isdisjoint(second.lag().keys())
    assert set(seen) == {b"%d" % i for i in range(2000)}
    kafka.produce(name, [(b"%d" % i, b"%d" % i) for i in range(2000, 3000)])
    second.close()
    for _ in range(MOST_POLLS):
        take(first)
        if len(seen) == 3000:
            break
    # Records handed out were committed before their partition went: none came twice.
    assert set(seen.values()) == {1}
    assert len(seen) == 3000
    first.close()  # which waits until the last commit has been answered
    assert kafka.committed(unique, name) == kafka.end_offsets(name)


@dataclass
class Cut:
    """A partition whose records 80 to 119, of epoch `epoch`, were lost and replaced by others."""

    kafka: KafkaServer
    topic: str
    epoch: int


@pytest.fixture(scope="module")
def cut_log(have: Callable[..., Any]) -> Iterator[Cut]:
    kafka = have(launch.start_kafka)
    try:
        kafka.create_topic("events")
        kafka.produce("events", [(b"k", b"old")] * 80)
        kafka.stop()
        older = kafka.copy_of_log("events", 0)
        kafka.start()
        kafka.produce("events", [(b"k", b"lost")] * 40)
        epoch = kafka.read_topic("events")[-1].leader_epoch()
        assert epoch
        kafka.stop()
        kafka.restore_log("events", 0, older)
        kafka.start()
        kafka.produce("events", [(b"k", b"new")] * 100)
        yield Cut(kafka, "events", epoch)
    finally:
        kafka.remove()


# The committed offset, the watermark, and whether the epochs of their last records are known.
@pytest.mark.parametrize(
    ("committed", "mark"),
    [
        pytest.param((120, True), (120, True), id="both beyond the cut"),
        pytest.param((120, True), (120, False), id="a watermark of an earlier release"),
        pytest.param((120, False), (120, True), id="a committed offset of an earlier release"),
        pytest.param((60, True), (120, True), id="the watermark beyond it"),
        pytest.param((120, True), (60, True), id="the store lost its newest writes"),
        pytest.param((120, True), None, id="the store was emptied"),
        pytest.param(None, (120, True), id="a new group"),
    ],
)
def test_records_that_the_log_lost_and_replaced_are_noticed(
    cut_log: Cut, unique: str, committed: Any, mark: Any
) -> None:
    store, name = MemoryStore(1), (cut_log.topic, 0)
    epochs = {60: 0, 120: cut_log.epoch}
    if mark:
        store.advance({name: mark[0]}, {name: epochs[mark[0]]} if mark[1] else {})
    if committed:
        offset = committed[0]
        commit(cut_log.kafka, unique, name, offset, epochs[offset] if committed[1] else -1)
    with closing(source_of(cut_log.kafka, cut_log.topic, unique, store)) as source:
        source.join()
        with pytest.raises(Halt, match=r"events\[0\]: Kafka lost its records from offset 80 on"):
            read(source, 200)


@pytest.mark.parametrize(
    ("committed", "known"), [(80, True), (60, True), (120, False)],
    ids=["before the cut", "well before it", "no epoch is known"],
)  # fmt: skip
def test_an_offset_that_the_cut_did_not_reach_or_without_an_epoch_is_read_on_from(
    cut_log: Cut, unique: str, committed: int, known: bool
) -> None:
    store, name = MemoryStore(1), (cut_log.topic, 0)
    store.advance({name: committed})
    commit(cut_log.kafka, unique, name, committed, 0 if known else -1)
    with closing(source_of(cut_log.kafka, cut_log.topic, unique, store)) as source:
        source.join()
        assert read(source, 180 - committed) == {name: 180}


def leave_start(_offsets: dict[TopicPartition, int]) -> None:
    """The group's start is of no interest."""


def commit(
    kafka: KafkaServer, group: str, partition: TopicPartition, offset: int, epoch: int
) -> None:
    client = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    try:
        chosen = [KafkaPartition(*partition, offset, leader_epoch=epoch)]
        client.commit(offsets=chosen, asynchronous=False)
    finally:
        client.close()


def test_transaction_holds_records_and_offsets_together(
    kafka: KafkaServer, topic: Make, member: Make, sink: Make, unique: str
) -> None:
    events, output, dead = topic(), topic(), topic()
    kafka.produce(events, [(b"k", b"v")] * 10)
    source = member(events, unique, in_transaction=leave_start)
    made = sink(output, dead, source, unique)
    offsets = read(source, 10)
    made.deliver([b"a"], [b"1"], [], offsets)
    source.commit(offsets)
    assert kafka.committed(unique, events) == {0: 10}
    assert [m.value() for m in kafka.read_topic(output)] == [b"1"]


def test_transaction_of_a_member_that_lost_its_group_leaves_no_trace(
    kafka: KafkaServer, topic: Make, member: Make, sink: Make, unique: str
) -> None:
    events, output, dead = topic(), topic(), topic()
    kafka.produce(events, [(b"k", b"v")] * 10)
    zombie = member(events, unique, in_transaction=leave_start)
    offsets = read(zombie, 10)
    metadata = zombie.group_metadata()
    made = sink(output, dead, zombie, unique)
    made._transaction._group_metadata = lambda: metadata
    zombie.close()
    read(member(events, unique, in_transaction=leave_start), 10)
    with pytest.raises(BusUnavailable):
        made.deliver([b"a"], [b"stale"], [], offsets)
    with pytest.raises(BusUnavailable):
        made.commit_alone({(events, 0): 0})  # the start
    assert kafka.committed(unique, events) == {}
    assert kafka.read_topic(output) == []


def test_older_producer_of_a_transactional_id_is_fenced(
    kafka: KafkaServer, topic: Make, member: Make, sink: Make, unique: str
) -> None:
    events, output, dead = topic(), topic(), topic()
    kafka.produce(events, [(b"k", b"v")] * 10)
    source = member(events, unique, in_transaction=leave_start)
    offsets = read(source, 10)
    older = sink(output, dead, source, unique)
    newer = sink(output, dead, source, unique)
    with pytest.raises(Halt, match="another member took over"):
        older.deliver([b"a"], [b"old"], [], offsets)
    newer.deliver([b"a"], [b"new"], [], offsets)
    assert [m.value() for m in kafka.read_topic(output)] == [b"new"]


def test_transaction_that_was_open_for_too_long_takes_a_new_client(
    kafka: KafkaServer, topic: Make, member: Make, sink: Make, unique: str
) -> None:
    """As where the process was suspended while it delivered: no other member is at fault."""
    events, output, dead = topic(), topic(), topic()
    kafka.produce(events, [(b"k", b"v")] * 10)
    source = member(events, unique, in_transaction=leave_start)
    offsets = read(source, 10)
    short = {"transaction.timeout.ms": 1000, "delivery.timeout.ms": 1000}
    slow = sink(output, dead, source, unique, **short)
    settle = slow._producer.settle

    def late() -> Any:
        done = settle()
        Event().wait(3)  # the broker looks for open transactions every second
        return done

    slow._producer.settle = late
    with pytest.raises(ClientLost, match="so Kafka has aborted it"):
        slow.deliver([b"a"], [b"late"], [], offsets)
    sink(output, dead, source, unique).deliver([b"a"], [b"again"], [], offsets)
    assert [m.value() for m in kafka.read_topic(output)] == [b"again"]


@pytest.mark.parametrize("transactional", [False, True])
def test_record_that_the_broker_finds_too_large_becomes_a_dead_letter(
    kafka: KafkaServer, topic: Make, member: Make, sink: Make, unique: str, transactional: bool
) -> None:
    events, output, dead = topic(), topic(config={"max.message.bytes": 2000}), topic()
    kafka.produce(events, [(b"k", b"v")] * 10)
    source = member(events, unique, in_transaction=leave_start if transactional else None)
    offsets = read(source, 10)
    made = sink(output, dead, source if transactional else None, unique)
    noise = Random(1).randbytes(5000)
    # Together in one request they are all refused; alone only the first is.
    made.deliver([b"a", b"b", b"c"], [noise, b"1", b"2"], [], offsets)
    assert sorted(m.value() or b"" for m in kafka.read_topic(output)) == [b"1", b"2"]
    dead_letters = decode_dead_letters([m.value() or b"" for m in kafka.read_topic(dead)])
    assert [(a.reason, a.key) for a in dead_letters] == [(Reason.OVERSIZED, b"a")]


def settings_for(kafka: KafkaServer, unique: str, partitions: int = 3) -> Settings:
    overrides = {
        "kafka": {
            "bootstrap_servers": kafka.bootstrap,
            "input_topic": f"{unique}-in",
            "output_topic": f"{unique}-out",
            "dead_letter_topic": f"{unique}-dead",
            "group_id": unique,
            "input_partitions": partitions,
        }
    }
    return Settings.load(None, overrides=overrides, environment={})


def test_topics_are_created_once_and_then_good(kafka: KafkaServer, unique: str) -> None:
    settings = settings_for(kafka, unique)
    missing = topics.check(settings)
    assert not missing.ok
    assert "does not exist" in topics.checked_in_words(missing)[0]
    assert [t.created for t in topics.create(settings).topics] == [True] * 3
    assert [t.created for t in topics.create(settings).topics] == [False] * 3
    assert topics.check(settings).ok
    other = topics.check(settings_for(kafka, unique, partitions=5))
    assert "has 3 partitions" in " ".join(topics.checked_in_words(other))
    for name in ("in", "out", "dead"):
        kafka.delete_topic(f"{unique}-{name}")


def test_output_topic_that_is_not_compacted_is_named(kafka: KafkaServer, unique: str) -> None:
    settings = settings_for(kafka, unique)
    topics.create(settings)
    kafka.configure_topic(f"{unique}-out", {"cleanup.policy": "delete"})
    (problem,) = (t.problems for t in topics.check(settings).topics if not t.ok)
    assert problem[0].remedy == "set cleanup.policy=compact"


def test_doctor_reports_how_far_behind_the_group_is(
    kafka: KafkaServer, member: Make, unique: str
) -> None:
    settings = settings_for(kafka, unique)
    topics.create(settings)
    kafka.produce(f"{unique}-in", [(b"k", b"v")] * 10)
    source = member(f"{unique}-in", unique)
    source.commit(read(source, 10))
    kafka.produce(f"{unique}-in", [(b"k", b"v")] * 4)
    findings = {f.check: f for f in doctor(settings).findings}
    assert findings[f"group {unique}"].found == "4 events behind"
    assert findings[f"topic {unique}-in"].ok
    assert findings["kafka version"].found.startswith("4.0 or newer")
    assert "there are none yet" in findings[f"records of {unique}-out"].found
