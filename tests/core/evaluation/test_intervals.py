"""What evaluate, backtest and calibration share: intervals, the prior, the check for overlap."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import (
    CustomerNumbers,
    JudgedRows,
    MetricDifference,
    bootstrap_difference,
    bootstrap_unpaired,
    compare_models,
    compare_unpaired,
)
from stream_scorer.core.evaluation.training_record import recorded_prior, training_reaches


def test_differences_are_ours_minus_theirs_by_metric() -> None:
    draw = np.random.default_rng(1)
    acted = draw.random((300, 4)) < 0.3
    better = np.where(acted, 0.7, 0.2).astype(np.float32)
    worse = np.full((300, 4), 0.3, np.float32)
    found = compare_models(better, worse, acted, np.arange(300) // 2)
    assert list(found.by_metric()) == list(found.as_json())
    gap = metrics.log_loss(better, acted) - metrics.log_loss(worse, acted)
    loss = found.log_loss
    assert loss.difference == pytest.approx(gap)
    assert loss.low is not None and loss.high is not None  # noqa: PT018
    assert loss.low < gap < loss.high < 0
    assert found.macro_auc.difference == pytest.approx(0.5)


def test_what_is_not_defined_is_none() -> None:
    assert metrics.defined(float("nan")) is None
    assert metrics.defined(0.5) == 0.5
    nothing = bootstrap_difference(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    assert MetricDifference.of(nothing) == MetricDifference(None, None, None)


def test_customers_keep_their_number_over_batches() -> None:
    numbers = CustomerNumbers()
    assert numbers.of(["b", "a", "b"]) == [0, 1, 0]
    assert numbers.of(["c", "a"]) == [2, 1]


@pytest.mark.parametrize("training", [{}, {"prior": "0.5"}, {"prior": [0.5]}], ids=str)
def test_a_prior_that_does_not_fit_the_categories_is_none(training: dict[str, object]) -> None:
    assert recorded_prior(training, 2) is None


def test_the_recorded_prior_is_float32() -> None:
    prior = recorded_prior({"prior": [0.25, 0.5]}, 2)
    assert prior is not None
    assert prior.dtype == np.float32
    assert prior.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(("first_ms", "reaches"), [(149, True), (150, False)])
def test_training_reaches_as_far_as_its_labels(first_ms: int, reaches: bool) -> None:
    assert training_reaches({"last_as_of_ms": 100}, 50, first_ms) is reaches
    assert not training_reaches({}, 50, first_ms)


def test_unpaired_rows_are_drawn_by_customer_of_each_model() -> None:
    draw = np.random.default_rng(2)
    ours, theirs = draw.normal(1.0, 1.0, 900), draw.normal(0.0, 1.0, 400)
    found = bootstrap_unpaired(ours, np.arange(900), theirs, np.arange(400))
    assert found.estimate == pytest.approx(ours.mean() - theirs.mean())
    # The standard error of a difference of two independent means.
    error = np.sqrt(ours.var() / 900 + theirs.var() / 400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    # Each row ten times says no more than once, where the rows are one customer's.
    ten = [np.repeat(of, 10) for of in (ours, np.arange(900), theirs, np.arange(400))]
    again = bootstrap_unpaired(ten[0], ten[1], ten[2], ten[3])
    assert (again.low, again.high) == pytest.approx((found.low, found.high))
    nobody = bootstrap_unpaired(ours, np.arange(900), np.zeros(0), np.zeros(0, np.int64))
    assert np.isnan(nobody).all()


def test_a_model_is_compared_unpaired_by_every_metric() -> None:
    draw = np.random.default_rng(3)
    acted = draw.random((400, 4)) < 0.3
    better = np.where(acted, 0.7, 0.2).astype(np.float32)
    worse = np.full((400, 4), 0.3, np.float32)
    some = np.arange(400) < 100
    ours = JudgedRows(better, acted, np.arange(400)).only(some)
    theirs = JudgedRows(worse, acted, np.arange(400)).only(~some)
    found = compare_unpaired(ours, theirs)
    gap = metrics.log_loss(better[:100], acted[:100]) - metrics.log_loss(worse[100:], acted[100:])
    assert found.log_loss.difference == pytest.approx(gap)
    assert found.macro_auc.difference == pytest.approx(0.5)
