"""A small shop whose customers buy again what they bought, for every test of this room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.model.symbol_json import symbol_json

DAY = 86_400_000
CATEGORIES = tuple(f"c{i:02d}" for i in range(12))
TWO = LabelRule("category_id", (("purchase",),), 7 * DAY)
THREE = LabelRule("category_id", (("view",), ("purchase",)), 7 * DAY)


@pytest.fixture(scope="session")
def space() -> FeatureSpace:
    """Own, customer-wide, calendar and hashed columns, in an order that splits the wide ones."""
    return FeatureSpace.compile(
        [
            Feature("total", on=("purchase",), half_lives=("2d", "inf"), transform="log1p"),
            Feature("bought", on=("purchase",), by=("category_id",), half_lives=("2d", "90d")),
            Feature("day", kind="calendar", by=("day_of_week",)),
            Feature("products", by=("product_id",), buckets=20),
            Feature("seen", on=("view",), by=("category_id",)),
        ],
        {"category_id": CATEGORIES},
    )


def with_trend(layout: Layout) -> Layout:
    """One more column, the last, which holds the day; three contrasts."""
    return replace(layout, columns=layout.columns + 1, trend=(layout.columns,), contrasts=3)


def random_matrix(space: FeatureSpace, rows: int, seed: int) -> sparse.csr_matrix:
    """(rows, F) with about a third of the columns set."""
    draw = np.random.default_rng(seed)
    values = draw.exponential(1.0, (rows, space.width)) * (draw.random((rows, space.width)) < 0.3)
    return sparse.csr_matrix(values.astype(np.float32))


def shop_rows(space: FeatureSpace, rows: int, seed: int, *, as_of_ms: int, rule: LabelRule = TWO):
    """Rows whose labels follow from their own columns and the customer's total."""
    draw = np.random.default_rng(seed)
    matrix = random_matrix(space, rows, seed)
    start = next(b.start for b in space.blocks if b.name == "bought@90d")
    own = matrix[:, start : start + len(CATEGORIES)].toarray()
    logits = -2.5 + 1.5 * own + 0.4 * matrix[:, 1].toarray()
    classes = (draw.random(own.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    if rule.classes == 3:
        classes *= draw.integers(1, 3, own.shape).astype(np.uint8)
    row, category = np.nonzero(classes)
    return LabelledRows(
        [f"customer {i % 300}" for i in range(rows)],
        np.full(rows, as_of_ms, np.int64),
        matrix,
        np.searchsorted(row, np.arange(rows + 1)).astype(np.int64),
        category.astype(np.uint32),
        classes[row, category],
    )


@pytest.fixture(scope="session")
def make_rows(space: FeatureSpace) -> Callable[..., LabelledRows]:
    """`shop_rows` of the session's space."""
    return lambda rows, seed, **keywords: shop_rows(
        space, rows, seed, **{"as_of_ms": 0, **keywords}
    )


@pytest.fixture(scope="session")
def make_matrix(space: FeatureSpace) -> Callable[[int, int], sparse.csr_matrix]:
    """`random_matrix` of the session's space."""
    return lambda rows, seed: random_matrix(space, rows, seed)


@pytest.fixture(scope="session")
def make_model(space: FeatureSpace) -> Callable[..., TrainedModel]:
    """A model of random parameters: every path and the calibration matter."""

    def build(
        rule: LabelRule = TWO,
        spec: NetworkSpec | None = None,
        index: tuple[int, ...] = (0, 2, 3, 7, 11),
        space: FeatureSpace = space,
        **said: Any,
    ) -> TrainedModel:
        spec = spec or NetworkSpec(hidden=(9, 5), pooled=(6, 4))
        categories = np.array(index, np.int64)
        layout = Layout.of(space, rule, categories)
        draw = np.random.default_rng(3)
        parameters = {
            name: draw.normal(0, 0.3, shape).astype(np.float32)
            for name, shape in layout.shapes(spec).items()
        }
        parameters["calibration_scale"] += 1
        if "category_index" in parameters:
            parameters["category_index"] = categories.astype(np.float32)
        symbol = symbol_json(layout, spec)
        return TrainedModel(space, rule, categories, spec, parameters, symbol, **said)

    return build
