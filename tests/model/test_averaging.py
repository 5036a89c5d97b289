"""The mean of networks: one wider network, whose logits the reference computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import ConfigError
from stream_scorer.model.averaging import averaged, wider
from stream_scorer.model.network_parameters import Parameters
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.model.conftest import CATEGORIES, THREE, TWO, with_trend
from tests.model.reference_network import paths

MakeMatrix = Callable[[int, int], sparse.csr_matrix]
SOME, ALL = (0, 2, 3, 7, 11), tuple(range(len(CATEGORIES)))
SPECS = {
    "all pairs": NetworkSpec((9, 5), pooled=(6, 4), pairs="all", tower=0, linear_rank=0),
    "no hidden layer": NetworkSpec((), pooled=(5,), pairs="all", tower=0, linear_rank=0),
    "deep path alone": NetworkSpec(
        (16, 8, 4), own_path=False, pooled=(), pairs="all", tower=0, linear_rank=0
    ),
    "own path": NetworkSpec((7,), pooled=(), pairs="history", tower=0, linear_rank=0),
    "pooled path": NetworkSpec(
        (7,), own_path=False, pooled=(4, 9, 3), pairs="history", tower=0, linear_rank=0
    ),
    "tower": NetworkSpec((9, 5), pooled=(6,), pairs="history", tower=3, linear_rank=0),
    "linear": NetworkSpec((9,), pooled=(6,), pairs="all", tower=0, linear_rank=3),
    "everything": NetworkSpec((9, 5), pooled=(6, 4), pairs="history", tower=3, linear_rank=3),
    "everything but hidden layers": NetworkSpec(
        (), pooled=(6, 4), pairs="all", tower=3, linear_rank=3
    ),
}


def random_networks(layout: Layout, spec: NetworkSpec, networks: int) -> list[Parameters]:
    """Random trained parameters; what is counted and not trained is the same in all."""
    draw = np.random.default_rng(5)
    found = [
        {
            name: draw.normal(0, 0.4, shape).astype(np.float32)
            for name, shape in layout.shapes(spec).items()
        }
        for _ in range(networks)
    ]
    shared = {name: found[0][name] for name in found[0] if name.startswith("customer_")}
    if "category_index" in found[0]:
        shared["category_index"] = np.array(layout.category_index, np.float32)
    shared["calibration_scale"] = np.ones_like(found[0]["calibration_scale"])
    shared["calibration_shift"] = np.zeros_like(found[0]["calibration_shift"])
    return [{**parameters, **shared} for parameters in found]


@pytest.mark.parametrize("trend", [False, True], ids=["", "trend"])
@pytest.mark.parametrize("index", [SOME, ALL], ids=["some categories", "all categories"])
@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_mean_of_networks_has_the_mean_of_each_paths_logits(
    space: FeatureSpace, make_matrix: MakeMatrix, spec: NetworkSpec, rule: LabelRule,
    index: tuple[int, ...], trend: bool,
) -> None:  # fmt: skip
    layout = Layout.of(space, rule, np.array(index))
    matrix, contrasts = make_matrix(40, 1), None
    if trend:
        layout = with_trend(layout)
        draw = np.random.default_rng(2)
        contrasts = draw.normal(0, 1, (40, 3, len(CATEGORIES))).astype(np.float32)
        day = np.zeros((40, 1), np.float32)
        matrix = sparse.csr_matrix(sparse.hstack([matrix, day], "csr", np.float32))
    each = random_networks(layout, spec, 3)
    wide, mean = averaged(layout, spec, each)
    assert {n: v.shape for n, v in mean.items()} == layout.shapes(wide)
    assert {v.dtype for v in mean.values()} == {np.dtype(np.float32)}
    found = paths(layout, wide, mean, matrix, contrasts)
    singles = [paths(layout, spec, parameters, matrix, contrasts) for parameters in each]
    assert set(found) == set(singles[0])
    for name, logits in found.items():
        assert np.abs(singles[0][name] - singles[1][name]).max() > 0.05, name
        expected = np.mean([single[name] for single in singles], axis=0)
        np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_mean_of_one_network_is_that_network(space: FeatureSpace, spec: NetworkSpec) -> None:
    layout = with_trend(Layout.of(space, THREE, np.array(SOME)))
    (only,) = random_networks(layout, spec, 1)
    wide, mean = averaged(layout, spec, [only])
    assert wide == spec
    assert mean.keys() == only.keys()
    for name, values in mean.items():
        np.testing.assert_array_equal(values, only[name], err_msg=name)


def test_what_is_counted_is_shared(space: FeatureSpace) -> None:
    layout = Layout.of(space, TWO, np.array(SOME))
    each = random_networks(layout, SPECS["everything"], 2)
    _, mean = averaged(layout, SPECS["everything"], each)
    for name in ("customer_mean", "customer_scale", "category_index", "calibration_scale"):
        np.testing.assert_array_equal(mean[name], each[0][name], err_msg=name)


@pytest.mark.parametrize("name", ["tower", "linear_rank"])
def test_more_units_than_a_network_may_have_are_refused(name: str) -> None:
    more = NetworkSpec((9, 5), pooled=(6, 4), pairs="history", tower=1_000, linear_rank=1)
    spec = more if name == "tower" else replace(more, tower=1, linear_rank=1_000)
    assert getattr(wider(spec, 4), name) == 4_000
    with pytest.raises(ConfigError, match=rf"average_seeds.*5.*{name}, 1000.*4096") as refused:
        wider(spec, 5)
    assert "lower one of them" in str(refused.value)
