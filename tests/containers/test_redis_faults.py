"""Redis loses writes, is emptied, full, slow or away: the consumer heals, or says what to do.

STREAM_SCORER_CHAOS_KILLS above 10 makes outages as long as the guarantee names them (a minute).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import redis
from confluent_kafka import TopicPartition
from harness.member import wait_until
from harness.rig import Rig
from redis_proxy import RedisProxy
from servers import KafkaServer, RedisServer
from tcp_proxy import TcpProxy

from stream_scorer.core.avro.dead_letter_encoder import decode_dead_letters
from stream_scorer.demo.embedded import EmbeddedRedis

LONG = int(os.environ.get("STREAM_SCORER_CHAOS_KILLS", "10")) > 10
OUTAGE_SECONDS = 60.0 if LONG else 8.0

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]
StartRedis = Callable[..., RedisServer]


@pytest.fixture
def rig(make_rig: MakeRig, start_redis: StartRedis) -> Rig:
    """Two members under load on a Redis of the test's own, `rig.redis`."""
    server = start_redis()
    made = make_rig(redis_url=server.url)
    made.redis = server
    made.under_load()
    return made


def rewinds(rig: Rig) -> float:
    return sum(m.metric("stream_scorer_store_rewinds") for m in rig.members)


def waits(rig: Rig) -> float:
    return sum(m.metric("stream_scorer_waits", server="redis") for m in rig.members)


def finish(rig: Rig) -> None:
    rig.more_is_done()
    rig.stop_feeding()
    verdict = rig.finish()
    print(verdict)
    verdict.assert_clean()


def test_the_tail_of_the_append_only_file_is_lost(rig: Rig) -> None:
    for lost_bytes in (30_000, 200_000):
        rig.redis.kill()
        assert rig.redis.lose_tail(lost_bytes) == lost_bytes
        before = rewinds(rig)
        rig.redis.start()
        wait_until("the loss is noticed", lambda b=before: rewinds(rig) > b, 60)
        rig.more_is_done()
    finish(rig)


def test_the_tail_is_lost_while_the_members_crash_too(rig: Rig) -> None:
    for member in rig.members:
        member.kill()
    rig.redis.kill()
    rig.redis.lose_tail(100_000)
    rig.redis.start()
    for member in rig.members:
        member.start()
    finish(rig)
    assert "the store lacks its newest writes" in "".join(m.log() for m in rig.members)


def test_an_older_copy_is_restored(rig: Rig, tmp_path: Path) -> None:
    copy = rig.redis.backup(tmp_path / "copy")
    rig.more_is_done(1500)
    rig.redis.kill()
    rig.redis.restore(copy)
    rig.redis.start()
    wait_until("the loss is noticed", lambda: rewinds(rig) > 0, 60)
    finish(rig)


@pytest.fixture
def pair() -> Iterator[tuple[EmbeddedRedis, EmbeddedRedis]]:
    """Two servers that reach each other, the second a replica of the first."""
    with EmbeddedRedis() as first, EmbeddedRedis() as second:
        with redis.Redis(port=second.port) as replica:
            replica.replicaof("127.0.0.1", first.port)
            wait_until(
                "the replica follows",
                lambda: replica.info("replication")["master_link_status"] == "up",
                30,
            )
        yield first, second


def test_failovers_behind_an_address_that_moves(
    make_rig: MakeRig, start_proxy: Callable[[int], TcpProxy], pair: Any
) -> None:
    """Each time the replica lacks the newest writes, and the old primary stays up as a replica: it
    answers on the connections that are open, and refuses writes."""
    primary, replica = pair
    proxy = start_proxy(primary.port)
    rig = make_rig(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    rig.under_load()
    for _ in range(4):
        with redis.Redis(port=primary.port) as old, redis.Redis(port=replica.port) as new:
            before = rewinds(rig)
            new.replicaof("NO", "ONE")
            rig.more_is_done(300)  # what only the old one has
            proxy.lead_to(replica.port)
            old.replicaof("127.0.0.1", replica.port)
            wait_until("the loss is noticed", lambda b=before: rewinds(rig) > b, 60)
            rig.more_is_done()
            wait_until(
                "the old primary follows",
                lambda o=old: o.info("replication")["master_link_status"] == "up",
                30,
            )
        primary, replica = replica, primary
    finish(rig)
    assert "leads to another server now" in "".join(m.log() for m in rig.members)


def test_the_store_is_emptied_while_partitions_are_assigned(
    make_rig: MakeRig, start_redis: StartRedis
) -> None:
    """After their watermarks were read and before new ones are set, each time that a member which
    was killed comes back."""
    server = start_redis()
    script = files("stream_scorer.io.stores.scripts").joinpath("begin_partitions.lua")
    begin = hashlib.sha1(script.read_bytes()).hexdigest().encode()
    armed = Event()

    def before(words: list[bytes]) -> None:
        if armed.is_set() and words[:2] == [b"EVALSHA", begin]:
            armed.clear()
            server.client.flushall()

    with RedisProxy(server.port, keeps_connections=False) as proxy:
        proxy.before = before
        rig = make_rig(redis_url=proxy.url, partitions=12)
        rig.under_load()
        for _ in range(4):
            seen = rewinds(rig)
            armed.set()
            rig.members[0].kill()
            rig.members[0].start()
            wait_until("the store is emptied", lambda: not armed.is_set(), 60)
            wait_until("the loss is noticed", lambda s=seen: rewinds(rig) != s, 60)
            rig.more_is_done()
        finish(rig)


def test_flushall_under_load(rig: Rig) -> None:
    rig.redis.client.flushall()
    wait_until("the loss is noticed", lambda: rewinds(rig) > 0, 60)
    finish(rig)
    assert rig.redis.client.get(f"{rig.name}:fingerprint")


def test_flushall_of_an_idle_store_is_noticed(rig: Rig) -> None:
    rig.stop_feeding()
    rig.caught_up()
    rig.redis.client.flushall()
    rig.finish().assert_clean()


def test_flushall_when_kafka_no_longer_holds_the_events(rig: Rig, kafka: KafkaServer) -> None:
    rig.stop_feeding()
    rig.caught_up()
    gone = [TopicPartition(rig.input, 0, 50)]
    kafka.admin.delete_records(gone)[gone[0]].result(10)
    rig.redis.client.flushall()
    owner = wait_until("a member halts", lambda: [m for m in rig.members if not m.running()], 60)
    assert owner[0].ended() == 1
    last = owner[0].log().splitlines()[-1]
    assert "the store needs events from offset 0, but Kafka's log begins at 50" in last
    assert "restore a newer copy of the store" in last
    assert "Traceback" not in owner[0].log()


def test_nothing_is_published_twice_under_exactly_once_though_redis_goes_back(
    make_rig: MakeRig, start_redis: StartRedis, tmp_path: Path
) -> None:
    """While the members run, and while they are away: then they begin below what is committed."""
    server = start_redis()
    settings = {"kafka": {"delivery": "exactly_once"}, "batch": {"max_events": 50}}
    rig = make_rig(redis_url=server.url, settings=settings)
    rig.redis = server
    rig.under_load()
    copy = server.backup(tmp_path / "copy")
    rig.more_is_done(1500)
    server.kill()
    server.restore(copy)
    server.start()
    wait_until("the loss is noticed", lambda: rewinds(rig) > 0, 60)
    rig.more_is_done()
    for member in rig.members:
        member.kill()
    server.client.flushall()
    for member in rig.members:
        member.start()
    rig.more_is_done()
    rig.stop_feeding()
    verdict = rig.finish()
    print(verdict)
    verdict.assert_clean()
    assert verdict.repeats == 0
    dead = [
        (d.partition, d.offset)
        for d in decode_dead_letters([m.value() or b"" for m in rig.kafka.read_topic(rig.dead)])
    ]
    assert len(dead) == len(set(dead))


def test_out_of_memory_is_waited_out(rig: Rig) -> None:
    rig.redis.client.config_set("maxmemory", 1)
    wait_until("members wait", lambda: waits(rig) >= 4, 60)
    assert all(m.running() for m in rig.members)
    rig.redis.client.config_set("maxmemory", 0)
    finish(rig)
    assert "Redis refuses writes" in rig.members[0].log()


@contextmanager
def nobody_leaves(rig: Rig):
    before = [m.log().count("assigned") for m in rig.members]
    yield
    for member, assigned in zip(rig.members, before, strict=True):
        assert "lost, without" not in member.log()
        assert member.log().count("assigned") == assigned


def test_slow_and_unreachable_without_leaving_the_group(
    make_rig: MakeRig, start_redis: StartRedis, start_proxy: Callable[[int], TcpProxy]
) -> None:
    proxy = start_proxy(start_redis().port)
    rig = make_rig(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
    rig.under_load()
    with nobody_leaves(rig):
        proxy.delay_seconds = 0.3
        rig.more_is_done(100)
        proxy.delay_seconds = 0.0
        for away, back in ((proxy.hold, proxy.restore), (proxy.cut, proxy.restore)):
            seen = waits(rig)
            away()
            Event().wait(OUTAGE_SECONDS)
            assert waits(rig) > seen
            back()
            rig.more_is_done()
        rig.stop_feeding()
        rig.caught_up()
    rig.finish().assert_clean()
