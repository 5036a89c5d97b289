"""What `stream-scorer doctor` looks at in Redis: server, memory, files, rights, the namespace.

Nothing is changed: what `run` does with Redis is tried on keys of its own, which are deleted again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stream_scorer.checks.finding import Finding
from stream_scorer.checks.versions import redis_version_finding
from stream_scorer.core.events.record_keys import SPLIT_REMEDY
from stream_scorer.core.features.state import split_customers
from stream_scorer.errors import FRESH_START, InputError, StreamScorerError
from stream_scorer.io.stores.redis_health import RedisHealth, redis_health
from stream_scorer.io.stores.redis_memory import FIND_THEM, NO_EVICTION, SET_NO_EVICTION
from stream_scorer.io.stores.rehearsal import rehearse
from stream_scorer.live.consumer import open_store, redis_client
from stream_scorer.settings.tree import Settings

NEARLY_FULL = 0.9
SAMPLED = 1000


def redis_findings(settings: Settings) -> Iterator[Finding]:
    """The server, whether it keeps vectors, this user's rights, and what the namespace holds.

    A server that does not answer is the only finding.
    """
    where, namespace = settings.redis.shown_url, settings.store.namespace
    try:
        client = redis_client(settings)
        health = redis_health(client, namespace, settings.kafka.input_topic)
    except InputError as error:
        yield Finding("redis", f"{where}: {error.field}: {error.value}", error.remedy)
        return
    except StreamScorerError as error:
        remedy = "check redis.url, and that the server is up and lets this user in"
        yield Finding("redis", error.found, error.remedy or remedy)
        return
    yield _product(where, health)
    if health.cluster or health.role == "slave":
        return
    old = redis_version_finding(health.product)
    if old is not None:
        yield old
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
    yield from split_customers_findings(settings)


def split_customers_findings(settings: Settings) -> Iterator[Finding]:
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
            'set redis.mode to "cluster", or name a server that runs with cluster-enabled no',
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
        remedy = error.remedy or "look at the server's log"
        return Finding(check, f"what `run` does was tried: {error.found}", remedy)
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
        f"undo the change of the features; or {FRESH_START}",
    )
