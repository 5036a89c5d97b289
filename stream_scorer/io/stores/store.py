"""What every store of customers' records can do. Redis and memory implement it.

A store holds one record for each customer and, for each partition, a watermark: the offset of the
next event that the store does not hold yet. All records of one store belong to one feature
declaration, which the store was opened with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from stream_scorer.core.events.batch import Int64, TopicPartition
from stream_scorer.core.features.state import CustomerStates

Epochs = Mapping[TopicPartition, int]


class Store(Protocol):
    """Customers' records and the watermarks of the partitions that fed them.

    A store that does not answer, or refuses to write, raises StoreUnavailable: the same call can be
    made again. One that lost writes it had confirmed raises StoreRewound.
    """

    def load(self, customer_ids: list[str]) -> CustomerStates:
        """States of these customers: row i is customer_ids[i], empty for an unknown customer."""
        ...

    def save(
        self, states: CustomerStates, rows: Int64, made_from: CustomerStates | None = None
    ) -> Int64:
        """Write `rows` (k,) int64 of states. Returns the rows that were refused, as int64.

        made_from: the same customers as `load` gave them; None: as `states`. Where the store holds
        an offset that these lack, or a record was loaded and is gone, the row is refused: load it
        again, and apply what it lacks.
        """
        ...

    def watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The watermark of each of these partitions that the store knows."""
        ...

    def watermark_epochs(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Of each of these partitions, the watermark that last moved with Kafka's leader epoch of
        the record before it, and that epoch; of no meaning where the watermark is another one by
        now."""
        ...

    def begin(self, offsets: dict[TopicPartition, int]) -> None:
        """This owner reads on from `offsets`. They are the watermarks of partitions that are new to
        the store; known ones keep theirs.

        Raises StoreRewound, with nothing begun, where the store holds less than an offset, or less
        than it did when it was last asked for `watermarks`."""
        ...

    def release(self, partitions: list[TopicPartition]) -> None:
        """This owner no longer reads these partitions."""
        ...

    def advance(
        self, next_offsets: dict[TopicPartition, int], epochs: Epochs | None = None
    ) -> None:
        """Move watermarks: every event below `next_offsets` is saved.

        epochs: the leader epoch of the last record before such an offset, where it is known.
        """
        ...

    def scan(self, batch_customers: int = 1000) -> Iterator[CustomerStates]:
        """Every customer, about batch_customers at a time."""
        ...
