"""`stream-scorer namespaces`: what lies in Redis, and one deleted (rollout/namespaces.py)."""

from __future__ import annotations

from stream_scorer.rollout.namespaces import (
    DroppedNamespace,
    ListedNamespace,
    NamespaceList,
    NamespaceTopic,
    drop,
    list_namespaces,
)
from stream_scorer.settings.tree import Settings


def listing(settings: Settings) -> NamespaceList:
    """Every namespace of the settings' Redis database."""
    return list_namespaces(settings)


def dropped(settings: Settings, name: str, *, agreed: bool, force: bool) -> DroppedNamespace:
    """Delete one namespace. Raises InputError where it is in use or not there."""
    return drop(settings, name, agreed=agreed, force=force)


def listing_in_words(found: NamespaceList) -> list[str]:
    """The namespaces for people."""
    lines = [] if found.namespaces else [f"{found.redis} holds no namespace"]
    for namespace in found.namespaces:
        lines += _in_words(namespace)
    return lines + [f"not known: {text}" for text in found.unknown]


def dropped_in_words(done: DroppedNamespace) -> list[str]:
    """What was deleted, for people."""
    return [f"namespace {done.namespace} is gone: {done.keys:,} keys in {done.seconds:.1f} s"]


def _in_words(namespace: ListedNamespace) -> list[str]:
    size = "" if namespace.bytes is None else f", about {namespace.bytes / 1e6:,.1f} MB"
    here = " (store.namespace)" if namespace.configured else ""
    declared = (
        "its deletion did not end: run `namespaces drop` again"
        if namespace.being_dropped
        else f"fingerprint {namespace.fingerprint}"
    )
    lines = [
        f"{namespace.namespace}{here}: {declared}",
        f"  {namespace.customers:,} customers{size}; identity {namespace.identity or 'none yet'}",
    ]
    if namespace.shares_group_with:
        lines.append(f"  a roll-out between it and {namespace.shares_group_with} has not ended")
    if namespace.files:
        lines.append(f"  event files from {namespace.files} sources were replayed into it")
    for member in namespace.members:
        heard = f"not heard for {member.silent_seconds:.0f} s" if member.gone else member.state
        lines.append(
            f"  member {member.client_id} (process {member.pid} on {member.host}): {heard}, "
            f"model {member.model_version}, {len(member.partitions)} partitions"
        )
    return lines + [line for topic in namespace.topics for line in _topic_in_words(topic)]


def _topic_in_words(topic: NamespaceTopic) -> list[str]:
    group = "read by no group yet" if topic.group is None else f"group {topic.group}"
    if topic.served:
        group += f", whose members ({topic.members}) read for it now"
    elif topic.served is not None:
        group += ", which does not read for it now"
    behind = "" if topic.behind is None else f"; {topic.behind:,} records behind the log"
    shown = ", ".join(f"{p.partition} at {p.watermark}" for p in topic.partitions)
    return [f"  topic {topic.topic}: {group}{behind}", f"    partitions: {shown or 'none'}"]
