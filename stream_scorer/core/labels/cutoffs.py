"""What was known at past moments: rows of features with their labels, from an ordered log.

Events are in time order. Those before a cut-off are folded, the customers seen so far become rows,
and folding goes on; no row can see an event at or after its cut-off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from stream_scorer.core.events.batch import EventBatch
from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.fold_plan import Memory
from stream_scorer.core.features.forgetting import is_forgotten
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import NEVER, take
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows


def rows_at_cutoffs(
    events: EventBatch,
    space: FeatureSpace,
    labels: LabelCollector,
    cutoffs_ms: Sequence[int],
    *,
    memory: Memory = fold.REMEMBER_ALL,
    workers: fold.Workers | None = None,
    weight: float = 1.0,
) -> Iterator[LabelledRows]:
    """For each ascending cut-off one LabelledRows of customers with events before it.

    The label window starts at the cut-off. memory: what records remember; a customer who is
    forgotten as of the cut-off is left out. weight: of each row. Raises ValueError
    where events are not in time order.
    """
    at_ms = events.occurred_at_ms
    if (np.diff(at_ms) < 0).any():
        raise ValueError("events must be in time order")
    events = _renumbered(events)
    customer, ids = events.customer_id.intern()
    states = empty_states(ids)
    start = 0
    for cutoff in cutoffs_ms:
        # Left of equal times: an event at the cut-off is not known at it.
        stop = int(np.searchsorted(at_ms, cutoff))
        rows = np.arange(start, stop)
        states = fold.fold_events(
            states, events.take(rows), customer[rows], space, memory=memory, workers=workers
        ).states
        known = states.arrays.newest_ms != NEVER
        known &= ~is_forgotten(states.arrays.newest_ms, cutoff, memory)
        start = stop
        seen = take(states, np.flatnonzero(known))
        as_of = np.full(len(seen), cutoff, np.int64)
        matrix = csr.build(seen, space, as_of)
        yield LabelledRows(
            seen.customer_ids, as_of, matrix, *labels.labels(seen.customer_ids, as_of),
            np.full(len(seen), weight, np.float32),
        )  # fmt: skip


def _renumbered(events: EventBatch) -> EventBatch:
    """As if read from one partition in this order: folding skips what lies at a lower offset."""
    rows = len(events)
    return replace(
        events,
        partitions=[("", 0)],
        partition_index=np.zeros(rows, np.int32),
        offsets=np.arange(rows, dtype=np.int64),
    )
