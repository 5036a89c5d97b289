"""Customers who are erased on request (`stream-scorer customer forget`).

"Forgotten" without a request is what the time to live does (forgetting.py); here a person asked.

Theory of operation. An erasure is a moment, the boundary: whatever the customer did at or before it
is never counted again, in whatever way it comes back; what she does after it begins a new vector.
The boundary stands in the customer's record, as one more of its sources: the topic `ERASED_TOPIC`,
the partition `ERASED_PARTITION`, which no log has, and as the offset the boundary in ms since 1970
UTC. The sources of before stay, with their offsets, and all else of the record goes. Three rules
that hold for sources anyway then do the rest:

- A save is refused where the stored record has a source, or a higher offset of one, that the record
  lacks from which the new one was made. So whoever loaded the record before the erasure, or kept it
  in memory, can't write it back: it loads again and finds the boundary.
- An event at or below the offset of its source is skipped, so nothing is applied by a redelivery.
- A fold copies sources, so the boundary goes on with the record of a customer who comes back.

What remains is one comparison for each event, in the fold: one that occurred at or before the
boundary moves its offset on and changes nothing else (`fold_plan.ERASED`). That holds for late
events and for those that were sent anew, also after a replay. The boundary is never before the
newest event that the record held, so an event whose clock was ahead does not outlive it either.

A record whose first byte is 3 or 4 has a boundary (state_codec.py). Redis never lets it expire,
because what it forbids has no end.
"""

from __future__ import annotations

import numpy as np

from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.features.state import (
    ERASED_PARTITION,
    ERASED_TOPIC,
    NEVER,
    CustomerStates,
    StateArrays,
)
from stream_scorer.core.features.state_codec import empty_states


def boundary_sources(arrays: StateArrays) -> Bool:
    """Which sources (S,) are boundaries of erasures, and no part of a topic."""
    return np.asarray(
        (arrays.source_topic == ERASED_TOPIC) & (arrays.source_partition == ERASED_PARTITION)
    )


def erased_ms(states: CustomerStates) -> Int64:
    """The boundary of each customer (B,), `NEVER` where nobody asked for an erasure."""
    a = states.arrays
    found = np.full(len(states), NEVER, np.int64)
    rows = np.repeat(np.arange(len(states)), np.diff(a.source_at))
    boundaries = boundary_sources(a)
    found[rows[boundaries]] = a.source_offset[boundaries]
    return found


def erased_and_gone(states: CustomerStates) -> Bool:
    """(B,) which customers were erased and have done nothing since: they have no vector."""
    return np.asarray((erased_ms(states) != NEVER) & (states.arrays.newest_ms == NEVER))


def erased_states(customer_ids: list[str], boundaries_ms: Int64) -> CustomerStates:
    """Records of customers (B,) of whom nothing was stored, erased at boundaries_ms (B,)."""
    n = len(customer_ids)
    arrays = empty_states(customer_ids).arrays._replace(
        source_at=np.arange(n + 1),
        source_topic=np.full(n, ERASED_TOPIC, np.uint32),
        source_partition=np.full(n, ERASED_PARTITION, np.int32),
        source_offset=np.asarray(boundaries_ms, np.int64),
    )
    return CustomerStates(customer_ids, arrays)
