"""The native engine computes every combination of the network's parts as the reference does."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.propensities import Entries, PublishPolicy, select
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import InputError
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines.engine import score_chosen
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.manifest import FORMAT, Manifest
from stream_scorer.model.spec import Layout, NetworkSpec, Pairs
from tests.model import reference_network
from tests.model.conftest import CATEGORIES, THREE, TWO, random_matrix

WITHOUT_TREND = (
    Feature("total", on=("purchase",), half_lives=("2d", "inf"), transform="log1p"),
    Feature("bought", on=("purchase",), by=("category_id",), half_lives=("2d", "90d")),
    Feature("products", by=("product_id",), buckets=20),
    Feature("seen", on=("view",), by=("category_id",)),
)
TREND = Feature(
    "shop", kind="trend", on=("purchase",), by=("category_id",), half_lives=("2d", "14d", "90d")
)
FIRST_DAY, DAYS = 20_000, 5
SOME, EVERY = (0, 2, 3, 7, 11), tuple(range(len(CATEGORIES)))
BOTH: tuple[Pairs, ...] = ("all", "history")
PARTS = list(product(BOTH, (0, 3), (0, 2), ((), (6, 4), (5,)), (True, False), ((), (9, 5))))
SPECS = [
    NetworkSpec(hidden, 0.0, own, pooled, pairs, tower, rank)
    for pairs, tower, rank, pooled, own, hidden in PARTS
    if pooled or not tower
]
POLICIES = (
    PublishPolicy("top_k", 3), PublishPolicy("threshold", 0, 0.5), PublishPolicy("top_k", 0),
    PublishPolicy("threshold", 2, 0.3),
)  # fmt: skip


def space_of(*features):
    return FeatureSpace.compile(features, {"category_id": CATEGORIES})


def model_of(space, rule, spec, index, **changed):
    """An artefact of random parameters, in memory."""
    layout = Layout.of(space, rule, np.array(index))
    draw = np.random.default_rng(3)
    parameters = {
        name: draw.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    parameters["calibration_scale"] += 1
    for column in layout.trend:  # as in a trained model: the day reaches the trend alone
        for name in {"input_weight", "linear_weight"} & set(parameters):
            parameters[name][column] = 0
    parameters |= changed
    names = tuple(CATEGORIES[i] for i in index)
    manifest = Manifest(
        FORMAT, "0" * 16, "0" * 16, {}, names, layout.category_index, rule, rule.classes,
        spec, {}, {}, {}, {}, {},
    )  # fmt: skip
    return Artefact(Path(), manifest, layout, parameters, "")


def probabilities(model, matrix, contrasts=None):
    return reference_network.probabilities(
        model.layout, model.manifest.network, model.parameters, matrix, contrasts
    )


def require_same(found: Entries, expected: Entries, what: str) -> None:
    for name in Entries._fields:
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs, err_msg=what)


@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("index", [SOME, EVERY], ids=["some", "every category"])
def test_every_combination_scores_and_chooses_as_the_reference(rule, index):
    space = space_of(*WITHOUT_TREND)
    matrix = random_matrix(space, 67, 1)
    for spec in SPECS:
        model = model_of(space, rule, spec, index)
        engine = NativeEngine(model, threads=2)
        scores = engine.score(matrix)
        np.testing.assert_allclose(
            scores, probabilities(model, matrix), atol=1e-5, err_msg=f"{spec}"
        )
        for policy in POLICIES:
            found = score_chosen(engine, matrix, policy)
            require_same(found, select(scores, policy), f"{spec} {policy}")


@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("pairs", ["all", "history"])
@pytest.mark.parametrize("pooled", [(), (6, 4)], ids=["no pooled path", "pooled path"])
def test_each_row_has_the_trend_of_its_own_day(rule, pairs, pooled):
    space = space_of(*WITHOUT_TREND, TREND)
    spec = NetworkSpec((9, 5), 0.0, True, pooled, pairs, 3 if pooled else 0, 2)
    model = model_of(space, rule, spec, SOME)
    matrix, day = with_days(space, 67)
    table = random_table()
    engine = NativeEngine(model, threads=2)
    engine.warm_up(4)  # before there is a table
    engine.use_trend(table)
    expected = probabilities(model, matrix, table.contrasts[day - FIRST_DAY])
    np.testing.assert_allclose(engine.score(matrix), expected, atol=1e-5)
    other = probabilities(model, matrix, table.contrasts[np.zeros_like(day)])
    assert np.abs(expected - other).max() > 0.01


def with_days(space, rows):
    """A matrix whose last column is the day of each row, and the days (rows,)."""
    day = FIRST_DAY + np.arange(rows) % DAYS
    values = random_matrix(space, rows, 1).toarray()
    (column,) = Layout.of(space, TWO, np.array(SOME)).trend
    values[:, column] = day
    return sparse.csr_matrix(values), day


def random_table():
    draw = np.random.default_rng(5)
    return TrendTable(FIRST_DAY, draw.normal(size=(DAYS, 2, len(CATEGORIES))).astype(np.float32))


def test_a_row_without_a_day_has_the_first_one():
    space = space_of(*WITHOUT_TREND, TREND)
    model = model_of(space, TWO, NetworkSpec(), SOME)
    nobody = sparse.csr_matrix((3, space.width), dtype=np.float32)
    engine, table = NativeEngine(model), random_table()
    engine.use_trend(table)
    expected = probabilities(model, nobody, table.contrasts[[0, 0, 0]])
    np.testing.assert_allclose(engine.score(nobody), expected, atol=1e-5)


def test_a_trend_that_is_not_known_is_refused():
    space = space_of(*WITHOUT_TREND, TREND)
    engine = NativeEngine(model_of(space, TWO, NetworkSpec(), SOME))
    matrix, _ = with_days(space, 8)
    with pytest.raises(InputError, match="trained with one: give the engine the shop's trend"):
        engine.score(matrix)
    engine.use_trend(random_table().part(FIRST_DAY, FIRST_DAY + 2))
    with pytest.raises(InputError, match=r"2024-10-07.*only the days 2024-10-04 to 2024-10-06"):
        engine.score(matrix)


def test_equal_probabilities_are_chosen_in_the_order_of_categories():
    """Logits that differ may have one probability: near 1, where it can't come nearer, and 0."""
    words = tuple(f"c{i}" for i in range(3_000))
    space = FeatureSpace.compile(WITHOUT_TREND, {"category_id": words})
    spec = NetworkSpec((), 0.0, False, (), "all", 0, 0)
    draw = np.random.default_rng(1)
    matrix = random_matrix(space, 9, 2)
    for low, high in ((15, 40), (-100, -80), (-3, 3), (-0.1, 9), (3, 3.000002), (-60, 60)):
        bias = draw.uniform(low, high, len(words)).astype(np.float32)
        layout = Layout.of(space, TWO, np.arange(len(words)))
        parameters = {
            name: np.zeros(shape, np.float32) for name, shape in layout.shapes(spec).items()
        } | {"head_bias": bias, "calibration_scale": np.ones((1, len(words), 1), np.float32)}
        manifest = Manifest(
            FORMAT, "0" * 16, "0" * 16, {}, words, layout.category_index, TWO, 2, spec,
            {}, {}, {}, {}, {},
        )  # fmt: skip
        engine = NativeEngine(Artefact(Path(), manifest, layout, parameters, ""))
        scores = engine.score(matrix)
        for policy in (
            PublishPolicy("top_k", 10), PublishPolicy("top_k", 1), PublishPolicy("top_k", 500),
            PublishPolicy("threshold", 0, 1.0), PublishPolicy("threshold", 20, 0.95257413),
            PublishPolicy("threshold", 0, 0.5), PublishPolicy("threshold", 0, 0.0),
        ):  # fmt: skip
            found = engine.score_chosen(matrix, policy)
            require_same(found, select(scores, policy), f"{low} {high} {policy}")


def test_a_row_scores_the_same_bit_for_bit_whichever_rows_are_beside_it():
    space = space_of(*WITHOUT_TREND)
    spec = NetworkSpec((9, 5), 0.0, True, (6, 4), "history", 3, 2)
    engine = NativeEngine(model_of(space, TWO, spec, SOME), threads=2)
    matrix = random_matrix(space, 131, 1)
    whole = engine.score(matrix)
    for first, last in ((0, 1), (5, 38), (130, 131), (7, 7)):
        np.testing.assert_array_equal(engine.score(matrix[first:last]), whole[first:last])
