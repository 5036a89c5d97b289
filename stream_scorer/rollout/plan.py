"""What a roll-out replaces and begins with, found and checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.errors import InputError
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.stores.bound_namespace import BoundNamespace
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.stores.rollout_record import RolloutRecord
from stream_scorer.live.consumer import clock_ms
from stream_scorer.settings.tree import Settings


def planned(
    settings: Settings,
    server: RedisServer,
    admin: KafkaAdmin,
    files: Sequence[str],
    topic_from_ms: int | None,
) -> RolloutRecord:
    """The record of a roll-out that begins now: to the namespace of the settings, from the one that
    their consumer group reads for.

    Raises InputError where files and topic_from_ms do not belong together, or where it is not clear
    what is replaced; and BusUnavailable, StoreUnavailable, Halt.
    """
    group, topic, new = (
        settings.kafka.group_id,
        settings.kafka.input_topic,
        settings.store.namespace,
    )
    if files and topic_from_ms is None:
        raise InputError(
            "EVENTS", files[0],
            "with event files give --topic-from TIME: events before it are taken from the "
            "files, records from it on from the topic",
        )  # fmt: skip
    if topic_from_ms is not None and not files:
        raise InputError("--topic-from", topic_from_ms, "name the files of the events before")
    named = sorted(o for o in admin.owners(group, topic) if o.namespace)
    if not named:
        raise InputError(
            "kafka.group_id", group,
            f"it has committed nothing of {topic} for any namespace, so there is nothing to "
            "replace: set it to the group of the members that run now; or, where none ever "
            "ran, start `run`",
        )  # fmt: skip
    others = [o for o in named if o.namespace != new]
    if not others:
        raise InputError(
            "store.namespace", new,
            f"group {group} reads for it already; set store.namespace to a new name for the "
            "new declaration",
        )  # fmt: skip
    if len(others) > 1:
        names = ", ".join(o.namespace for o in others)
        remedy = f"group {group} reads for {names}: which is to be replaced is not clear"
        raise InputError("kafka.group_id", group, remedy)
    (old,) = others
    found = BoundNamespace(server, old.namespace, 0).stored_identity()
    if not found or found != old.identity:
        raise InputError(
            "redis.url", settings.redis.shown_url,
            f"this database does not hold the namespace {old.namespace} that group {group} reads "
            "for: the new one must lie beside it",
        )  # fmt: skip
    step = "files" if files else "topic"
    return RolloutRecord(old.namespace, old.identity, step, topic_from_ms, clock_ms())


def check_same(record: RolloutRecord, files: Sequence[str], topic_from_ms: int | None) -> None:
    """Raises InputError where a roll-out that was begun is gone on with in another way."""
    if topic_from_ms is not None and topic_from_ms != record.topic_from_ms:
        remedy = "this roll-out was begun with another; leave it out, or --cancel it first"
        raise InputError("--topic-from", topic_from_ms, remedy)
    if record.step == "files" and not files:
        remedy = "this roll-out was begun with event files and stopped among them; name them"
        raise InputError("EVENTS", "", remedy)
