"""Who is erased on request stays out by the boundary in the record, whatever comes again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features import fold
from stream_scorer.core.features.erasure import (
    boundary_sources,
    erased_and_gone,
    erased_ms,
    erased_states,
)
from stream_scorer.core.features.fold_plan import APPLIED, ERASED, REDELIVERED, Memory
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates, split_customers
from stream_scorer.core.features.state_codec import empty_states, pack, unpack
from stream_scorer.errors import FingerprintMismatch

SPACE = FeatureSpace.compile([Feature("events", half_lives=("1d", "inf"))], {})
BOUNDARY = 5_000
PRINT = SPACE.fingerprint


def folded(
    make_events: Any,
    states: CustomerStates,
    *events: tuple[int, int],
    memory: Memory = fold.REMEMBER_ALL,
) -> fold.Applied:
    """events: offset and occurred_ms of each, all of the first customer."""
    rows = [{"customer": states.customer_ids[0], "offset": o, "at": at} for o, at in events]
    customer = np.zeros(len(rows), np.int32)
    return fold.fold_events(states, make_events(rows), customer, SPACE, memory=memory)


def erased(customer: str = "ann") -> CustomerStates:
    return erased_states([customer], np.array([BOUNDARY]))


def test_events_up_to_the_boundary_change_nothing_but_their_offsets(make_events: Any) -> None:
    done = folded(make_events, erased(), (3, BOUNDARY - 1), (4, BOUNDARY), (5, BOUNDARY + 1))
    assert done.outcome.tolist() == [ERASED, ERASED, APPLIED]
    alone = folded(make_events, erased(), (5, BOUNDARY + 1))
    assert pack(done.states, PRINT) == pack(alone.states, PRINT)
    assert folded(make_events, done.states, (4, BOUNDARY)).outcome.tolist() == [REDELIVERED]


def test_only_late_events_leave_a_customer_without_a_vector(make_events: Any) -> None:
    states = folded(make_events, erased(), (3, BOUNDARY)).states
    assert erased_and_gone(states).tolist() == [True]
    assert states.arrays.newest_ms.tolist() == [NEVER]
    assert not len(states.arrays.sum_column)
    assert erased_and_gone(folded(make_events, states, (4, BOUNDARY + 1)).states).tolist() == [
        False
    ]


def test_a_customer_who_comes_back_keeps_the_boundary(make_events: Any) -> None:
    states = folded(make_events, erased(), (3, BOUNDARY + 10)).states
    assert erased_ms(states).tolist() == [BOUNDARY]
    assert folded(make_events, states, (9, BOUNDARY - 10)).outcome.tolist() == [ERASED]


def test_the_time_to_live_does_not_end_an_erasure(make_events: Any) -> None:
    mortal = Memory(time_to_live_ms=100)
    states = folded(make_events, erased(), (3, BOUNDARY + 10), memory=mortal).states
    later = folded(make_events, states, (4, BOUNDARY + 1000), memory=mortal).states
    assert erased_ms(later).tolist() == [BOUNDARY]


def test_any_split_into_batches_gives_the_same_record(make_events: Any) -> None:
    events = [(i, BOUNDARY + (i * 7 % 11) - 5) for i in range(30)]
    whole = folded(make_events, erased(), *events).states
    states = erased()
    for event in events:
        states = folded(make_events, states, event).states
    assert pack(states, PRINT) == pack(whole, PRINT)


def test_the_boundary_is_stored_and_read(make_events: Any) -> None:
    came_back = folded(make_events, erased("zoë"), (3, BOUNDARY + 1)).states
    for states in (erased("zoë"), came_back):
        (record,) = pack(states, PRINT)
        assert record[0] == 3
        again = unpack(["zoë"], [record], PRINT)
        assert pack(again, PRINT) == [record]
        assert erased_ms(again).tolist() == [BOUNDARY]


def test_records_of_before_are_read_and_written_as_they_were(make_events: Any) -> None:
    states = folded(make_events, empty_states(["ann"]), (3, 10)).states
    (record,) = pack(states, PRINT)
    assert record[0] == 1
    assert erased_ms(states).tolist() == [NEVER]
    assert not boundary_sources(states.arrays).any()


def test_a_record_of_a_later_version_is_refused(make_events: Any) -> None:
    (record,) = pack(folded(make_events, erased(), (3, BOUNDARY + 1)).states, PRINT)
    with pytest.raises(FingerprintMismatch, match="of another version"):
        unpack(["ann"], [b"\x05" + record[1:]], PRINT)


def test_the_boundary_is_no_second_partition(make_events: Any) -> None:
    assert split_customers(folded(make_events, erased(), (3, BOUNDARY + 1)).states) == 0
