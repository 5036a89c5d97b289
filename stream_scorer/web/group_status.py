"""The state of a whole group, from what its members say of themselves. Pure: the time is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from stream_scorer.checks.members import name_of, problems_of
from stream_scorer.core.drift.stability import ACT
from stream_scorer.core.events.moments import moment_text
from stream_scorer.io.stores.announcements import Announcement
from stream_scorer.io.stores.member_status import STEP_SECONDS, STEPS, MemberStatus, PartitionLag
from stream_scorer.io.stores.members import Member
from stream_scorer.result import Result

STEP_MS = 1000 * STEP_SECONDS
LONG_LAG_SECONDS = 300  # as deploy/prometheus has it for events that wait


@dataclass(frozen=True)
class Group(Result):
    """Whose state it is."""

    namespace: str
    group_id: str
    input_topic: str
    output_topic: str


@dataclass(frozen=True)
class GroupLatency(Result):
    """From an event's record in Kafka to its customer's confirmed propensities, over the last
    minute, of the member where it is longest. count: of how many, of all members."""

    p50_ms: float
    p99_ms: float
    count: int


@dataclass(frozen=True)
class PartitionState(Result):
    """member: the id of the one that reads it. seconds: at most so long has its oldest unread
    record waited; None where that is not known."""

    partition: int
    records: int
    seconds: float | None
    member: str


@dataclass(frozen=True)
class RecentPast(Result):
    """Of all members, in steps of step_seconds that end at until (ISO 8601 in UTC), oldest first.

    events_per_second: records that were read. lag_records: the consumer lag at the end of a step.
    """

    step_seconds: int
    until: str
    events_per_second: tuple[float, ...]
    lag_records: tuple[float, ...]


@dataclass(frozen=True)
class Totals(Result):
    """Of all members that are there, counted since each of them started.

    members: those that are there; ready: of them, those that are ready. events: by outcome.
    dead_letters: by reason. lag_seconds: of the partition where it is longest.
    oldest_score_seconds: no score is older; None where a member does not know it yet.
    refresh_progress: of the member that is least far. stage_ms: mean time of each stage of a
    micro-batch in the last minute, of the member where it is longest.
    """

    members: int
    ready: int
    partitions: int
    events_per_second: float
    events: Mapping[str, int]
    dead_letters: Mapping[str, int]
    ignored_values: Mapping[str, int]
    propensities: int
    lag_records: int
    lag_seconds: float | None
    latency: GroupLatency | None
    stage_ms: Mapping[str, float]
    rebalances: Mapping[str, int]
    waits: Mapping[str, int]
    store_rewinds: int
    refused_writes: int
    evicted_keys: int
    refresh_progress: float | None
    oldest_score_seconds: float | None
    memory_bytes: int


@dataclass(frozen=True)
class GroupStatus(Result):
    """at: by Redis's clock, ISO 8601 in UTC. ok: where there is no problem; problems: one sentence
    each. warnings: what is worth a look though every member works, one sentence each. announcement:
    None where members serve the model.path of their config. partitions: those with the largest lag
    of each member. drift: by measure, of the member where it is largest; None where none says
    it."""

    at: str
    ok: bool
    problems: tuple[str, ...]
    group: Group
    announcement: Announcement | None
    totals: Totals
    partitions: tuple[PartitionState, ...]
    recent: RecentPast
    drift: Mapping[str, float] | None
    members: tuple[Member, ...]
    warnings: tuple[str, ...] = ()


def group_status(
    group: Group, members: Sequence[Member], announcement: Announcement | None, now_ms: int
) -> GroupStatus:
    """now_ms: by Redis's clock, as the members' silence."""
    here = [member for member in members if not member.gone]
    problems = (*_problems(members), *problems_of(announcement, members, now_ms))
    drifts = [s.drift for s in _statuses(here) if s.drift]
    totals, drift = _totals(here), _largest(drifts) if drifts else None
    return GroupStatus(
        at=moment_text(now_ms), ok=not problems, problems=problems, group=group,
        announcement=announcement, totals=totals, partitions=_partitions(here),
        recent=_recent(_statuses(here), now_ms), drift=drift, members=tuple(members),
        warnings=tuple(_warnings(totals, drift or {})),
    )  # fmt: skip


def _problems(members: Sequence[Member]) -> list[str]:
    """Members that are gone or not ready, and a group without members."""
    found = []
    if all(member.gone for member in members):
        found.append("no member runs: events wait in the topic, and no propensities are published")
    for member in members:
        name = name_of(member)
        if member.gone:
            found.append(
                f"{name} has said nothing for {member.silent_seconds:.0f} s and did not stop in "
                "good order: it was ended, is suspended, or does not reach Redis"
            )
        elif member.status is not None and not member.status.alive:
            found.append(f"{name} is stuck: {member.status.alive_reason}")
        elif member.status is not None and not member.status.ready:
            found.append(f"{name} is not ready: {member.status.ready_reason}")
    return found


def _warnings(totals: Totals, drift: Mapping[str, float]) -> list[str]:
    """What ages, loses or skews scores while every member works."""
    found = []
    if totals.lag_records and (totals.lag_seconds or 0) >= LONG_LAG_SECONDS:
        found.append(
            f"events have waited for up to {totals.lag_seconds:,.0f} s: propensities are as old; "
            "see the lag by partition, and run more members or give them more cores"
        )
    if totals.evicted_keys:
        found.append(
            f"Redis evicted {totals.evicted_keys:,} keys, which may be customers' records: give it "
            "more memory and set its maxmemory-policy to noeviction"
        )
    found += [
        f"{name.replace('_', ' ')} is {value:.3f}, and from {ACT} on the training snapshot no "
        "longer describes what is scored: see stream-scorer drift, and train again"
        for name, value in drift.items()
        if name.endswith("psi") and value >= ACT
    ]
    return found


def _statuses(members: Iterable[Member]) -> list[MemberStatus]:
    return [member.status for member in members if member.status is not None]


def _totals(here: Sequence[Member]) -> Totals:
    said = _statuses(here)

    def summed(of: Callable[[MemberStatus], Mapping[str, int] | None]) -> dict[str, int]:
        found: dict[str, int] = {}
        for status in said:
            for name, count in (of(status) or {}).items():
                found[name] = found.get(name, 0) + count
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    latencies = [s.latency for s in said if s.latency is not None]
    waited = [s.lag_seconds for s in said if s.lag_seconds is not None]
    progress = [s.refresh_progress for s in said if s.refresh_progress is not None]
    ages = [s.oldest_score_seconds for s in said]
    return Totals(
        members=len(here),
        ready=sum(m.status is None or m.status.ready for m in here),
        partitions=sum(len(m.partitions) for m in here),
        events_per_second=round(sum(s.events_per_second for s in said), 1),
        events=summed(lambda s: s.events),
        dead_letters=summed(lambda s: s.dead_letters),
        ignored_values=summed(lambda s: s.ignored_values),
        propensities=sum(s.propensities for s in said),
        lag_records=sum(s.lag_records for s in said),
        lag_seconds=max(waited, default=None),
        latency=GroupLatency(
            max(one.p50_ms for one in latencies), max(one.p99_ms for one in latencies),
            sum(one.count for one in latencies),
        ) if latencies else None,
        stage_ms=_largest([s.stage_ms or {} for s in said]),
        rebalances=summed(lambda s: s.rebalances),
        waits=summed(lambda s: s.waits),
        store_rewinds=sum(s.store_rewinds for s in said),
        refused_writes=sum(s.refused_writes for s in said),
        evicted_keys=sum(s.evicted_keys for s in said),
        refresh_progress=min(progress, default=None),
        oldest_score_seconds=_oldest(ages),
        memory_bytes=sum(s.memory_bytes for s in said),
    )  # fmt: skip


def _oldest(ages: Sequence[float | None]) -> float | None:
    """The largest; None where one is not known, as it may be larger."""
    known = [age for age in ages if age is not None]
    return max(known) if known and len(known) == len(ages) else None


def _largest(many: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By name the largest value."""
    found: dict[str, float] = {}
    for one in many:
        for name, value in one.items():
            found[name] = max(value, found.get(name, value))
    return found


def _partitions(here: Sequence[Member]) -> tuple[PartitionState, ...]:
    def state(lag: PartitionLag, member: Member) -> PartitionState:
        return PartitionState(lag.partition, lag.records, lag.seconds, member.member)

    found = [state(lag, m) for m in here if m.status is not None for lag in m.status.lag]
    return tuple(sorted(found, key=lambda one: (one.partition, one.member)))


def _recent(said: Sequence[MemberStatus], now_ms: int) -> RecentPast:
    """Sums by step; a member whose last heartbeat ended with an earlier step lacks the later."""
    last = max((s.recent_until_ms for s in said), default=0) or now_ms // STEP_MS * STEP_MS
    events, lag = [0.0] * STEPS, [0.0] * STEPS
    for status in said:
        behind = round((last - status.recent_until_ms) / STEP_MS)
        for sums, series in ((events, status.recent_events), (lag, status.recent_lag)):
            for back, value in enumerate(reversed(series)):
                step = STEPS - 1 - behind - back
                if 0 <= step < STEPS:
                    sums[step] += value
    return RecentPast(
        STEP_SECONDS, moment_text(last), tuple(round(n, 1) for n in events), tuple(lag)
    )
