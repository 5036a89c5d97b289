"""What tells whether a Redis server is fit to keep vectors.

A server that evicts keys loses vectors silently, and one without persistence loses them when it
restarts. A namespace that another feature declaration uses holds vectors that can't be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from stream_scorer.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class RedisHealth:
    """What a server says about itself, and what the namespace holds.

    eviction_policy: its maxmemory-policy. append_only: whether it writes an append-only file.
    snapshots: its `save` setting, None where it may not be read. limit_bytes: its maxmemory, 0 for
    no limit. fingerprint: 16 hexadecimal digits, None for a namespace that is not used yet.
    group: who reads the topic into the namespace, None for nobody yet.
    """

    version: str
    eviction_policy: str
    append_only: bool
    snapshots: str | None
    used_bytes: int
    limit_bytes: int
    fingerprint: str | None
    group: str | None


def redis_health(url: str, options: Mapping[str, Any], namespace: str, topic: str) -> RedisHealth:
    """Ask the server at `url`.

    Raises StoreUnavailable where it does not answer, and also where it refuses this user.
    """
    client = redis.Redis.from_url(url, **options)
    try:
        info: Any = client.info("everything")
        fingerprint: Any = client.get(f"{namespace}:fingerprint")
        group: Any = client.get(f"{namespace}:group:{topic}")
        return RedisHealth(
            version=str(info["redis_version"]),
            eviction_policy=str(info.get("maxmemory_policy", "unknown")),
            append_only=bool(info.get("aof_enabled")),
            snapshots=_snapshots(client),
            used_bytes=int(info.get("used_memory", 0)),
            limit_bytes=int(info.get("maxmemory", 0)),
            fingerprint=None if fingerprint is None else fingerprint.decode(),
            group=None if group is None else group.decode(),
        )
    except redis.exceptions.RedisError as error:
        raise StoreUnavailable(f"{error}".partition("\n")[0]) from error
    finally:
        client.close()


def _snapshots(client: Any) -> str | None:
    """The `save` setting; None where the server refuses CONFIG, as managed ones often do."""
    try:
        return str(client.config_get("save").get("save"))
    except redis.exceptions.ResponseError:
        return None
