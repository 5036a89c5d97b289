"""Folding events into vectors: against a plain reference, one event at a time, in float64."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.fold_plan import (
    APPLIED,
    DUPLICATE_ID,
    REDELIVERED,
    Memory,
    plan_of,
)
from stream_scorer.core.features.space import Feature, FeatureSpace, parse_duration_ms
from stream_scorer.core.features.state import (
    CustomerStates,
    concatenate_states,
    source_positions,
    take,
)
from stream_scorer.core.features.state_codec import empty_states, pack, unpack
from stream_scorer.errors import FingerprintMismatch
from stream_scorer.runtime import Threads

DAY = 86_400_000
VOCABULARIES = {"category_id": ("soup", "bread", "milk"), "event_type": ("view", "purchase")}
SPACE = FeatureSpace.compile(
    [
        Feature("purchases", on=("purchase",), by=("category_id",), half_lives=("2d", "14d")),
        Feature("spend", on=("purchase",), value="value", half_lives=("14d", "inf")),
        Feature("seen", by=("category_id", "event_type"), half_lives=("1d",)),
        Feature("products", by=("product_id",), half_lives=("7d",), buckets=8),
        Feature("pairs", by=("product_id", "attributes.store"), half_lives=("7d",), buckets=8),
        Feature("recency", kind="recency", on=("purchase",), by=("category_id",)),
        Feature("fresh", kind="recency", half_lives=("3d",)),
        Feature("store", kind="latest", by=("attributes.store",), buckets=16),
        Feature("last_value", kind="latest", value="value"),
        Feature("since", kind="recency", by=("category_id",), half_lives=("1d", "30d", "inf")),
        Feature("begun", kind="first", on=("purchase",), by=("category_id",)),
        Feature("new", kind="first", by=("product_id",), buckets=8, half_lives=("7d", "90d")),
        Feature("gap", kind="gap", by=("category_id",), transform="log1p"),
        Feature("overdue", kind="overdue", by=("category_id",)),
        Feature("visits", kind="overdue", scale=0.5),
        Feature("hour", kind="calendar", by=("hour_of_day",), time_zone="America/New_York"),
    ],
    VOCABULARIES,
)
START = 1_500_000_000_000

rows = st.builds(  # type: ignore[var-annotated]
    dict,
    customer=st.sampled_from(["ann", "bob", "zoë"]),
    type=st.sampled_from(["view", "purchase"]),
    category=st.sampled_from([None, "soup", "bread", "milk", "unheard of"]),
    product=st.sampled_from([None, "p1", "p2", "p3"]),
    value=st.one_of(st.none(), st.floats(-50, 50, width=32)),
    at=st.integers(START, START + 100 * DAY),
    attributes=st.sampled_from([{}, {"store": "1"}, {"store": "2", "other": "x"}]),
)
streams = st.lists(rows, min_size=1, max_size=40)


def fold_all(make_events: Any, stream: list[dict[str, Any]], cuts: list[int]) -> CustomerStates:
    """States of the three customers after the stream, folded in batches cut at `cuts`."""
    states = empty_states(["ann", "bob", "zoë"])
    numbered = [{**row, "offset": i} for i, row in enumerate(stream)]
    edges = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    for a, b in itertools.pairwise(edges):
        events = make_events(numbered[a:b])
        customer = np.array([states.customer_ids.index(r["customer"]) for r in numbered[a:b]])
        states = fold.fold_events(states, events, customer.astype(np.int32), SPACE).states
    return states


def key_of(feature: Feature, row: dict[str, Any]) -> int | None:
    """The feature's key of one event, None where the feature does not see it."""
    texts = {
        "category_id": row["category"],
        "event_type": row["type"],
        "product_id": row["product"],
        "attributes.store": row["attributes"].get("store"),
    }
    if (feature.on and row["type"] not in feature.on) or feature.kind == "calendar":
        return None
    if feature.value == "value" and row["value"] is None:
        return None
    found = [text for text in (texts[name] for name in feature.by) if text is not None]
    if len(found) < len(feature.by):
        return None
    if feature.buckets:
        joined = "".join(f"{len(text)}:{text}" for text in found)
        return int(xxhash.xxh64_intdigest(joined.encode()) % feature.buckets)
    key = 0
    for name, text in zip(feature.by, found, strict=True):
        if text not in VOCABULARIES[name]:
            return None
        key = key * len(VOCABULARIES[name]) + VOCABULARIES[name].index(text)
    return key


def reference(stream: list[dict[str, Any]], customer: str, as_of: int) -> dict[int, float]:
    """The design's formula, event by event: w * 2^-((t - e) / h)."""
    vector: dict[int, float] = defaultdict(float)
    for block in SPACE.blocks:
        feature, h = SPACE.features[block.feature], block.half_life_ms
        stamps: dict[int, tuple[int, int, float]] = {}
        moments: dict[int, list[int]] = defaultdict(list)
        for row in (r for r in stream if r["customer"] == customer):
            key = key_of(feature, row)
            if key is None:
                continue
            weight = row["value"] if feature.value == "value" else 1.0
            column = block.start + key
            moments[column].append(row["at"])
            if feature.kind == "decayed":
                vector[column] += weight * (2 ** -((as_of - row["at"]) / h) if h else 1.0)
            else:
                slot = 0 if feature.kind == "latest" else column
                stamps[slot] = max(stamps.get(slot, (0, 0, 0.0)), (row["at"], column, weight))
        for at, column, weight in stamps.values():
            days = (as_of - at) / DAY
            recency = 2 ** -((as_of - at) / h) if h else days
            if feature.kind in ("latest", "recency"):
                vector[column] = weight if feature.kind == "latest" else recency
        for column, at_ms in moments.items():
            first, last = min(at_ms), max(at_ms)
            age = (as_of - first) / DAY
            gap = (last - first) / DAY / max(len(at_ms) - 1, 1)
            if feature.kind == "first":
                vector[column] = 2 ** -(age * DAY / h) if h else age
            elif feature.kind == "gap":
                vector[column] = math.log1p(gap)
            elif feature.kind == "overdue" and gap:
                vector[column] = min((as_of - last) / DAY / gap, 100.0) * feature.scale
        if feature.kind == "calendar":
            hour = (as_of // 3_600_000 - 4) % 24  # eastern daylight time, which all streams lie in
            vector[block.start + hour] = 1.0
    return vector


@settings(max_examples=150, deadline=None)
@given(stream=streams)
def test_vectors_equal_the_plain_formula(make_events: Any, stream: list[dict[str, Any]]) -> None:
    states = fold_all(make_events, stream, [])
    as_of = np.full(3, max(r["at"] for r in stream) + DAY // 2)
    matrix = csr.build(states, SPACE, as_of)
    assert matrix.has_canonical_format
    for row, customer in enumerate(states.customer_ids):
        dense = matrix[row].toarray().ravel()
        expected = np.zeros(SPACE.width)
        for column, value in reference(stream, customer, int(as_of[0])).items():
            expected[column] = value
        scale = np.array([sum(abs(r["value"] or 1) for r in stream) + 1.0])
        np.testing.assert_allclose(dense, expected, atol=4e-6 * float(scale[0]), rtol=1e-5)


@settings(max_examples=100, deadline=None)
@given(stream=streams, cuts=st.lists(st.integers(0, 40), max_size=6))
def test_any_batch_split_gives_the_same_vectors(
    make_events: Any, stream: list[dict[str, Any]], cuts: list[int]
) -> None:
    whole = pack(fold_all(make_events, stream, []), SPACE.fingerprint)
    assert pack(fold_all(make_events, stream, cuts), SPACE.fingerprint) == whole


@settings(max_examples=60, deadline=None)
@given(stream=streams, random=st.randoms(use_true_random=False))
def test_order_does_not_matter(make_events: Any, stream: list[dict[str, Any]], random: Any) -> None:
    shuffled = list(stream)
    random.shuffle(shuffled)
    as_of = np.full(3, max(r["at"] for r in stream), np.int64)
    one = csr.build(fold_all(make_events, stream, []), SPACE, as_of).toarray()
    other = csr.build(fold_all(make_events, shuffled, []), SPACE, as_of).toarray()
    scale = sum(abs(r["value"] or 1) for r in stream) + 1.0
    np.testing.assert_allclose(one, other, atol=4e-6 * scale, rtol=1e-5)


@pytest.mark.parametrize("remember", [0, 2])
def test_threads_change_nothing(
    make_events: Any, monkeypatch: pytest.MonkeyPatch, remember: int
) -> None:
    monkeypatch.setattr(fold, "EVENTS_PER_WORKER", 50)
    draw = np.random.default_rng(1)
    customer = np.minimum(draw.integers(60, size=900), 40).astype(np.int32)  # 40 has a third
    events = make_events(
        [
            {"customer": "x", "category": ("soup", "bread")[i % 2], "at": START + int(at),
             "value": 1.5, "id": f"{i % 700}"}
            for i, at in enumerate(draw.integers(400 * DAY, size=900))
        ]
    )  # fmt: skip
    before = empty_states([str(i) for i in range(61)])
    found = []
    for threads in (1, 2, 3, 7, 18):
        once = fold.fold_events(
            before, events, customer, SPACE, memory=Memory(remember), workers=Threads(threads)
        )
        rest = fold.fold_events(
            once.states,
            events,
            customer,
            SPACE,
            memory=Memory(remember),
            workers=Threads(threads),
        )
        found.append(
            [pack(once.states, 1), once.outcome.tolist(), once.changed.tolist(),
             pack(rest.states, 1), rest.outcome.tolist()]
        )  # fmt: skip
    assert all(one == found[0] for one in found)


def test_a_sum_that_comes_to_nothing_is_no_entry(make_events: Any) -> None:
    at = {"customer": "ann", "category": "soup", "at": START}
    events = make_events([{**at, "value": 5.0}, {**at, "value": -5.0}, {**at, "value": 3.0}])
    space = FeatureSpace.compile([Feature("money", by=("category_id",), value="value")],
                                 VOCABULARIES)  # fmt: skip
    two, three = (
        fold.fold_events(
            empty_states(["ann"]), events.take(np.arange(n)), np.zeros(n, np.int32), space
        )
        for n in (2, 3)
    )
    assert two.states.arrays.sum_column.tolist() == []
    assert three.states.arrays.sum_value.tolist() == [3.0]
    last = fold.fold_events(two.states, events.take(np.array([2])), np.zeros(1, np.int32), space)
    assert pack(last.states, 1) == pack(three.states, 1)


def test_more_columns_than_the_table_of_last_positions_has_entries(make_events: Any) -> None:
    """Columns share an entry of the table; the position that it has is checked."""
    space = FeatureSpace.compile(
        [Feature("seen", by=("product_id",), buckets=2**20, half_lives=("1d", "inf"))], {}
    )
    products = [f"p{i}" for i in np.random.default_rng(2).integers(3000, size=6000)]
    events = make_events([{"customer": "a", "product": p, "at": START} for p in products])
    arrays = fold.fold_events(
        empty_states(["a"]), events, np.zeros(6000, np.int32), space
    ).states.arrays
    sums: dict[int, int] = defaultdict(int)
    for p in products:
        sums[2**20 + xxhash.xxh64_intdigest(f"{len(p)}:{p}".encode()) % 2**20] += 1
    lifetime = arrays.sum_column >= 2**20
    assert dict(zip(arrays.sum_column[lifetime].tolist(), arrays.sum_value[lifetime].tolist(),
                    strict=True)) == sums  # fmt: skip
    assert (np.diff(arrays.sum_column.astype(np.int64)) > 0).all()


def test_event_applied_twice_changes_nothing(make_events: Any) -> None:
    events = make_events(
        [{"customer": "ann", "category": "soup", "at": START + i} for i in range(5)]
    )
    customer = np.zeros(5, np.int32)
    once = fold.fold_events(empty_states(["ann"]), events, customer, SPACE)
    twice = fold.fold_events(once.states, events, customer, SPACE)
    assert once.outcome.tolist() == [APPLIED] * 5
    assert twice.outcome.tolist() == [REDELIVERED] * 5
    assert once.changed.all()
    assert not twice.changed.any()
    assert pack(twice.states, 1) == pack(once.states, 1)


def test_offsets_are_kept_for_each_partition(make_events: Any) -> None:
    events = make_events(
        [
            {"customer": "ann", "at": START, "partition": 0, "offset": 7},
            {"customer": "ann", "at": START, "partition": 3, "offset": 2},
            {"customer": "bob", "at": START, "partition": 3, "offset": 1},
        ]
    )
    customer = np.array([0, 0, 1], np.int32)
    states = fold.fold_events(empty_states(["ann", "bob"]), events, customer, SPACE).states
    index, offset = source_positions(states, [("events", 3), ("events", 0)])
    assert index.tolist() == [1, 0]
    assert offset.tolist() == [7, 1]
    again = fold.fold_events(states, events, customer, SPACE)
    assert again.outcome.tolist() == [REDELIVERED] * 3


def test_customers_without_any_source_have_no_position() -> None:
    index, offset = source_positions(empty_states(["ann", "bob"]), [("events", 0)])
    assert index.tolist() == offset.tolist() == [-1, -1]


def test_an_event_id_among_the_last_k_is_not_counted_again(make_events: Any) -> None:
    ids = ["a", "b", "a", "c", "d", "a"]
    events = make_events([{"customer": "ann", "id": i, "at": START} for i in ids])
    states = empty_states(["ann"])
    outcome = []
    for row in range(len(ids)):  # one batch each: memory is in the record, not in the batch
        one = events.take(np.array([row]))
        applied = fold.fold_events(states, one, np.zeros(1, np.int32), SPACE, memory=Memory(3))
        states = unpack(["ann"], pack(applied.states, 5), 5)
        outcome += applied.outcome.tolist()
    d, a = DUPLICATE_ID, APPLIED
    assert outcome == [a, a, d, a, a, a]  # the last "a" fell out of the three remembered


@pytest.mark.parametrize("remember", [1, 2, 3])
def test_exactly_the_last_k_event_ids_are_remembered(make_events: Any, remember: int) -> None:
    ids = [f"e{i}" for i in range(remember + 2)]
    stream = [{"customer": "ann", "id": i, "at": START, "offset": o} for o, i in enumerate(ids)]
    customer = np.zeros(len(ids), np.int32)
    states = fold.fold_events(
        empty_states(["ann"]), make_events(stream), customer, SPACE, memory=Memory(remember)
    ).states
    for back, known in [(remember, True), (remember + 1, False)]:
        again = make_events([{**stream[-back], "offset": len(ids)}])
        outcome = fold.fold_events(
            states, again, np.zeros(1, np.int32), SPACE, memory=Memory(remember)
        ).outcome
        assert outcome.tolist() == [DUPLICATE_ID if known else APPLIED], f"{back} ids back"


def test_sums_fade_to_nothing_over_a_century_without_events(make_events: Any) -> None:
    stream = [{"customer": "ann", "category": "soup", "at": START, "value": None}]
    stream += [{**stream[0], "category": "bread", "at": START + 36_500 * DAY}]
    events = make_events(stream)
    states = fold.fold_events(empty_states(["ann"]), events, np.zeros(2, np.int32), SPACE).states
    matrix = csr.build(states, SPACE, states.arrays.newest_ms)
    names = {SPACE.column_name(c): v for c, v in zip(matrix.indices, matrix.data, strict=True)}
    assert names["purchases@2d[category_id=bread]"] == pytest.approx(1.0)
    assert "purchases@14d[category_id=soup]" not in names
    assert names["recency[category_id=soup]"] == pytest.approx(36_500.0)


@settings(max_examples=50, deadline=None)
@given(stream=streams)
def test_records_survive_packing(make_events: Any, stream: list[dict[str, Any]]) -> None:
    states = fold_all(make_events, stream, [])
    records = pack(states, SPACE.fingerprint)
    back = unpack(states.customer_ids, records, SPACE.fingerprint)
    assert all(np.array_equal(a, b) for a, b in zip(states.arrays, back.arrays, strict=True))  # type: ignore[arg-type]
    order = np.array([2, 0, 1])
    assert pack(take(back, order), SPACE.fingerprint) == [records[i] for i in order]
    assert (
        pack(concatenate_states(back, take(back, order[:1])), 0)[3] == pack(take(back, order), 0)[0]
    )


@pytest.mark.parametrize("damage", [lambda r: r[:-4], lambda r: b"\2" + r[1:], lambda r: r[:3]])
def test_a_damaged_record_names_its_customer(make_events: Any, damage: Any) -> None:
    record = pack(fold_all(make_events, [{"customer": "ann", "at": START}], []), 9)[0]
    with pytest.raises(FingerprintMismatch, match="ann"):
        unpack(["bob", "ann"], [None, damage(record)], 9)
    with pytest.raises(FingerprintMismatch, match="replay"):
        unpack(["ann"], [record], 10)


def test_landmarks_move_exactly(make_events: Any) -> None:
    """Many half-lives in small steps end bit-identical to one leap: doubling is exact."""
    first = {"customer": "ann", "category": "soup", "at": START, "value": 3.3, "type": "purchase",
             "product": None, "attributes": {}}  # fmt: skip
    last = {**first, "category": "bread", "at": START + 40 * DAY}
    steps = [{**first, "category": "milk", "at": START + i * DAY} for i in range(1, 40)]
    small = fold_all(make_events, [first, *steps, last], [])
    leap = fold_all(make_events, [first, last], [])
    column = next(b.start for b in SPACE.blocks if b.name == "purchases@14d")
    as_of = np.full(3, START + 40 * DAY, np.int64)
    values = [csr.build(s, SPACE, as_of)[0, column] for s in (small, leap)]
    assert values[0] == values[1] > 0
    assert math.isclose(values[0], 2 ** (-40 / 14), rel_tol=1e-6)
    assert parse_duration_ms("14d") == 14 * DAY


def test_the_plan_is_made_once_for_a_space() -> None:
    """A micro-batch must not pay for the declaration again."""
    assert SPACE.derived(plan_of) is SPACE.derived(plan_of)
    assert SPACE.derived(lambda space: space.width) == SPACE.width
