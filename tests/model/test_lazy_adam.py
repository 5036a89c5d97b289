"""Our Adam for row_sparse weights against MXNet's own."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.model import lazy_adam
from stream_scorer.model.mxnet_loader import mx

ROWS, WIDTH = 50, 13


def sparse_gradients(steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values and the rows they are of; one step touches nothing."""
    draw = np.random.default_rng(0)
    found = []
    for step in range(steps):
        touched = np.flatnonzero(draw.random(ROWS) < (0 if step == 3 else 0.4))
        found.append((draw.standard_normal((len(touched), WIDTH)).astype(np.float32), touched))
    return found


def trained(optimizer, start, steps=8):
    weight = mx.nd.sparse.row_sparse_array((start, np.arange(ROWS)), shape=start.shape)
    update = mx.optimizer.get_updater(optimizer)
    for values, touched in sparse_gradients(steps):
        if len(touched):
            gradient = mx.nd.sparse.row_sparse_array((values, touched), shape=start.shape)
        else:
            gradient = mx.nd.sparse.zeros("row_sparse", start.shape)
        update(0, gradient, weight)
    return weight.tostype("default").asnumpy()


@pytest.fixture
def start():
    return np.random.default_rng(1).standard_normal((ROWS, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_does_what_mxnets_adam_does(start, decay):
    options = {"learning_rate": 0.03, "rescale_grad": 0.25, "wd": decay}
    ours = trained(lazy_adam.LazyAdam(**options), start)
    theirs = trained(mx.optimizer.Adam(lazy_update=True, **options), start)
    assert np.abs(theirs - start).max() > 0.05
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-7)


def test_rows_that_no_batch_touched_stay_as_they_were(start):
    options = {"learning_rate": 0.03, "wd": 0.1}
    after = trained(lazy_adam.LazyAdam(**options), start, steps=1)
    (_, touched), *_ = sparse_gradients(1)
    same = np.flatnonzero((after == start).all(axis=1))
    assert same.tolist() == sorted(set(range(ROWS)) - set(touched.tolist()))


def test_a_gradient_that_is_no_number_is_not_hidden(start):
    start[5] = np.nan
    assert np.isnan(trained(lazy_adam.LazyAdam(), start, steps=3)).any()


def test_a_weight_without_some_rows_is_refused(start):
    holed = mx.nd.sparse.row_sparse_array((start[:-1], np.arange(ROWS - 1)), shape=start.shape)
    with pytest.raises(ValueError, match="every row"):
        lazy_adam.LazyAdam().create_state(0, holed)
