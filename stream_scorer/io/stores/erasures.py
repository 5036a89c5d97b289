"""Customers who were erased on request: their records in Redis, and the list of them.

Keys, under the namespace NS:
  NS:erased                     a line [boundary in ms since 1970 UTC, customer id] in JSON for each
                                erasure, in their order; of one customer the highest counts
  NS:erased:bytes               decimal, the length of that list

What an erasure does to a record: core/features/erasure.py. The record alone keeps the customer out
of this namespace, and it is found by the load that is made anyway. The list is for what has no
record of the namespace: replays, training, another namespace, and a Redis that went back to a
moment before the erasure. Both are written in one step (scripts/erase_customers.lua), so a Redis
that went back has lost both or none. A member knows the list, and erases again whom it lacks
(live/kept_erasures.py); with no member running, the request has to be made again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from stream_scorer.core.features.state import ERASED_PARTITION, NEVER
from stream_scorer.errors import InputError
from stream_scorer.io.stores.redis_script import Call, Script
from stream_scorer.io.stores.redis_server import RedisServer

# One call of the script rewrites the list, so fewer calls are better; a thousand records take Redis
# some milliseconds.
CUSTOMERS_PER_SCRIPT = 1000
_HEAD = struct.Struct("<IIIII8sq")
_SOURCE = struct.Struct("<Iiq")


@dataclass(frozen=True)
class ErasedRecord:
    """What an erasure did. boundary_ms: events at or before it are left out from now on. bytes: of
    the record that was deleted, 0 where there was none. values: how many sums, stamps and event ids
    it had. newest_ms: of its newest event, None where it had none. sources: of the record, by hash
    of the topic and partition, the offset of the last event that had gone in. before_ms: the
    boundary of an earlier erasure, None where there was none.
    """

    boundary_ms: int
    bytes: int
    values: int
    newest_ms: int | None
    sources: Mapping[tuple[int, int], int]
    before_ms: int | None


def joined(records: Sequence[ErasedRecord]) -> ErasedRecord:
    """Of one customer's records in several namespaces one: the latest boundary, all sources with
    their highest offsets, and the sums of what was deleted."""
    sources: dict[tuple[int, int], int] = {}
    for record in records:
        for source, offset in record.sources.items():
            sources[source] = max(offset, sources.get(source, offset))
    return ErasedRecord(
        max(r.boundary_ms for r in records), sum(r.bytes for r in records),
        sum(r.values for r in records),
        max((r.newest_ms for r in records if r.newest_ms is not None), default=None), sources,
        max((r.before_ms for r in records if r.before_ms is not None), default=None),
    )  # fmt: skip


class Erasures:
    """Of one namespace; fingerprint: of its declaration. `server` must not be that of a member's
    records: its errors say that Redis lost writes, and whoever saves records must see each of them.

    Raises StoreUnavailable, FingerprintMismatch, and InputError where something else is stored.
    """

    def __init__(self, server: RedisServer, namespace: str, fingerprint: int) -> None:
        self.server, self._client, self._namespace = server, server.client, namespace
        self._fingerprint = struct.pack("<Q", fingerprint)
        self._list_key, self._length_key = f"{namespace}:erased", length_key(namespace)
        self._erase = Script(self._client, "erase_customers.lua")

    def erase(self, boundaries_ms: Mapping[str, int]) -> dict[str, ErasedRecord]:
        """Erase these customers, each at its boundary or later, and list them."""
        ids, done = list(boundaries_ms), dict[str, ErasedRecord]()
        for first in range(0, len(ids), CUSTOMERS_PER_SCRIPT):
            some = ids[first : first + CUSTOMERS_PER_SCRIPT]
            keys = [self._list_key, self._length_key]
            keys += [f"{self._namespace}:c:{i}" for i in some]
            keys += [f"{self._namespace}:r:{i}" for i in some]
            arguments: list[object] = [self._fingerprint, *(boundaries_ms[i] for i in some)]
            call: Call = (keys, [*arguments, *map(json.dumps, some)])
            (answers,) = self.server.ask(partial(self._erase.run, [call]))
            done |= {i: _erased(*answer) for i, answer in zip(some, answers, strict=True)}
        return done

    def add(self, boundaries_ms: Mapping[str, int]) -> int:
        """Erase those of these customers whose listed boundary here is an earlier one, or none; how
        many these were. For a namespace that takes over what another one knows."""
        listed = self.listed()
        new = {i: ms for i, ms in boundaries_ms.items() if listed.get(i, NEVER) < ms}
        self.erase(new)
        return len(new)

    def listed(self) -> dict[str, int]:
        """The boundary of each customer who was erased."""
        return self.parsed(self.text())

    def text(self, first: int = 0) -> bytes:
        """The list from this byte on."""
        if not first:
            return self.server.ask(lambda: self._client.get(self._list_key)) or b""
        return self.server.ask(lambda: self._client.getrange(self._list_key, first, -1)) or b""

    def parsed(self, text: bytes) -> dict[str, int]:
        """What these lines of the list say. Raises InputError where they are none."""
        found: dict[str, int] = {}
        try:
            # Lines are only between entries, and to parse all at once takes a tenth of the time.
            for boundary_ms, customer_id in json.loads(b"[%b]" % text.strip().replace(b"\n", b",")):
                if type(boundary_ms) is not int or type(customer_id) is not str:
                    raise ValueError
                found[customer_id] = max(boundary_ms, found.get(customer_id, NEVER))
        except (ValueError, TypeError, RecursionError):
            remedy = (
                "is not what this program writes, so another has written it; delete this key and "
                "that with :bytes, and forget these customers again by the receipts"
            )
            raise InputError("stored erasures", self._list_key, remedy) from None
        return found

    def list_bytes(self) -> int:
        """The length of the list, which tells whether it is as it was: lines are only added."""
        found = self.server.ask(lambda: self._client.get(self._length_key)) or b"0"
        return int(found) if found.isdigit() else -1


def length_key(namespace: str) -> str:
    """The key of the length of a namespace's list."""
    return f"{namespace}:erased:bytes"


def _erased(boundary: bytes, length: int, head: bytes) -> ErasedRecord:
    if not head:
        return ErasedRecord(int(boundary), 0, 0, None, {}, None)
    _, sources, sums, stamps, ids, _, newest_ms = _HEAD.unpack_from(head)
    found = dict[tuple[int, int], int]()
    before_ms = None
    for topic, partition, offset in _SOURCE.iter_unpack(head[36 : 36 + 16 * sources]):
        if partition == ERASED_PARTITION:
            before_ms = offset
        else:
            found[topic, partition] = offset
    newest = None if newest_ms == NEVER else newest_ms
    return ErasedRecord(int(boundary), length, sums + stamps + ids, newest, found, before_ms)
