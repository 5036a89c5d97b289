"""The symbol that is built as data is the one that MXNet builds, for every kind of network."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import ConfigError
from stream_scorer.model import network
from stream_scorer.model.network_symbol import symbol
from stream_scorer.model.spec import Layout, NetworkSpec

NETWORKS = {
    "default": NetworkSpec(),
    "no deep path": NetworkSpec(hidden=()),
    "deep": NetworkSpec(hidden=(7, 6, 5, 4), pooled=(5, 4, 3)),
    "one layer": NetworkSpec(hidden=(9,), pooled=(3,)),
    "own path alone": NetworkSpec(hidden=(9,), pooled=()),
    "pooled path alone": NetworkSpec(hidden=(9,), own_path=False),
    "deep path alone": NetworkSpec(hidden=(64, 32), own_path=False, pooled=()),
}
DAY = 86_400_000
TWO = LabelRule("category_id", (("purchase",),), 7 * DAY)
THREE = LabelRule("category_id", (("view",), ("purchase",)), 7 * DAY)
WORDS = {"category_id": tuple("abcde")}
SPACES = {
    "one wide range": [Feature("n"), Feature("own", by=("category_id",))],
    "no wide range": [Feature("own", by=("category_id",), half_lives=("2d", "inf"))],
    "no own range": [Feature("n"), Feature("products", by=("product_id",), buckets=5)],
}


def assert_same(space, rule, spec, index) -> None:
    layout = Layout.of(space, rule, np.array(index, np.int64))
    written = json.loads(network.inference_symbol(layout, spec).tojson())
    del written["attrs"]  # MXNet's version
    assert symbol(layout, spec) == written


@pytest.mark.parametrize("index", [(0, 2, 3), (4,), tuple(range(12))], ids=["some", "one", "all"])
@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
def test_it_is_what_mxnet_builds(space, spec, rule, index):
    assert_same(space, rule, spec, index)


@pytest.mark.parametrize("features", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
def test_it_is_what_mxnet_builds_of_other_features(features, spec):
    space = FeatureSpace.compile(features, WORDS)
    if not spec.hidden and all(f.by for f in features):
        with pytest.raises(ConfigError, match="needs customer-wide features"):
            symbol(Layout.of(space, TWO, np.array([1, 3])), spec)
        return
    assert_same(space, TWO, spec, (1, 3))
