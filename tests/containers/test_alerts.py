"""Alerts fire in a real Prometheus when a real group is broken, and none does for a healthy one.

What is broken at once, by the events: schemas that are unknown, times of the future and of an hour
ago, unknown categories, foreign keys, customers in several partitions and one that never rests; by
members: two different models, a group that others keep joining; and an announced model whose file
is altered. Beside these a member that never gets a partition, and one whose Redis went away while
it had a backlog of an hour, with hardly a file descriptor left. Then in turn: Redis evicts, on
which a member halts that does not allow it; it is emptied, and away; and all members are killed.
"""

from __future__ import annotations

import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from alerting import Prometheus
from confluent_kafka import Consumer, Producer
from harness.member import Member, wait_until
from harness.rig import SESSION_MS, Rig
from harness.stream import CATEGORIES, random_model
from servers import QUIET_CLIENT, KafkaServer, RedisServer

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.redis_server import RedisServer as Server
from stream_scorer.live.served_model import identity_of
from stream_scorer.model import artefact

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

HEALTHY, BROKEN = "stream-scorer-healthy", "stream-scorer-broken"
STANDBY, WAITING = "stream-scorer-standby", "stream-scorer-waiting"
BY_EVENTS = {
    "StreamScorerDeadLetters", "StreamScorerDeadLettersNearHalt", "StreamScorerClockSkew",
    "StreamScorerUnknownWords", "StreamScorerForeignKeys", "StreamScorerSplitCustomers",
    "StreamScorerExtremeCustomers", "StreamScorerWritesRefused", "StreamScorerPropensitiesLate",
}  # fmt: skip
BY_MEMBERS = {
    "StreamScorerModelsDiffer", "StreamScorerModelRefused", "StreamScorerRebalanceStorm",
    "StreamScorerMemberIdle",
}  # fmt: skip
BY_WAITING = {
    "StreamScorerEventsWait", "StreamScorerFewFileDescriptors", "StreamScorerNotReady",
}  # fmt: skip
IN_TURN = {
    "StreamScorerRedisEvicts", "StreamScorerStoreRewound", "StreamScorerServerWaits",
    "StreamScorerMemberUnreachable", "StreamScorerAbsent",
}  # fmt: skip
# On a machine that is busy with other work it is right that this one fires for the healthy group.
BY_SPEED = {"StreamScorerPropensitiesLate"}
SEEN_FIRING = BY_EVENTS | BY_MEMBERS | BY_WAITING | IN_TURN

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
PARTITIONS = 4
UNKNOWN_SCHEMA = b"\0\0\0\0\7"
FEED_SECONDS = 0.2
BACKLOG = 20_000
SECONDS = 60.0


class Feed:
    """Publishes a backlog to one topic, and from `start` on to all, steadily and in a thread of its
    own, until it is closed."""

    def __init__(self, kafka: KafkaServer, healthy: Rig, broken: Rig, waiting: Rig) -> None:
        self._healthy, self._broken, self._waiting = healthy.input, broken.input, waiting.input
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random",
                "linger.ms": 5, **QUIET_CLIENT,
            }
        )  # fmt: skip
        self._made, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")
        self._backlog()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._producer.flush(10)

    def _run(self) -> None:
        while not self._ended.wait(FEED_SECONDS):
            now_ms = time.time_ns() // 1_000_000
            for number in range(10):
                customer = f"customer-{number}"
                event = self._event(customer, now_ms)
                self._send(self._healthy, customer, event)
                self._send(self._waiting, customer, event)
            for number in range(3 * PARTITIONS):
                self._broken_records(f"customer-{number % 3}", number % PARTITIONS, now_ms)
            self._producer.poll(0)

    def _backlog(self) -> None:
        """Of the member that is to wait: records of an hour ago, more than it takes in seconds."""
        hour_ago_ms = time.time_ns() // 1_000_000 - HOUR_MS
        for number in range(BACKLOG):
            customer = f"customer-{number}"
            event = self._event(customer, hour_ago_ms)
            self._send(self._waiting, customer, event, timestamp=hour_ago_ms)
        self._producer.flush(10)

    def _broken_records(self, customer: str, partition: int, now_ms: int) -> None:
        """Of one customer: an event of an hour ago under a foreign key and with an unknown
        category, and two that become dead letters."""
        event = self._event(customer, now_ms - HOUR_MS, category="bread")
        hour_ago: dict[str, Any] = {"partition": partition, "timestamp": now_ms - HOUR_MS}
        self._send(self._broken, "another", event, **hour_ago)
        late = self._event(customer, now_ms + DAY_MS)
        self._send(self._broken, customer, late, partition=partition)
        self._send(self._broken, customer, UNKNOWN_SCHEMA + event, partition=partition)

    def _event(self, customer: str, occurred_ms: int, category: str = CATEGORIES[0]) -> bytes:
        self._made += 1
        (value,) = encode_events(
            [
                {
                    "event_id": str(self._made), "customer_id": customer, "event_type": "view",
                    "category_id": category, "product_id": None, "value": None,
                    "occurred_at": occurred_ms, "attributes": {},
                }
            ]
        )  # fmt: skip
        return value

    def _send(self, topic: str, key: str, value: bytes, **more: Any) -> None:
        self._producer.produce(topic, key=key, value=value, **more)


@pytest.fixture
def prometheus(have: Any, tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """prometheus(jobs) -> one that scrapes their ports, started."""
    started: list[Prometheus] = []

    def start(jobs: dict[str, list[int]]) -> Prometheus:
        directory = tmp_path / "prometheus"
        directory.mkdir()
        server: Prometheus = have(lambda: Prometheus(directory, jobs))
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.remove()


def announce_altered(rig: Rig, model: Path, folder: Path) -> None:
    """Announce a copy of the model one of whose files is altered then."""
    copy = folder / "altered"
    shutil.copytree(model, copy)
    with redis.Redis.from_url(rig.redis_url) as client:
        Announcements(Server(client), rig.name).announce(identity_of(copy), identity_of(model))
    parameters = max(copy.iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(parameters.read_bytes())
    data[len(data) // 2] ^= 1
    parameters.write_bytes(data)


@contextmanager
def somebody_keeps_joining(rig: Rig) -> Iterator[None]:
    """Joins the group and leaves it, again and again."""
    ended = threading.Event()
    thread = threading.Thread(target=join_and_leave, args=(rig, ended), name="joins")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def join_and_leave(rig: Rig, ended: threading.Event) -> None:
    while not ended.is_set():
        other = Consumer(
            {
                "bootstrap.servers": rig.kafka.bootstrap, "group.id": rig.name,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 300,
                "enable.auto.commit": False, **QUIET_CLIENT,
            }
        )  # fmt: skip
        try:
            other.subscribe([rig.input])
            until = time.monotonic() + 5
            while not (other.assignment() or ended.is_set()) and time.monotonic() < until:
                other.poll(0.1)
        finally:
            other.close()


def leave_few_file_descriptors(member: Member) -> None:
    """Let it open an eighth more than it has open."""
    opened = len(list(Path(f"/proc/{member.pid}/fd").iterdir()))
    _, hard = resource.prlimit(member.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(member.pid, resource.RLIMIT_NOFILE, (opened * 9 // 8, hard))


def evict(server: RedisServer) -> None:
    """Leave Redis less memory than it has in use, and let it evict records: only they expire."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "volatile-lru")
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used - 10_000)


def empty(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 0)
        client.flushall()


@pytest.mark.timeout(240)
def test_alerts_fire_on_a_broken_group_and_on_no_healthy_one(
    make_rig: Callable[..., Rig], kafka: KafkaServer, start_redis: Callable[..., RedisServer],
    prometheus: Callable[..., Prometheus], model: Path, tmp_path: Path,
) -> None:  # fmt: skip
    server, waiting_server = start_redis(), start_redis()
    healthy = make_rig(partitions=1)
    broken = make_rig(
        redis_url=server.url, partitions=PARTITIONS,
        settings={
            "redis": {"allow_eviction": True}, "events": {"extreme_events_per_hour": 20},
            "dead_letters": {"max_share": 1.0},
        },
    )  # fmt: skip
    waiting = make_rig(redis_url=waiting_server.url, partitions=1)
    other_model = tmp_path / "other-model"
    artefact.save(random_model(seed=2), other_model)
    well = healthy.member()
    strict = broken.member(model={"path": str(other_model)}, redis={"allow_eviction": False})
    lenient = broken.member()
    waits = waiting.member()
    feed = Feed(kafka, healthy, broken, waiting)
    try:
        for member in (well, strict, lenient, waits):
            member.start()
        # Where nothing was read yet, it is not known for how long events wait.
        wait_until(
            "some are read", lambda: waits.metric("stream_scorer_batch_records_sum"), SECONDS
        )
        waiting_server.stop()
        leave_few_file_descriptors(waits)
        for member in (well, strict, lenient):
            member.reading()
        standby = healthy.member()  # the one partition has its member
        standby.start()
        monitor = prometheus(
            {
                HEALTHY: [well.port], BROKEN: [lenient.port, strict.port],
                STANDBY: [standby.port], WAITING: [waits.port],
            }
        )  # fmt: skip
        feed.start()
        announce_altered(broken, model, tmp_path)
        with somebody_keeps_joining(broken):
            fired = monitor.wait_for(BY_EVENTS | BY_MEMBERS | BY_WAITING, SECONDS)
        evict(server)
        fired |= monitor.wait_for(
            {"StreamScorerRedisEvicts", "StreamScorerMemberUnreachable"}, SECONDS
        )
        assert strict.ended() == 1
        assert "maxmemory-policy" in strict.log()
        empty(server)
        fired |= monitor.wait_for({"StreamScorerStoreRewound"}, SECONDS)
        server.stop()
        fired |= monitor.wait_for({"StreamScorerServerWaits"}, SECONDS)
    finally:
        feed.close()
    assert monitor.fired(HEALTHY) <= BY_SPEED
    assert monitor.fired(STANDBY) <= {"StreamScorerMemberIdle"} | BY_SPEED
    for member in (well, lenient, standby, waits):
        member.kill()
    fired |= monitor.wait_for({"StreamScorerAbsent"}, SECONDS)
    assert fired.keys() == SEEN_FIRING
    for name, alert in fired.items():
        assert alert["labels"].get("job", BROKEN) != HEALTHY, name
        for text in alert["annotations"].values():
            assert text
            assert "<" not in text, f"{name}: {text}"
    assert "for the reason" in fired["StreamScorerDeadLetters"]["annotations"]["description"]
