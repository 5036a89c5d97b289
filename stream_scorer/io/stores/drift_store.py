"""What members sampled of what they scored, in Redis, by hour.

NS:drift:HOUR is text, a line for each member: its name, a blank, and what it noted in that hour
since 1970 UTC (core/drift/hour.py). A member writes its own line alone, the same one again and
again while the hour lasts, so a write that is repeated changes nothing. A key has at most
`MOST_LINES`, and expires `kept_ms` after the last write. Names of keys follow from the hours, so
nobody has to look for them.
"""

from __future__ import annotations

from functools import partial

from stream_scorer.io.stores.redis_script import Script
from stream_scorer.io.stores.redis_server import RedisServer

# A member that restarts in the hour has another line.
MOST_LINES = 200
HOURS_AT_ONCE = 24


class DriftStore:
    """The samples of one namespace. `server` must not be that of the namespace's customers."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self._server, self._client, self._namespace = server, server.client, namespace
        self._put = Script(self._client, "put_line.lua")

    def put(self, hour: int, name: str, text: str, kept_ms: int) -> bool:
        """Write a member's line of this hour; False where there are too many of others.

        name, text: ASCII without a blank or line break. Raises StoreUnavailable.
        """
        call = ([self._key(hour)], [name, text, kept_ms, MOST_LINES])
        (written,) = self._server.ask(lambda: self._put.run([call]))
        return bool(written)

    def hours(self, first: int, last: int) -> list[tuple[str, bytes]]:
        """The name and text of each line of the hours from first to last, both among them. Raises
        StoreUnavailable."""
        found: list[tuple[str, bytes]] = []
        for start in range(first, last + 1, HOURS_AT_ONCE):
            keys = [self._key(hour) for hour in range(start, min(start + HOURS_AT_ONCE, last + 1))]
            for value in self._server.ask(partial(self._client.mget, keys)):
                for line in (value or b"").splitlines():
                    name, _, text = line.partition(b" ")
                    found.append((name.decode(errors="replace"), text))
        return found

    def _key(self, hour: int) -> str:
        return f"{self._namespace}:drift:{hour}"
