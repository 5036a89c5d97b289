"""The members of a namespace, as they say themselves, in Redis.

NS:members is one JSON object: by member's id the moment of its last heartbeat, by Redis's clock,
and what it said. Each member writes its own part every few seconds; one that stops in good order
takes its part out. Whoever has been silent for `ALIVE_SECONDS` counts as gone, and is forgotten
after `KEPT_SECONDS`. At most `MOST_MEMBERS` are kept, those who were heard last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from stream_scorer.io.stores.member_status import MemberStatus
from stream_scorer.io.stores.redis_script import Script
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.result import Result

ALIVE_SECONDS = 30
KEPT_SECONDS = 3600
MOST_MEMBERS = 500
MOST_REASON = 500  # characters

State = Literal["serving", "loading", "refused"]


@dataclass(frozen=True)
class MemberSaid(Result):
    """What a member says of itself.

    member: its id, drawn when it starts. partitions: of the input topic, those that it reads.
    model_version, model_path: what it serves. announcement: the number of the announcement that it
    serves, 0 where it serves the config's model.path. build: this package's version. state:
    "serving", "loading" (it reads a model that was announced, and serves the one before), or
    "refused": it could not serve the announced one, `reason` says why, and it tries again.
    started_ms: since 1970 UTC, by its own clock. status: of its work; None where it says none, as
    members of older releases.
    """

    member: str
    client_id: str
    host: str
    pid: int
    partitions: tuple[int, ...]
    model_version: str
    model_path: str
    announcement: int
    fingerprint: str
    build: str
    state: str
    reason: str
    started_ms: int
    status: MemberStatus | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Member(MemberSaid):
    """silent_seconds: since its last heartbeat. gone: it has been silent for too long, so it ended
    without a word, was suspended, or can't reach Redis."""

    silent_seconds: float
    gone: bool


class Members:
    """The members of one namespace."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.server, self._client, self._key = server, server.client, f"{namespace}:members"
        self._heartbeat = Script(self._client, "member_heartbeat.lua")

    def beat(self, said: MemberSaid) -> None:
        """Write what this member says; one round trip. Raises StoreUnavailable."""
        text = json.dumps(said.as_json(), separators=(",", ":"))
        self._write(said.member, text)

    def leave(self, member: str) -> None:
        """This member has stopped. Raises StoreUnavailable."""
        self._write(member, "")

    def all(self) -> tuple[tuple[Member, ...], int]:
        """Members that are there or were lately, by host and process, and Redis's time in ms."""
        found = self.server.ask(lambda: self._client.get(self._key)) or b"{}"
        seconds, micros = self.server.ask(self._client.time)
        now_ms = seconds * 1000 + micros // 1000
        try:
            raw = json.loads(found)
        except ValueError:
            raw = None  # the next heartbeat writes it anew
        entries = raw.values() if isinstance(raw, dict) else ()
        members = [_member(entry, now_ms) for entry in entries]
        known = [member for member in members if member is not None]
        return tuple(sorted(known, key=lambda m: (m.gone, m.host, m.pid, m.member))), now_ms

    def _write(self, member: str, text: str) -> None:
        call = ([self._key], [member, text, 1000 * KEPT_SECONDS, MOST_MEMBERS])
        self.server.ask(lambda: self._heartbeat.run([call]))


def _member(entry: Mapping[str, Any], now_ms: int) -> Member | None:
    """None for what another release wrote in another form."""
    try:
        said = json.loads(entry["said"])
        values = {f.name: said[f.name] for f in fields(MemberSaid) if f.name != "status"}
        values["status"] = MemberStatus.of(said.get("status"))
        values["partitions"] = tuple(int(p) for p in values["partitions"])
        silent = max(now_ms - int(entry["at"]), 0) / 1000
        return Member(**values, silent_seconds=round(silent, 1), gone=silent > ALIVE_SECONDS)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
