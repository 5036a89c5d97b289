"""Layouts follow from the declaration; options that mean nothing are refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import ConfigError
from stream_scorer.model.spec import Layout, NetworkSpec, TrainingOptions

WORDS = {"category_id": ("soup", "bread", "milk")}
RULE = LabelRule("category_id", (("purchase",),), 1)


def test_layout_finds_own_and_customer_wide_columns():
    space = FeatureSpace.compile(
        [
            Feature("total", half_lives=("2d", "14d")),
            Feature("day", kind="calendar", by=("day_of_week",)),
            Feature("bought", by=("category_id",), half_lives=("2d", "14d")),
            Feature("hashed", by=("category_id",), buckets=5),
            Feature("crossed", by=("category_id", "category_id")),
            Feature("last", kind="recency"),
        ],
        WORDS,
    )
    layout = Layout.of(space, RULE, np.array([0, 2]))
    assert layout.customer == ((0, 9), (29, 30))
    assert layout.own == ((9, 12), (12, 15))
    assert (layout.columns, layout.customer_columns) == (30, 10)
    assert not layout.whole_vocabulary
    assert layout.shapes(NetworkSpec())["own_weight"] == (2, 2, 1)


def test_a_network_without_inputs_is_refused():
    space = FeatureSpace.compile([Feature("bought", by=("category_id",))], WORDS)
    layout = Layout.of(space, RULE, np.array([0, 1, 2]))
    with pytest.raises(ConfigError, match="customer-wide"):
        layout.shapes(NetworkSpec(hidden=()))


def test_a_label_field_without_vocabulary_is_refused():
    space = FeatureSpace.compile([Feature("total")], {})
    with pytest.raises(ConfigError, match="vocabularies"):
        Layout.of(space, RULE, np.array([0]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_customers", 0), ("batch_rows", -1), ("epochs", 0), ("seed", -1),
        ("linear_penalty", -1.0), ("learning_rate", 0.0), ("class_weights", (1.0, 0.0)),
        ("weight_decay", -0.1),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_named(name, value):
    with pytest.raises(ConfigError, match=f"training.{name}"):
        TrainingOptions(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("hidden", (0,)), ("pooled", (-1,)), ("dropout", 1)])
def test_networks_that_mean_nothing_are_named(name, value):
    with pytest.raises(ConfigError, match=f"training.network.{name}"):
        NetworkSpec(**{name: value})


@pytest.mark.parametrize(
    ("rows", "of_step"),
    [(1, 64), (128 * 128 - 1, 64), (128 * 128, 128), (128 * 256, 256), (10**7, 256)],
)
def test_the_more_rows_the_larger_a_step(rows, of_step):
    assert TrainingOptions().rows_of_step(rows) == of_step
    assert TrainingOptions(batch_rows=17).rows_of_step(rows) == 17


@pytest.mark.parametrize(
    ("pairs", "seeds"), [(1, 5), (10**6, 5), (10**6 + 1, 3), (32 * 10**6, 3), (10**8, 1)]
)
def test_the_fewer_pairs_the_more_seeds_are_averaged(pairs, seeds):
    assert TrainingOptions().seeds_of(pairs) == seeds
    assert TrainingOptions(average_seeds=2).seeds_of(pairs) == 2
    # A network may have 4,096 units of one kind.
    assert TrainingOptions(network=NetworkSpec(tower=2_000)).seeds_of(pairs) == min(seeds, 2)


def test_a_tower_without_a_pooled_path_is_none():
    assert NetworkSpec(pooled=(), tower=16).tower == 0
