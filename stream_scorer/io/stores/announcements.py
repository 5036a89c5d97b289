"""The model that all members of a namespace serve, announced in Redis.

NS:model holds the announcement, JSON: a number that rises with each, where the artefact is, its
version, the SHA-256 of its manifest (which holds those of its other files), the moment by Redis's
clock, and the model before, for a rollback. It is changed only where it is still what was read, so
of two who announce at once one is refused. Of two announcements the one of the later moment counts:
a Redis that was emptied, or set back to a backup, has lost the newest, and members write theirs
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stream_scorer.errors import InputError
from stream_scorer.io.stores.redis_script import Script
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.result import Result


@dataclass(frozen=True)
class ModelIdentity(Result):
    """Which artefact is meant: an absolute path, the same on every machine, its model_version, and
    the SHA-256 of its manifest.
    """

    path: str
    model_version: str
    manifest_sha256: str


@dataclass(frozen=True)
class Announcement(Result):
    """The model that all members serve. number: 1 for the first of a namespace. announced_ms: since
    1970 UTC. previous: what `models rollback` announces.
    """

    number: int
    model: ModelIdentity
    previous: ModelIdentity | None
    announced_ms: int


class Announcements:
    """The announcement of one namespace. `server` must not be that of the namespace's records: its
    errors say that Redis lost writes, and whoever saves records must see each of them."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.server, self._client, self._key = server, server.client, f"{namespace}:model"
        self._compare_and_set = Script(self._client, "compare_and_set.lua")

    def current(self) -> Announcement | None:
        """What is announced; None for nothing. One round trip.

        Raises StoreUnavailable, and InputError where another program wrote there.
        """
        text = self._text()
        return self._parsed(text) if text else None

    def announce(self, model: ModelIdentity, before: ModelIdentity | None) -> Announcement:
        """Announce `model`. before: what members served until now, where nothing was announced.

        Raises InputError where another announced meanwhile, and as `current`.
        """
        text = self._text()
        old = self._parsed(text) if text else None
        seconds, micros = self.server.ask(self._client.time)
        # Later than the one before, also where Redis's clock was set back.
        now_ms = max(seconds * 1000 + micros // 1000, old.announced_ms + 1 if old else 0)
        new = Announcement(
            old.number + 1 if old else 1, model, old.model if old else before, now_ms
        )
        if not self._replace(text, new):
            remedy = "another command announced a model at the same moment; look at `models status`"
            raise InputError("models", model.path, remedy)
        return new

    def write_again(self, known: Announcement) -> Announcement:
        """Announce `known` again, where Redis has none or one of before; what counts then."""
        text = self._text()
        stored = self._parsed(text) if text else None
        if stored and stored.announced_ms >= known.announced_ms:
            return stored
        # Where another was faster, the next look shows what it wrote.
        self._replace(text, known)
        return known

    def _text(self) -> str:
        found = self.server.ask(lambda: self._client.get(self._key)) or b""
        return str(found.decode(errors="replace"))

    def _replace(self, text: str, new: Announcement) -> bool:
        written = json.dumps(new.as_json(), separators=(",", ":"))
        call = ([self._key], [text, written])
        (answer,) = self.server.ask(lambda: self._compare_and_set.run([call]))
        return bool(answer)

    def _parsed(self, text: str) -> Announcement:
        try:
            raw = json.loads(text)
            model, previous = _identity(raw["model"]), raw["previous"]
            return Announcement(
                _whole(raw["number"]), model, None if previous is None else _identity(previous),
                _whole(raw["announced_ms"]),
            )  # fmt: skip
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InputError(
                "stored announcement", self._key,
                "its value is not what this program writes, so another has written it; delete this "
                "key and announce the model again (`models activate DIR -c FILE`)",
            ) from None  # fmt: skip


def _identity(raw: Mapping[str, Any]) -> ModelIdentity:
    values = [raw[name] for name in ("path", "model_version", "manifest_sha256")]
    if not all(isinstance(value, str) and value for value in values):
        raise ValueError
    return ModelIdentity(*values)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError
    return value
