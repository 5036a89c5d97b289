"""What a batch of events does to the shop's trend: which category each of them counts for.

Trends count events of all customers, each event once for each trend that sees it (core/trend.py),
so nothing here depends on customers' vectors. A batch of a declaration without trends has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import EventBatch, Int32, Int64, TopicPartition
from stream_scorer.core.features.keys import EventColumns, seen_keys
from stream_scorer.core.features.space import FeatureSpace


@dataclass(frozen=True, slots=True)
class TrendEvents:
    """n valid events, those of a partition in the order of their offsets.

    partition_index (n,) int32 into partitions; offset and occurred_ms (n,) int64; category (n, T)
    int32: the entry of the vocabulary for which trend t counts the event, `NULL` for none.
    """

    partitions: list[TopicPartition]
    partition_index: Int32
    offset: Int64
    occurred_ms: Int64
    category: Int32

    @classmethod
    def of(
        cls, space: FeatureSpace, events: EventBatch, columns: EventColumns
    ) -> TrendEvents | None:
        """Of these events; None where the declaration has no trend. columns: of the same events."""
        trends = [feature for feature in space.features if feature.kind == "trend"]
        if not trends:
            return None
        category = np.stack([seen_keys(space, feature, columns) for feature in trends], axis=1)
        return cls(
            events.partitions, events.partition_index, events.offsets, events.occurred_at_ms,
            category.astype(np.int32),
        )  # fmt: skip

    def of_partition(self, number: int) -> tuple[Int64, Int64, Int32]:
        """Offsets, moments and categories of the events of `partitions[number]`."""
        rows = np.flatnonzero(self.partition_index == number)
        return self.offset[rows], self.occurred_ms[rows], self.category[rows]
