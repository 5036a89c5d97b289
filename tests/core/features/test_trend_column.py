"""A trend in the declaration, and its one column: the UTC day of the as-of moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features import csr
from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace
from stream_scorer.core.features.state import CustomerStates, StateArrays, take
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import ConfigError
from stream_scorer.model.spec import Layout

VOCABULARIES = {"category_id": ("a", "b", "c"), "product_id": ("x", "y")}
TREND = Feature("trend", kind="trend", on=("purchase",), by=("category_id",),
                half_lives=("2d", "14d", "90d"))  # fmt: skip
BOUGHT = Feature("bought", by=("category_id",), half_lives=("7d",))
DAY_OF_WEEK = Feature("day", kind="calendar", by=("day_of_week",))


def _nobody(customers: int) -> CustomerStates:
    """So many customers without events."""
    never = np.full(1, np.iinfo(np.int64).min)
    none: Any = np.zeros(0, np.int64)
    at: Any = np.zeros(2, np.int64)
    columns = [at if name.endswith("_at") else none for name in StateArrays._fields[1:]]
    one = CustomerStates(["one"], StateArrays(never, *columns))
    return take(one, np.zeros(customers, np.int64))


def _space(*features: Feature) -> FeatureSpace:
    return FeatureSpace.compile(features, VOCABULARIES)


def test_a_trend_is_one_column_however_many_half_lives_it_has() -> None:
    space = _space(BOUGHT, TREND, DAY_OF_WEEK)
    assert space.width == 3 + 1 + 7
    assert space.names()[3] == "trend"
    assert space.column("trend") == 3


def test_a_row_holds_the_utc_day_of_its_moment() -> None:
    space = _space(BOUGHT, TREND, DAY_OF_WEEK)
    as_of = np.array([20_000 * DAY_MS, 20_001 * DAY_MS - 1, 20_001 * DAY_MS])
    matrix = csr.build(_nobody(3), space, as_of)
    assert matrix.indices.tolist() == [3, 8, 3, 8, 3, 9]
    assert matrix.toarray()[:, 3].tolist() == [20_000, 20_000, 20_001]
    assert matrix.dtype == np.float32


def test_a_trend_leaves_every_other_column_as_it_was() -> None:
    as_of = np.array([20_000 * DAY_MS])
    without = csr.build(_nobody(1), _space(BOUGHT, DAY_OF_WEEK), as_of).toarray()
    beside = csr.build(_nobody(1), _space(BOUGHT, DAY_OF_WEEK, TREND), as_of).toarray()
    assert np.array_equal(beside[:, :-1], without)


def test_the_fingerprint_covers_a_trend_and_its_half_lives() -> None:
    prints = {
        space.fingerprint
        for space in (
            _space(BOUGHT),
            _space(BOUGHT, TREND),
            _space(BOUGHT, replace(TREND, half_lives=("2d", "14d"))),
            _space(BOUGHT, replace(TREND, on=("view",))),
        )
    }
    assert len(prints) == 4


def test_a_declaration_with_a_trend_is_read_back() -> None:
    space = _space(BOUGHT, TREND)
    again = FeatureSpace.from_declaration(space.declaration())
    assert again.fingerprint == space.fingerprint
    assert again.blocks == space.blocks


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"by": ()}, "one field with a vocabulary"),
        ({"by": ("category_id", "product_id")}, "one field with a vocabulary"),
        ({"buckets": 8}, "without buckets"),
        ({"value": "value"}, "leave value out"),
        ({"value": 2.0}, "leave value out"),
        ({"transform": "log1p"}, "leave transform and scale out"),
        ({"scale": 0.5}, "leave transform and scale out"),
        ({"half_lives": ("14d",)}, "two or more"),
        ({"half_lives": ("14d", "2d")}, "two or more"),
        ({"half_lives": ("2d", "2d")}, "two or more"),
        ({"half_lives": ("2d", "inf")}, "choose from 1d to 400d"),
        ({"half_lives": ("6h", "2d")}, "choose from 1d to 400d"),
        ({"half_lives": ("2d", "401d")}, "choose from 1d to 400d"),
    ],
)
def test_what_a_trend_can_not_be_is_refused_with_its_remedy(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        _space(BOUGHT, replace(TREND, **changes))
    assert "features.trend." in str(refused.value)


def test_trends_of_two_fields_are_refused() -> None:
    other = replace(TREND, name="other", by=("product_id",))
    with pytest.raises(ConfigError, match=r"all trends must be of the field in labels\.by"):
        _space(TREND, other)


def test_a_layout_has_the_days_columns_and_the_contrasts_apart_from_own_columns() -> None:
    seen = replace(TREND, name="seen", on=("view",), half_lives=("1d", "7d"))
    space = _space(BOUGHT, TREND, DAY_OF_WEEK, seen)
    rule = LabelRule("category_id", (("purchase",),), DAY_MS)
    layout = Layout.of(space, rule, np.arange(3))
    assert layout.own == ((0, 3),)
    assert layout.customer == ((4, 11),)
    assert layout.trend == (3, 11)
    assert layout.contrasts == 3


def test_a_layout_refuses_a_trend_of_another_field_than_the_labels() -> None:
    space = _space(BOUGHT, replace(TREND, by=("product_id",)))
    rule = LabelRule("category_id", (("purchase",),), DAY_MS)
    with pytest.raises(ConfigError, match=r"of the field in labels\.by, category_id"):
        Layout.of(space, rule, np.arange(3))
