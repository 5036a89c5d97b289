"""Sums of very many events: right far beyond the 24 bits of a float32, however they were cut."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.fold_plan import Stream
from stream_scorer.core.features.fold_sums import WIDE
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import CustomerStates, concatenate_states, take
from stream_scorer.core.features.state_codec import empty_states, pack, unpack
from stream_scorer.errors import FingerprintMismatch

DAY = 86_400_000
START = 1_793_000_000_000
SPACE = FeatureSpace.compile(
    [
        Feature("bought", by=("category_id",), half_lives=("2d", "inf")),
        Feature("spent", value="value", half_lives=("14d", "inf")),
    ],
    {"category_id": ("bread", "milk")},
)
SPENT = SPACE.column("spent@inf")


@pytest.fixture
def stream_of_one(make_events: Any) -> Any:
    """Makes the stream of n events of one customer: values (n,), times (n,) ms."""

    def make(values: Any, at_ms: Int64, first_offset: int = 0) -> Stream:
        n = len(at_ms)
        one = make_events([{"customer": "guest", "category": "bread", "value": 1.0, "at": START}])
        events = one.take(np.zeros(n, np.int64))
        stream, _ = fold.stream_of(events, np.zeros(n, np.int32), SPACE, fold.REMEMBER_ALL)
        return stream._replace(
            numbers=np.ascontiguousarray(values, np.float64)[:, None].copy(),
            occurred_ms=at_ms.astype(np.int64),
            offset=np.arange(first_offset, first_offset + n, dtype=np.int64),
        )

    return make


def folded(states: CustomerStates, stream: Stream, cuts: list[int] | None = None) -> CustomerStates:
    """The states after the stream, folded in batches cut at `cuts`."""
    edges = [0, *(cuts or []), len(stream.customer)]
    for a, b in itertools.pairwise(edges):
        states = fold.fold_stream(states, stream.take(np.arange(a, b)), SPACE).states
    return states


def shown(states: CustomerStates) -> dict[str, float]:
    """The customer's vector as of its newest event."""
    row = csr.build(states, SPACE, states.arrays.newest_ms)
    return {SPACE.column_name(c): float(v) for c, v in zip(row.indices, row.data, strict=True)}


def test_twenty_million_events_of_one_customer_add_up(stream_of_one: Any) -> None:
    n, batches = 250_000, 80
    stream = stream_of_one(np.full(n, 0.1), np.full(n, START))
    states = empty_states(["guest"])
    for batch in range(batches):
        offsets = np.arange(batch * n, (batch + 1) * n, dtype=np.int64)
        states = fold.fold_stream(states, stream._replace(offset=offsets), SPACE).states
    total = n * batches
    assert total > 2**24
    expected = {
        "bought@2d[category_id=bread]": total, "bought@inf[category_id=bread]": total,
        "spent@14d": 0.1 * total, "spent@inf": 0.1 * total,
    }  # fmt: skip
    assert shown(states) == pytest.approx(expected, rel=1e-6)


def bound(n: int, began: int) -> float:
    """Relative error of n equal addends whose low part began with addition `began`; the bound of
    fold_sums.py."""
    plain = min(n, began)
    return plain**2 / n * 2.0**-25 + n * 2.0**-49


def whole_sums(states: CustomerStates, column: int) -> tuple[Any, Any]:
    """Of each customer the sum as a double, with its low part, and whether it has one."""
    arrays = states.arrays
    sums, low = np.zeros(len(states.customer_ids)), np.zeros(len(states.customer_ids))
    has_low = np.zeros(len(sums), np.bool_)
    for c in range(len(sums)):
        at = slice(arrays.sum_at[c], arrays.sum_at[c + 1])
        (found,) = np.flatnonzero(arrays.sum_column[at] == column)
        sums[c] = arrays.sum_value[at][found]
        at = slice(arrays.low_at[c], arrays.low_at[c + 1])
        for found in np.flatnonzero(arrays.low_column[at] == column):
            low[c], has_low[c] = arrays.low_value[at][found], True
    return sums + low, has_low


def test_sums_of_equal_addends_stay_within_the_bound_that_is_stated(stream_of_one: Any) -> None:
    customers, at_a_time, times = 60, 500, 60
    draw = np.random.default_rng(11)
    addends = np.round(draw.uniform(0.01, 500, customers), 2).astype(np.float32)
    addends[:4] = 0.1, 1 / 3, 19.99, 1e-3
    n = customers * at_a_time
    batch = stream_of_one(np.repeat(addends, at_a_time), np.full(n, START))._replace(
        customer=np.repeat(np.arange(customers, dtype=np.int32), at_a_time)
    )
    states = empty_states([str(c) for c in range(customers)])
    began = np.full(customers, at_a_time * times)
    largest = 0.0
    for done in range(times):
        offsets = np.arange(done * n, (done + 1) * n, dtype=np.int64)
        states = fold.fold_stream(states, batch._replace(offset=offsets), SPACE).states
        count = (done + 1) * at_a_time
        sums, has_low = whole_sums(states, SPENT)
        began[has_low] = np.minimum(began[has_low], count)
        errors = np.abs(sums / (count * addends.astype(np.float64)) - 1)
        largest = max(largest, float(errors.max()))
        assert all(errors[c] <= bound(count, int(began[c])) for c in range(customers))
    assert began.max() < at_a_time * times  # every low part has begun
    assert began.min() > WIDE
    assert largest > 1e-5  # of a few thousand events 1e-5 would not be true
    assert bound(10**8, 40_354) < 1e-6


def test_additions_beyond_a_hundred_million_events_are_off_by_next_to_nothing(
    stream_of_one: Any,
) -> None:
    n, batches, before = 250_000, 4, 10**8
    addend = np.float32(0.1)
    heavy = stream_of_one(np.full(40_000, addend), np.full(40_000, START))
    states = folded(empty_states(["guest"]), heavy)
    exact = before * np.float64(addend)
    (at,) = np.flatnonzero(states.arrays.sum_column == SPENT)
    (low_at,) = np.flatnonzero(states.arrays.low_column == SPENT)
    states.arrays.sum_value[at] = np.float32(exact)
    states.arrays.low_value[low_at] = np.float32(exact - np.float64(np.float32(exact)))
    start = float(whole_sums(states, SPENT)[0][0])
    stream = stream_of_one(np.full(n, addend), np.full(n, START))
    for number in range(batches):
        offsets = np.arange(n, dtype=np.int64) + before + number * n
        states = fold.fold_stream(states, stream._replace(offset=offsets), SPACE).states
    added = n * batches
    expected = start + added * float(addend)
    found = float(whole_sums(states, SPENT)[0][0])
    assert abs(found - expected) <= added * 2.0**-48 * expected
    assert shown(states)["spent@inf"] == pytest.approx((before + added) * float(addend), rel=1e-7)


def test_any_split_of_many_decaying_events_gives_the_same_record(stream_of_one: Any) -> None:
    draw = np.random.default_rng(5)
    n = 300_000
    # Out of order as well, and over 60 days, so that landmarks move under the low parts.
    at = START + np.sort(draw.integers(0, 60 * DAY, n)) - draw.integers(0, 3 * DAY, n)
    stream = stream_of_one(draw.normal(20, 9, n), at)
    whole = folded(empty_states(["guest"]), stream)
    assert len(whole.arrays.low_value) > 1
    for pieces in (7, 400):
        cuts = sorted(draw.integers(0, n, pieces).tolist())
        assert pack(folded(empty_states(["guest"]), stream, cuts), 1) == pack(whole, 1)
    exact = {"14d": 14 * DAY, "inf": None}
    newest = int(whole.arrays.newest_ms[0])
    for half_life, ms in exact.items():
        decay = np.exp2(-((newest - at) / ms)) if ms else np.ones(n)
        expected = float(np.sum(stream.numbers[:, 0] * decay))
        assert shown(whole)[f"spent@{half_life}"] == pytest.approx(expected, rel=3e-6)


def test_ordinary_customers_keep_the_records_of_before(stream_of_one: Any) -> None:
    draw = np.random.default_rng(6)
    n, with_low_parts = 500, 0
    for _ in range(200):
        values = draw.uniform(0.5, 40, n).round(2)
        stream = stream_of_one(values, START + np.arange(n) * DAY // 9)
        states = folded(empty_states(["ann"]), stream)
        (record,) = pack(states, 1)
        with_low_parts += record[0] != 1
        sums = dict(zip(states.arrays.sum_column.tolist(), states.arrays.sum_value, strict=True))
        plain = np.cumsum(values.astype(np.float32), dtype=np.float32)[-1]
        assert sums[SPENT] == pytest.approx(plain, rel=1e-6)
        if record[0] == 1:
            assert sums[SPENT] == plain
    # A tiny addend after a large sum begins one now and then; hardly ever.
    assert with_low_parts <= 4


def test_a_count_goes_on_beyond_sixteen_million(stream_of_one: Any) -> None:
    states = folded(empty_states(["guest"]), stream_of_one(np.full(2, 1.0), np.full(2, START)))
    states.arrays.sum_value[:] = np.float32(2**24)
    # One at a time: whether a batch ends in between must not matter.
    for offset in range(2, 102):
        states = folded(states, stream_of_one(np.ones(1), np.full(1, START), offset))
    assert (
        shown(states)["spent@inf"] == shown(states)["bought@inf[category_id=bread]"] == 2**24 + 100
    )


def test_a_sum_and_its_low_part_fade_by_the_same_power_of_two(stream_of_one: Any) -> None:
    n = 6 * int(WIDE)
    draw = np.random.default_rng(7)
    heavy = folded(empty_states(["guest"]), stream_of_one(draw.uniform(1, 2, n), np.full(n, START)))
    later = folded(heavy, stream_of_one([0.0], np.full(1, START + 140 * DAY), n))
    low = dict(zip(heavy.arrays.low_column.tolist(), heavy.arrays.low_value, strict=True))
    column = SPACE.column("spent@14d")
    moved = (START + 140 * DAY) // (14 * DAY) - START // (14 * DAY)
    faded = dict(zip(later.arrays.low_column.tolist(), later.arrays.low_value, strict=True))
    assert faded[column] == low[column] * 2.0**-moved != 0


def test_low_parts_survive_packing_and_copying(stream_of_one: Any) -> None:
    n = 6 * int(WIDE)
    draw = np.random.default_rng(8)
    stream = stream_of_one(draw.uniform(1, 2, n), np.full(n, START))
    guest = folded(empty_states(["guest"]), stream)
    ann = folded(empty_states(["ann"]), stream.take(np.arange(3)))
    both = concatenate_states(concatenate_states(guest, ann), guest)
    records = pack(both, 9)
    assert [r[0] for r in records] == [2, 1, 2]
    back = unpack(both.customer_ids, records, 9)
    assert all(np.array_equal(a, b) for a, b in zip(both.arrays, back.arrays, strict=True))  # type: ignore[arg-type]
    assert pack(take(back, np.array([1, 2])), 9) == records[1:]
    # A customer without events in a batch is copied as it is.
    other = stream.take(np.arange(1))._replace(
        customer=np.array([1], np.int32), offset=np.array([n])
    )
    assert pack(fold.fold_stream(back, other, SPACE).states, 9)[::2] == records[::2]
    with pytest.raises(FingerprintMismatch, match="guest"):
        unpack(["guest"], [records[0][:-4]], 9)
    with pytest.raises(FingerprintMismatch, match="ann"):
        unpack(["ann"], [b"\2" + records[1][1:]], 9)
