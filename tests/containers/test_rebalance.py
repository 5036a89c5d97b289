"""Members come and go under load, and one is suspended while another owns its partitions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness.member import wait_until
from harness.rig import Rig

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]


def rebalances(rig: Rig) -> int:
    return sum(m.whole_log().count("assigned: ") for m in rig.members)


def test_members_join_and_leave_under_load(make_rig: MakeRig) -> None:
    rig = make_rig(seed=2)
    rig.under_load()
    for leaver in range(3):
        rig.start(1)
        rig.more_is_done()
        rig.members[leaver].ask_to_stop()
        assert rig.members[leaver].ended() == 0
        rig.more_is_done()
    rig.stop_feeding()
    rig.caught_up()
    print(f"{rebalances(rig)} assignments")
    rig.finish().assert_clean()


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("moment", ["stop-after-load", "stop-before-delivery"])
def test_a_suspended_member_spoils_nothing(make_rig: MakeRig, moment: str, delivery: str) -> None:
    rig = make_rig(seed=3, settings={"kafka": {"delivery": delivery}})
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
    print(f"{moment}, {delivery}: {verdict}")
    verdict.assert_clean()
    if delivery == "exactly_once":
        assert verdict.repeats == 0


def test_members_suspended_at_any_moment_spoil_nothing(make_rig: MakeRig) -> None:
    rig = make_rig(seed=4)
    rig.under_load()
    for victim in (*rig.members, *rig.members):
        victim.freeze()
        rig.more_is_done(800)  # only by the other, which must own everything
        victim.thaw()
        rig.more_is_done(300)
    rig.stop_feeding()
    rig.finish().assert_clean()
