"""The state of a group is the sum of what its members say; what they do not say is not made up."""

from __future__ import annotations

from dataclasses import replace

from stream_scorer.io.stores.member_status import STEPS, MemberStatus
from stream_scorer.web.group_status import group_status
from tests.web.fixed_group import ANNOUNCEMENT, GROUP, NOW_MS, member, said_by, unwell, well


def test_totals_are_sums_and_times_those_of_the_slowest() -> None:
    status = well()
    assert status.ok
    totals = status.totals
    assert (totals.members, totals.ready, totals.partitions) == (3, 3, 12)
    assert totals.dead_letters == {
        "unknown_event_type": 357,
        "time_too_late": 93,
        "undecodable": 12,
    }
    assert totals.lag_records == sum(said_by(n).lag_records for n in range(3))
    assert totals.latency is not None
    assert (totals.latency.p50_ms, totals.latency.p99_ms, totals.latency.count) == (
        114,
        336,
        243_000,
    )
    assert totals.oldest_score_seconds == 86_400 + 2400
    assert len(status.partitions) == 12
    assert status.partitions[5].member == "m1"


def test_a_member_that_is_gone_counts_for_nothing_but_a_problem() -> None:
    status = unwell()
    assert status.totals.members == 3
    assert status.totals.lag_records == said_by(0).lag_records + said_by(1).lag_records
    assert {one.member for one in status.partitions} == {"m0", "m1"}
    assert len(status.problems) == 3
    assert len(status.members) == 4


def test_an_age_that_one_member_does_not_know_is_not_known() -> None:
    members = [member(0), member(1, status=replace(said_by(1), oldest_score_seconds=None))]
    assert group_status(GROUP, members, ANNOUNCEMENT, NOW_MS).totals.oldest_score_seconds is None


def test_series_are_added_by_moment() -> None:
    """A heartbeat is up to five seconds old, so that a member's last step may be the one before."""
    ones, twos = (1.0,) * STEPS, (2.0,) * STEPS
    late = MemberStatus(recent_until_ms=45_000, recent_events=twos)
    now = MemberStatus(recent_until_ms=60_000, recent_events=ones, recent_lag=(5.0,))
    recent = group_status(
        GROUP, [member(0, status=now), member(1, status=late)], ANNOUNCEMENT, 61_000
    ).recent
    assert recent.events_per_second == (*(3.0,) * (STEPS - 1), 1.0)
    assert recent.lag_records == (*(0.0,) * (STEPS - 1), 5.0)
    assert recent.until == "1970-01-01T00:01:00Z"


def test_drift_is_that_of_the_member_where_it_is_largest() -> None:
    members = [
        member(2, status=replace(said_by(2), drift=None)),
        member(0, status=replace(said_by(0), drift={"a": 0.1, "b": 0.5})),
        member(1, status=replace(said_by(1), drift={"a": 0.2})),
    ]
    assert group_status(GROUP, members, ANNOUNCEMENT, NOW_MS).drift == {"a": 0.2, "b": 0.5}
    assert group_status(GROUP, members[:1], ANNOUNCEMENT, NOW_MS).drift is None


def test_a_stuck_member_is_said_to_be_stuck() -> None:
    stuck = replace(said_by(0), alive=False, alive_reason="no step has ended for 500 s")
    problems = group_status(GROUP, [member(0, status=stuck)], ANNOUNCEMENT, NOW_MS).problems
    assert len(problems) == 1
    assert "is stuck: no step has ended for 500 s" in problems[0]


def test_what_ages_loses_or_skews_scores_is_a_warning_while_every_member_works() -> None:
    late = replace(said_by(0), lag_seconds=1234.0, evicted_keys=7)
    skewed = replace(said_by(1), drift={"score_psi": 0.249, "worst_category_psi": 0.284})
    members = [member(0, status=late), member(1, status=skewed), member(2)]
    status = group_status(GROUP, members, ANNOUNCEMENT, NOW_MS)
    assert status.ok
    assert [warning.partition(":")[0] for warning in status.warnings] == [
        "events have waited for up to 1,234 s",
        "Redis evicted 7 keys, which may be customers' records",
        "worst category psi is 0.284, and from 0.25 on the training snapshot no longer describes "
        "what is scored",
    ]
    assert well().warnings == ()
    read = group_status(
        GROUP, [member(0, status=replace(late, lag_records=0, evicted_keys=0))], None, NOW_MS
    )
    assert read.warnings == (), "all is read: nothing waits"
