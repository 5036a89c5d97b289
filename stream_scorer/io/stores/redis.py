"""Customers' records in Redis.

Keys, all under the namespace NS from the settings:
  NS:c:CUSTOMER_ID              string, one record (state_codec.py), with an expiry if set
  NS:watermark:TOPIC:PARTITION  decimal, the next offset that the store still needs
  NS:epoch:TOPIC:PARTITION      decimals, a watermark and Kafka's leader epoch before it: 120 3
  NS:start:TOPIC:PARTITION      decimal, the first watermark: no earlier event went in
  NS:fingerprint                16 hexadecimal digits, set once
  NS:identity                   which namespace of this name it is, drawn when it is first read into
  NS:rules                      JSON: settings that say which events count, all values it was read
                                with (live/counting_rules.py)
  NS:group:TOPIC                the consumer group that reads the topic into NS
  NS:shares_group_with          another namespace and its identity, while a roll-out lasts
  NS:rollout                    JSON: how far a roll-out into NS is (rollout_record.py)
  NS:file:FILE                  decimal, where a replayed file begins in its directory, set once
  NS:topic:TOPIC                Kafka's id of the topic that the offsets belong to, set once
  NS:model                      JSON, the model that all members serve (announcements.py)
  NS:members                    JSON, what each member says of itself (members.py), for an hour
  NS:r:CUSTOMER_ID, NS:refresh:...  of refreshes: refresh_store.py
  NS:erased, NS:erased:bytes    who was forgotten on request (erasures.py)
  NS:saved:OWNER                the number of one consumer's last script call, for ten minutes

Many customers are loaded in one round trip (MGET) and saved in one (a script). The script writes a
record only where the record that was loaded, and that it was made from, has all offsets of the
stored one. So a consumer that no longer owns a partition, and does not know it yet, can't overwrite
what the new owner wrote, nor can one that loaded from a server that lags. A record that is refused
is loaded again, and the events that it lacks are applied to it. Where the record is gone by then,
because its customer was deleted or it expired, the new one is refused as well: it would bring back
what was deleted. Records that were saved lately may stay in memory (hot_records.py): they are not
loaded, and compared like any other when they are saved.

On a Redis Cluster keys have a tag behind the namespace: cluster_keys.py, sharded.py.

The watermark moves in a second round trip, after all records that it covers. How it is noticed that
Redis has lost some of them: watermarks.py.

Records carry their own offsets, so an event that is read again does not count twice.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from stream_scorer.core.events.batch import Int64, TopicPartition
from stream_scorer.core.features.state import CustomerStates, take
from stream_scorer.core.features.state_codec import pack, unpack
from stream_scorer.errors import StoreUnavailable, StreamScorerError
from stream_scorer.io.stores.bound_namespace import BoundNamespace
from stream_scorer.io.stores.hot_records import HotRecords
from stream_scorer.io.stores.redis_script import Call, Script
from stream_scorer.io.stores.redis_server import RedisServer, ServerChanged
from stream_scorer.io.stores.store import Epochs
from stream_scorer.io.stores.watermarks import Watermarks

Answer = TypeVar("Answer")

LEAST_KEPT_LONGER_MS = 60_000
MOST_KEPT_LONGER_MS = 7 * 86_400_000  # as long as Kafka keeps events by default
RECORDS_PER_SCRIPT = 500  # about a millisecond, for which Redis serves no other client
# An address may lead to another server while the one before still answers on open connections.
RECONNECT_SECONDS = 60.0


def kept_longer_ms(time_to_live_ms: int) -> int:
    """How long a record stays in Redis after its customer is forgotten, in ms.

    Events decide what is forgotten (core/features/fold.py); Redis only has to remove later. A
    consumer that lags behind may still have to apply events of before: it has so much time for it.
    """
    return min(max(time_to_live_ms, LEAST_KEPT_LONGER_MS), MOST_KEPT_LONGER_MS)


class RedisStore(BoundNamespace):
    """Records of one namespace. `client` says where the server is (RedisServer).

    hot_bytes: at most so much of records that this process saved lately stays in memory; 0: none.
    """

    def __init__(
        self,
        client: Any,
        namespace: str,
        fingerprint: int,
        time_to_live_seconds: int | None = None,
        hot_bytes: int = 0,
    ) -> None:
        server = client if isinstance(client, RedisServer) else RedisServer(client)
        super().__init__(server, namespace, fingerprint)
        self.hot = HotRecords(hot_bytes)
        self._ttl_ms = 1000 * (time_to_live_seconds or 0)
        self._watermarks = Watermarks(self._client, namespace)
        self.mark_key = f"{namespace}:saved:{uuid.uuid4().hex}"
        self._calls = 0  # script calls that left a mark, which is its number
        self._unadvanced = ""  # mark of the last save that no watermark covers yet, "" for none
        self._reconnect_at = time.monotonic() + RECONNECT_SECONDS
        self._begin = Script(self._client, "begin_partitions.lua")
        self._save = Script(self._client, "save_records.lua")
        self._advance = Script(self._client, "advance_watermarks.lua")

    def close(self) -> None:
        """Close the connections."""
        self.server.close()

    def load(self, customer_ids: list[str]) -> CustomerStates:
        """States of these customers, row i is customer_ids[i]; at most one round trip."""
        records = self.hot.get(customer_ids)
        missing = [row for row, record in enumerate(records) if record is None]
        if missing:
            keys = [self.record_key(customer_ids[row]) for row in missing]
            stored = self._ask(lambda: self._client.mget(keys))
            for row, record in zip(missing, stored, strict=True):
                records[row] = record
        return unpack(customer_ids, records, self._fingerprint)

    def load_beside(
        self, customer_ids: list[str], keys: list[str]
    ) -> tuple[CustomerStates, list[bytes | None], dict[TopicPartition, int]]:
        """As `load`, with the values of `keys` and the watermarks of this owner; one round trip.

        Raises StoreRewound where the store holds less than this owner had written: what is
        published must not be made from such a record.
        """
        owned, n = sorted(self._watermarks.owned), len(customer_ids)
        marks = [self._watermarks.key(tp) for tp in owned]
        asked = [*map(self.record_key, customer_ids), *keys, *marks]
        values = self._ask(lambda: self._client.mget(asked))
        # MGET is one step, so the watermarks are those of the moment at which records were read.
        texts = zip(owned, values[n + len(keys) :], strict=True)
        stored = {tp: int(v) if v and v.isdigit() else -1 for tp, v in texts}
        if any(offset < self._watermarks.least(tp) for tp, offset in stored.items()):
            self._check(b"REWOUND")
        states = unpack(customer_ids, values[:n], self._fingerprint)
        return states, values[n : n + len(keys)], stored

    def save(
        self, states: CustomerStates, rows: Int64, made_from: CustomerStates | None = None
    ) -> Int64:
        """Write `rows` (k,) int64 of states. Returns those refused: the store has newer ones, or
        has none any more where they were made from a loaded one.

        made_from: the same customers as they were loaded; None: as `states`. Raises StoreRewound or
        StoreUnavailable, with some or none of the rows written, where the store lost writes.
        """
        chosen = take(states, rows)
        records = self._packed(chosen)
        sources = stored_sources(chosen if made_from is None else take(made_from, rows))
        calls = self.save_calls(chosen.customer_ids, records, sources, loaded=made_from is not None)
        answers = self._ask(lambda: self._save.run(calls))
        for answer in answers:
            self._check(answer)
        refused = self.note_saved(answers)
        self.hot.put(chosen.customer_ids, records)
        self.hot.drop(chosen.customer_ids[position] for position in refused)
        return rows[np.array(refused, np.int64)]

    def save_calls(
        self, customer_ids: list[str], records: list[bytes], sources: list[bytes], *, loaded: bool
    ) -> list[Call]:
        """The script calls that save k records. Whoever makes them then calls `note_saved`.
        sources (k,): of the same customers as they were loaded, by `stored_sources`."""
        keys = [self.record_key(i) for i in customer_ids]
        partitions = sorted(self._watermarks.owned)
        watermark_keys = [self._watermarks.key(tp) for tp in partitions]
        least = [self._watermarks.least(tp) for tp in partitions]
        shared = [len(watermark_keys), self._ttl_ms, kept_longer_ms(self._ttl_ms)]
        shared += [int(loaded), *least]
        # Of one batch, a save may follow another (refused records): it goes on from its mark.
        before, self._unadvanced = self._unadvanced, ""
        calls: list[Call] = []
        # One call even for no records: `advance` looks for the mark of this save.
        for i in range(0, max(len(records), 1), RECORDS_PER_SCRIPT):
            chunk = slice(i, i + RECORDS_PER_SCRIPT)
            self._calls += 1
            mark = str(self._calls)
            arguments = [*shared, before, mark, *records[chunk], *sources[chunk]]
            calls.append(([*watermark_keys, self.mark_key, *keys[chunk]], arguments))
            before = mark
        return calls

    def forget_mark(self) -> None:
        """The save that it was of is made again."""
        self._unadvanced = ""

    def note_saved(self, answers: Sequence[Sequence[int]]) -> list[int]:
        """Of answers that are all of successes, the positions of the records that were refused."""
        self._unadvanced = str(self._calls)
        chunks = enumerate(answers)
        return [i * RECORDS_PER_SCRIPT + position for i, some in chunks for position in some]

    def watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset that the store needs of each partition that it knows, or that this
        process knew it to have: 0 for one whose watermark is gone."""
        found = self._ask(lambda: self._watermarks.stored(partitions))
        return self._watermarks.noted(partitions, found)

    def watermark_epochs(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """The watermark that last moved with a leader epoch, and that epoch; of no meaning where
        the watermark is another one by now."""
        return self._ask(lambda: self._watermarks.epochs(partitions))

    def begin(self, offsets: dict[TopicPartition, int]) -> None:
        """From now on this owner reads these partitions; one that is new to the store starts at its
        offset.

        Raises StoreRewound, with nothing written, where the store holds less than `watermarks` gave
        or than this process had seen of a partition before, or less than its offset.
        """
        if not offsets:
            return
        call = self.begin_call(offsets)
        (answer,) = self._ask(lambda: self._begin.run([call]))
        self.note_begun(offsets, answer)

    def begin_call(self, offsets: Mapping[TopicPartition, int]) -> Call:
        """The script call of `begin`; its answer is for `note_begun`."""
        partitions = list(offsets)
        keys = [self._watermarks.key(tp) for tp in partitions]
        keys += [self._watermarks.start_key(tp) for tp in partitions]
        least = [max(self._watermarks.least(tp), 0) for tp in partitions]
        return keys, [*offsets.values(), *least]

    def note_begun(self, offsets: Mapping[TopicPartition, int], answer: Sequence[Any]) -> None:
        """Raises StoreRewound where the answer says that the store holds less."""
        partitions, (fits, *answers) = list(offsets), answer
        stored = {tp: int(a) for tp, a in zip(partitions, answers, strict=True) if a != b""}
        if not fits:
            starts = {tp: offsets[tp] for tp in stored}
            wanted = {tp: max(starts.get(tp, -1), self._watermarks.least(tp)) for tp in partitions}
            self.hot.drop()
            raise self._watermarks.rewound(wanted, stored)
        self._watermarks.seen |= stored
        self._watermarks.owned |= offsets.keys()

    def starts(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset from which each partition was read into the namespace, where it is known:
        namespaces of older releases do not keep it."""
        return self._ask(lambda: self._watermarks.starts(partitions))

    def release(self, partitions: list[TopicPartition]) -> None:
        """This owner no longer reads these partitions."""
        self._watermarks.owned -= set(partitions)
        # Of all customers: which of them another owner writes to from now on is not worth a look.
        self.hot.drop()

    def advance(
        self, next_offsets: dict[TopicPartition, int], epochs: Epochs | None = None
    ) -> None:
        """Move watermarks: every event below `next_offsets` is saved.

        epochs: the leader epoch of the last record before such an offset, where it is known.
        Raises StoreRewound, or StoreUnavailable where the last save is lost and has to be repeated.
        """
        if not next_offsets:
            return
        call = self.advance_call(next_offsets, epochs)
        (answer,) = self._ask(lambda: self._advance.run([call]))
        self._check(answer)
        self.note_advanced(next_offsets)

    def advance_call(
        self, next_offsets: Mapping[TopicPartition, int], epochs: Epochs | None
    ) -> Call:
        """The script call of `advance`; after its success `note_advanced` is called."""
        partitions = list(next_offsets)
        keys = [self._watermarks.key(tp) for tp in partitions]
        keys += [*(self._watermarks.epoch_key(tp) for tp in partitions), self.mark_key]
        least = [self._watermarks.least(tp) for tp in partitions]
        new = [next_offsets[tp] for tp in partitions]
        mark, self._unadvanced = self._unadvanced, ""
        known = [(epochs or {}).get(tp, "") for tp in partitions]
        return keys, [*least, *new, *known, mark]

    def note_advanced(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """The store has moved these watermarks."""
        self._watermarks.seen |= {
            tp: max(self._watermarks.least(tp), at) for tp, at in next_offsets.items()
        }
        self._watermarks.owned |= next_offsets.keys()

    def count(self) -> int:
        """About how many customers there are: all keys of the database, of any namespace."""
        return int(self._ask(self._client.dbsize))

    def verify(self) -> None:
        """Raises StoreRewound where the store holds less than this owner had written, and
        StoreUnavailable where another server answers than before."""
        if time.monotonic() >= self._reconnect_at:
            self._reconnect_at = time.monotonic() + RECONNECT_SECONDS
            self.server.drop_connections()
        self._ask(self._compare)

    def scan(self, batch_customers: int = 1000) -> Iterator[CustomerStates]:
        """All customers, a batch at a time, without blocking the server (SCAN, then MGET).

        A record that is deleted meanwhile is left out. A customer may come twice, because SCAN may
        return a key twice.
        """
        for ids in self.customer_ids(batch_customers):
            keys = [self.record_key(i) for i in ids]
            records = self._ask(partial(self._client.mget, keys))
            pairs = [(i, r) for i, r in zip(ids, records, strict=True) if r is not None]
            yield unpack([i for i, _ in pairs], [r for _, r in pairs], self._fingerprint)

    def customer_ids(self, batch_customers: int = 1000) -> Iterator[list[str]]:
        """As `scan`, without their records."""
        return (ids for ids, _ in self.customer_pages(0, batch_customers) if ids)

    def customer_pages(
        self, cursor: int, batch_customers: int = 1000
    ) -> Iterator[tuple[list[str], int | None]]:
        """Ids from `cursor` on, 0 for the first, and the cursor after them, None after the last.

        A cursor is valid as long as `server_run` gives the same.
        """
        following: int | None = cursor
        while following is not None:
            ids, following = self.customer_page(following, batch_customers)
            yield ids, following

    def customer_page(self, cursor: int, count: int) -> tuple[list[str], int | None]:
        """One page of `customer_pages`, of about `count` keys that were looked at."""
        prefix = f"{self._namespace}:c:"
        pattern = glob_escape(prefix) + "*"
        following, keys = self._ask(partial(self._client.scan, cursor, match=pattern, count=count))
        return [k[len(prefix.encode()) :].decode() for k in keys], following or None

    def server_run(self) -> str:
        """An id that Redis draws each time it starts; "" where this user may not ask for it."""
        return str(self.server.info("server").get("run_id", ""))

    def by_script(self, customer_ids: Sequence[str]) -> list[list[int]]:
        """Positions of these customers, in lists of those whom one script call can reach."""
        return [list(range(len(customer_ids)))] if customer_ids else []

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """What `question` returns, of further keys of the namespace; fails as `load` does."""
        return self._ask(question)

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """What `question` returns. Where another server answers than before, watermarks are
        compared first: StoreRewound where it holds less, StoreUnavailable where it does not."""
        try:
            return self.server.ask(question)
        except ServerChanged:
            self.hot.drop()
            self.server.ask(self._compare)
            raise
        except StreamScorerError:
            self.hot.drop()  # what of a save was written is not known now
            raise

    def _check(self, answer: object) -> None:
        """Raises what a script's answer says, where it is not that of a success."""
        if answer in (b"UNSAVED", b"REWOUND"):
            self.hot.drop()
        if answer == b"UNSAVED":
            raise StoreUnavailable("Redis lost what it had just confirmed")
        if answer == b"REWOUND":
            self._ask(self._compare)
            # Another owner has moved the watermark since: what it covers is stored.
            raise StoreUnavailable("Redis had lost writes, which another consumer has made again")

    def _packed(self, states: CustomerStates) -> list[bytes]:
        """The records to save."""
        return pack(states, self._fingerprint)

    def _compare(self) -> None:
        self._watermarks.compare()

    def record_key(self, customer_id: str) -> str:
        """The key of a customer's record."""
        return f"{self._namespace}:c:{customer_id}"


def stored_sources(states: CustomerStates) -> list[bytes]:
    """Of each customer the topics, partitions and offsets, as save_records.lua reads them."""
    a = states.arrays
    packed = np.empty(len(a.source_offset), "<u4, <u4, <i8")
    packed["f0"], packed["f1"] = a.source_topic, a.source_partition
    packed["f2"] = a.source_offset
    data, at = packed.tobytes(), (16 * a.source_at).tolist()
    return [data[start:end] for start, end in pairwise(at)]


def glob_escape(text: str) -> str:
    """`text` as a pattern of SCAN that matches nothing else."""
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in text)
