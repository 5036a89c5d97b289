"""Values that features can't use are counted by field, exactly, and only where a feature looks."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import NO_TIMESTAMP, EventBatch, RecordBatch
from stream_scorer.core.features.ignored_values import (
    IgnoredCount,
    IgnoredValues,
    ignored_in_words,
    ignored_values,
)
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.features.space import Feature, FeatureSpace

WORDS = {"category_id": ("bread", "dairy"), "attributes.channel": ("web", "app")}
SPACE = FeatureSpace.compile(
    [
        Feature("bought", on=("purchase",), by=("category_id",)),
        Feature("seen", on=("view",), by=("category_id", "attributes.channel")),
        Feature("spent", on=("purchase", "cart"), value="attributes.price"),
        Feature("hashed", by=("product_id",), buckets=16),
        Feature("hour", kind="calendar", by=("hour_of_day",)),
    ],
    WORDS,
)
PRICES = ("1", "2.5", "1e3", " 4 ", "-0", "n/a", "", "nan", "inf", "1,50", "12 EUR")


def decoded(rows: list[dict[str, Any]]) -> EventBatch:
    n = len(rows)
    records = RecordBatch(
        encode_events(rows), [None] * n, [("events", 0)], np.zeros(n, np.int32),
        np.arange(n), np.full(n, NO_TIMESTAMP),
    )  # fmt: skip
    events, dead_letters = Decoder(lambda _: None, max_record_bytes=10_000).decode(records)
    assert not dead_letters
    return events


def made_up(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        attributes = {}
        if draw.random() < 0.7:
            attributes["channel"] = draw.choice(["web", "app", "fax", "WEB"])
        if draw.random() < 0.7:
            attributes["price"] = draw.choice(PRICES)
        rows.append({
            "event_id": str(number), "customer_id": "c",
            "event_type": draw.choice(["view", "purchase", "cart", "click"]),
            "category_id": draw.choice([None, "bread", "dairy", "Bread", "shoes", ""]),
            "occurred_at": number, "attributes": attributes,
        })  # fmt: skip
    return rows


def is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def one_by_one(rows: list[dict[str, Any]]) -> list[IgnoredCount]:
    found: dict[tuple[str, str], list[str]] = {}

    def note(field: str, problem: str, value: str | None, wrong: bool) -> None:
        if value is not None and wrong:
            found.setdefault((field, problem), []).append(value)

    for row in rows:
        kind, category = row["event_type"], row["category_id"]
        channel, price = row["attributes"].get("channel"), row["attributes"].get("price")
        if kind in ("purchase", "view"):
            note("category_id", "unknown_word", category, category not in WORDS["category_id"])
        if kind == "view":
            note("attributes.channel", "unknown_word", channel, channel not in ("web", "app"))
        if kind in ("purchase", "cart"):
            note("attributes.price", "not_a_number", price, not is_number(price or ""))
    return sorted(IgnoredCount(*key, len(v), v[0]) for key, v in found.items())


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_examples_are_those_of_events_taken_one_by_one(seed: int) -> None:
    rows = made_up(500, seed)
    assert sorted(ignored_values(SPACE, EventColumns(decoded(rows)))) == one_by_one(rows)


def test_counts_of_batches_add_up_however_the_log_is_cut() -> None:
    rows = made_up(500, 9)
    for size in (500, 123, 7):
        whole = IgnoredValues()
        for first in range(0, len(rows), size):
            events = decoded(rows[first : first + size])
            whole.add(ignored_values(SPACE, EventColumns(events)))
        found = [(v.field, v.problem, v.events, v.example) for v in whole.found(SPACE.vocabularies)]
        assert found == [tuple(one) for one in one_by_one(rows)]


def test_where_every_value_is_known_nothing_is_counted() -> None:
    rows = [row | {"category_id": "bread", "attributes": {}} for row in made_up(50, 1)]
    assert ignored_values(SPACE, EventColumns(decoded(rows))) == []
    assert ignored_values(SPACE, EventColumns(decoded([]))) == []


def test_labels_may_look_at_words_that_no_feature_looks_at() -> None:
    row = made_up(1, 1)[0] | {"event_type": "cart", "category_id": "Bread"}
    columns = EventColumns(decoded([row]))
    also = {"category_id": frozenset({"cart"})}
    assert [c.field for c in ignored_values(SPACE, columns) if c.problem == "unknown_word"] == []
    found = IgnoredValues()
    found.add(ignored_values(SPACE, columns, also))
    words = ignored_in_words(found.found(SPACE.vocabularies))
    assert any("vocabularies.category_id; is 'bread' meant?" in line for line in words)
