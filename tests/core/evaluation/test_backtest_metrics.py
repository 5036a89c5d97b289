"""What a backtest measures, on few rows whose figures can be worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from stream_scorer.core.evaluation import backtest_metrics, metrics
from stream_scorer.core.evaluation.backtest import (
    Backtest,
    BacktestedModel,
    BacktestScope,
    JudgedScores,
    known_the_other_way,
)
from stream_scorer.core.evaluation.judged_task import JudgedTask, TrainedOn
from stream_scorer.core.evaluation.model_card import CardLabels

DAY = 86_400_000
SCORES = np.array([[0.9, 0.2], [0.6, 0.4], [0.1, 0.8], [0.3, 0.7]], np.float32)
ACTED = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], np.bool_)
CUSTOMER = np.array([0, 0, 1, 2])
TRAINED = TrainedOn(9, None, None, None, 2, ())
SCOPE = BacktestScope(
    "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z", "7d", "occurred_at", 9, 3, 5, 4, 1, 2,
    DAY, {"1h": 0}, {}, (), (), {}, 0, {"model": BacktestedModel("m", "v", "f", False, TRAINED)},
    JudgedTask(CardLabels("category_id", (("purchase",),), 1.0), None, None, 3, 0.5),
)  # fmt: skip


def judged(**changes: object) -> JudgedScores:
    found = JudgedScores(
        models={"model": SCORES},
        baselines={},
        acted=ACTED,
        customer=CUSTOMER,
        as_of_ms=np.array([0, DAY, DAY, DAY]),
        customer_age_ms=np.array([0, 31 * DAY, 31 * DAY, 400 * DAY]),
        older={"model": {"1d": (np.array([1, 3]), SCORES[[0, 2]])}},
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def test_few_scoring_times_are_periods_and_many_are_put_in_weeks() -> None:
    rows = backtest_metrics.MOST_PERIODS + 1
    scores = {"model": np.full((rows, 1), 0.5, np.float32)}
    acted, as_of_ms = np.zeros((rows, 1), np.bool_), np.arange(rows) * DAY
    days = backtest_metrics.by_period({"model": scores["model"][1:]}, acted[1:], as_of_ms[1:])
    assert [p.rows for p in days] == [1] * (rows - 1)
    weeks = backtest_metrics.by_period(scores, acted, as_of_ms)
    assert [p.from_ms for p in weeks] == [7 * DAY * k for k in range(9)]
    assert [p.rows for p in weeks] == [7] * 8 + [5]


def test_ages_without_rows_are_left_out() -> None:
    age_ms = np.array([0, 30 * DAY, 30 * DAY - 1, 180 * DAY])
    found = backtest_metrics.by_age({"model": SCORES}, ACTED, age_ms)
    assert [(a.from_days, a.to_days, a.rows) for a in found] == [(0, 30, 2), (30, 90, 1),
                                                                 (180, None, 1)]  # fmt: skip
    loss = metrics.log_loss(SCORES[[0, 2]], ACTED[[0, 2]])
    assert found[0].models["model"].log_loss == pytest.approx(loss)


def test_calibration_has_a_point_for_each_bin_with_pairs() -> None:
    scores = np.array([[0.01, 0.02], [0.98, 1.0]], np.float32)
    low, high = backtest_metrics.calibration(scores, np.array([[0, 1], [1, 1]], np.bool_))
    assert (low.pairs, low.acted, high.pairs, high.acted) == (2, 0.5, 2, 1.0)
    assert (low.probability, high.probability) == pytest.approx((0.015, 0.99))


def test_gain_of_nobody_who_acted_has_no_points() -> None:
    assert backtest_metrics.gain(SCORES, np.zeros_like(ACTED)) == ()
    points = backtest_metrics.gain(SCORES, ACTED)
    assert [p.share for p in points] == list(backtest_metrics.GAIN_SHARES)
    # The best four of eight pairs are 0.9, 0.8, 0.7 and 0.6, and three of four actions.
    assert points[-1].found == pytest.approx(0.75)


def test_staleness_is_the_log_loss_of_older_scores_minus_that_of_fresh_ones() -> None:
    found = judged().freshness("model")["1d"]
    rows = ACTED[[1, 3]]
    fresh, stale = metrics.log_loss(SCORES[[1, 3]], rows), metrics.log_loss(SCORES[[0, 2]], rows)
    assert (found.rows, found.customers) == (2, 2)
    assert (found.fresh, found.stale) == pytest.approx((fresh, stale))
    assert found.difference == pytest.approx(stale - fresh)


def test_rows_differ_where_any_model_scores_otherwise() -> None:
    two = judged(models={"model": SCORES, "model 2": SCORES}, older={"model": {}, "model 2": {}})
    first, second = SCORES.copy(), SCORES.copy()
    first[0, 1], second[2, 0] = 0.5, 0.5
    found = known_the_other_way("arrival", two, {"model": first, "model 2": second})
    assert (found.known_by, found.rows_that_differ) == ("arrival", 2)
    same = known_the_other_way("arrival", two, {"model": SCORES, "model 2": SCORES})
    assert same.rows_that_differ == 0
    assert same.intervals["model"].log_loss.difference == 0.0


def test_json_of_one_model_has_no_intervals_and_metrics_json_nothing_of_the_run() -> None:
    found = Backtest.of(SCOPE, judged(), ("soup", "tea"), None, "out")
    printed = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert printed["intervals"] == {}
    assert printed["known_otherwise"] is None
    assert (printed["from"], printed["to"]) == (SCOPE.from_time, SCOPE.to_time)
    assert list(printed)[:2] == ["from", "to"]
    kept = found.as_metrics_json()
    assert list(kept) == [name for name in printed if name not in ("report", "seconds")]


def test_what_is_not_defined_is_null_in_json() -> None:
    nobody = judged(acted=np.zeros_like(ACTED))
    found = Backtest.of(SCOPE, nobody, ("soup", "tea"), None, "out")
    assert found.metrics["model"].macro_auc is None
    assert found.per_category[0].models["model"].auc is None
    assert "null" in json.dumps(found.as_json(), allow_nan=False)
