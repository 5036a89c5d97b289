"""`stream-scorer doctor`: what is wrong with config, servers and model, and how to fix it.

Each check yields findings; a finding with a remedy is a problem. A server that does not answer is
one finding, and the checks that depend on it are left out. Nothing is changed: what `run` does with
Redis is tried on keys of its own, which are deleted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.features.state import split_customers
from stream_scorer.errors import BusUnavailable, Halt, InputError, StreamScorerError
from stream_scorer.io.kafka.admin import GroupPosition, KafkaAdmin, Topic
from stream_scorer.io.kafka.start_offset import FRESH_START
from stream_scorer.io.stores.redis_health import RedisHealth, redis_health
from stream_scorer.io.stores.redis_memory import FIND_THEM, NO_EVICTION, SET_NO_EVICTION
from stream_scorer.io.stores.rehearsal import rehearse
from stream_scorer.live.consumer import open_store, redis_client
from stream_scorer.live.loop import SPLIT_REMEDY
from stream_scorer.model import artefact
from stream_scorer.result import Result
from stream_scorer.settings.connections import KafkaSettings
from stream_scorer.settings.topics import (
    TopicPlan,
    retention_in_words,
    topic_plans,
    topic_problems,
)
from stream_scorer.settings.tree import Settings

NEARLY_FULL = 0.9
SAMPLED = 1000
LISTED = 8


@dataclass(frozen=True)
class Finding(Result):
    """Result of one check: what was found, and the remedy where that is a problem."""

    check: str
    found: str
    remedy: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it is no problem."""
        return self.remedy is None

    def as_json(self) -> dict[str, Any]:
        """With "ok", so that nobody has to know what a remedy of null means."""
        return {"check": self.check, "ok": self.ok, "found": self.found, "remedy": self.remedy}


@dataclass(frozen=True)
class Diagnosis(Result):
    """ok where no finding is a problem."""

    ok: bool
    findings: tuple[Finding, ...]


def doctor(settings: Settings) -> Diagnosis:
    """Every check, in turn. A server that is away is a finding, so nothing is raised for it."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _features, _kafka, _redis, _model,
    )  # fmt: skip
    findings = tuple(finding for check in checks for finding in check(settings))
    return Diagnosis(all(f.ok for f in findings), findings)


def in_words(diagnosis: Diagnosis) -> list[str]:
    """The findings for people."""
    lines = []
    for f in diagnosis.findings:
        lines.append(f"{'good ' if f.ok else 'WRONG'}  {f.check}: {f.found}")
        if f.remedy:
            lines.append(f"       {f.remedy}")
    return lines


def _features(settings: Settings) -> Iterator[Finding]:
    try:
        space = settings.feature_space()
    except InputError as error:
        yield Finding("features", str(error.value), error.remedy)
        return
    yield Finding(
        "features",
        f"{len(space.features)} declared, {space.width:,} columns, "
        f"fingerprint {space.fingerprint_hex}",
    )


def _kafka(settings: Settings) -> Iterator[Finding]:
    try:
        admin = KafkaAdmin(settings.kafka.client_properties())
        yield Finding("kafka", f"brokers {', '.join(admin.brokers())}")
        topics: dict[str, Topic] = {}
        for plan in topic_plans(settings.kafka):
            yield from _topic(admin, plan, topics)
        yield from _rights(admin, settings.kafka, topics)
        if settings.kafka.input_topic in topics:
            topic = topics[settings.kafka.input_topic]
            group = settings.kafka.group_id
            positions = admin.with_waiting(group, admin.positions(group, topic))
            yield from _bound(settings, positions)
            yield _group(settings.kafka.group_id, positions)
            yield _history(settings, positions)
    except StreamScorerError as error:
        remedy = "check kafka.bootstrap_servers, and that the brokers are up and let this user in"
        if isinstance(error, Halt):
            remedy = "give this user the right that is missing, or the config another user"
        yield Finding("kafka", f"{settings.kafka.bootstrap_servers}: {error}", remedy)


def _topic(admin: KafkaAdmin, plan: TopicPlan, topics: dict[str, Topic]) -> Iterator[Finding]:
    """What is wrong with one topic; adds it to `topics` where it exists."""
    check = f"topic {plan.name}"
    try:
        found = admin.topics([plan.name])
    except Halt as error:
        remedy = f"allow this user Describe on topic {plan.name}"
        yield Finding(check, f"whether it exists can't be seen: {error}", remedy)
        return
    topics |= found
    topic = found.get(plan.name)
    partitions = None if topic is None else topic.partitions
    problems = topic_problems(plan, partitions, {} if topic is None else topic.config)
    for problem in problems:
        yield Finding(check, problem.found, problem.remedy)
    if not problems:
        yield Finding(check, f"{partitions} partitions{'' if topic is None else _kept(topic)}")


def _rights(
    admin: KafkaAdmin, kafka: KafkaSettings, topics: Mapping[str, Topic]
) -> Iterator[Finding]:
    """What `run` will do and this user may not."""
    needed = {
        kafka.input_topic: "READ", kafka.output_topic: "WRITE", kafka.dead_letter_topic: "WRITE",
    }  # fmt: skip
    for topic, operation in needed.items():
        allowed = admin.operations(topic) if topic in topics else None
        if allowed is not None and operation not in allowed:
            verb = operation.capitalize()
            yield Finding(
                f"topic {topic}", f"this user may not {verb.lower()} it",
                f"allow this user {verb} on topic {topic}",
            )  # fmt: skip
    try:
        allowed = admin.group_operations(kafka.group_id)
    except BusUnavailable as error:
        yield Finding(f"group {kafka.group_id}", f"its rights can't be asked: {error}")
        return
    except Halt:
        allowed = frozenset()
    if allowed is not None and "READ" not in allowed:
        yield Finding(
            f"group {kafka.group_id}", "this user may not join it",
            f"allow this user Read on group {kafka.group_id}",
        )  # fmt: skip


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


def _bound(
    settings: Settings, positions: Mapping[TopicPartition, GroupPosition]
) -> Iterator[Finding]:
    """Whether the group's offsets are another namespace's."""
    group, namespace = settings.kafka.group_id, settings.store.namespace
    others = {p.namespace for p in positions.values() if p.namespace} - {namespace}
    if others:
        names = ", ".join(sorted(others))
        remedy = f"stop the members of {names}; then `run` moves the group to {namespace}"
        found = f"reads for namespace {names}, the config names {namespace}"
        yield Finding(f"group {group}", found, f"{remedy}; or {FRESH_START}")


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


def _redis(settings: Settings) -> Iterator[Finding]:
    where, namespace = settings.redis.shown_url, settings.store.namespace
    try:
        client = redis_client(settings)
        health = redis_health(client, namespace, settings.kafka.input_topic)
    except InputError as error:
        yield Finding("redis", f"{where}: {error.field}: {error.value}", error.remedy)
        return
    except StreamScorerError as error:
        remedy = "check redis.url, and that the server is up and lets this user in"
        yield Finding("redis", f"{where}: {error}", remedy)
        return
    yield _product(where, health)
    if health.cluster or health.role == "slave":
        return
    yield _eviction(health, allowed=settings.redis.allow_eviction)
    yield _persistence(health)
    if health.limit_bytes and health.used_bytes > NEARLY_FULL * health.limit_bytes:
        share = health.used_bytes / health.limit_bytes
        remedy = "raise maxmemory, or set a shorter store.time_to_live_seconds"
        yield Finding("redis memory", f"{share:.0%} of maxmemory is used", remedy)
    yield _rehearsal(client, namespace)
    yield _namespace(settings, health)
    group = settings.kafka.group_id
    if health.group not in (None, group):
        yield Finding(
            f"namespace {namespace}",
            f"belongs to group {health.group}, the config names {group}",
            f"stop the members of {health.group}; then `run` moves the namespace to {group}; or "
            + FRESH_START,
        )
    yield from _split(settings)


def _split(settings: Settings) -> Iterator[Finding]:
    """Customers with events from two partitions of the topic, among the first of the store."""
    try:
        store = open_store(settings, settings.feature_space())
        sample = next(store.scan(SAMPLED), None)
    except StreamScorerError:
        return  # said by another check
    if not sample:
        return
    check, split = f"customers of {settings.store.namespace}", split_customers(sample)
    if split:
        found = f"{split:,} of {len(sample):,} have events in two partitions of the topic"
        yield Finding(check, found, SPLIT_REMEDY)
    else:
        yield Finding(check, f"{len(sample):,} looked at: the events of each are in one partition")


def _product(where: str, health: RedisHealth) -> Finding:
    if not health.product:
        return Finding(
            "redis", f"{where}: this user may not run INFO, so the server can't be looked at",
            "allow the user INFO; until then see to it that maxmemory-policy is noeviction",
        )  # fmt: skip
    if health.cluster:
        return Finding(
            "redis", f"{where}, {health.product}, a node of a Redis Cluster",
            "name a server that runs with cluster-enabled no: a script can't reach all keys here",
        )  # fmt: skip
    if health.role == "slave":
        return Finding(
            "redis", f"{where}, {health.product}, a replica, which takes no writes",
            "name the primary in redis.url, or an address that follows it",
        )  # fmt: skip
    return Finding("redis", f"{where}, {health.product}, a primary")


def _rehearsal(client: Any, namespace: str) -> Finding:
    check = "redis commands"
    try:
        left = rehearse(client, namespace)
    except InputError as error:
        return Finding(check, f"{error.field}: {error.value}", error.remedy)
    except StreamScorerError as error:
        return Finding(check, f"what `run` does was tried: {error}", "look at the server's log")
    if left:
        remedy = "allow the user DEL, which only `doctor` needs; the keys can be deleted by hand"
        return Finding(check, f"all work, but the keys of this trial stay: {left[0]}", remedy)
    return Finding(check, "all that `run` does was tried on keys of its own")


def _eviction(health: RedisHealth, *, allowed: bool) -> Finding:
    check, policy = "redis eviction", health.eviction_policy
    evicted = f", {health.evicted_keys:,} keys evicted since it started"
    if not health.product:
        return Finding(check, "unknown without INFO")
    if policy == NO_EVICTION and health.evicted_keys:
        remedy = f"vectors may be among them; {FIND_THEM}"
        return Finding(check, policy + evicted, remedy)
    if policy == NO_EVICTION:
        return Finding(check, policy)
    found = f"maxmemory-policy is {policy}: a full server drops vectors{evicted}"
    if allowed:
        return Finding(check, f"{found}; redis.allow_eviction allows it")
    return Finding(check, found, f"{SET_NO_EVICTION}; or set redis.allow_eviction = true")


def _persistence(health: RedisHealth) -> Finding:
    if not health.product:
        return Finding("redis persistence", "unknown without INFO")
    if health.append_only:
        return Finding("redis persistence", "append-only file")
    if health.snapshots:
        return Finding("redis persistence", f"snapshots ({health.snapshots}) without append-only")
    if health.snapshots is None:
        return Finding(
            "redis persistence", "no append-only file; whether it keeps snapshots could not be read"
        )
    return Finding(
        "redis persistence",
        "none: after a restart all vectors are made again from Kafka, if it still has the events",
        "set appendonly yes and appendfsync everysec",
    )


def _namespace(settings: Settings, health: RedisHealth) -> Finding:
    check = f"namespace {settings.store.namespace}"
    if health.fingerprint is None:
        return Finding(check, "not used yet")
    try:
        mine = settings.feature_space().fingerprint_hex
    except InputError:
        return Finding(check, f"fingerprint {health.fingerprint}")
    if mine == health.fingerprint:
        return Finding(check, f"fingerprint {mine}")
    return Finding(
        check,
        f"holds vectors of declaration {health.fingerprint}, the config declares {mine}",
        "undo the change of the features; or set store.namespace and kafka.group_id to new names",
    )


def _model(settings: Settings) -> Iterator[Finding]:
    if settings.model.engine == "mxnet" and find_spec("mxnet") is None:
        found = "mxnet is not installed for this Python"
        yield Finding("engine", found, 'set model.engine = "native": it gives the same scores')
    try:
        wanted = settings.feature_space().fingerprint if settings.features else None
        loaded = artefact.load(settings.model.path, wanted)
    except InputError as error:
        yield Finding("model", f"{error.field}: {error.value}", error.remedy)
        return
    manifest = loaded.manifest
    found = f"version {manifest.model_version}, {len(manifest.categories)} categories"
    yield Finding("model", f"{found}, engine {settings.model.engine}")
