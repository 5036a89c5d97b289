"""Members come and go under load, and one is suspended while another owns its partitions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from harness.member import wait_until
from harness.rig import Rig

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]


STATIC_SESSION_MS = 30_000  # in which a member has started again


def rebalances(rig: Rig) -> int:
    return sum(m.whole_log().count("assigned: ") for m in rig.members)


# Which tests run with which protocol of the group: all with both in `make chaos` only.
CHAOS = "STREAM_SCORER_CHAOS_KILLS" in os.environ
BOTH = pytest.mark.parametrize("protocol", ["classic", "consumer"])
MOSTLY_CLASSIC = BOTH if CHAOS else pytest.mark.parametrize("protocol", ["classic"])
MOSTLY_CONSUMER = BOTH if CHAOS else pytest.mark.parametrize("protocol", ["consumer"])


@BOTH
def test_members_join_and_leave_under_load(make_rig: MakeRig, protocol: str) -> None:
    rig = make_rig(seed=2, settings={"kafka": {"group_protocol": protocol}})
    rig.under_load()
    for leaver in range(3):
        rig.start(1)
        rig.more_is_done()
        rig.members[leaver].ask_to_stop()
        assert rig.members[leaver].ended() == 0
        rig.more_is_done()
    rig.stop_feeding()
    rig.caught_up()
    print(f"{protocol}: {rebalances(rig)} assignments")
    rig.finish().assert_clean()


SUSPENDED = [
    ("stop-after-load", "at_least_once", "classic"),
    ("stop-after-load", "exactly_once", "classic"),
    ("stop-before-delivery", "at_least_once", "classic"),
    ("stop-before-delivery", "exactly_once", "classic"),
    ("stop-before-delivery", "exactly_once", "consumer"),
]
if CHAOS:
    SUSPENDED += [
        ("stop-after-load", "at_least_once", "consumer"),
        ("stop-after-load", "exactly_once", "consumer"),
        ("stop-before-delivery", "at_least_once", "consumer"),
    ]


@pytest.mark.parametrize(("moment", "delivery", "protocol"), SUSPENDED)
def test_a_suspended_member_spoils_nothing(
    make_rig: MakeRig, moment: str, delivery: str, protocol: str
) -> None:
    rig = make_rig(seed=3, settings={"kafka": {"delivery": delivery, "group_protocol": protocol}})
    rig.publish(1500)
    zombie = rig.member(sabotage=moment).start()
    wait_until("it is suspended", zombie.frozen, 60)
    (heir,) = rig.start(1)
    rig.feed(300)
    # Past the session's end the other member owns every partition.
    heir.wait_for_log(r"\[0\]: reading.*(?s:.*)\[5\]: reading", 30)
    rig.more_is_done(1500)
    zombie.thaw()
    zombie.wait_for_log("lost before their offsets|revoked", 30)
    if moment == "stop-after-load":
        name = "stream_scorer_refused_writes"
        wait_until("its writes were refused", lambda: zombie.metric(name) > 0, 30)
        print(f"{zombie.metric(name)} writes refused")
    rig.more_is_done()
    rig.stop_feeding()
    verdict = rig.finish()
    print(f"{moment}, {delivery}, {protocol}: {verdict}")
    verdict.assert_clean()
    if delivery == "exactly_once":
        assert verdict.repeats == 0


@MOSTLY_CLASSIC
def test_members_suspended_at_any_moment_spoil_nothing(make_rig: MakeRig, protocol: str) -> None:
    rig = make_rig(seed=4, settings={"kafka": {"group_protocol": protocol}})
    rig.under_load()
    for victim in (*rig.members, *rig.members):
        victim.freeze()
        rig.more_is_done(800)  # only by the other, which must own everything
        victim.thaw()
        rig.more_is_done(300)
    rig.stop_feeding()
    rig.finish().assert_clean()


@MOSTLY_CONSUMER
def test_a_static_member_that_is_back_in_time_moves_no_partition(
    make_rig: MakeRig, protocol: str
) -> None:
    """And of two processes with its name one is refused, and says why."""
    kafka = {"group_protocol": protocol, "group_instance_id": "{client_id}"}
    session = {"session.timeout.ms": STATIC_SESSION_MS}
    rig = make_rig(seed=5, settings={"kafka": kafka, "kafka.properties": session})
    rig.kafka.configure_group(rig.name, {f"consumer.{k}": v for k, v in session.items()})
    rig.under_load()
    staying, restarted = rig.members
    wait_until("the group is settled", lambda: "revoked" in staying.log() + restarted.log(), 30)
    rig.more_is_done()
    before = staying.log()
    restarted.ask_to_stop()
    assert restarted.ended() == 0
    restarted.start().reading()
    rig.more_is_done()
    moves = re.findall(r"(?:assigned|revoked): (?!nothing).*", staying.log()[len(before) :])
    assert not moves
    double = rig.member(kafka={"client_id": f"{rig.name}-{restarted.name}"}).start()
    refused = double if protocol == "consumer" else restarted
    refused.asked_to_stop = True  # that it ends is no surprise
    assert refused.ended(60) == 1
    assert "same kafka.group_instance_id" in refused.log()
    rig.stop_feeding()
    rig.finish().assert_clean()
