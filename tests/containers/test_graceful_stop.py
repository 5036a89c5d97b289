"""SIGTERM under load: soon, in good order, and hardly anything is done twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from threading import Event

import pytest
from harness.rig import Rig
from servers import KafkaServer, RedisServer
from tcp_proxy import TcpProxy

STOP_SECONDS = 10
BATCH = 25

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]


def stopped(rig: Rig) -> float:
    """Seconds from SIGTERM to the end of the first member, in good order."""
    member = rig.members[0]
    start = time.monotonic()
    member.ask_to_stop()
    assert member.ended(STOP_SECONDS) == 0, member.log()[-3000:]
    return time.monotonic() - start


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_stop_under_load(make_rig: MakeRig, delivery: str) -> None:
    settings = {"kafka": {"delivery": delivery}, "batch": {"max_events": BATCH}}
    rig = make_rig(seed=5, settings=settings)
    rig.under_load(members=1, backlog=4000)
    (member,) = rig.members
    for _ in range(3):
        seconds = stopped(rig)
        print(f"{delivery}: ended in {seconds:.1f} s, {rig.lag()} behind")
        member.start()
        rig.more_is_done()
        repeated = member.metric("stream_scorer_events", outcome="duplicate")
        assert repeated <= (BATCH if delivery == "at_least_once" else 0)
    rig.stop_feeding()
    verdict = rig.finish()
    verdict.assert_clean()
    assert verdict.repeats <= (3 * BATCH if delivery == "at_least_once" else 0)


@pytest.mark.parametrize(
    ("delivery", "frozen"),
    [("at_least_once", "kafka"), ("exactly_once", "redis"), ("exactly_once", "both")],
)
def test_stop_in_ten_seconds_while_servers_are_frozen(
    make_rig: MakeRig,
    start_kafka: Callable[..., KafkaServer],
    start_redis: Callable[..., RedisServer],
    delivery: str,
    frozen: str,
) -> None:
    """A frozen server keeps its connections and never answers; the time-outs here are long."""
    kafka, store = start_kafka(), start_redis()
    settings: dict[str, dict[str, object]] = {
        "kafka": {"delivery": delivery, "delivery_timeout_ms": 30_000},
        "redis": {"timeout_seconds": 60.0},
    }
    rig = make_rig(kafka, redis_url=store.url, seed=7, settings=settings)
    rig.under_load(members=1)
    rig.stop_feeding()
    rig.publish(3000)
    rig.more_is_done(100)
    servers = {"kafka": [kafka], "redis": [store], "both": [kafka, store]}[frozen]
    for server in servers:
        server.pause()
    Event().wait(1.0)
    print(f"{delivery}, {frozen}: ended in {stopped(rig):.1f} s")
    print(rig.members[0].log().splitlines()[-2:])
    assert "stopped: " in rig.members[0].log()
    for server in servers:
        server.resume()
    rig.members[0].start()
    verdict = rig.finish()
    verdict.assert_clean()
    assert verdict.repeats == 0 or delivery == "at_least_once"


def test_hangup_rereads_the_config_under_load_and_stops_nothing(make_rig: MakeRig) -> None:
    rig = make_rig(seed=8)
    rig.under_load(members=1)
    (member,) = rig.members
    text = member.config.read_text()
    member.config.write_text(f"{text}\n[dead_letters]\nmax_share = 0.9\n")
    member._signal(signal.SIGHUP)
    member.wait_for_log(r"dead_letters\.max_share: 0\.5 -> 0\.9, from now on", 10)
    rig.more_is_done()
    rig.stop_feeding()
    rig.finish().assert_clean()


def test_stop_while_redis_does_not_answer(
    make_rig: MakeRig, redis_server: RedisServer, start_proxy: Callable[[int], TcpProxy]
) -> None:
    proxy = start_proxy(redis_server.port)
    url = f"redis://127.0.0.1:{proxy.port}/0"
    rig = make_rig(redis_url=url, seed=6, settings={"redis": {"timeout_seconds": 5.0}})
    rig.under_load(members=1)
    proxy.hold()
    print(f"ended in {stopped(rig):.1f} s")
    proxy.restore()
    rig.stop_feeding()
    rig.members[0].start()
    rig.finish().assert_clean()
