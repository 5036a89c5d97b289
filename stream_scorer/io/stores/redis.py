"""Customers' records in Redis.

Keys, all under the namespace NS from the settings:
  NS:c:CUSTOMER_ID              string, one record (state_codec.py), with a time to live if set
  NS:watermark:TOPIC:PARTITION  decimal, the next offset that the store still needs
  NS:fingerprint                16 hexadecimal digits, set once
  NS:file:FILE                  decimal, where a replayed file begins in its directory, set once
  NS:topic:TOPIC                Kafka's id of the topic that the offsets belong to, set once
  NS:saved:OWNER                which of one consumer's saves was its last, for ten minutes

Many customers are loaded in one round trip (MGET) and saved in one (a script). The script writes a
record only where its offsets are not below those of the stored record. So a consumer that no longer
owns a partition, and does not know it yet, can't overwrite what the new owner wrote. A record that
is refused is loaded again, and the events that it lacks are applied to it.

The watermark moves in a second round trip, after all records that it covers. Each owner remembers
the watermarks that it last saw stored. Where Redis holds a lower one, it came back without its
newest writes (a crash under `appendfsync everysec`, a restored backup, FLUSHALL): nothing is
written, and `StoreRewound` says from which offset to read again. A loss between the two round trips
shows by a mark, the last key that a save writes: without it the watermark does not move. Records
carry their own offsets, so an event that is read again does not count twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
import redis

from stream_scorer.core.events.batch import Int64, TopicPartition
from stream_scorer.core.features.state import CustomerStates, take
from stream_scorer.core.features.state_codec import pack, unpack
from stream_scorer.errors import (
    FingerprintMismatch,
    Halt,
    InputError,
    StoreRewound,
    StoreUnavailable,
)
from stream_scorer.io.kafka.start_offset import FRESH_START

# An error of Redis begins with a word such as OOM. For these three words the client raises its own
# exceptions and takes the word out of the text; `_answered` finds the other words in the text.
_REFUSALS = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
)
RECORDS_PER_SCRIPT = 500  # about a millisecond, for which Redis serves no other client


class RedisStore:
    """Records of one namespace. `client` must return bytes."""

    def __init__(
        self,
        client: Any,
        namespace: str,
        fingerprint: int,
        time_to_live_seconds: int | None = None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._fingerprint = fingerprint
        self._ttl_ms = 1000 * (time_to_live_seconds or 0)
        self._seen: dict[TopicPartition, int] = {}
        self._saved_key = f"{namespace}:saved:{uuid.uuid4().hex}"
        self._saves = 0
        self._last_save = ""  # number of the save that no watermark covers yet, "" for none
        self._save = _Script(client, "save_records.lua")
        self._advance = _Script(client, "advance_watermarks.lua")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def claim(self) -> None:
        """Bind the namespace to this feature declaration, where it is new.

        Raises FingerprintMismatch where it belongs to another declaration.
        """
        declared = f"{self._fingerprint:016x}"
        key = f"{self._namespace}:fingerprint"
        found = _answered(lambda: self._set_once(key, declared))
        if found != declared:
            raise FingerprintMismatch(
                "store.namespace", self._namespace,
                f"holds vectors of feature declaration {found}, the config declares {declared}; "
                "set store.namespace to a new name and replay the events into it",
            )  # fmt: skip

    def recognise(self, topic: str, identity: str) -> None:
        """Bind the namespace to the topic with Kafka's id `identity`, where it is new.

        Raises Halt where it belongs to an earlier topic of this name.
        """
        found = _answered(lambda: self._set_once(f"{self._namespace}:topic:{topic}", identity))
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
        found = _answered(lambda: self._set_once(f"{self._namespace}:file:{file}", str(position)))
        if found != str(position):
            raise InputError(
                "events", file,
                f"its events came at position {found} of their directory when this namespace was "
                f"built, now at {position}: a file before it was added, removed or changed; give "
                "new files later names, or replay all into a new namespace",
            )  # fmt: skip

    def _set_once(self, key: str, value: str) -> str:
        self._client.set(key, value, nx=True)
        return str((self._client.get(key) or b"").decode())

    def load(self, customer_ids: list[str]) -> CustomerStates:
        """States of these customers, row i is customer_ids[i]; one round trip."""
        if not customer_ids:
            return unpack([], [], self._fingerprint)
        keys = [self._key(i) for i in customer_ids]
        return unpack(customer_ids, _answered(lambda: self._client.mget(keys)), self._fingerprint)

    def save(self, states: CustomerStates, rows: Int64) -> Int64:
        """Write `rows` (k,) int64 of states. Returns those refused: the store has newer ones.

        Raises StoreRewound, with some or none of the rows written, where the store lost writes.
        """
        chosen = take(states, rows)
        records = pack(chosen, self._fingerprint)
        keys = [self._key(i) for i in chosen.customer_ids]
        partitions = list(self._seen)
        watermark_keys = [self._watermark_key(tp) for tp in partitions]
        least = [self._seen[tp] for tp in partitions]
        shared = [len(watermark_keys), self._ttl_ms, *least]
        self._saves += 1
        self._last_save = str(self._saves)
        calls = []
        # One call even for no records: `advance` looks for the mark of this save.
        for i in range(0, max(len(records), 1), RECORDS_PER_SCRIPT):
            chunk = slice(i, i + RECORDS_PER_SCRIPT)
            # The last call alone leaves the mark, so where it is, all records are.
            mark = self._last_save if i + RECORDS_PER_SCRIPT >= len(records) else ""
            arguments = [*shared, mark, *records[chunk]]
            calls.append(([*watermark_keys, self._saved_key, *keys[chunk]], arguments))
        refused: list[int] = []
        for i, answer in enumerate(_answered(lambda: self._save.run(calls))):
            if answer == b"REWOUND":
                raise self._rewound()
            refused += [i * RECORDS_PER_SCRIPT + position for position in answer]
        return rows[np.array(refused, np.int64)]

    def watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset that the store needs of each partition that it knows."""
        if not partitions:
            return {}
        keys = [self._watermark_key(tp) for tp in partitions]
        stored = _answered(lambda: self._client.mget(keys))
        found = zip(partitions, stored, strict=True)
        return {tp: int(value) for tp, value in found if value is not None}

    def begin(self, offsets: dict[TopicPartition, int]) -> None:
        """From now on this owner reads these partitions; one that is new to the store starts at its
        offset."""
        for tp, offset in offsets.items():
            key = self._watermark_key(tp)
            self._seen[tp] = int(_answered(partial(self._set_once, key, str(offset))))

    def release(self, partitions: list[TopicPartition]) -> None:
        """This owner no longer reads these partitions."""
        for tp in partitions:
            self._seen.pop(tp, None)

    def advance(self, next_offsets: dict[TopicPartition, int]) -> None:
        """Move watermarks: every event below `next_offsets` is saved.

        Raises StoreRewound, or StoreUnavailable where the last save is lost and has to be repeated.
        """
        if not next_offsets:
            return
        partitions = list(next_offsets)
        keys = [*(self._watermark_key(tp) for tp in partitions), self._saved_key]
        least = [self._seen.get(tp, -1) for tp in partitions]
        new = [next_offsets[tp] for tp in partitions]
        arguments = [*least, *new, self._last_save]
        (answer,) = _answered(lambda: self._advance.run([(keys, arguments)]))
        if answer == b"REWOUND":
            raise self._rewound()
        if answer == b"UNSAVED":
            raise StoreUnavailable("Redis lost what it had just confirmed")
        self._last_save = ""
        self._seen.update({tp: max(self._seen.get(tp, -1), next_offsets[tp]) for tp in partitions})

    def count(self) -> int:
        """About how many customers there are: all keys of the database, of any namespace."""
        return int(_answered(self._client.dbsize))

    def verify(self) -> None:
        """Raises StoreRewound where the store holds less than this owner had written."""
        stored = self.watermarks(list(self._seen))
        if any(stored.get(tp, -1) < seen for tp, seen in self._seen.items()):
            raise self._rewound()

    def scan(self, batch_customers: int = 1000) -> Iterator[CustomerStates]:
        """All customers, a batch at a time, without blocking the server (SCAN, then MGET).

        A record that is deleted meanwhile is left out. A customer may come twice, because SCAN may
        return a key twice.
        """
        for ids in self.customer_ids(batch_customers):
            keys = [self._key(i) for i in ids]
            records = _answered(partial(self._client.mget, keys))
            pairs = [(i, r) for i, r in zip(ids, records, strict=True) if r is not None]
            yield unpack([i for i, _ in pairs], [r for _, r in pairs], self._fingerprint)

    def customer_ids(self, batch_customers: int = 1000) -> Iterator[list[str]]:
        """As `scan`, without their records."""
        return (ids for ids, _ in self.customer_pages(0, batch_customers) if ids)

    def customer_pages(
        self, cursor: int, batch_customers: int = 1000
    ) -> Iterator[tuple[list[str], int | None]]:
        """Ids from `cursor` on, 0 for the first, and the cursor after them, None after the last.

        A cursor is valid until the server restarts (`server_run`).
        """
        prefix = f"{self._namespace}:c:"
        pattern = _glob_escape(prefix) + "*"
        more = True
        while more:
            page = partial(self._client.scan, cursor, match=pattern, count=batch_customers)
            cursor, keys = _answered(page)
            more = cursor != 0
            yield [k[len(prefix.encode()) :].decode() for k in keys], cursor if more else None

    def server_run(self) -> str:
        """An id that Redis draws each time it starts; "" where this user may not ask for it."""
        try:
            return str(_answered(partial(self._client.info, "server"))["run_id"])
        except redis.exceptions.NoPermissionError:
            return ""

    def _rewound(self) -> StoreRewound:
        stored = self.watermarks(list(self._seen))
        lost = {
            tp: stored.get(tp, 0) for tp, seen in self._seen.items() if stored.get(tp, -1) < seen
        }
        # Reading starts again there, so from now on no more than this has to be stored.
        for tp, offset in lost.items():
            self._seen[tp] = offset if tp in stored else -1
        return StoreRewound(lost)

    def _key(self, customer_id: str) -> str:
        return f"{self._namespace}:c:{customer_id}"

    def _watermark_key(self, partition: TopicPartition) -> str:
        return f"{self._namespace}:watermark:{partition[0]}:{partition[1]}"


class _Script:
    """A Lua script of this package, which the server keeps until it restarts."""

    def __init__(self, client: Any, file_name: str) -> None:
        self._client = client
        self._text = files("stream_scorer.io.stores.scripts").joinpath(file_name).read_text()
        self._sha: str | None = None

    def run(self, calls: list[tuple[list[Any], list[Any]]]) -> list[Any]:
        """One answer for each (keys, arguments), in one round trip."""
        for _ in range(2):  # again where the server has restarted and forgotten the script
            self._sha = self._sha or self._client.script_load(self._text)
            pipe = self._client.pipeline(transaction=False)
            for keys, arguments in calls:
                pipe.evalsha(self._sha, len(keys), *keys, *arguments)
            try:
                return list(pipe.execute())
            except redis.exceptions.NoScriptError:
                self._sha = None
        raise StoreUnavailable("Redis forgets its scripts as soon as they are loaded")


def _glob_escape(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in text)


def _answered(ask: Callable[[], Any]) -> Any:
    """What `ask` returns, with the client's errors translated to this package's."""
    try:
        return ask()
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError):
        raise  # no retry helps; comes first because an AuthenticationError is a ConnectionError
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise StoreUnavailable(f"Redis does not answer: {error}") from error
    except _REFUSALS as error:
        raise StoreUnavailable(f"Redis refuses writes: {error}") from error
    except redis.exceptions.ResponseError as error:
        text = str(error)
        if "FINGERPRINT" in text:
            raise FingerprintMismatch(
                "stored record", text.partition("FINGERPRINT ")[2],
                "was written under another feature declaration; set store.namespace to a new name "
                "and replay the events into it",
            ) from error  # fmt: skip
        if any(word in text for word in ("OOM", "LOADING", "READONLY", "MISCONF", "MASTERDOWN")):
            raise StoreUnavailable(f"Redis refuses writes: {text}") from error
        raise
