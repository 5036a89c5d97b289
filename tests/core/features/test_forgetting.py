"""Who was away for longer than the time to live comes back as a new customer: by events alone."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.fold_plan import APPLIED, FORGOTTEN, REDELIVERED, Memory
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.features.state_codec import empty_states, pack
from stream_scorer.core.labels.as_of import KnownEvents, at_cutoffs, distinct, rows_at
from stream_scorer.core.labels.cutoffs import rows_at_cutoffs
from stream_scorer.core.labels.labels import LabelCollector, LabelRule

DAY = 86_400_000
START = 1_500_000_000_000
LIFE = 20 * DAY
MORTAL = Memory(event_ids=3, time_to_live_ms=LIFE)
SPACE = FeatureSpace.compile(
    [
        Feature("bought", by=("category_id",), half_lives=("2d", "inf")),
        Feature("spent", value="value", half_lives=("14d", "inf")),
        Feature("recency", kind="recency", by=("category_id",)),
        Feature("last", kind="latest", by=("category_id",)),
        Feature("first", kind="first"),
        Feature("overdue", kind="overdue", by=("category_id",)),
        Feature("hour", kind="calendar", by=("hour_of_day",)),
    ],
    {"category_id": ("soup", "bread", "milk")},
)

rows = st.builds(  # type: ignore[var-annotated]
    dict,
    customer=st.just("ann"),
    category=st.sampled_from(["soup", "bread", "milk"]),
    value=st.floats(-50, 50, width=32),
    at=st.integers(START, START + 150 * DAY),
    id=st.sampled_from("abcdefgh"),
    partition=st.integers(0, 1),
)
streams = st.lists(rows, min_size=1, max_size=25)


def folded(
    make_events: Any, stream: list[dict[str, Any]], memory: Memory = MORTAL,
    states: CustomerStates | None = None,
) -> fold.Applied:  # fmt: skip
    """The one customer after the stream, and what became of each event."""
    return fold.fold_events(
        states or empty_states(["ann"]), make_events(stream), np.zeros(len(stream), np.int32),
        SPACE, memory=memory,
    )  # fmt: skip


def numbered(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "offset": i} for i, row in enumerate(stream)]


def record(states: CustomerStates) -> bytes:
    return pack(states, SPACE.fingerprint)[0]


def without_sources(states: CustomerStates) -> bytes:
    """The record but for its offsets and its check word."""
    data = record(states)
    sources = int.from_bytes(data[4:8], "little")
    return data[8:36] + data[36 + 16 * sources : -4]


EARLY = {"customer": "ann", "category": "soup", "value": 3.3, "at": START, "id": "a", "offset": 0}
LATE = {"customer": "ann", "category": "bread", "value": 1.1, "id": "a", "offset": 1}


def test_after_the_time_to_live_a_customer_is_new(make_events: Any) -> None:
    late = {**LATE, "at": START + LIFE + 1}
    back = folded(make_events, [EARLY, late])
    assert back.outcome.tolist() == [APPLIED, APPLIED]  # its id is not remembered either
    assert record(back.states) == record(folded(make_events, [late]).states)


def test_just_within_the_time_to_live_all_is_kept(make_events: Any) -> None:
    stream = [EARLY, {**LATE, "at": START + LIFE, "id": "b"}]
    kept = folded(make_events, stream)
    assert record(kept.states) == record(folded(make_events, stream, Memory(3)).states)
    assert csr.build(kept.states, SPACE, kept.states.arrays.newest_ms)[0, SPACE.column("spent@inf")]


@settings(max_examples=60, deadline=None)
@given(stream=streams)
def test_without_a_time_to_live_nothing_changes(
    make_events: Any, stream: list[dict[str, Any]]
) -> None:
    stream = numbered(stream)
    ever = folded(make_events, stream, Memory(3)).states
    assert record(folded(make_events, stream, Memory(3, 151 * DAY)).states) == record(ever)


def test_an_event_of_a_forgotten_time_is_not_applied_and_does_not_come_again(
    make_events: Any,
) -> None:
    late = {**LATE, "at": START + LIFE + 1}
    old = {**EARLY, "offset": 2}
    first = folded(make_events, [late])
    applied = folded(make_events, [old], MORTAL, first.states)
    assert applied.outcome.tolist() == [FORGOTTEN]
    assert applied.changed.all()
    assert without_sources(applied.states) == without_sources(first.states)
    again = folded(make_events, [old], MORTAL, applied.states)
    assert again.outcome.tolist() == [REDELIVERED]


@settings(max_examples=150, deadline=None)
@given(stream=streams, cuts=st.lists(st.integers(0, 25), max_size=6))
def test_any_split_gives_the_same_record(
    make_events: Any, stream: list[dict[str, Any]], cuts: list[int]
) -> None:
    stream = numbered(stream)
    states = empty_states(["ann"])
    edges = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    for a, b in itertools.pairwise(edges):
        states = folded(make_events, stream[a:b], MORTAL, states).states
    assert record(states) == record(folded(make_events, stream).states)


@settings(max_examples=150, deadline=None)
@given(stream=streams)
def test_whether_redis_removed_the_forgotten_record_makes_no_difference(
    make_events: Any, stream: list[dict[str, Any]]
) -> None:
    """Nor does it when all that the removed record held is delivered again afterwards."""
    stream = sorted(numbered(stream), key=lambda row: int(row["at"]))
    for offset, row in enumerate(stream):
        row["offset"] = offset
    states = empty_states(["ann"])
    newest = None
    for row in stream:
        if newest is not None and row["at"] > newest + LIFE:
            states = empty_states(["ann"])
        states = folded(make_events, [row], MORTAL, states).states
        newest = row["at"]
    whole = folded(make_events, stream).states
    assert without_sources(states) == without_sources(whole)
    again = folded(make_events, stream, MORTAL, states)
    assert not (again.outcome == APPLIED).any()
    assert without_sources(again.states) == without_sources(whole)


def test_rows_of_the_past_forget_as_the_live_consumer_does(make_events: Any) -> None:
    """Snapshots, past scores and notebooks: one rule."""
    draw = np.random.default_rng(3)
    names = [f"c{i}" for i in range(40)]
    stream = [
        {"customer": names[draw.integers(40)], "category": "soup", "id": f"{draw.integers(200)}",
         "value": float(draw.random()), "at": START + int(at)}
        for at in np.sort(draw.integers(0, 200 * DAY, 250))
    ]  # fmt: skip
    events = make_events(numbered(stream))
    cutoffs = [START + days * DAY for days in (30, 90, 200)]
    labels = LabelCollector(LabelRule("category_id", (("purchase",),), DAY), ("soup",))
    known = KnownEvents.of(events, events.occurred_at_ms, MORTAL)
    for cutoff, shown in zip(
        cutoffs, rows_at_cutoffs(events, SPACE, labels, cutoffs, memory=MORTAL), strict=True
    ):
        before = events.take(np.flatnonzero(events.occurred_at_ms < cutoff))
        customer, ids = before.customer_id.intern()
        live = fold.fold_events(empty_states(ids), before, customer, SPACE, memory=MORTAL).states
        there = live.arrays.newest_ms >= cutoff - LIFE
        assert 0 < there.sum() < len(ids)
        assert sorted(shown.customer_ids) == sorted(np.array(ids)[there])
        matrix = csr.build(live, SPACE, np.full(len(ids), cutoff))
        moments = at_cutoffs(known, [cutoff])
        assert [known.customer_ids[c] for c in moments.customer] == sorted(shown.customer_ids)
        for at, past in rows_at(known, moments, SPACE):
            for row, moment in enumerate(at.tolist()):
                name = known.customer_ids[moments.customer[moment]]
                expected = matrix[ids.index(name)]
                assert (past[row] != expected).nnz == 0
                assert (shown.matrix[shown.customer_ids.index(name)] != expected).nnz == 0
        # Asked for all the same, a forgotten customer has no history.
        gone = known.customer_ids.index(np.array(ids)[~there][0])
        asked = distinct(np.array([gone], np.int32), np.array([cutoff]))
        ((_, row_of_gone),) = rows_at(known, asked, SPACE)
        assert [SPACE.column_name(c)[:4] for c in row_of_gone.indices] == ["hour"]


@pytest.mark.parametrize("age", [0, LIFE, LIFE + 1])
def test_a_customer_is_in_a_snapshot_until_the_time_to_live_is_over(
    make_events: Any, age: int
) -> None:
    labels = LabelCollector(LabelRule("category_id", (("purchase",),), DAY), ("soup",))
    events = make_events([EARLY])
    labels.add(events)
    (shown,) = rows_at_cutoffs(events, SPACE, labels, [START + 1 + age], memory=MORTAL)
    assert len(shown) == (1 + age <= LIFE)
