"""Customers' records on a Redis Cluster: 64 parts of a namespace, each kept as on one server.

Each part is a RedisStore of the keys of one tag (cluster_keys.py), with watermarks and a mark of
its own. Its calls are made together with those of the other parts, each part's on its primary. Any
part may lose writes by itself, and says so (watermarks.py):

- A partition's watermark is the least of its parts'. Parts have different ones after a crash
  between their moves; what is read again is skipped by the offsets in records.
- A part that has no watermark, where others have one, is lost, and not new: it is read from 0. Only
  where no part has moved its watermark since the partition was begun, `begin` was interrupted: the
  part begins where the others did.
- Where a part is below what this owner had written, StoreRewound says from where to read again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stream_scorer.core.events.batch import Int64, TopicPartition
from stream_scorer.core.features.state import CustomerStates, take
from stream_scorer.core.features.state_codec import unpack
from stream_scorer.errors import (
    FingerprintMismatch,
    StoreRewound,
    StoreUnavailable,
    StreamScorerError,
)
from stream_scorer.io.stores.cluster_keys import TAGS, tag_name, tag_of
from stream_scorer.io.stores.redis import RedisStore, glob_escape, stored_sources
from stream_scorer.io.stores.redis_script import Call
from stream_scorer.io.stores.store import Epochs
from stream_scorer.io.stores.watermarks import Watermarks


class ShardedStore(RedisStore):
    """As RedisStore, for a client of a cluster."""

    def __init__(
        self,
        client: Any,
        namespace: str,
        fingerprint: int,
        time_to_live_seconds: int | None = None,
        hot_bytes: int = 0,
    ) -> None:
        super().__init__(client, namespace, fingerprint, time_to_live_seconds, hot_bytes)
        self._parts = [
            RedisStore(
                self.server, f"{namespace}:{tag_name(tag)}", fingerprint, time_to_live_seconds
            )
            for tag in range(TAGS)
        ]
        self._of_parts = [part._watermarks for part in self._parts]

    def claim(self, rules: str = "") -> str:
        """As RedisStore.claim, of each part."""
        found = super().claim(rules)
        declared = f"{self._fingerprint:016x}"
        keys = [f"{self._namespace}:{tag_name(tag)}:fingerprint" for tag in range(TAGS)]
        stored = self._set_all_once(dict.fromkeys(keys, declared))
        other = next((text for text in stored if text != declared), "")
        if other:
            raise FingerprintMismatch(
                "store.namespace", self._namespace,
                f"parts of it hold vectors of feature declaration {other}, the config declares "
                f"{declared}; set store.namespace to a new name",
            )  # fmt: skip
        return found

    def load_beside(
        self, customer_ids: list[str], keys: list[str]
    ) -> tuple[CustomerStates, list[bytes | None], dict[TopicPartition, int]]:
        """As RedisStore.load_beside: what is of one part is of one moment. A partition's watermark
        is the least of the parts that have some of these customers."""
        tags = sorted({tag_of(i) for i in customer_ids})
        marked = [
            (of_part, tp, of_part.key(tp))
            for of_part in (self._of_parts[tag] for tag in tags) for tp in sorted(of_part.owned)
        ]  # fmt: skip
        n, m = len(customer_ids), len(keys)
        asked = [*map(self.record_key, customer_ids), *keys, *(key for _, _, key in marked)]
        values = self._ask(lambda: self._client.mget(asked))
        stored: dict[TopicPartition, int] = {}
        for (of_part, tp, _), text in zip(marked, values[n + m :], strict=True):
            offset = int(text) if text and text.isdigit() else -1
            if offset < of_part.least(tp):
                self._check(b"REWOUND")
            stored[tp] = min(offset, stored.get(tp, offset))
        states = unpack(customer_ids, values[:n], self._fingerprint)
        return states, values[n : n + m], stored

    def save(
        self, states: CustomerStates, rows: Int64, made_from: CustomerStates | None = None
    ) -> Int64:
        """As RedisStore.save: the calls of all parts at once, those of one part in order."""
        chosen = take(states, rows)
        ids = chosen.customer_ids
        # Of all customers at once: 64 small calls of numpy and of a kernel take longer than Redis.
        records = self._packed(chosen)
        sources = stored_sources(chosen if made_from is None else take(made_from, rows))
        calls: list[Call] = []
        saving: list[tuple[RedisStore, list[int], int]] = []
        for positions in self.by_script(ids):
            part = self._parts[tag_of(ids[positions[0]])]
            made = part.save_calls(
                [ids[at] for at in positions],
                [records[at] for at in positions],
                [sources[at] for at in positions],
                loaded=made_from is not None,
            )
            calls += made
            saving.append((part, positions, len(made)))
        try:
            answers = self._ask(lambda: self._save.run(calls)) if calls else []
            for answer in answers:
                self._check(answer)
        except StreamScorerError:
            # All of the batch is saved again, also the parts whose calls were made.
            for part in self._parts:
                part.forget_mark()
            raise
        refused: list[int] = []
        at = 0
        for part, positions, count in saving:
            refused += [positions[i] for i in part.note_saved(answers[at : at + count])]
            at += count
        self.hot.put(ids, records)
        self.hot.drop(ids[position] for position in refused)
        return rows[np.array(refused, np.int64)]

    def watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Of each partition that any part knows, or is known to have known, the least."""
        stored = self._ask(lambda: self._stored(partitions, Watermarks.key))
        found: dict[TopicPartition, int] = {}
        missing: set[TopicPartition] = set()
        for of_part, offsets in zip(self._of_parts, stored, strict=True):
            for tp, offset in of_part.noted(partitions, offsets).items():
                found[tp] = min(offset, found.get(tp, offset))
            missing |= {tp for tp in partitions if tp not in offsets}
        missing &= found.keys()
        if not missing:
            return found
        starts = self._ask(lambda: self._stored(sorted(missing), Watermarks.start_key))
        for tp in missing:
            known = [
                (offsets[tp], first.get(tp)) for offsets, first in zip(stored, starts, strict=True)
                if tp in offsets
            ]  # fmt: skip
            is_begun = bool(known) and all(offset == first for offset, first in known)
            had_more = any(
                tp in of_part.seen
                for of_part, offsets in zip(self._of_parts, stored, strict=True)
                if tp not in offsets
            )
            found[tp] = min(offset for offset, _ in known) if is_begun and not had_more else 0
        return found

    def watermark_epochs(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Of the part whose watermark is the least."""
        found: dict[TopicPartition, tuple[int, int]] = {}
        keys = [of_part.epoch_key(tp) for of_part in self._of_parts for tp in partitions]
        values = self._ask(lambda: self._client.mget(keys))
        for at, of_part in enumerate(self._of_parts):
            some = values[at * len(partitions) : (at + 1) * len(partitions)]
            for tp, epoch in of_part.read_epochs(partitions, some).items():
                found[tp] = min(epoch, found.get(tp, epoch))
        return found

    def begin(self, offsets: dict[TopicPartition, int]) -> None:
        """As RedisStore.begin, of each part. Where one holds less, the partitions are not begun."""
        if not offsets:
            return
        calls = [part.begin_call(offsets) for part in self._parts]
        answers = self._ask(lambda: self._begin.run(calls))
        before = [set(of_part.owned) for of_part in self._of_parts]
        lost: list[StoreRewound] = []
        for part, answer in zip(self._parts, answers, strict=True):
            try:
                part.note_begun(offsets, answer)
            except StoreRewound as error:
                lost.append(error)
        if lost:
            for of_part, owned in zip(self._of_parts, before, strict=True):
                of_part.owned = owned
            self.hot.drop()
            raise _rewound(lost)

    def starts(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The least of the parts'."""
        found: dict[TopicPartition, int] = {}
        for offsets in self._ask(lambda: self._stored(partitions, Watermarks.start_key)):
            for tp, offset in offsets.items():
                found[tp] = min(offset, found.get(tp, offset))
        return found

    def release(self, partitions: list[TopicPartition]) -> None:
        """This owner no longer reads these partitions."""
        for part in self._parts:
            part.release(partitions)
        self.hot.drop()

    def advance(
        self, next_offsets: dict[TopicPartition, int], epochs: Epochs | None = None
    ) -> None:
        """As RedisStore.advance, of each part."""
        if not next_offsets:
            return
        calls = [part.advance_call(next_offsets, epochs) for part in self._parts]
        answers = self._ask(lambda: self._advance.run(calls))
        for part, answer in zip(self._parts, answers, strict=True):
            if answer == b"OK":
                part.note_advanced(next_offsets)
        for answer in answers:
            self._check(answer)

    def customer_pages(
        self, cursor: int, batch_customers: int = 1000
    ) -> Iterator[tuple[list[str], int | None]]:
        """As RedisStore.customer_pages. Raises StoreUnavailable where slots moved meanwhile, after
        the last page: a key that is moved to a primary that was looked through is not seen."""
        before = self.server_run()
        yield from super().customer_pages(cursor, batch_customers)
        if self.server_run() != before:
            raise StoreUnavailable(
                "slots of the Redis Cluster moved while all customers were looked through, so some "
                "may be missing; do it again when none is being moved"
            )

    def customer_page(self, cursor: int, count: int) -> tuple[list[str], int | None]:
        """As RedisStore.customer_page; a cursor says the primary too (ClusterClient.scan)."""
        pattern = f"{glob_escape(self._namespace)}:{{s[0-9][0-9]}}:c:*"
        following, keys = self._ask(lambda: self._client.scan(cursor, match=pattern, count=count))
        cut = len(self._parts[0].record_key("").encode())
        return [key[cut:].decode() for key in keys], following or None

    def server_run(self) -> str:
        """Another text once a primary was restarted or replaced, or a slot was moved. Raises
        StoreUnavailable while one is being moved."""
        return str(self._ask(self._client.layout))

    def by_script(self, customer_ids: Sequence[str]) -> list[list[int]]:
        """By part."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for at, customer_id in enumerate(customer_ids):
            found[tag_of(customer_id)].append(at)
        return list(found.values())

    def _compare(self) -> None:
        """Raises StoreRewound where a part holds less than this owner had written."""
        owned = sorted({tp for of_part in self._of_parts for tp in of_part.owned})
        lost: list[StoreRewound] = []
        found = self._stored(owned, Watermarks.key)
        for of_part, stored in zip(self._of_parts, found, strict=True):
            try:
                of_part.compare_with(stored)
            except StoreRewound as error:
                lost.append(error)
        if lost:
            raise _rewound(lost)

    def _stored(
        self,
        partitions: Sequence[TopicPartition],
        key_of: Callable[[Watermarks, TopicPartition], str],
    ) -> list[dict[TopicPartition, int]]:
        """Of each part, what it holds under these keys of partitions; one round trip."""
        if not partitions:
            return [{} for _ in self._parts]
        keys = [[key_of(of_part, tp) for tp in partitions] for of_part in self._of_parts]
        values = self._client.mget([key for some in keys for key in some])
        n = len(partitions)
        return [
            Watermarks.read(partitions, some, values[at * n : (at + 1) * n])
            for at, some in enumerate(keys)
        ]


def _rewound(lost: list[StoreRewound]) -> StoreRewound:
    """One error for those of several parts: each partition from the least offset."""
    offsets: defaultdict[TopicPartition, list[int]] = defaultdict(list)
    for error in lost:
        for tp, offset in error.offsets.items():
            offsets[tp].append(offset)
    return StoreRewound({tp: min(some) for tp, some in offsets.items()})
