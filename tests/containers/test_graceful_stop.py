"""SIGTERM under load: soon, in good order, and hardly anything is done twice."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from harness.rig import Rig
from servers import RedisServer
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
