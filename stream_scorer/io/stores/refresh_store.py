"""What a refresh reads and writes in Redis, beside customers' records.

Keys, under the namespace NS:
  NS:r:CUSTOMER_ID              28 bytes, what a refresh published last of the customer
                                (core/freshness.py); it lives as long as the record
  NS:refresh:TOPIC:PARTITION    JSON, PartitionFreshness
  NS:refresh:asked              JSON, what `stream-scorer refresh` asked for last
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.features.erasure import erased_ms
from stream_scorer.core.features.state import NEVER, CustomerStates, topic_hash
from stream_scorer.core.freshness import PartitionFreshness
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.stores.redis import RedisStore, kept_longer_ms
from stream_scorer.io.stores.redis_script import Call, Script

# About as long as a script of `save`, for which Redis serves no other client.
PAGE_KEYS = 500


@dataclass(frozen=True)
class Page:
    """Part of the namespace: customers of the partitions asked for; those without an event from the
    topic; how many customers there were in all; and the next cursor, None after the last page."""

    mine: list[str]
    sourceless: list[str]
    customers: int
    cursor: int | None


@dataclass(frozen=True)
class RefreshRequest:
    """A refresh that a person asked for. as_of_ms: the moment to score as of, None: now. everyone:
    publish also scores that hardly move, since which model published last is not known: while a
    roll-out moved members, the other namespace's published as well."""

    name: str
    asked_ms: int
    as_of_ms: int | None
    everyone: bool = False


class RefreshStore:
    """The keys of the module's head, of the namespace of `store`; topic: the input topic.

    Raises what the store raises; no write is needed for what is stored to be right, since a refresh
    that is not noted is only repeated.
    """

    def __init__(self, store: RedisStore, namespace: str, topic: str) -> None:
        self._store, self._namespace, self._topic = store, namespace, topic
        client = store.server.client
        self._newest = Script(client, "newest_partitions.lua")
        self._scanned = ""  # which server the round that is under way looks through
        self._mark = Script(client, "mark_refreshed.lua")
        self._set_all = Script(client, "set_all.lua")
        self._asked_key = f"{namespace}:refresh:asked"

    def page(self, cursor: int, partitions: Sequence[int]) -> Page:
        """The page at `cursor`, 0 for the first. A customer may come twice.

        Raises StoreUnavailable after the last page where customers may have been missed: another
        server answers than for the first page, or slots of a cluster moved.
        """
        if not cursor:
            self._scanned = self._store.server_run()
        ids, following = self._store.customer_page(cursor, PAGE_KEYS)
        if following is None and self._store.server_run() != self._scanned:
            raise StoreUnavailable(
                "Redis was restarted, or slots of its cluster moved, while a refresh went through "
                "all customers: it begins again"
            )
        parts = self._store.by_script(ids)
        arguments = [topic_hash(self._topic), *partitions]
        calls: list[Call] = [
            ([self._store.record_key(ids[at]) for at in part], arguments) for part in parts
        ]
        answers = self._store.ask(lambda: self._newest.run(calls)) if calls else []
        found = list(zip(parts, answers, strict=True))
        return Page(
            [ids[part[at]] for part, (mine, _) in found for at in mine],
            [ids[part[at]] for part, (_, sourceless) in found for at in sourceless],
            len(ids), following,
        )  # fmt: skip

    def load(
        self, customer_ids: list[str]
    ) -> tuple[CustomerStates, list[bytes | None], dict[TopicPartition, int]]:
        """The states of these customers, what is noted of them, and the watermarks of the
        partitions that this process owns, all of one moment.

        Raises StoreRewound where Redis holds less than this process knows it to have held.
        """
        return self._store.load_beside(customer_ids, [self._note_key(i) for i in customer_ids])

    def note(
        self, states: CustomerStates, marks: list[bytes], now_ms: int, ttl_ms: int
    ) -> list[str]:
        """Keep the marks (B,) of these customers, as long as their records are kept; but for those
        who were forgotten on request since `states` were loaded, who are returned."""
        ids = states.customer_ids
        left = ["" if not ttl_ms else max(int(newest) + ttl_ms - now_ms, 0) + kept_longer_ms(ttl_ms)
                for newest in states.arrays.newest_ms.tolist()]  # fmt: skip
        of = [b"" if ms == NEVER else struct.pack("<q", ms) for ms in erased_ms(states).tolist()]
        parts = self._store.by_script(ids)
        calls: list[Call] = [
            (
                [make(ids[at]) for make in (self._store.record_key, self._note_key) for at in part],
                [given[at] for given in (marks, left, of) for at in part],
            )
            for part in parts
        ]
        answers = self._store.ask(lambda: self._mark.run(calls)) if calls else []
        return [ids[part[at]] for part, erased in zip(parts, answers, strict=True) for at in erased]

    def partitions(self, partitions: Sequence[TopicPartition]) -> list[PartitionFreshness]:
        """What is kept of each of these."""
        if not partitions:
            return []
        keys = [self._partition_key(tp) for tp in partitions]
        client = self._store.server.client
        return [PartitionFreshness.of(v) for v in self._store.ask(lambda: client.mget(keys))]

    def keep(self, partitions: Mapping[TopicPartition, PartitionFreshness]) -> None:
        """Keep this of each of these partitions."""
        if partitions:
            keys = [self._partition_key(tp) for tp in partitions]
            values = [found.text() for found in partitions.values()]
            self._store.ask(lambda: self._set_all.run([(keys, values)]))

    def asked(self) -> RefreshRequest | None:
        """The last request."""
        found = self._store.ask(lambda: self._store.server.client.get(self._asked_key))
        try:
            return None if found is None else RefreshRequest(**json.loads(found))
        except (ValueError, TypeError):
            return None

    def ask(self, request: RefreshRequest) -> None:
        """Ask the live members for a refresh; it takes the place of an earlier request."""
        text = json.dumps(asdict(request))
        self._store.ask(lambda: self._store.server.client.set(self._asked_key, text))

    def _note_key(self, customer_id: str) -> str:
        return f"{self._namespace}:r:{customer_id}"

    def _partition_key(self, partition: TopicPartition) -> str:
        return f"{self._namespace}:refresh:{partition[0]}:{partition[1]}"
