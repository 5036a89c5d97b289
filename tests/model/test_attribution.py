"""Amounts add up to the logit that the network gives, whatever its paths are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.trend import TrendTable
from stream_scorer.model import artefact
from stream_scorer.model.attribution import Attribution, Attributor
from stream_scorer.model.averaging import averaged
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.model.conftest import CATEGORIES, THREE, TWO, random_matrix
from tests.model.reference_network import paths
from tests.model.symbol_json import symbol_json

SPECS = {
    "default": NetworkSpec(hidden=(9, 5), pooled=(6, 4)),
    "deep": NetworkSpec(hidden=(12, 10, 8, 6), own_path=False, pooled=(), linear_rank=0),
    "linear alone": NetworkSpec(hidden=(), own_path=False, pooled=(), linear_rank=3),
    "own alone": NetworkSpec(hidden=(), pooled=(), linear_rank=0),
    "pooled alone": NetworkSpec((), own_path=False, pooled=(5,), tower=0, linear_rank=0),
    "tower": NetworkSpec((), pooled=(4, 3), tower=7, linear_rank=0),
    "all pairs": NetworkSpec(hidden=(6,), pooled=(6, 4), pairs="all"),
}
INDEX = np.array((0, 2, 3, 7, 11))


def with_trend(space: FeatureSpace) -> FeatureSpace:
    trend = Feature("trend", "trend", by=("category_id",), half_lives=("1d", "4d", "20d"))
    return FeatureSpace.compile((*space.features, trend), space.vocabularies)


def model_of(
    space: FeatureSpace, spec: NetworkSpec, rule: Any, seed: int, networks: int = 1
) -> artefact.Artefact:
    """Random parameters; the mean of several networks where there are more."""
    layout, draw = Layout.of(space, rule, INDEX), np.random.default_rng(seed)
    shared = {"customer_mean", "customer_scale", "calibration_scale", "calibration_shift"}
    each: list[dict[str, Any]] = []
    for _ in range(networks):
        parameters = {
            name: draw.normal(0, 0.4, shape).astype(np.float32)
            for name, shape in layout.shapes(spec).items()
        }
        parameters["calibration_scale"] += 1
        if "category_index" in parameters:
            parameters["category_index"] = INDEX.astype(np.float32)
        for name in ("input_weight", "linear_weight"):
            if name in parameters:
                parameters[name][list(layout.trend)] = 0
        each.append({**parameters, **{n: each[0][n] for n in shared if each and n in each[0]}})
    spec, one = averaged(layout, spec, each)
    symbol = symbol_json(layout, spec)
    return artefact.unsaved(artefact.TrainedModel(space, rule, INDEX, spec, one, symbol))


def rows_of(model: artefact.Artefact, space: FeatureSpace, seed: int) -> sparse.csr_matrix:
    """Some rows; the first is empty, and days are as they are."""
    matrix = random_matrix(space, 6, seed).tolil()
    matrix[0] = 0
    for column in model.layout.trend:
        matrix[:, column] = 100
    found = sparse.csr_matrix(matrix, dtype=np.float32)
    found.sort_indices()
    return found


def attributions(
    model: artefact.Artefact, matrix: sparse.csr_matrix, contrasts: Any
) -> Iterator[tuple[int, Attribution]]:
    attributor, layout = Attributor(model), model.layout
    for row in range(matrix.shape[0]):
        one = matrix[row]
        for n in range(layout.categories):
            g = contrasts[:, layout.category_index[n]]
            for found in attributor.attribute(one.indices, one.data, g, n):
                yield row, found


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("trend", [False, True], ids=["no trend", "trend"])
@pytest.mark.parametrize("name", SPECS)
def test_amounts_add_up_to_the_logit_that_engines_score(
    name: str, trend: bool, rule: Any, networks: int, space: FeatureSpace
) -> None:
    space = with_trend(space) if trend else space
    model = model_of(space, SPECS[name], rule, 5, networks)
    spec, layout = model.manifest.network, model.layout
    matrix = rows_of(model, space, 7)
    draw = np.random.default_rng(2)
    contrasts = draw.normal(0, 0.5, (layout.contrasts, len(CATEGORIES))).astype(np.float32)
    engine = open_engine(model, "native")
    if trend:
        engine.use_trend(TrendTable(100, contrasts[None]))
    scores = engine.score(matrix)
    of_rows = np.repeat(contrasts[None], 6, axis=0)
    of_paths = paths(layout, spec, model.parameters, matrix, of_rows)
    logits = np.sum(list(of_paths.values()), axis=0)
    count = 0
    for row, found in attributions(model, matrix, contrasts):
        m, n = found.class_index - 1, found.category
        count += 1
        assert found.adds_up
        assert abs(found.residual) < 1e-11
        assert found.network_logit == pytest.approx(logits[row, n, m], abs=1e-9)
        a, b = model.parameters["calibration_scale"], model.parameters["calibration_shift"]
        calibrated = float(a[0, n, 0]) * found.network_logit + float(b[0, n, m])
        assert found.logit == pytest.approx(calibrated, abs=1e-12)
        total = found.base + found.history + found.amounts.sum()
        assert total == pytest.approx(found.logit, abs=1e-11)
        assert found.probability == pytest.approx(float(scores[row, n, m + 1]), abs=1e-5)
    assert count == 6 * layout.categories * layout.actions


def test_an_empty_row_is_the_base_alone(space: FeatureSpace) -> None:
    model = model_of(space, SPECS["default"], TWO, 5)
    matrix = rows_of(model, space, 7)[:1]
    for _, found in attributions(model, matrix, np.zeros((0, 12))):
        assert len(found.amounts) == 0
        assert found.history == 0
        assert found.base == pytest.approx(found.logit, abs=1e-12)


def test_columns_that_change_nothing_get_nothing(space: FeatureSpace) -> None:
    """A column whose weights are 0 on every path, and one that only another category owns."""
    spec = NetworkSpec(hidden=(), pooled=(6, 4), linear_rank=0)
    model = model_of(space, spec, TWO, 5)
    starts = [start for start, _ in model.layout.own]
    columns = np.array([starts[0] + 2, starts[0] + 3])  # of the second and third category
    (found,) = Attributor(model).attribute(columns, [1.0, 2.0], (), 1)
    assert found.amounts[0] != 0
    assert found.amounts[1] == 0
    assert found.history != 0
    (other,) = Attributor(model).attribute(columns, [1.0, 2.0], (), 4)
    assert other.amounts.tolist() == [0, 0]
    assert other.history == 0
    (zero,) = Attributor(model).attribute(columns, [0.0, 0.0], (), 1)
    assert zero.history == 0


def test_amounts_of_a_small_network_are_those_computed_by_hand() -> None:
    """Two customer-wide columns, one hidden unit that turns on half-way, calibrated by 2 z + 1.

    Entering is -2 + x0 * 3 + x1 * 1 with x = (1, 1): -2 at the start, 2 at the end, 0 at a = 1/2.
    On the second half the gradient is 5 * (3, 1), so half of it: 7.5 and 2.5.
    """
    space = FeatureSpace.compile(
        [Feature("a"), Feature("b"), Feature("c", by=("category_id",))], {"category_id": ["x"]}
    )
    spec = NetworkSpec(hidden=(1,), own_path=True, pooled=(), linear_rank=0)
    layout = Layout.of(space, TWO, np.array([0]))
    parameters = {
        "input_weight": [[3.0], [1.0], [0.0]], "input_bias": [[-2.0]],
        "customer_mean": [[0.5, 0.0]], "customer_scale": [[2.0, 1.0]],
        "head_weight": [[0.25, -1.0, 5.0]], "head_bias": [0.75],
        "own_weight": [[[4.0]]],
        "calibration_scale": [[[2.0]]], "calibration_shift": [[[1.0]]],
    }  # fmt: skip
    arrays = {name: np.array(value, np.float32) for name, value in parameters.items()}
    assert {k: v.shape for k, v in arrays.items()} == layout.shapes(spec)
    model = artefact.unsaved(
        artefact.TrainedModel(space, TWO, np.array([0]), spec, arrays, symbol_json(layout, spec))
    )
    (found,) = Attributor(model).attribute(np.array([0, 1, 2]), [1.0, 1.0, 0.5], (), 0)
    # Standardised: (1 - 0.5) * 2 and 1; of the zero row -1 and 0.
    assert found.linear.tolist() == pytest.approx([2 * 0.5, 2 * -1.0, 2 * 2.0])
    assert found.attributed.tolist() == pytest.approx([2 * 7.5, 2 * 2.5, 0])
    assert found.base == pytest.approx(2 * (0.75 - 0.25) + 1)
    assert found.network_logit == pytest.approx(0.75 + 0.25 - 1 + 10 + 2)
    assert found.logit == pytest.approx(2 * 12 + 1)
    assert found.pieces == 2
    assert found.residual == pytest.approx(0, abs=1e-12)


def test_a_residual_beyond_the_tolerance_is_noticed(
    space: FeatureSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the line may not be cut at all, gradients of its middle do not add up."""
    monkeypatch.setattr("stream_scorer.model.rectified_line.MOST_VALUES", 1)
    model = model_of(space, SPECS["default"], TWO, 5)
    found = [f for _, f in attributions(model, rows_of(model, space, 7)[1:], np.zeros((0, 12)))]
    assert {f.pieces for f in found} == {1}
    assert not all(f.adds_up for f in found)
    assert not replace(found[0], residual=float("nan")).adds_up


def test_a_mean_of_networks_shares_what_each_would(space: FeatureSpace) -> None:
    """Amounts of the mean of two networks are the mean of their amounts."""
    spec, rule = NetworkSpec(hidden=(6, 4), pooled=(5,), tower=3, linear_rank=2), TWO
    layout = Layout.of(space, rule, INDEX)
    one, two = (model_of(space, spec, rule, seed) for seed in (5, 6))
    shared = {
        name: one.parameters[name]
        for name in ("customer_mean", "customer_scale", "calibration_scale", "calibration_shift")
    }
    parts = [dict(one.parameters), {**two.parameters, **shared}]
    wide, mean = averaged(layout, spec, parts)
    single = [
        artefact.unsaved(artefact.TrainedModel(space, rule, INDEX, of, p, symbol_json(layout, of)))
        for of, p in ((spec, parts[0]), (spec, parts[1]), (wide, mean))
    ]
    matrix = rows_of(one, space, 7)
    for a, b, both in zip(
        *(attributions(m, matrix, np.zeros((0, 12))) for m in single), strict=True
    ):
        np.testing.assert_allclose(both[1].amounts, (a[1].amounts + b[1].amounts) / 2, atol=1e-5)
