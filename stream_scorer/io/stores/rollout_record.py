"""How far the roll-out of a namespace is, kept in Redis under the new namespace.

NS:rollout holds JSON, so that the work can be stopped at any step and gone on with from any
machine. Each step may be done again, so that a record that Redis has lost costs only time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from stream_scorer.errors import InputError
from stream_scorer.io.stores.redis_server import RedisServer

# In their order. "files" and "topic" build the namespace; "model" and "switch" wait for people,
# "refresh" for the members.
STEPS = ("files", "topic", "model", "switch", "refresh", "done", "dropped")
ENDED = ("done", "dropped")


@dataclass(frozen=True)
class RolloutRecord:
    """replaces: the namespace that the consumer group read for before, and its identity. step: the
    one of `STEPS` that is next. topic_from_ms: records of the topic before it come from event
    files; None: all come from the topic. began_ms: since 1970 UTC; 0 where an earlier release
    began it."""

    replaces: str
    replaces_identity: str
    step: str
    topic_from_ms: int | None = None
    began_ms: int = 0


def read_record(server: RedisServer, namespace: str) -> RolloutRecord | None:
    """None where no roll-out of the namespace was begun. Raises InputError and StoreUnavailable."""
    key = f"{namespace}:rollout"
    text = server.ask(lambda: server.client.get(key))
    if text is None:
        return None
    try:
        found: dict[str, Any] = json.loads(text)
        known = RolloutRecord.__annotations__.keys() & found.keys()
        record = RolloutRecord(**{name: found[name] for name in known})
    except (ValueError, TypeError, AttributeError):
        record = RolloutRecord("", "", "")
    if record.step not in STEPS:
        raise InputError(
            "stored roll-out", key,
            "its value is not what this release writes; go on with the release that began the "
            "roll-out, or delete this key and begin again",
        )  # fmt: skip
    return record


def write_record(server: RedisServer, namespace: str, record: RolloutRecord) -> None:
    """Keep it. Raises StoreUnavailable."""
    text = json.dumps(asdict(record), separators=(",", ":"))
    server.ask(lambda: server.client.set(f"{namespace}:rollout", text))


def forget_record(server: RedisServer, namespace: str) -> None:
    """The roll-out was called off. Raises StoreUnavailable."""
    server.ask(lambda: server.client.delete(f"{namespace}:rollout"))
