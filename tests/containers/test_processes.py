"""`run --processes`: several members under one supervisor, of which processes are killed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.member import Member, wait_until
from harness.rig import Rig

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]
WAIT_SECONDS = 60.0


def pids_of(member: Member) -> dict[int, int]:
    """Of each process by number the newest process id."""
    found = re.findall(r"process (\d+) started: pid (\d+)", member.log())
    return {int(number): int(pid) for number, pid in found}


def wait_for_partitions(member: Member, processes: int) -> None:
    """Until each process reads some."""

    def done() -> bool:
        numbers = range(1, processes + 1)
        of_each = [member.metric("stream_scorer_partitions", process=str(n)) for n in numbers]
        return min(of_each) > 0

    wait_until(f"{processes} processes read partitions", done, 2 * WAIT_SECONDS)


def applied(member: Member, processes: int) -> list[float]:
    """Events of each process since its start."""
    numbers = range(1, processes + 1)
    return [member.metric("stream_scorer_events", process=str(n)) for n in numbers]


def test_a_killed_process_is_started_again_and_nothing_is_lost_or_doubled(
    make_rig: MakeRig,
) -> None:
    # Transactions: a second member with the same transactional id would fence off the first.
    rig = make_rig(seed=31, settings={"kafka": {"delivery": "exactly_once"}})
    member = rig.member(processes=2).start()
    rig.publish(2000)
    wait_for_partitions(member, 2)
    rig.publish(1000)
    rig.more_is_done(300)
    os.kill(pids_of(member)[2], signal.SIGKILL)
    rig.publish(1000)
    wait_until(
        "the killed process is up again",
        lambda: member.metric("stream_scorer_process_restarts", process="2") == 1,
        WAIT_SECONDS,
    )
    wait_for_partitions(member, 2)
    rig.publish(500)
    rig.caught_up()
    # The supervisor asks its members every two seconds.
    wait_until("both have applied events since", lambda: min(applied(member, 2)) > 0, WAIT_SECONDS)
    assert member.metric("stream_scorer_process_up") == 2
    member.ask_to_stop()
    assert member.ended() == 0, member.log()[-3000:]
    assert member.log().count("stopped: {") == 2, "each process finishes its micro-batch"
    rig.judge().assert_clean()


def test_members_stop_when_their_supervisor_is_killed(make_rig: MakeRig) -> None:
    rig = make_rig(seed=32)
    member = rig.member(processes=2).start()
    rig.publish(500)
    wait_for_partitions(member, 2)
    pids = pids_of(member)
    member.kill()
    rig.members.remove(member)  # the rig asks why one of its members ended
    wait_until(
        "the processes have ended", lambda: not any(map(is_running, pids.values())), WAIT_SECONDS
    )
    assert member.log().count("stopped: {") == 2
    rig.publish(500)
    rig.start(1)
    rig.caught_up()
    rig.stop()
    rig.judge().assert_clean()


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
