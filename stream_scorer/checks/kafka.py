"""What `stream-scorer doctor` looks at in Kafka: topics, rights, the group, the topic's history and
its newest records.

Nothing is changed, but for a transactional id of doctor's own (kafka_rights.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stream_scorer.checks.broker_version import version_findings
from stream_scorer.checks.finding import Finding
from stream_scorer.checks.kafka_rights import remedy_of, rights_findings
from stream_scorer.checks.output_sample import output_findings
from stream_scorer.checks.record_sample import sample_findings
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.features.space import parse_duration_ms
from stream_scorer.errors import FRESH_START, Halt, StreamScorerError
from stream_scorer.io.kafka.admin import GroupPosition, KafkaAdmin, Topic
from stream_scorer.io.kafka.broker_requests import newest_requests
from stream_scorer.io.stores.bound_namespace import BoundNamespace
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import redis_client
from stream_scorer.settings.topics import (
    NO_LIMIT,
    TopicPlan,
    retention_in_words,
    topic_plans,
    topic_problems,
)
from stream_scorer.settings.tree import Settings

LISTED = 8


def kafka_findings(settings: Settings) -> Iterator[Finding]:
    """The brokers, the three topics, this user's rights, and how far the group has read.

    Brokers that do not answer are one finding, and the last.
    """
    try:
        admin = KafkaAdmin(settings.kafka.client_properties())
        yield Finding("kafka", f"brokers {', '.join(admin.brokers())}")
        newest = newest_requests(settings.kafka.client_properties())
        yield from version_findings(settings.kafka, newest)
        topics: dict[str, Topic] = {}
        for plan in topic_plans(settings.kafka):
            yield from _topic(admin, plan, topics)
        rights = list(rights_findings(admin, settings.kafka, topics))
        yield from rights
        group = settings.kafka.group_id
        # Who may not use the group gets no answer about it, only a time-out.
        may_ask = all(finding.ok for finding in rights if finding.check == f"group {group}")
        if settings.kafka.input_topic in topics and may_ask:
            topic = topics[settings.kafka.input_topic]
            positions = admin.with_waiting(group, admin.positions(group, topic))
            yield from _bound(settings, positions)
            yield _group(settings.kafka.group_id, positions)
            yield members_finding(group, admin.members(group), topic.partitions)
            yield _history(settings, positions)
            yield from retention_findings(settings)
            if all(finding.ok for finding in rights if finding.check == f"topic {topic.name}"):
                ranges = {tp: (at.first, at.end) for tp, at in positions.items()}
                yield from sample_findings(settings, ranges)
        yield from _output(admin, settings, topics)
    except StreamScorerError as error:
        yield Finding(
            "kafka", f"{settings.kafka.bootstrap_servers}: {error.found}", remedy_of(error)
        )


def _output(
    admin: KafkaAdmin, settings: Settings, topics: Mapping[str, Topic]
) -> Iterator[Finding]:
    """Where propensities lie, for whom may read them: `run` itself need not."""
    kafka = settings.kafka
    if kafka.input_topic not in topics or kafka.output_topic not in topics:
        return
    output = topics[kafka.output_topic]
    allowed = admin.operations(output.name)
    if allowed is not None and not allowed & {"READ", "ALL"}:
        yield Finding(
            f"records of {output.name}",
            "this user may not read it, so partitions of keys are not looked at",
        )
        return
    partitions = topics[kafka.input_topic].partitions
    yield from output_findings(kafka, admin.ranges(output), partitions)


def _topic(admin: KafkaAdmin, plan: TopicPlan, topics: dict[str, Topic]) -> Iterator[Finding]:
    """What is wrong with one topic; adds it to `topics` where it exists."""
    check = f"topic {plan.name}"
    try:
        found = admin.topics([plan.name])
    except Halt as error:
        remedy = f"allow this user Describe on topic {plan.name}"
        yield Finding(check, f"whether it exists can't be seen: {error.found}", remedy)
        return
    topics |= found
    topic = found.get(plan.name)
    partitions = None if topic is None else topic.partitions
    problems = topic_problems(plan, partitions, {} if topic is None else topic.config)
    for problem in problems:
        yield Finding(check, problem.found, problem.remedy)
    if not problems:
        yield Finding(check, f"{partitions} partitions{'' if topic is None else _kept(topic)}")


def _kept(topic: Topic) -> str:
    config = topic.config or {}
    if "delete" not in config.get("cleanup.policy", "") or "retention.ms" not in config:
        return ""
    return f", records are kept {retention_in_words(config['retention.ms'])}"


def _history(settings: Settings, positions: Mapping[TopicPartition, GroupPosition]) -> Finding:
    """How far back the input topic goes, against what `replay` and `verify` need: its start."""
    check = f"history of {settings.kafka.input_topic}"
    late = [f"{name}[{p}] at {at.first}" for (name, p), at in positions.items() if at.first > 0]
    if not late:
        return Finding(check, "the topic holds every event since its first")
    listing = ", ".join(late[:LISTED]) + (", ..." if len(late) > LISTED else "")
    found = (
        f"the oldest events of {len(late)} of {len(positions)} partitions were deleted (the logs "
        f"begin: {listing}): `replay` needs their event files, and `verify` can't check customers "
        "who had events in them"
    )
    if settings.kafka.input_retention_ms is not None:
        return Finding(check, found)
    return Finding(
        check, found,
        "set retention.ms=-1 on the topic, keep the event files of what is gone, and set "
        "kafka.input_retention to how far back the topic goes",
    )  # fmt: skip


def members_finding(group: str, members: int, partitions: int) -> Finding:
    """How many members share how many partitions of the input topic."""
    check = f"members of group {group}"
    found = f"{members} for {partitions} partitions"
    if members <= partitions:
        return Finding(check, found if members else f"none runs, for {partitions} partitions")
    return Finding(
        check, f"{found}: {members - partitions} of them have nothing to do",
        f"run at most {partitions}. More need a topic with more partitions, best before it has "
        "events: afterwards customers move to other partitions",
        warning=True,
    )  # fmt: skip


def retention_findings(settings: Settings) -> Iterator[Finding]:
    """How long events and records are kept, against what looks back on them."""
    kept_ms, check = settings.kafka.input_retention_ms, "retention"
    horizon_ms = parse_duration_ms(settings.labels.horizon)
    lives_ms = 1000 * settings.store.time_to_live_seconds
    kept = retention_in_words(NO_LIMIT if kept_ms is None else str(kept_ms))
    if horizon_ms is not None and kept_ms is not None and kept_ms < 2 * horizon_ms:
        yield Finding(
            check,
            f"kafka.input_retention keeps events {kept}, and labels.horizon is "
            f"{settings.labels.horizon}: labels need the events of a horizon, and features those "
            "before it, so `replay topic` can't make rows to train on",
            "raise kafka.input_retention to several horizons, or replay event files",
            warning=True,
        )
    if kept_ms is not None and not 0 < lives_ms <= kept_ms:
        lives = retention_in_words(str(lives_ms)) if lives_ms else "for ever"
        yield Finding(
            check,
            f"records in Redis live {lives} (store.time_to_live_seconds), events in Kafka {kept}: "
            "what Redis loses of before can't be made again from the topic",
            "keep the event files, raise kafka.input_retention, or shorten "
            "store.time_to_live_seconds",
            warning=True,
        )
    if horizon_ms is not None and 0 < lives_ms < horizon_ms:
        yield Finding(
            check,
            f"records in Redis live {retention_in_words(str(lives_ms))}, less than the horizon "
            f"of {settings.labels.horizon}: customers are forgotten before their scores are due",
            "raise store.time_to_live_seconds, or set it to 0 to forget nobody",
            warning=True,
        )


def _bound(
    settings: Settings, positions: Mapping[TopicPartition, GroupPosition]
) -> Iterator[Finding]:
    """Whether the group's offsets are another namespace's."""
    group, namespace = settings.kafka.group_id, settings.store.namespace
    others = {p.namespace for p in positions.values() if p.namespace} - {namespace}
    partner = _partner(settings) if others else ""
    if others == {partner}:
        theirs = sum(p.namespace == partner for p in positions.values())
        yield Finding(
            f"roll-out of {group}",
            f"{namespace} and {partner} share the group until it ends: {theirs} of "
            f"{len(positions)} partitions are read for {partner}",
        )
    elif others:
        names = ", ".join(sorted(others))
        remedy = f"stop the members of {names}; then `run` moves the group to {namespace}"
        found = f"reads for namespace {names}, the config names {namespace}"
        yield Finding(f"group {group}", found, f"{remedy}; or {FRESH_START}")


def _partner(settings: Settings) -> str:
    """The namespace that this one shares its group with while a roll-out lasts, "" for none."""
    try:
        server = RedisServer(redis_client(settings))
        try:
            namespace = settings.store.namespace
            return BoundNamespace(server, namespace, 0).shares_group_with()[0]
        finally:
            server.close()
    except StreamScorerError:
        return ""  # said by the checks of Redis


def _group(group: str, positions: Mapping[TopicPartition, GroupPosition]) -> Finding:
    gone = [
        f"{name}[{partition}]"
        for (name, partition), p in positions.items()
        if p.committed is not None and p.committed < p.first
    ]
    if gone:
        found = f"events were deleted before they were read: {', '.join(gone)}"
        return Finding(
            f"group {group}", found, f"give the topic a longer retention, and {FRESH_START}"
        )
    if all(p.committed is None for p in positions.values()):
        return Finding(f"group {group}", "has not consumed yet")
    lag = sum(p.lag for p in positions.values())
    return Finding(f"group {group}", f"{lag:,} events behind")
