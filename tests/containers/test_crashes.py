"""SIGKILL at seeded random times, and three sabotaged consumers that the harness must catch, killed
between the two steps that are in the wrong order.

STREAM_SCORER_CHAOS_KILLS: how many kills (10; `make chaos` sets 50), and with transactions two
fifths of that, though no fewer than six. STREAM_SCORER_CHAOS_SEED: of the stream and kill times.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from harness.member import wait_until
from harness.rig import Rig, kill_at_random
from servers import RedisServer
from tcp_proxy import TcpProxy

KILLS = int(os.environ.get("STREAM_SCORER_CHAOS_KILLS", "10"))
SEED = int(os.environ.get("STREAM_SCORER_CHAOS_SEED", "20240517"))
FEED = 300

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(300 + 20 * KILLS),
    # MXNet asks scipy for a name that it moved.
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]


@pytest.mark.parametrize("engine", ["native", "mxnet"])
def test_no_event_is_lost_or_doubled_by_kills(
    make_rig: MakeRig,
    redis_server: RedisServer,
    start_proxy: Callable[[int], TcpProxy],
    engine: str,
) -> None:
    kills = KILLS if engine == "native" else 2
    proxy = start_proxy(redis_server.port)
    proxy.delay_seconds = 0.002  # members are always busy, so that kills meet every stage
    rig = make_rig(
        redis_url=f"redis://127.0.0.1:{proxy.port}/0",
        seed=SEED,
        settings={"model": {"engine": engine}, "batch": {"max_events": 15}},
    )
    rig.publish(2000)
    rig.start(2)
    rig.feed(FEED)
    under_load = kill_at_random(rig, kills, SEED)
    rig.stop_feeding()
    verdict = rig.finish()
    print(f"{kills} kills, {under_load} under load: {verdict}")
    verdict.assert_clean()
    assert verdict.events + verdict.dead_letters == rig.stream.made
    assert under_load >= kills // 2


def test_exactly_once_shows_no_propensity_twice(make_rig: MakeRig) -> None:
    kills = max(6, KILLS * 2 // 5)
    settings = {"kafka": {"delivery": "exactly_once"}, "batch": {"max_events": 15}}
    rig = make_rig(seed=SEED + 1, settings=settings)
    rig.publish(2000)
    rig.start(2)
    rig.feed(FEED)
    under_load = kill_at_random(rig, kills, SEED + 1)
    rig.stop_feeding()
    verdict = rig.finish()
    print(f"exactly once, {kills} kills, {under_load} under load: {verdict}")
    verdict.assert_clean()
    assert verdict.repeats == 0


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_kill_in_the_first_batch_leaves_nothing_unpublished(
    make_rig: MakeRig, delivery: str
) -> None:
    # Many customers with few events each: no later event hides what is missing.
    rig = make_rig(customers=3000, settings={"kafka": {"delivery": delivery}})
    rig.publish(500)
    first = rig.member(sabotage="stop-before-first-delivery").start()
    wait_until("the first batch is saved", first.frozen, 60)
    first.kill()
    rig.members.remove(first)
    rig.start()
    verdict = rig.finish()
    print(f"{delivery}: {verdict}")
    verdict.assert_clean()


def test_what_producers_send_twice_counts_once_through_kills(make_rig: MakeRig) -> None:
    settings = {"events": {"remember_event_ids": 20}}
    rig = make_rig(seed=SEED + 2, repeats=0.2, settings=settings)
    rig.publish(1500)
    rig.start(2)
    rig.feed(FEED)
    kill_at_random(rig, 3, SEED + 2)
    rig.stop_feeding()
    verdict = rig.finish()
    print(f"{rig.stream.repeated} repeated by the producer: {verdict}")
    verdict.assert_clean()
    assert rig.stream.repeated > 100


@pytest.mark.parametrize(
    ("sabotage", "kinds", "count"),
    [
        ("commit-before-save", ("lost",), "lost"),
        # An old propensity remains, or there is none where the customer had no event before.
        ("commit-before-delivery", ("stale", "lost"), ""),
        ("ignore-offsets", ("doubled",), "doubled"),
    ],
)
def test_a_sabotaged_consumer_is_caught(
    make_rig: MakeRig, sabotage: str, kinds: tuple[str, ...], count: str
) -> None:
    # Many customers with few events each: no later event replaces an old propensity.
    rig = make_rig(seed=SEED, customers=3000, sabotage=sabotage)
    rig.publish(3000)
    (member,) = rig.start()
    for _ in range(3):
        wait_until("it is between its two steps", member.frozen, 60)
        member.kill()
        member.start()
    wait_until("it is between its two steps", member.frozen, 60)
    member.thaw()
    verdict = rig.finish()
    print(f"{sabotage}: {verdict.lost} lost, {verdict.doubled} doubled, {verdict.findings[:3]}")
    assert sum(map(verdict.count, kinds)) > 0
    # Of events: what is not published is in the vectors all the same.
    wrong = {name for name in ("lost", "doubled") if getattr(verdict, name)}
    assert wrong == ({count} if count else set())
    with pytest.raises(AssertionError, match="|".join(kinds)):
        verdict.assert_clean()
