"""A client that follows the primary that Redis Sentinels name.

Each new connection asks the Sentinels, one after the other, which server is the primary by now.
RedisServer closes all connections after every error that is worth waiting for, so the attempt after
a failover goes to the new primary, whose run id is another one: it is noticed as a changed server
(redis_server.py), like any other failover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)


def sentinel_client(
    url: str,
    sentinels: Sequence[tuple[str, int]],
    primary_name: str,
    options: Mapping[str, Any],
    sentinel_options: Mapping[str, Any],
) -> redis.Redis:
    """A client of the primary that `sentinels` know by this name, not yet connected.

    url: says user, password, database and whether TLS is spoken; its host is not used. options: of
    connections to the primary; sentinel_options: of those to Sentinels. Raises ValueError for an
    url that the client can't read.
    """
    of_url: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    of_url.pop("connection_class", None)
    given = {k: v for k, v in {**of_url, **options}.items() if k not in ("host", "port")}
    is_tls = url.startswith("rediss:")
    # Nothing is retried here: the next Sentinel is asked, and the caller tries again.
    asking = {**sentinel_options, "retry": Retry(NoBackoff(), 0)}
    asked = Sentinel(sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        primary_name, asked,
        connection_class=SentinelManagedSSLConnection if is_tls else SentinelManagedConnection,
        **given,
    )  # fmt: skip
    return redis.Redis(connection_pool=pool)


def with_options(
    pool: SentinelConnectionPool, options: Mapping[str, Any]
) -> SentinelConnectionPool:
    """A pool of other options that asks the same Sentinels."""
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]
        pool.service_name, pool.sentinel_manager, connection_class=pool.connection_class,
        max_connections=pool.max_connections,
        **{name: value for name, value in options.items() if name != "connection_pool"},
    )  # fmt: skip


def asked_of(pool: SentinelConnectionPool) -> str:
    """The Sentinels' addresses and the primary's name, as messages show them."""
    scheme = "rediss" if issubclass(pool.connection_class, redis.SSLConnection) else "redis"
    asked = pool.sentinel_manager.sentinels
    clients = [client.connection_pool.connection_kwargs for client in asked]
    # In the order of the settings, whichever of them answered last.
    addresses = ",".join(sorted(f"{c['host']}:{c['port']}" for c in clients))
    database = pool.connection_kwargs.get("db") or 0
    return f"{scheme}://{addresses}/{database} ({pool.service_name})"
