"""Whether Redis deletes vectors by itself when its memory is full.

With any `maxmemory-policy` but noeviction it does, and the watermark stays: a vector that is gone
is begun anew by its customer's next event, and nothing in the store shows it. So what writes
vectors refuses such a server, unless the settings allow it, and watches Redis's own count of
evicted keys. The count is of the whole server, and starts at 0 when the server does.
"""

from __future__ import annotations

import logging
from typing import Any

from stream_scorer.errors import ConfigError, Halt
from stream_scorer.io.stores.redis_errors import NEEDS_ONE_SERVER
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.log_events import event

log = logging.getLogger(__name__)

NO_EVICTION = "noeviction"
SET_NO_EVICTION = "run CONFIG SET maxmemory-policy noeviction, and set it in the server's file"
FIND_THEM = "`stream-scorer verify --sample 0` compares all vectors with the topic"


class EvictionWatch:
    """Looks at one server, at the start and then again and again. allowed: redis.allow_eviction."""

    def __init__(self, server: RedisServer, *, allowed: bool) -> None:
        self._server, self._allowed = server, allowed
        self._counted: int | None = None  # evicted keys when last asked; None: not asked yet

    def refuse(self) -> None:
        """Raises ConfigError where vectors may be evicted and the settings do not allow it, and
        where the server is a node of a cluster. Logs what could not be asked."""
        info = self._info()
        if not info:
            log.warning(
                "this Redis user may not run INFO, so whether Redis evicts vectors can't be seen: "
                "see to it that maxmemory-policy is noeviction, or allow the user INFO"
            )
            return
        if info.get("cluster_enabled"):
            raise ConfigError(
                "redis.url", self._server.address,
                f"this is a node of a Redis Cluster, {NEEDS_ONE_SERVER}",
            )  # fmt: skip
        if info.get("role") == "slave":
            raise ConfigError(
                "redis.url", self._server.address,
                "this is a replica, which takes no writes; name the primary, or an address that "
                "follows it",
            )  # fmt: skip
        policy = info.get("maxmemory_policy", NO_EVICTION)
        if policy != NO_EVICTION:
            found = f"maxmemory-policy of {self._server.address} is {policy}: when its memory is "
            found += "full it deletes vectors, and their events are not read again"
            if not self._allowed:
                remedy = f"{found}; {SET_NO_EVICTION}, or set redis.allow_eviction = true"
                raise ConfigError("redis.allow_eviction", "false", remedy)
            log.warning("%s; redis.allow_eviction allows it", found)
        self._counted = _evicted(info)
        if self._counted:
            log.warning(
                "Redis has evicted %s keys since it started, and vectors may be among them; %s",
                f"{self._counted:,}", FIND_THEM,
            )  # fmt: skip

    def evicted(self) -> int:
        """How many keys Redis evicted since the call before. Raises Halt where it evicts, or has
        evicted, and the settings do not allow it."""
        info = self._info()
        if not info:
            return 0
        now, before = _evicted(info), self._counted or 0
        # A count that went down began again at 0 with the server.
        grown = now - before if now >= before else now
        self._counted = now
        policy = info.get("maxmemory_policy", NO_EVICTION)
        if grown and self._allowed:
            log.warning(
                "Redis evicted %s keys, and vectors may be among them; %s",
                f"{grown:,}", FIND_THEM,
                extra=event("keys_evicted", keys=grown),
            )  # fmt: skip
        elif grown:
            raise Halt(
                f"Redis evicted {grown:,} keys (maxmemory-policy {policy}), and vectors may be "
                f"among them; {SET_NO_EVICTION}; {FIND_THEM}, and `replay --into` builds a new "
                "namespace"
            )
        elif policy != NO_EVICTION and not self._allowed:
            raise Halt(
                f"maxmemory-policy of Redis was changed to {policy}: when its memory is full it "
                f"deletes vectors; {SET_NO_EVICTION}, or set redis.allow_eviction = true"
            )
        return grown

    def _info(self) -> dict[str, Any]:
        return self._server.info("memory", "stats", "cluster", "replication")


def _evicted(info: dict[str, Any]) -> int:
    return int(info.get("evicted_keys", 0))
