"""Declared features in words."""

from __future__ import annotations

from typing import get_args

import pytest

from stream_scorer.core.features.feature_words import (
    column_in_words,
    contrasts_in_words,
    feature_in_words,
    value_in_words,
)
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


def test_values_are_said_in_units_that_people_know() -> None:
    kinds: list[tuple[Kind, tuple[str, ...], float, str]] = [
        ("recency", ("14d",), 2**-0.5, "7.0 days"), ("recency", ("inf",), 7.0, "7.0 days"),
        ("first", ("2d",), 0.25, "4.0 days"), ("gap", ("inf",), 1234.5, "1,234.5 days"),
        ("overdue", ("inf",), 3.25, "3.25 times"), ("decayed", ("2d",), 0.123456, "0.1235"),
        ("latest", ("inf",), 12.5, "12.5"),
    ]  # fmt: skip
    for kind, half_lives, value, words in kinds:
        space = FeatureSpace.compile([Feature("f", kind, half_lives=half_lives)], {})
        assert value_in_words(space.blocks[0], value) == words
    of_moment = FeatureSpace.compile(
        [
            Feature("d", "calendar", by=("day_of_week",)),
            Feature("t", "trend", on=("purchase",), by=CATEGORY, half_lives=("2d", "14d", "90d")),
        ],
        {"category_id": ["soup"]},
    )
    assert [value_in_words(b, 19_100.0) for b in of_moment.blocks] == ["yes", "2022-04-18"]
    assert contrasts_in_words(of_moment, "soup") == [
        (
            f"t@{short}/{long}[category_id=soup]",
            "how many purchase events with category_id soup all customers together had, the last "
            f"{short} against {long} (half-lives), as a logarithm",
        )
        for short, long in (("2d", "14d"), ("14d", "90d"))
    ]
