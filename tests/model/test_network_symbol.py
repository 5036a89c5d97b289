"""The symbol that is built as data is the one that MXNet builds, for every kind of network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import ConfigError
from stream_scorer.model import inference_network
from stream_scorer.model.network_symbol import symbol
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.model.conftest import with_trend

# Of format 1.
NETWORKS = {
    "default": NetworkSpec(),
    "no deep path": NetworkSpec(hidden=()),
    "deep": NetworkSpec(hidden=(7, 6, 5, 4), pooled=(5, 4, 3)),
    "one layer": NetworkSpec(hidden=(9,), pooled=(3,)),
    "own path alone": NetworkSpec(hidden=(9,), pooled=()),
    "pooled path alone": NetworkSpec(hidden=(9,), own_path=False),
    "deep path alone": NetworkSpec(hidden=(64, 32), own_path=False, pooled=()),
}
FORMAT_1 = {
    name: replace(spec, pairs="all", tower=0, linear_rank=0) for name, spec in NETWORKS.items()
}
NEWER = {
    **{f"format 1, {name}": spec for name, spec in FORMAT_1.items()},
    "history": NetworkSpec(tower=0, linear_rank=0),
    "history, own path alone": NetworkSpec(pooled=(), pairs="history"),
    "tower": NetworkSpec(hidden=(), pairs="all", tower=4, linear_rank=0),
    "linear": NetworkSpec(pairs="all", tower=0, linear_rank=3),
    "linear without pairs": NetworkSpec(own_path=False, pooled=(), linear_rank=3),
    "all": NetworkSpec(pairs="history", tower=4, linear_rank=3),
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


def assert_same(layout: Layout, spec: NetworkSpec) -> None:
    written = json.loads(inference_network.inference_symbol(layout, spec).tojson())
    del written["attrs"]  # MXNet's version
    assert symbol(layout, spec) == written


@pytest.mark.parametrize("index", [(0, 2, 3), (4,), tuple(range(12))], ids=["some", "one", "all"])
@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
def test_it_is_what_mxnet_builds(space, spec, rule, index):
    assert_same(Layout.of(space, rule, np.array(index)), spec)


@pytest.mark.parametrize("trend", [False, True], ids=["no trend", "trend"])
@pytest.mark.parametrize(
    ("rule", "index"), [(TWO, (0, 2, 3)), (THREE, tuple(range(12)))], ids=["some", "all"]
)
@pytest.mark.parametrize("spec", NEWER.values(), ids=NEWER)
def test_it_is_what_mxnet_builds_of_a_newer_network(space, spec, rule, index, trend):
    layout = Layout.of(space, rule, np.array(index))
    assert_same(with_trend(layout) if trend else layout, spec)


@pytest.mark.parametrize("features", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("spec", (NETWORKS | NEWER).values(), ids=NETWORKS | NEWER)
def test_it_is_what_mxnet_builds_of_other_features(features, spec):
    space = FeatureSpace.compile(features, WORDS)
    layout = Layout.of(space, TWO, np.array([1, 3]))
    if not spec.hidden and all(f.by for f in features):
        with pytest.raises(ConfigError, match="needs customer-wide features"):
            symbol(layout, spec)
        return
    assert_same(layout, spec)
    assert_same(with_trend(layout), spec)


def test_a_network_of_format_1_keeps_its_nodes(space):
    """Their hash, as it was when artefacts of format 1 were written."""
    digest = hashlib.sha256()
    for rule in (TWO, THREE):
        for index in ((0, 2, 3), tuple(range(12))):
            for spec in FORMAT_1.values():
                nodes = symbol(Layout.of(space, rule, np.array(index)), spec)
                digest.update(json.dumps(nodes, sort_keys=True).encode())
    assert digest.hexdigest() == "94baba63e386ee18aa50c2c83cb81bca37df6925dc891f19f1a7086604fe7d8e"
