"""Distributions of training and of live rows as bins, and how far one is from the other."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.drift.blocks import amounts, quantile_edges
from stream_scorer.core.drift.counts import Binning, DriftCounts
from stream_scorer.core.drift.followed import customer_hashes
from stream_scorer.core.drift.reference import DriftReference, reference_of
from stream_scorer.core.drift.stability import (
    LEAST_ROWS,
    by_chance,
    psi,
    psi_of_counts,
    state_of,
)
from stream_scorer.core.drift.summary import BlockDrift, block_drifts
from stream_scorer.core.features.space import Feature, FeatureSpace

SPACE = FeatureSpace.compile(
    [
        Feature("bought", on=("purchase",), by=("category_id",), half_lives=("2d", "14d")),
        Feature("total", half_lives=("7d",)),
        Feature("hour", kind="calendar", by=("hour_of_day",)),
    ],
    {"category_id": tuple(f"c{n}" for n in range(30))},
)


def rows(count: int, seed: int, factor: float = 1.0) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Sparse rows and their scores; factor: of all amounts of the feature `total`."""
    draw = np.random.default_rng(seed)
    dense = np.where(draw.random((count, SPACE.width)) < 0.1, draw.random((count, SPACE.width)), 0)
    total = next(b for b in SPACE.blocks if b.name == "total")
    dense[:, total.start] = factor * draw.exponential(size=count)
    hour = next(b for b in SPACE.blocks if b.name == "hour")
    dense[:, hour.start : hour.stop] = np.eye(24)[draw.integers(0, 24, count)]
    p = draw.beta(1, 20, (count, 5)).astype(np.float32)
    return sparse.csr_matrix(dense.astype(np.float32)), p


def reference(count: int = 20_000) -> DriftReference:
    matrix, p = rows(count, 1)
    ones = np.ones(count, np.float32)
    return reference_of(SPACE, (matrix, ones, "event"), (p, ones, "event", "validation"))


def block_psi(ours: DriftReference, live: DriftCounts, name: str) -> float:
    at = [b.name for b in ours.blocks].index(name)
    shares = np.array(ours.blocks[at].shares)
    found = psi_of_counts(shares, ours.rows, live.amounts[at, : len(shares)])
    assert found is not None
    return found


def same(one: DriftCounts, other: DriftCounts) -> bool:
    return one.as_json() == other.as_json()


def test_psi_is_the_published_formula() -> None:
    # By hand: (0.4 - 0.5) ln(0.4 / 0.5) + (0.6 - 0.5) ln(0.6 / 0.5).
    expected = 0.1 * math.log(1.25) + 0.1 * math.log(1.2)
    assert psi(np.array([0.5, 0.5]), np.array([0.4, 0.6])) == pytest.approx(expected)
    assert psi(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0
    # Ten bins of a tenth each, of which two exchanged half of theirs: 2 * 0.05 * ln(3).
    even, moved = np.full(10, 0.1), np.array([0.05, 0.15, *[0.1] * 8])
    by_hand = -0.05 * math.log(0.5) + 0.05 * math.log(1.5)
    assert psi(even, moved) == pytest.approx(by_hand)
    assert psi(moved, even) == pytest.approx(by_hand), "it is symmetric"


def test_empty_bins_do_not_make_it_infinite() -> None:
    found = psi_of_counts(np.array([0.5, 0.5, 0.0]), 1_000, np.array([0, 1_000, 0]))
    # (0.5 / 1001, 1000.5 / 1001) against (500.5 / 1001, 500.5 / 1001).
    low, high, half = 0.5 / 1_001, 1_000.5 / 1_001, 0.5
    by_hand = (low - half) * math.log(low / half) + (high - half) * math.log(high / half)
    assert found == pytest.approx(by_hand)
    assert psi_of_counts(np.array([0.5, 0.5]), 1_000, np.zeros(2, np.int64)) is None


@pytest.mark.parametrize(
    ("value", "row_count", "act", "state"),
    [
        (0.09, LEAST_ROWS, 0.25, "stable"),
        (0.1, LEAST_ROWS, 0.25, "watch"),
        (0.25, LEAST_ROWS, 0.25, "drifted"),
        (0.06, LEAST_ROWS, 0.05, "drifted"),
        (9.0, LEAST_ROWS - 1, 0.25, "too_few_rows"),
        (None, LEAST_ROWS, 0.25, "not_judged"),
    ],
)
def test_states_follow_the_thresholds(
    value: float | None, row_count: int, act: float, state: str
) -> None:
    assert state_of(value, row_count, act) == state


@pytest.mark.parametrize(
    ("value", "act", "state"),
    [
        (0.05, 0.25, "stable"),
        (0.2, 0.25, "too_few_rows"),
        (0.31, 0.25, "drifted"),
        (0.31, 0.5, "watch"),
        (0.29, 0.25, "too_few_rows"),
        (0.02, 0.01, "too_few_rows"),
    ],
)
def test_what_chance_may_have_made_is_not_judged_however_large(
    value: float, act: float, state: str
) -> None:
    chance = by_chance(11, 20_000, 100)
    assert 0.29 < chance.limit < 0.31, "29.6, of ten degrees of freedom, over 100"
    assert state_of(value, 5_000, act, chance) == state


@pytest.mark.parametrize(("bins", "expected", "actual"), [(11, 20_000, 150), (25, 20_000, 1_000)])
def test_chance_is_what_samples_of_the_same_distribution_show(
    bins: int, expected: int, actual: int
) -> None:
    draw = np.random.default_rng(4)
    shares = draw.dirichlet(np.full(bins, 5.0))
    values = []
    for _ in range(2_000):
        before = draw.multinomial(expected, shares) / expected
        values.append(psi_of_counts(before, expected, draw.multinomial(actual, shares)))
    found = np.array(values, np.float64)
    chance = by_chance(bins, expected, actual)
    assert found.mean() == pytest.approx(chance.expected, rel=0.1)
    assert (found > chance.limit).sum() <= 8, "about 2 of 2,000"


def repeated(count: int, of: int, seed: int) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """`count` rows of `of` customers, of whom each has the same row all the time; and hashes."""
    matrix, p = rows(of, seed)
    who = np.arange(count) % of
    return matrix[who], p[who], customer_hashes([f"{seed}-{n}".encode() for n in who.tolist()])


def block_drift(counts: DriftCounts, binning: Binning, name: str) -> BlockDrift:
    found = block_drifts(SPACE, binning, counts, 10**12, 0.25)
    return next(block for block in found if block.block == name)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_many_rows_of_few_customers_raise_no_alarm_and_a_real_shift_does(seed: int) -> None:
    """2,000 rows of 25 customers like those of training: enough rows, and an index of noise."""
    binning = Binning(reference(), SPACE)
    matrix, p, who = repeated(2_000, 25, seed)
    counts = binning.counts_of(matrix, p)
    counts.mark(who)
    assert counts.customers == pytest.approx(25, abs=1)
    noise = block_drift(counts, binning, "total")
    assert noise.psi is not None
    assert noise.psi > 0.1
    assert noise.state == "too_few_rows"
    assert "drift.one_in" in noise.note
    assert noise.psi_by_chance is not None
    assert noise.psi_limit is not None
    assert noise.psi_by_chance == pytest.approx(9 * (1 / 20_000 + 1 / counts.customers))
    assert noise.psi < noise.psi_limit
    # The same rows, had they been of as many customers, would be a shift.
    counts.mark(customer_hashes([f"other-{n}".encode() for n in range(2_000)]))
    assert block_drift(counts, binning, "total").state in {"watch", "drifted"}
    matrix, p = rows(25, seed, factor=40.0)
    shifted = binning.counts_of(matrix[np.arange(2_000) % 25], p[np.arange(2_000) % 25])
    shifted.mark(who)
    assert block_drift(shifted, binning, "total").state == "drifted"


def rarely_bought(count: int, seed: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Rows of which about six in a thousand have an entry in `bought@2d`."""
    draw = np.random.default_rng(seed)
    matrix, p = rows(count, seed)
    block = next(b for b in SPACE.blocks if b.name == "bought@2d")
    dense = matrix.toarray()
    dense[:, block.start : block.stop] = 0
    for row in np.flatnonzero(draw.random(count) < 0.006):
        dense[row, block.start + draw.integers(30)] = 1.0
    return sparse.csr_matrix(dense), p


def test_columns_of_a_feature_that_few_rows_have_are_not_judged_by_their_noise() -> None:
    """2,000 rows, a dozen of which bought anything: which columns these are is chance."""
    matrix, p = rarely_bought(20_000, 1)
    ones = np.ones(20_000, np.float32)
    ours = reference_of(SPACE, (matrix, ones, "event"), (p, ones, "event", "validation"))
    binning = Binning(ours, SPACE)
    counts = binning.counts_of(*rarely_bought(2_000, 5))
    counts.mark(customer_hashes([f"{n}".encode() for n in range(2_000)]))
    found = block_drift(counts, binning, "bought@2d")
    assert found.psi_columns is not None
    assert found.psi_columns > 0.2, "noise, which would be worth watching"
    assert found.psi == found.psi_amount, "that of amounts rests on all rows"
    assert found.state == "stable"


def test_a_shift_of_the_mean_is_beside_what_chance_makes_of_it() -> None:
    binning = Binning(reference(), SPACE)
    counts = binning.counts_of(*rows(4_000, 2))
    counts.mark(customer_hashes([f"{n}".encode() for n in range(4_000)]))
    for name in ("bought@2d", "bought@14d", "total"):
        block = block_drift(counts, binning, name)
        assert block.mean_shift is not None
        assert block.mean_shift_by_chance is not None
        assert block.mean_shift_by_chance == pytest.approx(1.96 / 4_000**0.5, rel=0.1)
        assert abs(block.mean_shift) < 2 * block.mean_shift_by_chance


@pytest.mark.parametrize("customers", [1, 30, 600, 9_000])
def test_customers_are_counted_once_however_they_are_split(customers: int) -> None:
    hashes = customer_hashes([f"customer-{n}".encode() for n in range(customers)])
    parts = [DriftCounts.of_shape(1, 1) for _ in range(3)]
    for part, seen in zip(parts, (hashes, hashes[::2], hashes[::-1]), strict=True):
        part.mark(seen)
        part.rows = len(seen)
    total = DriftCounts.of_shape(1, 1)
    for part in parts:
        total.add(part)
    assert total.customers == pytest.approx(customers, rel=0.05)


def test_lines_of_an_earlier_release_count_each_row_as_a_customer() -> None:
    binning = Binning(reference(2_000), SPACE)
    raw = binning.counts_of(*rows(300, 4)).as_json()
    before = {name: value for name, value in raw.items() if name not in {"marks", "unmarked_rows"}}
    assert DriftCounts.from_json(before, binning).customers == 300


def test_amounts_are_sums_over_a_blocks_columns() -> None:
    matrix, _ = rows(50, 7)
    dense = matrix.toarray().astype(np.float64)
    by_hand = np.stack([dense[:, b.start : b.stop].sum(axis=1) for b in SPACE.blocks], axis=1)
    np.testing.assert_allclose(amounts(matrix, SPACE), by_hand)


def test_bins_have_about_as_many_rows_each_and_end_at_values() -> None:
    values = np.arange(1.0, 101.0)
    assert quantile_edges(values, np.ones(100)) == tuple(range(10, 100, 10))
    assert quantile_edges(np.ones(5), np.ones(5)) == (), "equal values are one bin"
    # A row of weight 3 counts as three: the same edges as with three such rows.
    thrice = quantile_edges(np.repeat(values, 3), np.ones(300))
    assert quantile_edges(values, np.full(100, 3.0)) == thrice


def test_a_shift_is_seen_and_none_that_is_not_there() -> None:
    ours = reference()
    binning = Binning(ours, SPACE)
    same_shop = binning.counts_of(*rows(4_000, 2))
    for name in ("bought@2d", "bought@14d", "total", "hour"):
        found = block_psi(ours, same_shop, name)
        chance = by_chance(11, 20_000, 4_000)
        assert found < min(chance.limit, 0.02), f"{name} moved by {found}, by chance {chance}"
    assert np.abs(same_shop.deviations / 2**20 / same_shop.rows).max() < 0.06
    shifted = binning.counts_of(*rows(4_000, 2, factor=2.5))
    assert block_psi(ours, shifted, "total") > 0.25
    assert block_psi(ours, shifted, "bought@2d") < 0.02, "only the shifted block moved"
    at = [b.name for b in ours.blocks].index("total")
    # An exponential's mean is its deviation, so 2.5 times as much is 1.5 deviations more.
    assert shifted.deviations[at] / 2**20 / 4_000 == pytest.approx(1.5, abs=0.1)


def test_another_mix_of_columns_is_seen_where_amounts_are_the_same() -> None:
    ours = reference()
    binning = Binning(ours, SPACE)
    matrix, p = rows(4_000, 3)
    hour = next(b for b in SPACE.blocks if b.name == "hour")
    at_noon = matrix.tolil()
    at_noon[:, hour.start : hour.stop] = np.eye(24)[np.full(4_000, 12)]
    at = [b.name for b in ours.blocks].index("hour")
    shares = np.array(ours.blocks[at].column_shares)
    for live, moved in ((matrix, False), (at_noon.tocsr(), True)):
        counts = binning.counts_of(live.astype(np.float32), p)
        assert block_psi(ours, counts, "hour") < 0.01, "each row has one hour in any case"
        found = psi_of_counts(shares, ours.blocks[at].entries, counts.columns[at])
        assert found is not None
        assert (found > 0.25) == moved


@pytest.mark.parametrize("cuts", [[], [1], [200, 201], list(range(0, 700, 70))])
def test_batches_split_anyhow_count_the_same(cuts: list[int]) -> None:
    binning = Binning(reference(2_000), SPACE)
    matrix, p = rows(700, 5)
    whole = binning.counts_of(matrix, p)
    parts = DriftCounts.empty(binning)
    for first, last in itertools.pairwise([0, *cuts, 700]):
        parts.add(binning.counts_of(matrix[first:last], p[first:last]))
    assert same(whole, parts)


def test_merging_in_any_order_is_the_same() -> None:
    binning = Binning(reference(2_000), SPACE)
    parts = []
    for seed in range(3):
        # Amounts of many sizes, whose float sums would depend on the order.
        counts = binning.counts_of(*rows(100, seed, factor=10.0 ** (3 * seed)))
        counts.event_types.update({"view": seed, "purchase": 2})
        parts.append(counts)
    found = []
    for order in itertools.permutations(parts):
        total = DriftCounts.empty(binning)
        for part in order:
            total.add(part)
        found.append(total)
    assert all(same(found[0], other) for other in found[1:])
    assert found[0].rows == 300
    assert found[0].event_types == {"view": 3, "purchase": 6}


def test_counts_and_references_are_the_same_after_json() -> None:
    ours = reference(2_000)
    again = DriftReference.from_json(json.loads(json.dumps(ours.as_json())), SPACE, 5)
    assert again == ours
    binning = Binning(again, SPACE)
    counts = binning.counts_of(*rows(300, 4))
    assert same(counts, DriftCounts.from_json(json.loads(json.dumps(counts.as_json())), binning))
    with pytest.raises(ValueError, match="reshape"):
        DriftCounts.from_json({**counts.as_json(), "amounts": [1, 2]}, binning)


def test_a_reference_of_another_model_is_refused() -> None:
    raw = reference(2_000).as_json()
    other = FeatureSpace.compile([Feature("total")], {})
    with pytest.raises(ValueError, match="not the reference of this model"):
        DriftReference.from_json(raw, other, 5)
    with pytest.raises(ValueError, match="not the reference of this model"):
        DriftReference.from_json(raw, SPACE, 4)
    with pytest.raises(ValueError, match="not the reference of this model"):
        DriftReference.from_json({**raw, "blocks": raw["blocks"][:1]}, SPACE, 5)
    with pytest.raises(ValueError, match="not the reference of this model"):
        DriftReference.from_json({**raw, "more": 1}, SPACE, 5)
    with pytest.raises(ValueError, match="not the reference of this model"):
        DriftReference.from_json([], SPACE, 5)
