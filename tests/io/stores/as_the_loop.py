"""Batches folded into a store as the consumer's loop does it: again where Redis is away, and from
what is stored where it lost writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from stream_scorer.core.features import fold
from stream_scorer.core.features.fold import stream_of
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state_codec import pack
from stream_scorer.errors import StoreRewound, StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.store import Store
from stream_scorer.live.store_fold import StoreFold

SPACE = FeatureSpace.compile([Feature("events", half_lives=("1d", "inf"))], {})
TP = ("events", 0)


def process(store: Store, make_events: Any, customers: Sequence[str], first: int) -> int:
    """Fold one event of each customer, from offset `first` on, and advance; again after
    StoreUnavailable, for a minute at most. How often it was tried."""
    rows = [{"customer": c, "at": 1000 + i, "offset": first + i} for i, c in enumerate(customers)]
    events = make_events(rows)
    customer, ids = events.customer_id.intern()
    stream, _ = stream_of(events, customer, SPACE, fold.REMEMBER_ALL)
    folding, until = StoreFold(store, SPACE), time.monotonic() + 60
    attempts = 0
    while time.monotonic() < until:
        attempts += 1
        try:
            folding.fold(PreparedEvents(ids, stream, []), BatchReport(len(ids)))
            store.advance({TP: first + len(ids)})
            return attempts
        except StoreUnavailable:
            time.sleep(0.02)
    raise AssertionError("no attempt succeeded")


def until_there(step: Callable[[], Any]) -> Any:
    """What `step` returns, again after StoreUnavailable."""
    until = time.monotonic() + 60
    while True:
        try:
            return step()
        except StoreUnavailable:
            assert time.monotonic() < until
            time.sleep(0.02)


def read_on(
    store: Store, make_events: Any, customers: Sequence[str], first: int, end: int
) -> list[int]:
    """Batches from offset `first` to `end`; after StoreRewound again from what is stored, which is
    a batch's first offset. From where it was read again."""
    again, at = [], first
    while at < end:
        try:
            process(store, make_events, customers, at)
            at += len(customers)
        except StoreRewound:
            at = until_there(lambda: store.watermarks([TP]))[TP]
            until_there(partial(store.begin, {TP: at}))
            again.append(at)
    return again


def same_as_in_memory(
    store: Store, make_events: Any, customers: Sequence[str], first: int, end: int
) -> bool:
    """Whether the store has the vectors of these batches, bit for bit."""
    memory = MemoryStore(SPACE.fingerprint)
    memory.begin({TP: first})
    read_on(memory, make_events, customers, first, end)
    return pack(store.load(list(customers)), 1) == pack(memory.load(list(customers)), 1)
