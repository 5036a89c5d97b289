"""Columns in words, and back."""

from __future__ import annotations

import pytest

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.errors import InputError


def space(*features: Feature) -> FeatureSpace:
    words = {"category_id": ("soup", "tea"), "event_type": ("view", "cart")}
    return FeatureSpace.compile(features, words)


SPACE = space(
    Feature("bought", by=("category_id",), half_lives=("2d", "inf")),
    Feature("interest", by=("event_type", "category_id")),
    Feature("hashed", by=("product_id",), buckets=2),
    Feature("total"),
    Feature("weekday", kind="calendar", by=("day_of_week",)),
)


def test_names_say_feature_half_life_and_key_in_the_order_of_columns() -> None:
    assert SPACE.names() == (
        "bought@2d[category_id=soup]", "bought@2d[category_id=tea]",
        "bought@inf[category_id=soup]", "bought@inf[category_id=tea]",
        "interest[event_type=view,category_id=soup]", "interest[event_type=view,category_id=tea]",
        "interest[event_type=cart,category_id=soup]", "interest[event_type=cart,category_id=tea]",
        "hashed[product_id in bucket 0]", "hashed[product_id in bucket 1]", "total",
        *(f"weekday[day_of_week={day}]" for day in range(7)),
    )  # fmt: skip


def test_names_lead_to_columns_and_columns_to_names() -> None:
    assert [SPACE.column(name) for name in SPACE.names()] == list(range(SPACE.width))
    assert [SPACE.column_name(column) for column in range(SPACE.width)] == list(SPACE.names())


def test_a_wrong_name_is_refused_with_the_one_that_is_like_it() -> None:
    with pytest.raises(InputError, match="did you mean 'total'"):
        SPACE.column("totals")


def test_a_name_of_two_columns_is_refused() -> None:
    twice = space(Feature("a", half_lives=("1d", "2d")), Feature("a@2d"))
    assert twice.column("a@1d") == 0
    with pytest.raises(InputError, match="several columns"):
        twice.column("a@2d")
