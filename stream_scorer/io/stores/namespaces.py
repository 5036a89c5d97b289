"""Which namespaces lie in one Redis database, and how one of them is deleted.

A namespace's name has no colon, so the part of a key before its first colon says to which namespace
it belongs, and no other namespace can be meant by a prefix of its name. One SCAN of the database
finds them all and counts their customers: SCAN blocks nobody, and may return a key twice while the
server makes its table larger or smaller, so that a count may be a little too high.

A namespace that is deleted first gets another fingerprint, `BEING_DROPPED`, which every release
refuses to read or write. That key goes last, so a deletion that broke off is still listed, nobody
begins to read into what is left, and the same command goes on with it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import redis

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.io.stores.bound_namespace import BEING_DROPPED
from stream_scorer.io.stores.redis_errors import not_an_offset
from stream_scorer.io.stores.redis_server import RedisServer

PAGE_KEYS = 1000
UNLINKED_AT_ONCE = 500  # Redis frees the memory on another thread; the keys go on its only one
SAMPLED_RECORDS = 200
SAMPLED_AT_ONCE = 50
_WORDS = (b"fingerprint", b"identity", b"shares_group_with")
_KINDS = (b"group:", b"topic:", b"watermark:")


@dataclass
class StoredNamespace:
    """What lies under one name. customers: records that SCAN returned. keys: all of its keys.

    fingerprint: 16 hexadecimal digits; "" where it has none, for example after keys were lost.
    shares_group_with: the namespace with which it shares a consumer group while a roll-out lasts.
    groups: by topic, the consumer group that reads it. watermarks: by partition of a topic or of
    event files, the next offset that the namespace needs. bytes_estimate: from the memory of up to
    SAMPLED_RECORDS records; None where this user may not run MEMORY USAGE.
    """

    name: str
    customers: int = 0
    keys: int = 0
    fingerprint: str = ""
    identity: str = ""
    shares_group_with: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    topics: set[str] = field(default_factory=set)
    watermarks: dict[TopicPartition, int] = field(default_factory=dict)
    bytes_estimate: int | None = None

    @property
    def being_dropped(self) -> bool:
        """Whether a deletion of it began and has not ended."""
        return self.fingerprint == BEING_DROPPED


@dataclass
class _Found:
    """Keys of one namespace, while the database is scanned."""

    customers: int = 0
    keys: int = 0
    told: set[bytes] = field(default_factory=set)  # the rest of each key that says something
    sample: list[bytes] = field(default_factory=list)


def stored_namespaces(
    server: RedisServer, advance: Callable[[int], None] = lambda _keys: None
) -> dict[str, StoredNamespace]:
    """All namespaces of the database, by name. advance: told how many keys each page had.

    Keys of other programs are left out. Raises StoreUnavailable and ConfigError.
    """
    found: defaultdict[bytes, _Found] = defaultdict(_Found)
    cursor, more = 0, True
    while more:
        page = partial(server.client.scan, cursor, count=PAGE_KEYS)
        cursor, keys = server.ask(page)
        more = cursor != 0
        for key in keys:
            name, colon, rest = key.partition(b":")
            if not colon:
                continue
            namespace = found[name]
            namespace.keys += 1
            if rest.startswith(b"c:"):
                namespace.customers += 1
                # SCAN goes by hashes, so the first ones are a sample of all.
                if len(namespace.sample) < SAMPLED_RECORDS:
                    namespace.sample.append(key)
            elif rest in _WORDS or rest.startswith(_KINDS):
                namespace.told.add(rest)
        advance(len(keys))
    # Another program may keep "x:c:1", too. What each namespace has from its first claim on:
    ours = {name: keys for name, keys in found.items() if b"fingerprint" in keys.told}
    return {
        name.decode(): _described(server, name.decode(), keys)
        for name, keys in sorted(ours.items())
        if _is_name(name)
    }


def _is_name(name: bytes) -> bool:
    """Whether settings accept it as a namespace's name."""
    return re.fullmatch(rb"[A-Za-z0-9._-]+", name) is not None


def _described(server: RedisServer, name: str, found: _Found) -> StoredNamespace:
    wanted = sorted(rest for rest in found.told if not rest.startswith(b"topic:"))
    prefix = f"{name}:".encode()
    values = server.ask(lambda: server.client.mget([prefix + rest for rest in wanted]))
    texts = {
        rest.decode(errors="replace"): value.decode(errors="replace")
        for rest, value in zip(wanted, values, strict=True)
        if value is not None  # deleted meanwhile
    }
    described = StoredNamespace(
        name, found.customers, found.keys,
        fingerprint=texts.get("fingerprint", ""), identity=texts.get("identity", ""),
        shares_group_with=texts.get("shares_group_with", "").partition(" ")[0],
        topics={
            rest.removeprefix(b"topic:").decode(errors="replace") for rest in found.told
            if rest.startswith(b"topic:")
        },
        bytes_estimate=_bytes(server, found),
    )  # fmt: skip
    for rest, text in texts.items():
        if rest.startswith("group:"):
            described.groups[rest.removeprefix("group:")] = text
        elif rest.startswith("watermark:"):
            topic, _, partition = rest.removeprefix("watermark:").rpartition(":")
            if not text.isdigit():
                raise not_an_offset(f"{name}:{rest}")
            described.watermarks[topic, int(partition)] = int(text)
    described.topics |= described.groups.keys()
    return described


def _bytes(server: RedisServer, found: _Found) -> int | None:
    """All records' memory, from that of a sample."""
    if not found.sample:
        return 0
    measured: list[int] = []
    for first in range(0, len(found.sample), SAMPLED_AT_ONCE):

        def asked(
            keys: list[bytes] = found.sample[first : first + SAMPLED_AT_ONCE],
        ) -> list[object]:
            pipe = server.client.pipeline(transaction=False)
            for key in keys:
                pipe.memory_usage(key)
            return list(pipe.execute(raise_on_error=False))

        answers = server.ask(asked)
        if any(isinstance(answer, redis.exceptions.RedisError) for answer in answers):
            return None  # refused to this user, or not known to this server
        measured += [answer for answer in answers if isinstance(answer, int)]
    return round(sum(measured) / len(measured) * found.customers) if measured else 0


def drop_namespace(
    server: RedisServer, name: str, advance: Callable[[int], None] = lambda _keys: None
) -> int:
    """Delete every key of one namespace, a few hundred at a time; how many there were.

    advance: told how many each batch had. It may be stopped at any moment, and called again.
    Raises StoreUnavailable and ConfigError.
    """
    mark, prefix = f"{name}:fingerprint", f"{name}:".encode()
    server.ask(lambda: server.client.set(mark, BEING_DROPPED))
    dropped, this_pass = 0, 1
    # Again until a whole pass finds nothing: who was reading into it may have written meanwhile.
    while this_pass:
        this_pass, cursor, more = 0, 0, True
        while more:
            page = partial(server.client.scan, cursor, match=f"{name}:*", count=PAGE_KEYS)
            cursor, keys = server.ask(page)
            more = cursor != 0
            # Names have no character that means something in a pattern; what is deleted does not
            # rest on that.
            own = [k for k in keys if k.startswith(prefix) and k != mark.encode()]
            for first in range(0, len(own), UNLINKED_AT_ONCE):
                batch = own[first : first + UNLINKED_AT_ONCE]
                this_pass += server.ask(partial(server.client.unlink, *batch))
            advance(len(own))
        dropped += this_pass
    dropped += int(server.ask(lambda: server.client.unlink(mark)))
    advance(1)
    return dropped


def newest_offsets(watermarks: Mapping[TopicPartition, int], topic: str) -> dict[int, int]:
    """Of one topic, by partition."""
    return {partition: at for (name, partition), at in sorted(watermarks.items()) if name == topic}
