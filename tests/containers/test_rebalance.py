"""Members come and go under load, and one is suspended while another owns its partitions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from harness.member import Member, wait_until
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


def test_members_go_over_to_the_other_protocol_and_back_without_a_loss_or_a_repeat(
    make_rig: MakeRig,
) -> None:
    """One after the other. The brokers take in no member of the new protocol while one of the
    classic protocol is there; on the way back they serve both."""
    classic, consumer = ({"group_protocol": name} for name in ("classic", "consumer"))
    rig = make_rig(seed=6, settings={"kafka": {"delivery": "exactly_once", **classic}})
    rig.under_load()
    first, last = rig.members

    stop(first)
    new = rig.member(kafka=consumer).start()
    new.wait_for_log("while the group has members of the classic one")
    rig.more_is_done()  # by the member that is left
    assert protocol_of(rig) == "classic"
    stop(last)
    new.reading()
    other = rig.member(kafka=consumer).start()
    other.reading()
    rig.more_is_done()
    assert protocol_of(rig) == "consumer"

    for member in (new, other):
        stop(member)
        rig.member(kafka=classic).start().reading()
        rig.more_is_done()
    assert protocol_of(rig) == "classic"
    rig.stop_feeding()
    verdict = rig.finish()
    verdict.assert_clean()
    assert verdict.repeats == 0


def stop(member: Member) -> None:
    member.ask_to_stop()
    assert member.ended() == 0


def protocol_of(rig: Rig) -> str:
    """What the brokers say of the group."""
    found = rig.kafka.admin.describe_consumer_groups([rig.name])[rig.name].result(30)
    return str(found.type.name).lower()


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
