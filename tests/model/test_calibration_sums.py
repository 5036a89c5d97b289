"""The sums that calibration is fitted by are those of a plain computation in float64."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.model import calibration_sums

ROWS = 70  # more than one block of rows


def case(actions: int, categories: int):
    draw = np.random.default_rng(actions)
    logits = draw.normal(-1, 2, (ROWS, categories, actions)).astype(np.float32)
    classes = draw.integers(0, actions + 1, (ROWS, categories)).astype(np.uint8)
    values = np.concatenate(
        [draw.uniform(0.5, 1.5, (categories, 1)), draw.normal(0, 0.5, (categories, actions))],
        axis=1,
    )
    return logits, classes, values, draw.uniform(0.5, 2, ROWS).astype(np.float32)


def probabilities(logits, values):
    """(R, N, C) float64."""
    u = logits.astype(np.float64) * values[None, :, :1] + values[None, :, 1:]
    odds = np.exp(np.concatenate([np.zeros_like(u[:, :, :1]), u], axis=2))
    return odds / odds.sum(axis=2, keepdims=True)


@pytest.mark.parametrize("categories", [3, 700])
@pytest.mark.parametrize("actions", [1, 2])
def test_derivatives_are_those_of_the_cross_entropy(actions, categories):
    logits, classes, values, weight = case(actions, categories)
    gradient, hessian = calibration_sums.derivatives(logits, classes, values, weight)
    p = probabilities(logits, values)[:, :, 1:]
    truth = classes[:, :, None] == np.arange(1, actions + 1)
    # By scale and shifts, of each logit: dz / d(scale) is z, dz / d(shift m) is 1 for logit m.
    each = np.broadcast_to(np.eye(actions), (ROWS, categories, actions, actions))
    by = np.concatenate([logits[:, :, :, None], each], axis=3)
    wanted = np.einsum("r,rnm,rnmi->ni", weight, p - truth, by)
    spread = p[:, :, :, None] * (np.eye(actions) - p[:, :, None, :])
    second = np.einsum("r,rnmk,rnmi,rnkj->nij", weight, spread, by, by)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(hessian, second, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("actions", [1, 2])
def test_losses_of_many_rows_are_minus_the_log_probability(actions):
    logits, classes, _values, _ = case(actions, 2000)  # more logits than one block has
    identity = np.concatenate([np.ones((2000, 1)), np.zeros((2000, actions))], axis=1)
    p = np.take_along_axis(
        probabilities(logits, identity), classes[:, :, None].astype(np.int64), axis=2
    )
    found = calibration_sums.losses(logits, classes)
    np.testing.assert_allclose(found, -np.log(p).mean(axis=(1, 2)), rtol=1e-6)


def test_derivatives_of_extreme_logits_are_finite():
    logits = np.array([[[1000.0], [-1000.0]]], np.float32)
    values, weight = np.array([[1.0, 0.0], [1.0, 0.0]]), np.ones(1, np.float32)
    gradient, hessian = calibration_sums.derivatives(
        logits, np.array([[0, 1]], np.uint8), values, weight
    )
    np.testing.assert_allclose(gradient, [[1000, 1], [1000, -1]], rtol=1e-6)
    assert np.isfinite(hessian).all()
