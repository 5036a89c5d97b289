"""Calibration finds what was spoilt, and leaves alone what was right."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.model import calibration


def true_case(actions: int, rows: int = 4000, categories: int = 5):
    """Logits that are right, classes drawn from them, and customers with four rows each."""
    draw = np.random.default_rng(actions)
    logits = draw.normal(-1, 1.5, (rows, categories, actions)).astype(np.float32)
    odds = np.concatenate([np.ones((rows, categories, 1)), np.exp(logits)], axis=2)
    ends = np.cumsum(odds / odds.sum(axis=2, keepdims=True), axis=2)
    classes = (draw.random((rows, categories, 1)) > ends).sum(axis=2).astype(np.uint8)
    return logits, classes, np.arange(rows) // 4


def test_cross_entropy_is_minus_log_probability():
    logits = np.array([[[1.0, -2.0], [0.0, 3.0]]], np.float32)
    classes = np.array([[2, 0]], np.uint8)
    first = -2 - np.log(1 + np.exp(1) + np.exp(-2))
    second = 0 - np.log(1 + 1 + np.exp(3))
    found = calibration.cross_entropy(logits, classes)
    np.testing.assert_allclose(found, [-(first + second) / 2], rtol=1e-6)


def test_cross_entropy_of_extreme_logits_is_finite():
    logits = np.array([[[1000.0], [-1000.0]]], np.float32)
    assert calibration.cross_entropy(logits, np.array([[0, 1]], np.uint8))[0] == 1000


@pytest.mark.parametrize("actions", [1, 2])
def test_what_is_calibrated_is_left_alone(actions):
    found = calibration.choose(*true_case(actions))
    assert found.kind == "none"
    assert (found.scale == 1).all()
    assert (found.shift == 0).all()


@pytest.mark.parametrize("actions", [1, 2])
@pytest.mark.parametrize("kind", calibration.KINDS)
def test_each_kind_undoes_what_it_can(actions, kind):
    logits, classes, _ = true_case(actions)
    spoilt = logits * 2
    if kind != "temperature":
        spoilt += 1
    if kind == "per_category":
        spoilt += np.linspace(-1, 1, logits.shape[1], dtype=np.float32)[None, :, None]
    found = calibration.fit(kind, spoilt, classes)
    calibrated_loss = calibration.cross_entropy(
        calibration.calibrated_logits(found, spoilt), classes
    ).mean()
    right = calibration.cross_entropy(logits, classes).mean()
    spoilt_loss = calibration.cross_entropy(spoilt, classes).mean()
    assert calibrated_loss - right < 0.02 * (spoilt_loss - right)
    np.testing.assert_allclose(found.scale, 0.5, atol=0.06)


@pytest.mark.parametrize("actions", [1, 2])
def test_the_choice_is_the_kind_that_was_spoilt(actions):
    logits, classes, customer = true_case(actions)
    level = np.linspace(-1, 1, logits.shape[1], dtype=np.float32)[None, :, None]
    assert calibration.choose(logits + level, classes, customer).kind == "per_category"
    assert calibration.choose(logits * 2, classes, customer).kind != "none"


def test_one_customer_is_too_few_to_judge_by():
    logits, classes, _ = true_case(1)
    assert calibration.choose(logits * 3, classes, np.zeros(len(logits), np.int64)).kind == "none"


@pytest.mark.parametrize("actions", [1, 2])
@pytest.mark.parametrize("kind", calibration.KINDS)
def test_rows_that_weigh_nothing_are_as_if_they_were_not_there(actions, kind):
    logits, classes, _ = true_case(actions)
    draw = np.random.default_rng(0)
    weight = draw.uniform(0.5, 2, len(logits)).astype(np.float32)
    kept = draw.random(len(logits)) < 0.7
    expected = calibration.fit(kind, logits[kept] * 2, classes[kept], weight[kept])
    spoilt = np.where(kept[:, None, None], logits * 2, -logits)
    found = calibration.fit(kind, spoilt, classes, np.where(kept, weight, np.float32(0)))
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-4)
    np.testing.assert_allclose(found.shift, expected.shift, rtol=0, atol=1e-4)
