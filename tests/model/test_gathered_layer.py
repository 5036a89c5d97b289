"""The layer that meets the matrix: its sums are the product, its steps those of MXNet's Adam."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.model.gathered_layer import GatheredLayer
from stream_scorer.model.mxnet_loader import mx

COLUMNS, ROWS, HIDDEN, RANK = 50, 8, 9, 4
RATE, RESCALE = 0.03, 0.25
DECAY = {"input_weight": 0.1, "linear_weight": 0.02}
WIDTHS = {"input_weight": HIDDEN, "linear_weight": RANK}


def weights(names=tuple(WIDTHS)):
    draw = np.random.default_rng(1)
    every = {n: draw.standard_normal((COLUMNS, w)).astype(np.float32) for n, w in WIDTHS.items()}
    return {name: every[name] for name in names}


def steps(count: int):
    """Matrices and the gradients of what is gathered of them; one matrix has no entries."""
    draw = np.random.default_rng(0)
    for step in range(count):
        share = 0.0 if step == 3 else 0.1
        matrix = sparse.random(ROWS, COLUMNS, share, "csr", np.float32, draw)
        yield matrix, draw.standard_normal((ROWS, HIDDEN + RANK)).astype(np.float32)


def decays(rates):
    return {name: np.full(COLUMNS, rate, np.float32) for name, rate in rates.items()}


def trained(start, rates, count=8):
    width = sum(value.shape[1] for value in start.values())
    layer = GatheredLayer(start, RESCALE, decays(rates))
    for matrix, gradient in steps(count):
        layer.update(matrix, np.ascontiguousarray(gradient[:, :width]), RATE)
    return layer.weights()


@pytest.mark.parametrize("names", [("input_weight",), ("linear_weight",), tuple(WIDTHS)])
def test_what_it_gathers_is_the_product(names):
    start = weights(names)
    layer = GatheredLayer(start, RESCALE, {})
    matrix, _ = next(steps(1))
    found = np.full((ROWS, layer.width), np.nan, np.float32)
    layer.gather(matrix, found)
    expected = matrix @ np.concatenate(list(start.values()), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rates", [{}, DECAY])
def test_its_steps_are_those_of_mxnets_adam_with_lazy_updates(rates):
    start = weights()
    ours = trained(start, rates)
    begin = 0
    for name, value in start.items():
        decay = rates.get(name, 0.0)
        adam = mx.optimizer.Adam(
            lazy_update=True, learning_rate=RATE, rescale_grad=RESCALE, wd=decay
        )
        update = mx.optimizer.get_updater(adam)
        theirs = mx.nd.sparse.row_sparse_array((value, np.arange(COLUMNS)), shape=value.shape)
        stop = begin + value.shape[1]
        for matrix, gradient in steps(8):
            touched = np.unique(matrix.indices)
            of_rows = (matrix.T @ gradient[:, begin:stop])[touched]
            empty = mx.nd.sparse.zeros("row_sparse", value.shape)
            both = (of_rows, touched)
            sparse_gradient = mx.nd.sparse.row_sparse_array(both, shape=value.shape)
            update(0, sparse_gradient if len(touched) else empty, theirs)
        begin = stop
        expected = theirs.tostype("default").asnumpy()
        assert np.abs(expected - value).max() > 0.05
        np.testing.assert_allclose(ours[name], expected, rtol=5e-6, atol=2e-6)


def test_a_decay_of_each_row_pulls_that_row_alone():
    start = weights()
    rates = decays({"linear_weight": 0.0})
    rates["linear_weight"][7] = 0.5
    matrix = sparse.csr_matrix(np.ones((1, COLUMNS), np.float32))
    found = []
    for decay in (decays({}), rates):
        layer = GatheredLayer(start, RESCALE, decay)
        layer.update(matrix, np.full((1, HIDDEN + RANK), 0.01, np.float32), RATE)
        found.append(layer.weights())
    np.testing.assert_array_equal(found[0]["input_weight"], found[1]["input_weight"])
    differs = (found[0]["linear_weight"] != found[1]["linear_weight"]).any(axis=1)
    assert np.flatnonzero(differs).tolist() == [7]


def test_rows_that_no_batch_touched_stay_as_they_were():
    start = weights()
    after = trained(start, DECAY, count=1)
    matrix, _ = next(steps(1))
    for name, value in start.items():
        same = np.flatnonzero((after[name] == value).all(axis=1))
        assert same.tolist() == sorted(set(range(COLUMNS)) - set(matrix.indices.tolist()))


def test_a_gradient_that_is_no_number_is_not_hidden():
    layer = GatheredLayer(weights(), RESCALE, {})
    (matrix, gradient), *_ = steps(1)
    gradient[:, 0] = np.nan
    layer.update(matrix, gradient, RATE)
    found = layer.weights()["input_weight"]
    assert np.isnan(found[matrix.indices, 0]).all()
    assert np.isfinite(found[:, 1:]).all()


def test_what_was_restored_is_what_is_gathered():
    layer = GatheredLayer(weights(), RESCALE, {})
    before = layer.weights()
    (matrix, gradient), *_ = steps(1)
    first, second = np.empty((2, ROWS, layer.width), np.float32)
    layer.gather(matrix, first)
    layer.update(matrix, gradient, RATE)
    layer.restore(before)
    layer.gather(matrix, second)
    np.testing.assert_array_equal(first, second)


def test_after_the_last_step_it_still_gathers_and_restores():
    start = weights()
    layer = GatheredLayer(start, RESCALE, {})
    matrix, gradient = next(steps(1))
    layer.update(matrix, gradient, RATE)
    kept, before, after = layer.weights(), *np.empty((2, ROWS, layer.width), np.float32)
    layer.gather(matrix, before)
    layer.finish()
    layer.gather(matrix, after)
    np.testing.assert_array_equal(after, before)
    layer.restore(start)
    for name, value in layer.weights().items():
        np.testing.assert_array_equal(value, start[name])
        assert np.abs(value - kept[name]).max() > 0
