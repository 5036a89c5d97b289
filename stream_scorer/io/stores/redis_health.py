"""Whether a Redis is fit to keep vectors: eviction, persistence, the namespace's owner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from stream_scorer.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class RedisHealth:
    """eviction_policy: Redis's maxmemory-policy. snapshots: its `save` setting, None if not known.

    fingerprint: 16 hexadecimal digits, None for a namespace not yet used.
    """

    version: str
    eviction_policy: str
    append_only: bool
    snapshots: str | None
    used_bytes: int
    limit_bytes: int
    fingerprint: str | None


def redis_health(url: str, options: Mapping[str, Any], namespace: str) -> RedisHealth:
    """Ask the server. Raises StoreUnavailable, also where the user is refused."""
    client = redis.Redis.from_url(url, **options)
    try:
        info: Any = client.info("everything")
        fingerprint: Any = client.get(f"{namespace}:fingerprint")
        return RedisHealth(
            version=str(info["redis_version"]),
            eviction_policy=str(info.get("maxmemory_policy", "unknown")),
            append_only=bool(info.get("aof_enabled")),
            snapshots=_snapshots(client),
            used_bytes=int(info.get("used_memory", 0)),
            limit_bytes=int(info.get("maxmemory", 0)),
            fingerprint=None if fingerprint is None else fingerprint.decode(),
        )
    except redis.exceptions.RedisError as error:
        raise StoreUnavailable(f"{error}".partition("\n")[0]) from error
    finally:
        client.close()


def _snapshots(client: Any) -> str | None:
    """Managed servers often refuse CONFIG."""
    try:
        return str(client.config_get("save").get("save"))
    except redis.exceptions.ResponseError:
        return None
