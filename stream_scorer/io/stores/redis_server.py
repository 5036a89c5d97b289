"""The connections to one Redis server: errors translated, and a changed server noticed.

What the client does by itself would hide that Redis lost writes, so it does nothing by itself:

- It retries nothing. A call that failed is an error, and whoever made it starts again from what is
  stored.
- redis-py's pool replaces a dead idle connection without an error, whatever its retry setting
  (`ConnectionPool.get_connection`). So each new connection first asks the server for its run id,
  which Redis draws at each start. Where it is another one than before, the call fails with
  `ServerChanged`, and its caller checks what the server holds. Where INFO is refused to this user,
  each connection that replaces one of the pool's counts as one to another server.
- A primary that was demoted, or one that the address no longer leads to, goes on answering on the
  connections that are open. So after every error that is worth waiting for, all connections are
  closed: the next attempt goes where the address leads to by then.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from stream_scorer.errors import StoreUnavailable, StreamScorerError
from stream_scorer.io.stores.redis_errors import Login, translated
from stream_scorer.io.stores.redis_sentinel import asked_of, with_options

Answer = TypeVar("Answer")


class ServerChanged(StoreUnavailable):
    """Redis was restarted, or another server answers at its address: it may hold less."""


class OtherServer(redis.exceptions.ConnectionError):
    """Raised while connecting, where redis-py cleans up after errors of its own only; and by a
    cluster's client."""


class RedisServer:
    """One server and the client for it, which must not be used by anything else.

    client: a redis.Redis, whose options are taken for a client that retries nothing and returns
    bytes. Any other object is used as it is: a client of a cluster, or a model of Redis.
    """

    def __init__(self, client: Any) -> None:
        self._given, self.client = client, client
        self._run: str | None = None  # the run id seen last; None before the first connection
        self._greeted: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._login = Login("redis", "default", False)
        self._by_sentinels, self._of_cluster = False, hasattr(client, "info_of_primaries")
        if self._of_cluster:
            self._login = Login(client.address, client.user, client.has_password)
        if type(client) is redis.Redis:
            pool = client.connection_pool
            options = {
                **pool.connection_kwargs,
                "retry": Retry(NoBackoff(), 0), "retry_on_error": [], "retry_on_timeout": False,
                "health_check_interval": 0, "decode_responses": False,
                "redis_connect_func": self._greet,
            }  # fmt: skip
            if isinstance(pool, SentinelConnectionPool):
                self._by_sentinels = True
                own: redis.ConnectionPool = with_options(pool, options)
            else:
                own = redis.ConnectionPool(
                    connection_class=pool.connection_class, max_connections=pool.max_connections,
                    **options,
                )  # fmt: skip
            self.client = redis.Redis(connection_pool=own)
            self._login = Login(
                _address(pool), options.get("username") or "default",
                bool(options.get("password")),
            )  # fmt: skip

    @property
    def is_cluster(self) -> bool:
        """Whether it is all primaries of a cluster."""
        return self._of_cluster

    @property
    def address(self) -> str:
        """The url without user and password."""
        return self._login.address

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """What `question` returns, with the client's errors translated to this package's.

        Raises ServerChanged, StoreUnavailable, ConfigError where settings or the server's own
        configuration have to be changed, and Halt for anything else that Redis says.
        """
        try:
            answer = question()
        except redis.exceptions.RedisError as error:
            found = self._translated(error)
            if isinstance(found, StoreUnavailable):
                self.drop_connections()
            raise found from error
        if self._of_cluster:
            self._run = ""  # its primaries have their own
        return answer

    def drop_connections(self) -> None:
        """Close all connections; the next call goes to where the address leads to by then."""
        if self._of_cluster:
            self.client.drop_connections()
            return
        pool = getattr(self.client, "connection_pool", None)
        if pool is not None:
            with self._lock:
                self._greeted.clear()
            pool.disconnect()

    def info(self, *sections: str) -> dict[str, Any]:
        """These sections of INFO; {} where this user may not ask. One round trip."""

        if self._of_cluster:
            merged: dict[str, Any] = self.ask(lambda: self.client.info_of_primaries(sections))
            return merged

        def asked() -> list[Any]:
            pipe = self.client.pipeline(transaction=False)
            for section in sections:
                pipe.info(section)
            return list(pipe.execute(raise_on_error=False))

        answers = self.ask(asked)
        for answer in answers:
            if isinstance(answer, redis.exceptions.NoPermissionError):
                return {}
            if isinstance(answer, Exception):
                raise self._translated(answer) from answer
        return {name: value for answer in answers for name, value in answer.items()}

    def close(self) -> None:
        """Close all connections for good."""
        self.drop_connections()
        self._given.close()
        if self._by_sentinels:
            self.client.connection_pool.sentinel_manager.close()

    def _greet(self, connection: Any) -> None:
        """Log in as redis-py does, then compare the server's run id with the one before."""
        connection.on_connect()
        # Sentinels name a primary some moments before it is one, or one that no longer is.
        if self._by_sentinels and "role:slave" in _info_text(connection, "replication"):
            raise redis.exceptions.ConnectionError(
                f"the Sentinels name {connection.host}:{connection.port} as the primary, which is "
                "a replica: failover"
            )
        text = _info_text(connection, "server")
        named = re.search(r"^run_id:(\w+)", text, re.MULTILINE)
        run = named.group(1) if named else ""
        with self._lock:
            before, self._run = self._run, run
            again = connection in self._greeted
            self._greeted.add(connection)
        if again if not run else before not in (None, "", run):
            raise OtherServer(
                f"{self.address} was restarted, or leads to another server now; what it holds is "
                "checked before going on"
            )

    def _translated(self, error: Exception) -> StreamScorerError:
        if isinstance(error, OtherServer):
            return ServerChanged(f"{error}")
        return translated(error, self._login, first=self._run is None)


def _info_text(connection: Any, section: str) -> str:
    """A section of INFO, "" where this user may not ask."""
    connection.send_command("INFO", section)
    try:
        answer = connection.read_response()
    except redis.exceptions.ResponseError:
        return ""
    return answer if isinstance(answer, str) else bytes(answer).decode(errors="replace")


def _address(pool: redis.ConnectionPool) -> str:
    """As a url without user and password."""
    if isinstance(pool, SentinelConnectionPool):
        return asked_of(pool)
    options = pool.connection_kwargs
    if path := options.get("path"):
        return f"unix://{path}?db={options.get('db') or 0}"
    scheme = "rediss" if issubclass(pool.connection_class, redis.SSLConnection) else "redis"
    host = options.get("host", "localhost")
    return f"{scheme}://{host}:{options.get('port', 6379)}/{options.get('db') or 0}"
