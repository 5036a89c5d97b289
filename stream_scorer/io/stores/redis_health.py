"""What tells whether a Redis server is fit to keep vectors.

A server that evicts keys loses vectors silently, and one without persistence loses them when it
restarts. A namespace that another feature declaration uses holds vectors that can't be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from stream_scorer.io.stores.redis_server import RedisServer


@dataclass(frozen=True, slots=True)
class RedisHealth:
    """What a server says about itself, and what the namespace holds.

    product: its name and version; "" where this user may not run INFO, and then all that INFO says
    is unknown. role: master or slave. cluster: whether it is a node of a cluster.
    eviction_policy: its maxmemory-policy. evicted_keys: since it started. append_only: whether it
    writes an append-only file. snapshots: its `save` setting, None where it may not be read.
    limit_bytes: its maxmemory, 0 for no limit. fingerprint: 16 hexadecimal digits, None for a
    namespace that is not used yet. group: who reads the topic into the namespace, None for nobody
    yet.
    """

    product: str
    role: str
    cluster: bool
    eviction_policy: str
    evicted_keys: int
    append_only: bool
    snapshots: str | None
    used_bytes: int
    limit_bytes: int
    fingerprint: str | None
    group: str | None


def redis_health(client: Any, namespace: str, topic: str) -> RedisHealth:
    """Ask the server that `client` leads to.

    Raises StoreUnavailable where it does not answer, and ConfigError where it does not let this
    user in or refuses it a read.
    """
    server = RedisServer(client)
    try:
        info = server.info("everything")
        cluster = bool(info.get("cluster_enabled"))
        # A node of a cluster answers for some keys only.
        keys = () if cluster else (f"{namespace}:fingerprint", f"{namespace}:group:{topic}")
        fingerprint, group = server.ask(lambda: server.client.mget(keys)) if keys else (None, None)
        return RedisHealth(
            product=_product(info),
            role=str(info.get("role", "master")),
            cluster=cluster,
            eviction_policy=str(info.get("maxmemory_policy", "unknown")),
            evicted_keys=int(info.get("evicted_keys", 0)),
            append_only=bool(info.get("aof_enabled")),
            snapshots=_snapshots(server),
            used_bytes=int(info.get("used_memory", 0)),
            limit_bytes=int(info.get("maxmemory", 0)),
            fingerprint=None if fingerprint is None else fingerprint.decode(),
            group=None if group is None else group.decode(),
        )
    finally:
        server.close()


def _product(info: dict[str, Any]) -> str:
    """Servers that are compatible with Redis give the version that they are compatible with as
    redis_version, and their own under a name of their own."""
    if not info:
        return ""
    name = str(info.get("server_name", "redis"))
    known = ("valkey_version", "dragonfly_version", f"{name}_version", "redis_version")
    own = next((key for key in known if key in info), "")
    return f"{own.removesuffix('_version').capitalize()} {info[own]}" if own else name.capitalize()


def _snapshots(server: RedisServer) -> str | None:
    """The `save` setting; None where the server refuses CONFIG, as managed ones often do."""
    try:
        return str(server.client.config_get("save").get("save"))
    except redis.exceptions.ResponseError:
        return None
