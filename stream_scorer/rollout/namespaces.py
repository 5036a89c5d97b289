"""The namespaces of the settings' Redis database, with what Kafka says of each.

A namespace is served where its consumer group has members and committed offsets of the group name
it: the offsets' metadata says for which namespace they were committed (io/kafka/group_offsets.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stream_scorer.errors import ConfigError, InputError, StreamScorerError
from stream_scorer.io.kafka.admin import KafkaAdmin, Topic
from stream_scorer.io.kafka.group_offsets import Owner
from stream_scorer.io.stores.members import ALIVE_SECONDS, Member, Members
from stream_scorer.io.stores.namespaces import (
    StoredNamespace,
    drop_namespace,
    newest_offsets,
    stored_namespaces,
)
from stream_scorer.io.stores.redis_errors import NEEDS_ONE_SERVER
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.stores.rollout_record import ENDED, read_record
from stream_scorer.live.consumer import redis_client
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings


@dataclass(frozen=True)
class NamespacePartition(Result):
    """watermark: the next offset that the namespace needs. behind: how many offsets the log has
    beyond it, null where Kafka was not asked or did not answer."""

    partition: int
    watermark: int
    behind: int | None


@dataclass(frozen=True)
class NamespaceTopic(Result):
    """A topic that was read into a namespace. group: who reads it, null for nobody yet. members: of
    the group, now. served: whether they read for this namespace. Null where it is not known."""

    topic: str
    group: str | None
    members: int | None
    served: bool | None
    behind: int | None
    partitions: tuple[NamespacePartition, ...]


@dataclass(frozen=True)
class ListedNamespace(Result):
    """One namespace. configured: it is store.namespace. customers: counted while Redis may have
    moved keys, so it may be a little too high. bytes: estimated from the memory of a sample of the
    records, null where this user may not ask. shares_group_with: the other namespace of a roll-out
    that has not ended. files: event files, or directories of them, that were replayed into it.
    members: what the processes that run for it say of themselves, and those heard lately."""

    namespace: str
    configured: bool
    fingerprint: str
    identity: str
    being_dropped: bool
    customers: int
    bytes: int | None
    shares_group_with: str | None
    files: int
    topics: tuple[NamespaceTopic, ...]
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class NamespaceList(Result):
    """redis: the database. unknown: what Kafka could not be asked, and why."""

    redis: str
    namespaces: tuple[ListedNamespace, ...]
    unknown: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class DroppedNamespace(Result):
    """keys: how many were deleted."""

    namespace: str
    keys: int
    seconds: float


def list_namespaces(settings: Settings) -> NamespaceList:
    """Every namespace of the database. Kafka may be away: then `unknown` says what is missing."""
    settings.redis.needs_one_server("`namespaces`")
    started = time.monotonic()
    server = RedisServer(redis_client(settings))
    try:
        stored = _scanned(server)
        members = {name: Members(server, name).all()[0] for name in stored}
    finally:
        server.close()
    unknown: list[str] = []
    listed = []
    admin = KafkaAdmin(settings.kafka.client_properties())
    for namespace in stored.values():
        topics = [_topic(admin, namespace, topic, unknown) for topic in sorted(namespace.topics)]
        files = {name for name, _ in namespace.watermarks} - namespace.topics
        described = ListedNamespace(
            namespace=namespace.name,
            configured=namespace.name == settings.store.namespace,
            fingerprint=namespace.fingerprint,
            identity=namespace.identity,
            being_dropped=namespace.being_dropped,
            customers=namespace.customers,
            bytes=namespace.bytes_estimate,
            shares_group_with=namespace.shares_group_with or None,
            files=len(files),
            topics=tuple(topics),
            members=members[namespace.name],
        )
        listed.append(described)
    seconds = round(time.monotonic() - started, 3)
    return NamespaceList(server.address, tuple(listed), tuple(dict.fromkeys(unknown)), seconds)


def drop(
    settings: Settings, name: str, *, agreed: bool, force: bool, may_be_gone: bool = False
) -> DroppedNamespace:
    """Delete the namespace `name`, and nothing else.

    agreed: without it nothing is deleted, and the error says what would be. Raises InputError where
    it is in use, unless `force`, and where there is no such namespace, unless `may_be_gone`.
    """
    settings.redis.needs_one_server("`namespaces`")
    started = time.monotonic()
    server = RedisServer(redis_client(settings))
    try:
        stored = _scanned(server)
        namespace = stored.get(name)
        if namespace is None and may_be_gone:
            return DroppedNamespace(name, 0, round(time.monotonic() - started, 3))
        if namespace is None:
            names = ", ".join(stored) or "none"
            raise InputError("NAME", name, f"{server.address} has no such namespace, but {names}")
        if not force and not namespace.being_dropped:
            refuse_in_use(settings, server, namespace)
            _refuse_in_rollout(server, name, stored)
        if not agreed:
            raise InputError(
                "NAME", name,
                f"{namespace.customers:,} customers' vectors would be deleted from "
                f"{server.address}; add --yes to do it",
            )  # fmt: skip
        with progress(f"dropping {name}", namespace.keys) as meter:
            dropped = drop_namespace(server, name, _counted(meter.advance))
    finally:
        server.close()
    return DroppedNamespace(name, dropped, round(time.monotonic() - started, 3))


def refuse_in_use(settings: Settings, server: RedisServer, namespace: StoredNamespace) -> None:
    """Raises InputError where anybody reads into the namespace, or is about to."""
    name, anyway = namespace.name, "; --force drops it all the same"
    if name == settings.store.namespace:
        remedy = "is store.namespace of this config, which `run` reads into"
        raise InputError("NAME", name, f"{remedy}{anyway}")
    if namespace.shares_group_with:
        raise InputError(
            "NAME", name,
            f"a roll-out between it and {namespace.shares_group_with} has not ended: run `rollout` "
            f"to its end, or `rollout --cancel`{anyway}",
        )  # fmt: skip
    if here := still_running(server, name):
        raise InputError(
            "NAME", name,
            f"{here} runs for it, or was killed within {ALIVE_SECONDS} s; stop it first{anyway}",
        )  # fmt: skip
    admin = KafkaAdmin(settings.kafka.client_properties())
    for topic, group in sorted(namespace.groups.items()):
        try:
            served = is_served(admin, namespace, group, topic)
        except StreamScorerError as error:
            if isinstance(error, InputError):
                raise
            remedy = f"whether group {group} reads into it could not be asked: {error}"
            raise InputError("NAME", name, f"{remedy}{anyway}") from error
        if served:
            remedy = f"group {group} has members that read {topic} into it; stop them first"
            raise InputError("NAME", name, f"{remedy}{anyway}")


def _refuse_in_rollout(server: RedisServer, name: str, stored: Iterable[str]) -> None:
    """Raises InputError where a roll-out builds the namespace or is to replace it, among `stored`.

    Before the switch nothing else shows it: nobody reads into the new one, and members of the old
    one may be stopped.
    """
    for new in stored:
        record = read_record(server, new)
        if record and record.step not in ENDED and name in (new, record.replaces):
            raise InputError(
                "NAME", name,
                f"a roll-out from {record.replaces} to {new} has not ended, its next step is "
                f"{record.step}: run `rollout` to its end, or `rollout --cancel`; --force drops it "
                "all the same",
            )  # fmt: skip


def still_running(server: RedisServer, name: str) -> str:
    """The members that say that they run for the namespace, in words; "" for none.

    Also those without a partition, which Kafka's offsets do not show.
    """
    members = [m for m in Members(server, name).all()[0] if not m.gone]
    return ", ".join(f"{m.client_id} (process {m.pid} on {m.host})" for m in members)


def is_served(admin: KafkaAdmin, namespace: StoredNamespace, group: str, topic: str) -> bool:
    """Whether the group has members that read `topic` into the namespace.

    A group that has committed nothing that names a namespace counts as this one's: its members may
    have begun just now. Raises BusUnavailable or Halt.
    """
    if not admin.members(group):
        return False
    owners = admin.owners(group, topic)
    mine = Owner(namespace.name, namespace.identity)
    return not owners or any(mine.agrees(owner) for owner in owners)


def _scanned(server: RedisServer) -> dict[str, StoredNamespace]:
    if server.info("cluster").get("cluster_enabled"):
        # It has a part of the keys only: half of a namespace would be listed, or deleted.
        raise ConfigError(
            "redis.url", server.address, f"this is a node of a Redis Cluster, {NEEDS_ONE_SERVER}"
        )
    keys = int(server.ask(server.client.dbsize))
    with progress("looking at keys", keys) as meter:
        return stored_namespaces(server, _counted(meter.advance))


def _counted(advance: Callable[[float], None]) -> Callable[[int], None]:
    return advance


def _topic(
    admin: KafkaAdmin, namespace: StoredNamespace, topic: str, unknown: list[str]
) -> NamespaceTopic:
    watermarks = newest_offsets(namespace.watermarks, topic)
    group = namespace.groups.get(topic)
    members = served = None
    ends: dict[int, int] = {}
    try:
        count = admin.partitions(topic)
        if count:
            # For the log's ends; whose offsets are committed is another question.
            asked = Topic(topic, count, None)
            positions = admin.positions(group or f"{namespace.name}-nobody", asked)
            ends = {partition: p.end for (_, partition), p in positions.items()}
        else:
            unknown.append(f"topic {topic} does not exist")
        if group is not None:
            members = admin.members(group)
            served = bool(count) and is_served(admin, namespace, group, topic)
    except StreamScorerError as error:
        unknown.append(f"topic {topic}: {error}")
    partitions = tuple(
        NamespacePartition(p, at, max(ends[p] - at, 0) if p in ends else None)
        for p, at in watermarks.items()
    )
    # A partition of which the namespace has nothing yet is behind by all that it holds.
    all_ends = bool(ends) and ends.keys() >= watermarks.keys()
    behind = sum(max(end - watermarks.get(p, 0), 0) for p, end in ends.items())
    return NamespaceTopic(topic, group, members, served, behind if all_ends else None, partitions)
