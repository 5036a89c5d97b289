"""Customer ids on disk, partitioned by hash: which customers belong to which shard of an export.

xxHash64 of the id modulo the number of buckets chooses a file, to which ids are appended as JSON
lists, one a line. After each flush the state file records how long each bucket is and how far the
scan of the store has come, so that what a crash left half written is cut off when the lists are
opened again. A scan may return an id twice: both are in the same bucket, and `ids` returns it once.
Memory is one flush of ids, or the ids of one part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xxhash

from stream_scorer.atomic import write_file

STATE_FILE = "listing.json"
IDS_PER_FLUSH = 200_000  # held in memory: some 20 MB

Part = tuple[int, int]  # first bucket, bucket after the last


class CustomerLists:
    """The lists in `folder`, which is made where it does not exist; `buckets`: of new lists.

    `cursor` is where the scan continues; None where it is complete.
    """

    def __init__(self, folder: Path, buckets: int, ids_per_flush: int = IDS_PER_FLUSH) -> None:
        self._folder, self._ids_per_flush = folder, ids_per_flush
        folder.mkdir(exist_ok=True)
        state: dict[str, Any] = {"cursor": 0, "bytes": [0] * buckets, "ids": [0] * buckets}
        if (folder / STATE_FILE).exists():
            state = json.loads((folder / STATE_FILE).read_bytes())
        self.cursor: int | None = state["cursor"]
        self._bytes: list[int] = state["bytes"]
        self._counts: list[int] = state["ids"]
        self._waiting: list[list[str]] = [[] for _ in self._bytes]
        self._held = 0
        for bucket, length in enumerate(self._bytes):
            if self._file(bucket).exists():
                os.truncate(self._file(bucket), length)

    def __len__(self) -> int:
        """How many ids were added, repeated ones included."""
        return sum(self._counts) + self._held

    def add(self, customer_ids: Sequence[str], cursor: int | None) -> None:
        """Add ids; `cursor` is where the scan continues after them."""
        for i in customer_ids:
            # Not Python's own hash: that differs in each process, and a run that continues must
            # choose the same buckets.
            self._waiting[xxhash.xxh64_intdigest(i.encode()) % len(self._bytes)].append(i)
        self._held += len(customer_ids)
        self.cursor = cursor
        if self._held >= self._ids_per_flush or cursor is None:
            self._save()

    def begin_again(self) -> None:
        """Forget all ids."""
        self.cursor, self._held = 0, 0
        self._bytes, self._counts = [0] * len(self._bytes), [0] * len(self._bytes)
        self._waiting = [[] for _ in self._bytes]
        for bucket in range(len(self._bytes)):
            self._file(bucket).unlink(missing_ok=True)
        self._save()

    def parts(self, most_ids: int) -> list[Part]:
        """All buckets, neighbours joined up to about `most_ids` ids each; at least one part."""
        found: list[Part] = []
        first, held = 0, 0
        for bucket, count in enumerate(self._counts):
            if held and held + count > most_ids:
                found.append((first, bucket))
                first, held = bucket, 0
            held += count
        return [*found, (first, len(self._counts))]

    def count(self, part: Part) -> int:
        """How many ids were added to a part, repeated ones included."""
        return sum(self._counts[slice(*part)])

    def ids(self, part: Part) -> list[str]:
        """The customers of a part, each once, in order of their ids."""
        found: set[str] = set()
        for bucket in range(*part):
            if self._counts[bucket]:
                for line in self._file(bucket).read_text(encoding="ascii").splitlines():
                    found.update(json.loads(line))
        return sorted(found)

    def _save(self) -> None:
        for bucket, ids in enumerate(self._waiting):
            if not ids:
                continue
            # JSON, because it escapes line breaks: an id may hold one.
            line = json.dumps(ids, separators=(",", ":")).encode("ascii") + b"\n"
            with self._file(bucket).open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._bytes[bucket] += len(line)
            self._counts[bucket] += len(ids)
        self._waiting = [[] for _ in self._bytes]
        self._held = 0
        # After the lists, so that it never counts bytes that are not on disk.
        state = {"cursor": self.cursor, "bytes": self._bytes, "ids": self._counts}
        write_file(self._folder / STATE_FILE, json.dumps(state).encode("ascii"))

    def _file(self, bucket: int) -> Path:
        return self._folder / f"bucket-{bucket:04d}.jsonl"
