"""What members sampled of what they scored, in Redis, by hour.

NS:drift:HOUR is text, a line for each member: its name, a blank, and what it noted in that hour
since 1970 UTC (core/drift/hour.py). A member writes its own line alone, the same one again and
again while the hour lasts, so a write that is repeated changes nothing. A key has at most
`MOST_LINES`, and expires `kept_ms` after the last write. Names of keys follow from the hours, so
nobody has to look for them.

A member leaves out of a line whom `customer forget` erased (NS:erased, io/stores/erasures.py), and
says with the line how much of that list it knew. A line that lacks the newest of it is refused. So
whoever first lists a customer and then looks through the lines has found all of hers.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import partial

from stream_scorer.io.stores.erasures import length_key
from stream_scorer.io.stores.redis_script import Call, Script
from stream_scorer.io.stores.redis_server import RedisServer

# A member that restarts in the hour has another line.
MOST_LINES = 200
HOURS_AT_ONCE = 24


class Put(Enum):
    """What became of a line: it is written, too many others are there, or customers were erased
    whom its writer did not know of."""

    WRITTEN = 1
    TOO_MANY = 0
    ERASED_MEANWHILE = -1


class DriftStore:
    """The samples of one namespace. `server` must not be that of the namespace's customers."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self._server, self._client, self._namespace = server, server.client, namespace
        self._put = Script(self._client, "put_line.lua")
        self._replace = Script(self._client, "replace_line.lua")

    def put(self, hour: int, name: str, text: str, kept_ms: int, erased_bytes: int = 0) -> Put:
        """Write a member's line of this hour.

        name, text: ASCII without a blank or line break. erased_bytes: the length of the list of
        erased customers without whom the text is (`Erasures.list_bytes`). Raises StoreUnavailable.
        """
        keys = [self._key(hour), length_key(self._namespace)]
        call: Call = (keys, [name, text, kept_ms, MOST_LINES, erased_bytes])
        (done,) = self._server.ask(lambda: self._put.run([call]))
        return Put(done)

    def replace(self, hour: int, name: str, old: str, new: str) -> bool:
        """Write `new` in place of `old` in a line that is still as it was read; whether it was.

        Raises StoreUnavailable.
        """
        call: Call = ([self._key(hour)], [name, old, new])
        (done,) = self._server.ask(lambda: self._replace.run([call]))
        return bool(done)

    def hours(self, first: int, last: int) -> list[tuple[str, bytes]]:
        """The name and text of each line of the hours from first to last, both among them. Raises
        StoreUnavailable."""
        return [(name, text) for _, name, text in self.lines(first, last)]

    def lines(self, first: int, last: int) -> Iterator[tuple[int, str, bytes]]:
        """The hour, name and text of each line of these hours, as `hours`."""
        for start in range(first, last + 1, HOURS_AT_ONCE):
            hours = range(start, min(start + HOURS_AT_ONCE, last + 1))
            keys = [self._key(hour) for hour in hours]
            values = self._server.ask(partial(self._client.mget, keys))
            for hour, value in zip(hours, values, strict=True):
                for line in (value or b"").splitlines():
                    name, _, text = line.partition(b" ")
                    yield hour, name.decode(errors="replace"), text

    def _key(self, hour: int) -> str:
        return f"{self._namespace}:drift:{hour}"
