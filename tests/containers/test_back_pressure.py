"""A Redis or a Kafka ten times too slow: memory stays flat, and the group keeps its members."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

import pytest
from harness.member import Member
from harness.rig import Rig
from runners import free_port
from servers import KafkaServer, RedisServer
from tcp_proxy import TcpProxy

MIB = 1 << 20
FLAT_BYTES = 48 * MIB  # far below the backlog, above what an allocator does by itself
BACKLOG = 12_000
PADDING_BYTES = 10_000  # the backlog is 120 MB
WATCH_SECONDS = 12.0
SETTINGS = {
    "kafka": {
        "queued_max_kbytes": 4096,
        "fetch_max_bytes": 2 * MIB,
        "max_poll_interval_ms": 10_000,
    },
    "batch": {"max_events": 100},
}

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]
StartProxy = Callable[[int], TcpProxy]


def watch(rig: Rig, member: Member, proxy: TcpProxy) -> None:
    """Slow the proxy tenfold and look at memory and membership."""
    rig.more_is_done(1000)
    quick = rate(rig, 2.0)
    assigned = member.log().count("assigned")
    proxy.delay_seconds = 100 / quick * 10 / 6  # some six answers and requests for each batch
    rig.more_is_done(200)
    start = member.resident_bytes()
    done = sum(rig.committed().values())
    most, until = start, time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        Event().wait(0.2)
        most = max(most, member.resident_bytes())
    slow = (sum(rig.committed().values()) - done) / WATCH_SECONDS
    print(f"{quick:.0f} records/s, then {slow:.0f}; {start / MIB:.0f} MiB, most {most / MIB:.0f}")
    assert 0 < slow < quick / 4
    assert rig.lag() > BACKLOG / 10
    assert most - start < FLAT_BYTES
    assert member.log().count("assigned") == assigned
    assert "lost, without" not in member.log()
    proxy.delay_seconds = 0.0


def rate(rig: Rig, seconds: float) -> float:
    start, before = time.monotonic(), sum(rig.committed().values())
    Event().wait(seconds)
    return (sum(rig.committed().values()) - before) / (time.monotonic() - start)


def test_slow_redis(make_rig: MakeRig, redis_server: RedisServer, start_proxy: StartProxy) -> None:
    proxy = start_proxy(redis_server.port)
    url = f"redis://127.0.0.1:{proxy.port}/0"
    rig = make_rig(redis_url=url, seed=12, padding_bytes=PADDING_BYTES, settings=SETTINGS)
    rig.publish(BACKLOG)
    proxy.delay_seconds = 0.005  # so that the backlog lasts
    (member,) = rig.start()
    watch(rig, member, proxy)
    rig.finish().assert_clean()


def test_slow_kafka(
    make_rig: MakeRig, start_kafka: Callable[..., KafkaServer], start_proxy: StartProxy
) -> None:
    port = free_port()
    proxy = start_proxy(port)
    kafka = start_kafka(port=port, advertised_port=proxy.port)
    rig = make_rig(kafka, seed=13, padding_bytes=PADDING_BYTES, settings=SETTINGS)
    rig.publish(BACKLOG)
    proxy.delay_seconds = 0.002
    (member,) = rig.start()
    watch(rig, member, proxy)
    rig.finish().assert_clean()
