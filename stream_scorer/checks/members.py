"""Which model each member serves, as the members say themselves, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from stream_scorer.checks.finding import Finding
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.announcements import Announcement, Announcements
from stream_scorer.io.stores.members import Member, Members
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import redis_client
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings

# A member sees an announcement within two seconds, and loads a large model in a few.
SWITCH_SECONDS = 60


@dataclass(frozen=True)
class ModelStatus(Result):
    """ok: where nothing is a problem. announcement: None where members serve the config's
    model.path. members: those that run, and those that were lately heard. problems: one line each.
    """

    ok: bool
    announcement: Announcement | None
    members: tuple[Member, ...]
    problems: tuple[str, ...]


def model_status(settings: Settings) -> ModelStatus:
    """What is announced, and what each member serves. Raises StoreUnavailable, InputError."""
    server = RedisServer(redis_client(settings))
    try:
        namespace = settings.store.namespace
        announcement = Announcements(server, namespace).current()
        members, now_ms = Members(server, namespace).all()
    finally:
        server.close()
    problems = problems_of(announcement, members, now_ms)
    return ModelStatus(not problems, announcement, members, problems)


def problems_of(
    announcement: Announcement | None, members: Sequence[Member], now_ms: int
) -> tuple[str, ...]:
    """Members that refuse the announced model, or serve another for longer than a switch takes.

    now_ms: by Redis's clock.
    """
    here = [member for member in members if not member.gone]
    problems = [
        f"{name_of(member)} can't serve the announced model and goes on with "
        f"{member.model_version}: {member.reason}"
        for member in here
        if member.state == "refused"
    ]
    if announcement is not None:
        seconds = (now_ms - announcement.announced_ms) / 1000
        if seconds > SWITCH_SECONDS:
            problems += [
                f"{name_of(member)} serves {member.model_version}, though "
                f"{announcement.model.model_version} was announced {seconds:.0f} s ago; look at "
                "its log"
                for member in here
                if member.announcement != announcement.number and member.state != "refused"
            ]
        return tuple(problems)
    versions = sorted({member.model_version for member in here})
    youngest_ms = max((member.started_ms for member in here), default=now_ms)
    if len(versions) > 1 and now_ms - youngest_ms > 1000 * SWITCH_SECONDS:
        problems.append(
            f"members serve different models, {', '.join(versions)}: announce one "
            "(`models activate DIR -c FILE`)"
        )
    return tuple(problems)


def name_of(member: Member) -> str:
    """A member in messages."""
    return f"member {member.client_id} (host {member.host}, process {member.pid})"


def status_in_words(status: ModelStatus) -> list[str]:
    """The announcement, each member, and each problem, for people."""
    lines = [announced_in_words(status.announcement)]
    lines += [member_in_words(member) for member in status.members]
    if not any(not member.gone for member in status.members):
        lines.append("no member runs")
    return [*lines, *(f"WRONG  {problem}" for problem in status.problems)]


def announced_in_words(announcement: Announcement | None) -> str:
    """What is announced, in one line."""
    if announcement is None:
        return "no model is announced: each member serves the model.path of its config"
    moment = datetime.fromtimestamp(announcement.announced_ms / 1000, timezone.utc)
    before = announcement.previous
    return (
        f"announced: {announcement.model.model_version} ({announcement.model.path}), number "
        f"{announcement.number}, {moment.isoformat(timespec='seconds')}; before: "
        + (f"{before.model_version} ({before.path})" if before else "none")
    )


def member_in_words(member: Member) -> str:
    """What one member says, in one line."""
    said = f"{name_of(member)}: "
    if member.gone:
        return said + f"gone, silent for {member.silent_seconds:.0f} s; read {_partitions(member)}"
    return said + (
        f"{member.state} {member.model_version}, {_partitions(member)}, version {member.build}"
    )


def _partitions(member: Member) -> str:
    if not member.partitions:
        return "no partitions"
    return "partitions " + ", ".join(map(str, member.partitions))


def member_findings(settings: Settings) -> Iterator[Finding]:
    """The members of the namespace, and what is wrong with the models that they serve."""
    try:
        status = model_status(settings)
    except StreamScorerError as error:
        if "stored announcement" in str(error):
            yield Finding("models served", error.found, error.remedy)
        return  # a Redis that does not answer is said by another check
    check = f"members of {settings.store.namespace}"
    for member in status.members:
        yield Finding(check, member_in_words(member))
    if not status.members:
        yield Finding(check, "none runs")
    if status.announcement is not None or status.members:
        yield Finding("models served", announced_in_words(status.announcement))
    for problem in status.problems:
        remedy = (
            "have the announced model under the same path on every machine, or announce another "
            "(`models activate DIR -c FILE`, `models rollback -c FILE`)"
        )
        yield Finding("models served", problem, remedy)
