"""Which of two models is better, in words that follow from an interval."""

from __future__ import annotations

import pytest

from stream_scorer.core.evaluation.intervals import MetricDifference
from stream_scorer.core.evaluation.model_comparison import better_model, more_customers


def test_the_model_of_lower_log_loss_is_better_where_the_interval_leaves_out_zero() -> None:
    assert better_model(MetricDifference(-0.0012, -0.0020, -0.0004)) == "challenger"
    assert better_model(MetricDifference(0.0012, 0.0004, 0.0020)) == "active"
    assert better_model(MetricDifference(-0.0012, -0.0030, 0.0006)) == "undecided"
    assert better_model(MetricDifference(0.0, 0.0, 0.0)) == "undecided"
    assert better_model(MetricDifference(None, None, None)) == "undecided"


def test_customers_that_are_missing_follow_from_the_width_of_the_interval() -> None:
    # Half the width is twice the estimate: four times as many customers.
    assert more_customers(MetricDifference(-0.001, -0.003, 0.001), 500) == pytest.approx(
        1500, abs=1
    )
    assert more_customers(MetricDifference(0.001, -0.00005, 0.002), 100) in range(1, 12)
    assert more_customers(MetricDifference(0.0, -0.1, 0.1), 500) is None
    assert more_customers(MetricDifference(None, None, None), 500) is None
