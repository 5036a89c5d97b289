"""Up to which offset a namespace in Redis has every event, and whether Redis has lost some of it.

Redis may go back at any moment: a crash under `appendfsync everysec`, a failover to a replica that
lags, a restored backup, FLUSHALL. It then holds all that was written up to some moment, and nothing
later:

- Each owner remembers the watermarks that it last saw stored, also those of partitions that it
  gave up. Where Redis holds a lower one, nothing is written, and `StoreRewound` says from which
  offset to read again. `begin` compares in the same script that sets the first watermark.
- Each script call of a save writes its mark last. The next call of that save, a save that follows
  it and `advance` do nothing unless they find that mark, so a loss between any two of them is
  noticed also where a proxy keeps the connection (StoreUnavailable: the batch is folded again).
- A new connection to another server, or to the same one after a restart, is noticed by its run id
  (redis_server.py), and watermarks are compared before anything it says is used.

The keys and what stands in them: redis.py, whose scripts write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import StoreRewound
from stream_scorer.io.stores.redis_errors import not_an_epoch, not_an_offset


class Watermarks:
    """Of one namespace. client: a redis.Redis, whose errors pass: the store translates them.

    seen: the watermark that this process last saw stored of each partition, also of those that it
    no longer owns; -1 where it saw one that is gone. owned: the partitions that it writes for.
    """

    def __init__(self, client: Any, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self.seen: dict[TopicPartition, int] = {}
        self.owned: set[TopicPartition] = set()

    def key(self, partition: TopicPartition) -> str:
        """Where a partition's watermark is."""
        return f"{self._namespace}:watermark:{partition[0]}:{partition[1]}"

    def epoch_key(self, partition: TopicPartition) -> str:
        """Where a partition's watermark and the leader epoch before it are."""
        return f"{self._namespace}:epoch:{partition[0]}:{partition[1]}"

    def start_key(self, partition: TopicPartition) -> str:
        """Where a partition's first watermark is."""
        return f"{self._namespace}:start:{partition[0]}:{partition[1]}"

    def least(self, partition: TopicPartition) -> int:
        """What must be stored of this partition, -1 for nothing."""
        return self.seen.get(partition, -1)

    def stored(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The watermarks that Redis holds of these. Raises ConfigError where one is no offset."""
        return self._offsets(partitions, [self.key(tp) for tp in partitions])

    def starts(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first watermarks that Redis holds of these. Raises ConfigError, as `stored`."""
        return self._offsets(partitions, [self.start_key(tp) for tp in partitions])

    def epochs(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Watermark and leader epoch, where Redis holds them. Raises ConfigError where they are
        not two numbers."""
        if not partitions:
            return {}
        return self.read_epochs(
            partitions, self._client.mget([self.epoch_key(tp) for tp in partitions])
        )

    def read_epochs(
        self, partitions: Sequence[TopicPartition], values: Sequence[bytes | None]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """What these values of the partitions' keys are. Raises as `epochs`."""
        keys = [self.epoch_key(tp) for tp in partitions]
        found = {}
        for tp, key, value in zip(partitions, keys, values, strict=True):
            if value is not None:
                words = value.split()
                if len(words) != 2 or not all(word.isdigit() for word in words):
                    raise not_an_epoch(key)
                found[tp] = int(words[0]), int(words[1])
        return found

    def compare(self) -> None:
        """Raises StoreRewound where Redis holds less than this owner had written."""
        self.compare_with(self.stored(sorted(self.owned)))

    def compare_with(self, stored: Mapping[TopicPartition, int]) -> None:
        """As `compare`, with what Redis holds of this owner's partitions."""
        owned = sorted(self.owned)
        if any(stored.get(tp, -1) < self.least(tp) for tp in owned):
            raise self.rewound({tp: self.least(tp) for tp in owned}, stored)

    def noted(
        self, partitions: Sequence[TopicPartition], stored: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """`stored`, with 0 for those of `partitions` that are gone; from now on this is what must
        be stored."""
        for tp, offset in stored.items():
            self.seen[tp] = max(offset, self.least(tp))
        return {tp: 0 for tp in partitions if tp in self.seen} | dict(stored)

    def rewound(
        self, wanted: Mapping[TopicPartition, int], stored: Mapping[TopicPartition, int]
    ) -> StoreRewound:
        """What to raise where `stored` is below `wanted`; from now on it is what must be stored."""
        lost = {tp: stored.get(tp, 0) for tp, w in wanted.items() if stored.get(tp, -1) < w}
        # Reading starts again there, so from now on no more than this has to be stored.
        self.seen |= {tp: stored.get(tp, -1) for tp in lost}
        return StoreRewound(lost)

    def _offsets(
        self, partitions: Sequence[TopicPartition], keys: Sequence[str]
    ) -> dict[TopicPartition, int]:
        return self.read(partitions, keys, self._client.mget(keys)) if partitions else {}

    @staticmethod
    def read(
        partitions: Sequence[TopicPartition], keys: Sequence[str], values: Sequence[bytes | None]
    ) -> dict[TopicPartition, int]:
        """The offsets that these values of the keys are. Raises ConfigError where one is none."""
        offsets = {}
        for tp, key, value in zip(partitions, keys, values, strict=True):
            if value is not None:
                if not value.isdigit():
                    raise not_an_offset(key)
                offsets[tp] = int(value)
        return offsets
