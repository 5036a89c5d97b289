"""To what a namespace in Redis belongs, in keys that are set once.

A namespace belongs to one feature declaration, one consumer group for each topic, and one topic of
each name; it has an identity of its own; and it keeps with which rules it was read, and where the
files that were replayed into it began. Whoever comes with another is refused, or moves it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeVar

from stream_scorer.errors import FRESH_START, FingerprintMismatch, Halt, InputError
from stream_scorer.io.stores.redis_script import Call, Script
from stream_scorer.io.stores.redis_server import RedisServer

Answer = TypeVar("Answer")

BEING_DROPPED = "being-dropped"  # in place of a fingerprint: see namespaces.py


class BoundNamespace:
    """The keys of one namespace that say to what it belongs; RedisStore adds its records."""

    def __init__(self, server: RedisServer, namespace: str, fingerprint: int) -> None:
        self.server, self._client = server, server.client
        self._namespace, self._fingerprint = namespace, fingerprint
        self.rules_key, self._identity_key = f"{namespace}:rules", f"{namespace}:identity"
        self._shares_key = f"{namespace}:shares_group_with"
        self.identity = ""  # once this process keeps it: see `keep_identity`
        self._set_once_script = Script(self._client, "set_once.lua")

    def claim(self, rules: str = "") -> str:
        """Bind the namespace to this feature declaration, and to `rules`, where it is new.

        Returns the rules that it is bound to, "" where none were given. Raises FingerprintMismatch
        where it belongs to another declaration.
        """
        declared = f"{self._fingerprint:016x}"
        wanted = {f"{self._namespace}:fingerprint": declared}
        if rules:
            wanted[self.rules_key] = rules
        if self.identity:
            wanted[self._identity_key] = self.identity
        stored = dict(zip(wanted, self._set_all_once(wanted), strict=True))
        found = stored[f"{self._namespace}:fingerprint"]
        if found == BEING_DROPPED:
            raise FingerprintMismatch(
                "store.namespace", self._namespace,
                "is being deleted by `namespaces drop`; run that to its end, or set "
                "store.namespace to a new name",
            )  # fmt: skip
        if found != declared:
            raise FingerprintMismatch(
                "store.namespace", self._namespace,
                f"holds vectors of feature declaration {found}, the config declares {declared}; "
                "set store.namespace to a new name and replay the events into it",
            )  # fmt: skip
        if stored.get(self._identity_key, self.identity) != self.identity:
            # Redis was set back to before it was drawn, or another process has drawn one meanwhile.
            self._ask(lambda: self._client.set(self._identity_key, self.identity))
        return stored.get(self.rules_key, "")

    def stored_identity(self) -> str:
        """The namespace's identity, "" where it has none or lost it."""
        found = self._ask(lambda: self._client.get(self._identity_key)) or b""
        return str(found.decode(errors="replace"))

    def keep_identity(self) -> None:
        """Draw the namespace's identity, where it has none; from now on `claim` puts it back."""
        self.identity = self._set_once(self._identity_key, uuid.uuid4().hex[:16])

    def rules(self) -> str:
        """The rules that the namespace is bound to, "" for none."""
        found = self._ask(lambda: self._client.get(self.rules_key)) or b""
        return str(found.decode(errors="replace"))

    def change_rules(self, rules: str) -> None:
        """From now on the namespace is bound to these."""
        self._ask(lambda: self._client.set(self.rules_key, rules))

    def group_of(self, topic: str, group: str) -> str:
        """The consumer group that reads `topic` into the namespace: `group`, where it is new."""
        return self._set_once(self._group_key(topic), group)

    def give_to(self, topic: str, group: str) -> None:
        """From now on `group` reads `topic` into the namespace."""
        self._ask(lambda: self._client.set(self._group_key(topic), group))

    def share_group_with(self, namespace: str, identity: str) -> None:
        """From now on members of that namespace may be in this one's consumer group: a roll-out."""
        self._ask(lambda: self._client.set(self._shares_key, f"{namespace} {identity}"))

    def end_sharing(self) -> None:
        """From now on no other namespace's members may be in this one's consumer group."""
        self._ask(lambda: self._client.delete(self._shares_key))

    def shares_group_with(self) -> tuple[str, str]:
        """The namespace whose members may be in the same group, and its identity; "" for none."""
        found = self._ask(lambda: self._client.get(self._shares_key)) or b""
        namespace, _, identity = found.decode(errors="replace").partition(" ")
        return str(namespace), str(identity)

    def recognise(self, topic: str, identity: str) -> None:
        """Bind the namespace to the topic with Kafka's id `identity`, where it is new.

        Raises Halt where it belongs to an earlier topic of this name.
        """
        found = self._set_once(f"{self._namespace}:topic:{topic}", identity)
        if found != identity:
            raise Halt(
                f"{topic}: the topic was deleted and created again, so that its offsets started "
                f"over and the store can't tell which events it has; {FRESH_START}"
            )

    def remember_file_start(self, file: str, position: int) -> None:
        """Remember at which position of its directory a file's events begin, where it is new.

        Raises InputError where they began at another one: the positions in the stored records would
        then be those of other events.
        """
        found = self._set_once(f"{self._namespace}:file:{file}", str(position))
        if found != str(position):
            raise InputError(
                "events", file,
                f"its events came at position {found} of their directory when this namespace was "
                f"built, now at {position}: a file before it was added, removed or changed; give "
                "new files later names, or replay all into a new namespace",
            )  # fmt: skip

    def _set_once(self, key: str, value: str) -> str:
        (stored,) = self._set_all_once({key: value})
        return stored

    def _set_all_once(self, values: dict[str, str]) -> list[str]:
        """Of each key the value that is stored, this one where it is new; one round trip."""
        calls: list[Call] = [([key], [value]) for key, value in values.items()]
        stored = self._ask(lambda: self._set_once_script.run(calls))
        return [str(value.decode(errors="replace")) for value in stored]

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        return self.server.ask(question)

    def _group_key(self, topic: str) -> str:
        return f"{self._namespace}:group:{topic}"
