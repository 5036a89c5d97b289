"""Folding into a store whose records another consumer writes meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stream_scorer.core.events.batch import EventBatch, Int64
from stream_scorer.core.features import fold
from stream_scorer.core.features.fold import stream_of
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.features.state_codec import empty_states, pack
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.live.store_fold import SAVE_ATTEMPTS, StoreFold

MakeEvents = Callable[..., EventBatch]
AT_MS = 1_700_000_000_000
SPACE = FeatureSpace.compile(
    [Feature("bought", by=("category_id",), half_lives=("2d",)), Feature("total")],
    {"category_id": ("soup", "bread")},
)
LOG = [
    {"customer": "a", "category": "soup", "at": AT_MS, "offset": 0},
    {"customer": "b", "category": "soup", "at": AT_MS + 5, "offset": 1},
    {"customer": "a", "category": "bread", "at": AT_MS + 9, "offset": 2},
    {"customer": "a", "category": "bread", "at": AT_MS + 12, "offset": 3},
]


def prepared(events: EventBatch) -> PreparedEvents:
    customer, ids = events.customer_id.intern()
    stream, _ = stream_of(events, customer, SPACE, fold.REMEMBER_ALL)
    return PreparedEvents(ids, stream, [])


def folded(store: MemoryStore, events: EventBatch) -> BatchReport:
    report = BatchReport(len(events))
    StoreFold(store, SPACE).fold(prepared(events), report)
    return report


def records(store: MemoryStore) -> list[bytes]:
    return pack(store.load(["a", "b"]), SPACE.fingerprint)


class OvertakenStore(MemoryStore):
    """Before each of the first `times` saves another consumer has applied `events`."""

    def __init__(self, events: EventBatch, times: int) -> None:
        super().__init__(SPACE.fingerprint)
        self._events, self._times = events, times
        self._other = MemoryStore(SPACE.fingerprint)

    def save(
        self, states: CustomerStates, rows: Int64, made_from: CustomerStates | None = None
    ) -> Int64:
        if self._times:
            self._times -= 1
            folded(self._other, self._events)
            theirs = self._other.load(["a"])
            super().save(theirs, np.arange(1))
        return super().save(states, rows, made_from)


class RefusingStore(MemoryStore):
    """Another consumer is always faster."""

    saves = 0

    def save(
        self, states: CustomerStates, rows: Int64, made_from: CustomerStates | None = None
    ) -> Int64:
        self.saves += 1
        return rows


class GoneWhileLoading(MemoryStore):
    """What `load` finds first is an emptied store; then the records are back."""

    loads = 0

    def load(self, customer_ids: list[str]) -> CustomerStates:
        self.loads += 1
        return empty_states(customer_ids) if self.loads == 2 else super().load(customer_ids)


def test_records_that_were_away_when_customers_were_loaded_lose_no_event(
    make_events: MakeEvents,
) -> None:
    store, whole = GoneWhileLoading(SPACE.fingerprint), MemoryStore(SPACE.fingerprint)
    for some in (LOG[:2], LOG[2:]):
        for each in (store, whole):
            folded(each, make_events(some))
    assert store.loads > 2
    assert records(store) == records(whole)


def test_a_batch_that_is_folded_again_counts_nothing_twice(make_events: MakeEvents) -> None:
    store = MemoryStore(SPACE.fingerprint)
    first = folded(store, make_events(LOG))
    before = records(store)
    second = folded(store, make_events(LOG))
    assert (first.applied, first.duplicates) == (4, 0)
    assert (second.applied, second.duplicates) == (0, 4)
    assert records(store) == before


@pytest.mark.parametrize("theirs", [3, 4])
def test_a_newer_record_is_loaded_and_only_what_it_lacks_is_applied(
    make_events: MakeEvents, theirs: int
) -> None:
    ours = LOG if theirs == 3 else LOG[:3]
    whole = MemoryStore(SPACE.fingerprint)
    folded(whole, make_events(LOG))
    store = OvertakenStore(make_events(LOG[:theirs]), times=1)
    report = folded(store, make_events(ours))
    assert records(store) == records(whole)
    assert report.applied + report.duplicates == len(ours)


def test_what_another_consumer_applied_is_counted_as_duplicate(make_events: MakeEvents) -> None:
    store = OvertakenStore(make_events(LOG), times=1)
    report = folded(store, make_events(LOG[:3]))
    assert (report.applied, report.duplicates) == (1, 2), "only b is ours"


def test_a_store_that_always_refuses_ends_in_one_error(make_events: MakeEvents) -> None:
    store = RefusingStore(SPACE.fingerprint)
    with pytest.raises(StoreUnavailable, match="another consumer keeps overwriting 2 customers"):
        folded(store, make_events(LOG))
    assert store.saves == SAVE_ATTEMPTS
