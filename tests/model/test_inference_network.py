"""The symbol that an artefact holds against the reference in numpy, path by path and together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.model import inference_network
from stream_scorer.model.batches import csr_ndarray
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.model import reference_network
from tests.model.conftest import CATEGORIES, THREE, TWO, random_matrix, with_trend

ROWS = 9
FIRST_DAY, DAYS = 20_000, 6
NETWORKS = {
    "all pairs": NetworkSpec(hidden=(6, 5), pooled=(5, 4)),
    "history": NetworkSpec(hidden=(6, 5), pooled=(5, 4), pairs="history"),
    "one pooled layer": NetworkSpec(hidden=(), pooled=(5,), pairs="history", tower=3),
    "pooled path alone": NetworkSpec(hidden=(6,), own_path=False, pooled=(5, 4), pairs="history"),
    "own path alone": NetworkSpec(hidden=(6,), pooled=(), pairs="history"),
    "tower": NetworkSpec(hidden=(6, 5), pooled=(5, 4), tower=4),
    "linear": NetworkSpec(hidden=(6,), own_path=False, pooled=(), linear_rank=3),
    "everything": NetworkSpec((6, 5), 0.0, True, (5, 4), "history", tower=4, linear_rank=3),
}
WORDS = {"category_id": CATEGORIES}
SPACES = {
    "own and customer-wide columns": None,
    "no own columns": FeatureSpace.compile(
        [Feature("n"), Feature("products", by=("product_id",), buckets=5)], WORDS
    ),
    "no customer-wide columns": FeatureSpace.compile(
        [Feature("own", by=("category_id",), half_lives=("2d", "inf"))], WORDS
    ),
}


def random_parameters(layout, spec):
    draw = np.random.default_rng(8)
    parameters = {
        name: draw.normal(0, 0.4, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    parameters["calibration_scale"] += 1
    if "category_index" in parameters:
        parameters["category_index"] = np.array(layout.category_index, np.float32)
    for name in ("input_weight", "linear_weight"):
        if name in parameters:  # a day may not reach them
            parameters[name][list(layout.trend)] = 0
    return parameters


def scores_of_symbol(layout, spec, parameters, matrix, table):
    symbol = inference_network.inference_symbol(layout, spec)
    inputs = {"data": csr_ndarray(matrix)}
    if layout.contrasts:
        flat = table.reshape(len(table), -1)
        inputs["trend"] = mx.nd.array(flat, dtype=np.float32)
        inputs["trend_first_day"] = mx.nd.array([FIRST_DAY], dtype=np.float32)
    known = {n: mx.nd.array(value, dtype=np.float32) for n, value in parameters.items()}
    assert set(symbol.list_arguments()) == {*inputs, *known}
    executor = symbol.bind(mx.cpu(), {**inputs, **known}, grad_req="null")
    return executor.forward()[0].asnumpy()


OWN = next(iter(SPACES))
SOME, ALL = (0, 2, 3, 7, 11), tuple(range(12))
# All paths with every kind of layout; each network with two kinds.
CASES = [
    *(("everything", OWN, rule, index) for rule in (TWO, THREE) for index in (SOME, ALL)),
    *(("everything", features, THREE, SOME) for features in SPACES if features != OWN),
    *((name, OWN, *kind)
      for name in NETWORKS if name != "everything" for kind in ((TWO, ALL), (THREE, SOME))),
]  # fmt: skip


@pytest.mark.parametrize("trend", [False, True], ids=["no trend", "trend"])
@pytest.mark.parametrize(("name", "features", "rule", "index"), CASES)
def test_it_answers_as_the_reference_does(space, name, features, rule, index, trend):
    spec, space = NETWORKS[name], SPACES[features] or space
    layout = Layout.of(space, rule, np.array(index))
    layout = with_trend(layout) if trend else layout
    parameters = random_parameters(layout, spec)
    matrix = random_matrix(space, ROWS, 5)
    matrix = sparse.vstack([sparse.csr_matrix((1, space.width), dtype=np.float32), matrix], "csr")
    table = contrasts = None
    if trend:
        draw = np.random.default_rng(9)
        table = draw.normal(0, 1, (DAYS, layout.contrasts, layout.vocabulary)).astype(np.float32)
        day = draw.integers(0, DAYS, matrix.shape[0])
        contrasts = table[day]
        column = (FIRST_DAY + day).astype(np.float32)[:, None]
        matrix = sparse.csr_matrix(sparse.hstack([matrix, column], "csr", np.float32))
    found = scores_of_symbol(layout, spec, parameters, matrix, table)
    expected = reference_network.probabilities(layout, spec, parameters, matrix, contrasts)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_row_without_a_day_takes_the_first_and_one_beyond_the_table_the_last(space):
    """The engines refuse the second one; MXNet must not read beyond the table for it."""
    spec, layout = NetworkSpec(hidden=(6,)), with_trend(Layout.of(space, TWO, np.arange(12)))
    parameters = random_parameters(layout, spec)
    table = np.random.default_rng(9).normal(0, 1, (DAYS, 3, 12)).astype(np.float32)
    days = np.array([0, FIRST_DAY, FIRST_DAY + DAYS - 1, FIRST_DAY + DAYS + 5], np.float32)
    matrix = sparse.csr_matrix(
        (days, np.full(4, layout.columns - 1), np.arange(5)), shape=(4, layout.columns)
    )
    found = scores_of_symbol(layout, spec, parameters, matrix, table)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[3])
    assert np.abs(found[1] - found[2]).max() > 0.01
