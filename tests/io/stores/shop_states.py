"""Customers of a random shop, as a store keeps them."""

from __future__ import annotations

import numpy as np

from stream_scorer.bench.shop_workload import AS_OF_MS, Shop, rows_of
from stream_scorer.core.features.state import CustomerStates, StateArrays
from stream_scorer.core.features.state_codec import empty_states


def shop_states(shop: Shop, customers: int) -> CustomerStates:
    """Each with a sum for every value of its row and one event, of partition 0 of a topic."""
    empty = empty_states([f"customer-{i:07d}" for i in range(customers)])
    rows = rows_of(shop, customers, seed=4).matrix
    return CustomerStates(
        empty.customer_ids,
        StateArrays(*empty.arrays)._replace(
            newest_ms=np.full(customers, AS_OF_MS),
            source_at=np.arange(customers + 1),
            source_topic=np.zeros(customers, np.uint32),
            source_partition=np.zeros(customers, np.int32),
            source_offset=np.arange(customers),
            sum_at=rows.indptr.astype(np.int64), sum_column=rows.indices.astype(np.uint32),
            sum_value=rows.data,
        ),
    )  # fmt: skip
