"""Declared features in words."""

from __future__ import annotations

from typing import get_args

import pytest

from stream_scorer.core.features.feature_words import column_in_words, feature_in_words
from stream_scorer.core.features.space import Feature, FeatureSpace, Kind

CATEGORY = ("category_id",)
WORDS = [
    (Feature("f", on=("purchase",), by=CATEGORY, half_lives=("2d", "inf"), transform="log1p"),
     "number of purchase events, for each category_id; each counts half after 2d; each counts for "
     "ever; log1p"),
    (Feature("f", value=2.5, half_lives=("9d",)), "2.5 times the number of events; "
     "each counts half after 9d"),
    (Feature("f", on=("cart", "view"), value="value", scale=0.5), "sum of value of cart or view "
     "events; each counts for ever; times 0.5"),
    (Feature("f", by=("product_id", "event_type"), buckets=4096, transform="binary"),
     "number of events, for each product_id and event_type; each counts for ever; hashed into "
     "4,096 columns; as 0 or 1"),
    (Feature("f", kind="recency", by=CATEGORY, half_lives=("14d", "90d")),
     "time since the newest event, for each category_id; 1 then, halved every 14d, 90d"),
    (Feature("f", kind="first"), "time since the first event; in days"),
    (Feature("f", kind="gap", on=("purchase",)), "mean time between purchase events, in days"),
    (Feature("f", kind="overdue"),
     "time since the newest event, over the mean time between them"),
    (Feature("f", kind="latest", by=("attributes.store",), buckets=8),
     "attributes.store of the newest event; hashed into 8 columns"),
    (Feature("f", kind="latest", value="value", by=CATEGORY),
     "value of the newest event, for each category_id"),
    (Feature("f", kind="latest"), "whether there was any event"),
    (Feature("f", kind="calendar", by=("day_of_week",), time_zone="Europe/Berlin"),
     "day_of_week of the moment that is scored, in Europe/Berlin"),
    (Feature("f", kind="trend", on=("purchase",), by=CATEGORY, half_lives=("2d", "14d")),
     "which category_id all customers together have purchase events of more often than before; "
     "the last 2d against 14d (half-lives)"),
]  # fmt: skip


@pytest.mark.parametrize(("feature", "words"), WORDS, ids=[f.kind for f, _ in WORDS])
def test_a_feature_is_a_sentence(feature: Feature, words: str) -> None:
    assert feature_in_words(feature) == words


def test_every_kind_has_one() -> None:
    assert {feature.kind for feature, _ in WORDS} == set(get_args(Kind))


def test_a_column_is_named_with_its_values_and_its_own_half_life() -> None:
    space = FeatureSpace.compile(
        [
            Feature("b", on=("purchase",), by=CATEGORY, half_lives=("2d", "inf"), scale=0.5),
            Feature("s", kind="latest", by=("attributes.store",), buckets=8),
            Feature("l", kind="latest", on=("view",), by=CATEGORY),
            Feature("v", kind="latest", value="value", by=CATEGORY),
            Feature("d", kind="calendar", by=("day_of_week", "hour_of_day")),
            Feature("t", kind="trend", by=CATEGORY, half_lives=("2d", "14d")),
            Feature("r", kind="recency", half_lives=("14d", "inf")),
        ],
        {"category_id": ["soup", "tea"]},
    )
    by_name = {name: column_in_words(space, c) for c, name in enumerate(space.names())}
    expected = {
        "b@2d[category_id=tea]":
            "number of purchase events with category_id tea; each counts half after 2d",
        "b@inf[category_id=soup]":
            "number of purchase events with category_id soup; each counts for ever",
        "s[attributes.store in bucket 3]": "the newest event has attributes.store hashed to 3 of 8",
        "l[category_id=tea]": "the newest view event has category_id tea",
        "v[category_id=tea]": "value of the newest event with category_id tea",
        "d[day_of_week=6,hour_of_day=8]":
            "the moment that is scored is a Sunday and from 08:00 to 09:00, in UTC",
        "t": "the UTC day of the moment, by which the shop's trend is looked up",
        "r@14d": "time since the newest event; 1 then, halved every 14d",
        "r@inf": "time since the newest event; in days",
    }  # fmt: skip
    assert {name: by_name[name] for name in expected} == expected
