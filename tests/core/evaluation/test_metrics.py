"""Metrics: against values worked out by hand and against their definitions, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import bootstrap_difference


def random_case(seed: int, rows: int = 30, width: int = 7, levels: int = 6):
    """Few distinct probabilities, so that ties abound."""
    draw = np.random.default_rng(seed)
    p = (draw.integers(0, levels, (rows, width)) / levels).astype(np.float32)
    return p, draw.random((rows, width)) < 0.3


def auc_by_definition(p, y) -> float:
    wins = [(a > b) + 0.5 * (a == b) for a in p[y] for b in p[~y]]
    return float(np.mean(wins)) if wins else float("nan")


def ap_by_definition(p, y) -> float:
    if not y.any() or y.all():
        return float("nan")
    total, recall = 0.0, 0.0
    for threshold in sorted(set(p.tolist()), reverse=True):
        flagged = p >= threshold
        now = y[flagged].sum() / y.sum()
        total += (now - recall) * y[flagged].mean()
        recall = now
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_auc_and_average_precision_equal_their_definitions_with_ties(seed):
    p, y = random_case(seed)
    np.testing.assert_allclose(
        metrics.category_auc(p, y),
        [auc_by_definition(a, b) for a, b in zip(p.T, y.T, strict=True)],
    )
    np.testing.assert_allclose(
        metrics.category_ap(p, y),
        [ap_by_definition(a, b) for a, b in zip(p.T, y.T, strict=True)],
    )
    assert metrics.micro_auc(p, y) == pytest.approx(auc_by_definition(p.ravel(), y.ravel()))


def test_categories_without_positives_are_skipped_and_counted():
    p, y = random_case(1)
    y[:, 2], y[:, 4] = False, True
    assert np.isnan(metrics.category_auc(p, y)[[2, 4]]).all()
    assert metrics.categories_scored(y) == 5
    rest = [0, 1, 3, 5, 6]
    assert metrics.macro_auc(p, y) == pytest.approx(
        np.mean(metrics.category_auc(p[:, rest], y[:, rest]))
    )


def test_log_loss_is_clipped_and_averaged_over_rows_and_categories():
    p = np.array([[0.0, 1.0, 0.25]], np.float32)
    y = np.array([[True, True, False]])
    expected = (-np.log(1e-7) - np.log(1 - 1e-7) - np.log(0.75)) / 3
    assert metrics.log_loss(p, y) == pytest.approx(expected)


def test_recall_and_ndcg_by_hand():
    p = np.array([[0.9, 0.1, 0.8, 0.2], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5]])
    y = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.bool_)
    assert metrics.recall_at_k(p, y, 2) == pytest.approx((0.5 + 0.0) / 2)
    best = 1 + 1 / np.log2(3)
    assert metrics.ndcg_at_k(p, y, 2) == pytest.approx((1 / best + 0) / 2)
    assert metrics.recall_at_k(p, y, 10) == 1.0
    assert np.isnan(metrics.row_recall_at_k(p, y, 2)[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_top_k_is_a_stable_sort_cut_short(seed, k):
    p, _ = random_case(seed)
    expected = np.argsort(-p, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(metrics.top_k(p, k), expected)


def test_ece_by_hand():
    p = np.array([[0.1, 0.12], [0.12, 1.0]])
    y = np.array([[0, 0], [1, 1]], np.bool_)
    assert metrics.ece(p, y, bins=10) == pytest.approx(abs(0.34 - 1) / 4)


def test_metrics_of_no_rows_are_undefined_not_wrong():
    found = metrics.summary(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.bool_))
    assert set(found.as_json().values()) == {None}


def test_bootstrap_keeps_a_customers_rows_together():
    customer = np.repeat(np.arange(20), 50)
    ours = np.repeat(np.random.default_rng(0).normal(0, 1, 20), 50)
    theirs = np.zeros(1000)
    by_customer = bootstrap_difference(ours, theirs, customer)
    by_row = bootstrap_difference(ours, theirs, np.arange(1000))
    assert by_customer.low < by_customer.estimate < by_customer.high
    assert by_customer.high - by_customer.low > 4 * (by_row.high - by_row.low)
    assert by_customer == bootstrap_difference(ours, theirs, customer)


def test_bootstrap_leaves_undefined_rows_out():
    ours = np.array([1.0, np.nan, 3.0])
    found = bootstrap_difference(ours, np.zeros(3), np.arange(3))
    assert found.estimate == 2.0


def test_rows_of_macro_auc_average_to_it_and_bootstrap_like_it() -> None:
    draw = np.random.default_rng(4)
    truth = draw.random((400, 3))
    labels = draw.random((400, 3)) < truth
    ours, theirs = (
        truth + draw.normal(0, 0.2, truth.shape),
        truth + draw.normal(0, 0.8, truth.shape),
    )
    rows = metrics.row_macro_auc(ours, labels)
    assert rows.mean() == pytest.approx(metrics.macro_auc(ours, labels))
    gap = bootstrap_difference(rows, metrics.row_macro_auc(theirs, labels), np.arange(400))
    drawn = []
    for _ in range(300):
        picked = draw.integers(400, size=400)
        better = metrics.macro_auc(ours[picked], labels[picked])
        drawn.append(better - metrics.macro_auc(theirs[picked], labels[picked]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (gap.low, gap.high) == pytest.approx((low, high), abs=0.015)
    assert np.isnan(metrics.row_macro_auc(ours, np.zeros_like(labels))).all()


def test_metrics_of_a_category_are_those_of_its_column() -> None:
    draw = np.random.default_rng(5)
    p, labels = draw.random((50, 12)), draw.random((50, 12)) < 0.4
    for n in range(12):
        column = p[:, n : n + 1], labels[:, n : n + 1]
        assert metrics.category_log_loss(p, labels)[n] == metrics.log_loss(*column)
        assert metrics.category_ece(p, labels)[n] == metrics.ece(*column)
    recalled = metrics.category_recall_at_k(p, labels, 3)
    top = metrics.top_k(p, 3)
    expected = [labels[(top == n).any(axis=1), n].sum() / labels[:, n].sum() for n in range(12)]
    assert recalled == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_row_of_weight_3_is_three_rows(seed):
    p, y = random_case(seed)
    times = np.random.default_rng(seed + 1).integers(1, 4, len(p))
    weight = times.astype(np.float32)
    rows = np.repeat(np.arange(len(p)), times)
    found, expected = metrics.summary(p, y, weight), metrics.summary(p[rows], y[rows])
    assert found.by_metric() == pytest.approx(expected.by_metric(), nan_ok=True)
    for metric in (
        metrics.category_auc, metrics.category_ap, metrics.category_ece, metrics.category_log_loss,
    ):  # fmt: skip
        np.testing.assert_allclose(metric(p, y, weight), metric(p[rows], y[rows]))
    np.testing.assert_allclose(
        metrics.category_recall_at_k(p, y, 3, weight),
        metrics.category_recall_at_k(p[rows], y[rows], 3),
    )
    curve = metrics.calibration_curve(p, y, 5, weight)
    for ours, theirs in zip(curve, metrics.calibration_curve(p[rows], y[rows], 5), strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_weights_of_1_change_no_metric():
    p, y = random_case(3)
    ones = np.ones(len(p), np.float32)
    assert metrics.summary(p, y, ones).by_metric() == pytest.approx(
        metrics.summary(p, y).by_metric()
    )


def test_jackknife_values_of_weighted_rows_have_the_weighted_auc_as_their_mean():
    p, y = random_case(5)
    weight = np.random.default_rng(0).uniform(0.5, 3, len(p)).astype(np.float32)
    values = metrics.row_macro_auc(p, y, weight)
    assert metrics.mean(values, weight) == pytest.approx(metrics.macro_auc(p, y, weight))


def test_the_bootstrap_draws_customers_with_all_their_rows_and_weights():
    draw = np.random.default_rng(2)
    ours, theirs = draw.random(60), draw.random(60)
    customer = np.repeat(np.arange(20), 3)
    times = draw.integers(1, 4, 60)
    rows = np.repeat(np.arange(60), times)
    found = bootstrap_difference(ours, theirs, customer, weight=times.astype(np.float32))
    expected = bootstrap_difference(ours[rows], theirs[rows], customer[rows])
    assert found == pytest.approx(expected)


def test_rows_of_micro_auc_average_to_it_and_are_what_leaving_a_row_out_changes() -> None:
    p, y = random_case(5, rows=60, width=4)
    values, whole = metrics.row_micro_auc(p, y), metrics.micro_auc(p, y)
    assert values.mean() == pytest.approx(whole)
    without = [
        metrics.micro_auc(np.delete(p, row, axis=0), np.delete(y, row, axis=0)) for row in range(60)
    ]
    jackknife = 60 * whole - 59 * np.array(without)
    np.testing.assert_allclose(values, jackknife, atol=0.03)
    assert np.isnan(metrics.row_micro_auc(p, np.zeros_like(y))).all()
    assert np.isnan(metrics.row_micro_auc(p, np.ones_like(y))).all()


def test_the_calibration_error_by_chance_is_that_of_right_probabilities() -> None:
    draw = np.random.default_rng(8)
    p = draw.beta(1, 5, (800, 5)).astype(np.float32)
    found = [metrics.ece(p, draw.random(p.shape) < p) for _ in range(100)]
    by_chance = metrics.calibration_curve(p, p > 2, metrics.ECE_BINS).ece_by_chance()
    assert by_chance == pytest.approx(np.mean(found), rel=0.05)
    nothing = np.zeros((0, 5))
    curve = metrics.calibration_curve(nothing, nothing > 0, metrics.ECE_BINS)
    assert np.isnan(curve.ece_by_chance())
