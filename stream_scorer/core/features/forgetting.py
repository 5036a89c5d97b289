"""Customers who are forgotten as of a moment: without an event for longer than the time to live.

The rule within a stream of events is in fold.py. A row of a snapshot, an export or a past score is
as of a moment; a customer whose newest event before it is more than the time to live before it is
forgotten there as well, as the live consumer would have forgotten it by its next event.
"""

from __future__ import annotations

import numpy as np

from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.features.fold_plan import Memory
from stream_scorer.core.features.state import NEVER, CustomerStates, concatenate_states, take
from stream_scorer.core.features.state_codec import empty_states


def is_forgotten(newest_ms: Int64, as_of_ms: Int64 | int, memory: Memory) -> Bool:
    """(B,) which customers with newest events at newest_ms (B,) are forgotten as of as_of_ms.

    A customer without events (`NEVER`) is not: there is nothing to forget.
    """
    if not memory.time_to_live_ms:
        return np.zeros(len(newest_ms), np.bool_)
    known = newest_ms != NEVER
    # Not the difference, which overflows for `NEVER`.
    return np.asarray(known & (newest_ms < np.asarray(as_of_ms) - memory.time_to_live_ms))


def without_forgotten(states: CustomerStates, as_of_ms: Int64, memory: Memory) -> CustomerStates:
    """The same rows (B,); those that are forgotten as of as_of_ms (B,) are empty."""
    gone = np.flatnonzero(is_forgotten(states.arrays.newest_ms, as_of_ms, memory))
    if not len(gone):
        return states
    empty = empty_states([states.customer_ids[i] for i in gone.tolist()])
    rows = np.arange(len(states))
    rows[gone] = len(states) + np.arange(len(gone))
    return take(concatenate_states(states, empty), rows)
