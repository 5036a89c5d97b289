"""Kinds of features that show moments: of the newest and the first event, and the gap between."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.parity import differences
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.features.state_codec import empty_states, in_words, pack, put_words
from stream_scorer.errors import ConfigError

DAY = 86_400_000
START = 18_000 * DAY
WORDS = {"category_id": ("soup", "bread", "milk")}
BY = ("category_id",)
ALL = (
    Feature("recency", kind="recency", by=BY, half_lives=("7d", "inf")),
    Feature("first", kind="first", by=BY, half_lives=("7d", "inf")),
    Feature("gap", kind="gap", by=BY),
    Feature("overdue", kind="overdue", by=BY),
)
OTHERS = (
    Feature("latest", kind="latest", by=BY),
    Feature("purchases", on=("purchase",), by=BY, half_lives=("2d", "inf")),
    Feature("bought", kind="gap", on=("purchase",), by=BY),
    Feature("begun", kind="first", on=("purchase",)),
    Feature("paid", kind="recency", by=BY, value="value"),
)
SPACE = FeatureSpace.compile([*OTHERS, *ALL], WORDS)
HEAD_BYTES = 36 + 16  # the record's head and one source

events_of_one = st.lists(
    st.builds(  # type: ignore[var-annotated]
        dict,
        customer=st.just("ann"),
        type=st.sampled_from(["view", "purchase"]),
        category=st.sampled_from([None, "soup", "bread", "milk"]),
        value=st.sampled_from([None, 1.0]),
        # Of few days, so that several events are of one moment.
        at=st.one_of(
            st.integers(START, START + 50 * DAY), st.integers(0, 50).map(lambda d: START + d * DAY)
        ),
    ),
    min_size=1,
    max_size=30,
)


def folded(
    make_events: Any,
    rows: list[dict[str, Any]],
    space: FeatureSpace = SPACE,
    cuts: tuple[int, ...] = (),
) -> CustomerStates:
    """The customer's record after these events, in batches cut at `cuts`."""
    rows = [{"customer": "ann", "offset": i, **row} for i, row in enumerate(rows)]
    states = empty_states(["ann"])
    edges = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    for a, b in itertools.pairwise(edges):
        customer = np.zeros(b - a, np.int32)
        states = fold.fold_events(states, make_events(rows[a:b]), customer, space).states
    return states


def shown(states: CustomerStates, as_of_ms: int, space: FeatureSpace = SPACE) -> dict[str, float]:
    """The columns that have an entry, by name."""
    row = csr.build(states, space, np.array([as_of_ms]))
    return {space.column_name(int(c)): float(v) for c, v in zip(row.indices, row.data, strict=True)}


def at_days(*days: float) -> list[dict[str, Any]]:
    return [{"category": "soup", "at": START + round(d * DAY)} for d in days]


@settings(max_examples=150, deadline=None)
@given(
    rows=events_of_one,
    cuts=st.lists(st.integers(0, 30), max_size=5).map(tuple),
    random=st.randoms(use_true_random=False),
)
def test_moments_are_the_same_bits_in_any_order_and_any_batches(
    make_events: Any, rows: list[dict[str, Any]], cuts: tuple[int, ...], random: Any
) -> None:
    space = FeatureSpace.compile([f for f in SPACE.features if f.kind != "decayed"], WORDS)
    shuffled = random.sample(rows, len(rows))
    one, other = (folded(make_events, r, space, c) for r, c in ((rows, ()), (shuffled, cuts)))
    assert pack(one, 1) == pack(other, 1)


@settings(max_examples=150, deadline=None)
@given(rows=events_of_one)
def test_what_features_share_is_shown_as_if_each_kept_its_own(
    make_events: Any, rows: list[dict[str, Any]]
) -> None:
    as_of_ms = START + 60 * DAY
    together = shown(folded(make_events, rows), as_of_ms)
    apart: dict[str, float] = {}
    for feature in SPACE.features:
        space = FeatureSpace.compile([feature], WORDS)
        apart |= shown(folded(make_events, rows, space), as_of_ms, space)
    assert together == apart


def test_each_kind_shows_what_it_says(make_events: Any) -> None:
    space = FeatureSpace.compile(ALL, WORDS)
    states = folded(make_events, at_days(0, 4, 6), space)
    assert shown(states, START + 13 * DAY, space) == {
        "recency@7d[category_id=soup]": 0.5,
        "recency@inf[category_id=soup]": 7.0,
        "first@7d[category_id=soup]": pytest.approx(2 ** (-13 / 7)),
        "first@inf[category_id=soup]": 13.0,
        "gap[category_id=soup]": 3.0,
        "overdue[category_id=soup]": pytest.approx(7 / 3),
    }


@pytest.mark.parametrize("days", [(3,), (3, 3, 3)])
def test_events_of_one_moment_have_no_gap(make_events: Any, days: tuple[float, ...]) -> None:
    states = folded(make_events, at_days(*days))
    assert not [c for c in shown(states, START + 9 * DAY) if c.startswith(("gap", "overdue"))]


def test_who_stays_away_for_ever_is_overdue_by_a_bounded_number_of_gaps(make_events: Any) -> None:
    states = folded(make_events, at_days(0, 0.00001))
    years = shown(states, START + 900 * DAY)
    assert years["overdue[category_id=soup]"] == csr.MOST_OVERDUE
    assert shown(states, START + 1500)["overdue[category_id=soup]"] < csr.MOST_OVERDUE


def test_a_late_event_moves_the_first_and_the_mean_gap_and_not_the_last(make_events: Any) -> None:
    late = shown(folded(make_events, at_days(10, 12, 2)), START + 12 * DAY)
    assert late["first@inf[category_id=soup]"] == 10.0
    assert late["recency@inf[category_id=soup]"] == 0.0
    assert late["gap[category_id=soup]"] == 5.0
    assert late["overdue[category_id=soup]"] == 0.0


@pytest.mark.parametrize(
    ("features", "bytes_of_a_key"),
    [
        ([Feature("r", kind="recency", by=BY)], 16),
        ([Feature("r", kind="recency", by=BY, half_lives=("2d", "14d", "inf"))], 16),
        # Declared as two, as before features could have several half-lives, each keeps its own.
        ([Feature("r", kind="recency", by=BY), Feature("s", kind="recency", by=BY)], 32),
        ([Feature("f", kind="first", by=BY, half_lives=("14d", "inf"))], 16),
        ([Feature("g", kind="gap", by=BY)], 40),
        ([Feature("o", kind="overdue", by=BY), Feature("g", kind="gap", by=BY)], 40),
        (list(ALL), 40),
        ([*ALL, Feature("paid", kind="recency", by=BY, value="value")], 56),
        ([*ALL, Feature("bought", kind="gap", by=BY, on=("purchase",))], 80),
    ],
)
def test_a_key_has_so_many_bytes_of_columns_values_and_moments(
    make_events: Any, features: list[Feature], bytes_of_a_key: int
) -> None:
    space = FeatureSpace.compile(features, WORDS)
    rows = [
        {"category": word, "at": START + i, "value": 2.0, "type": "purchase"}
        for i, word in enumerate(2 * WORDS["category_id"])
    ]
    states = folded(make_events, rows, space)
    assert 4 * in_words(states) == HEAD_BYTES + 3 * bytes_of_a_key
    (record,) = pack(states, space.fingerprint)
    assert len(record) < HEAD_BYTES + 3 * bytes_of_a_key


def test_records_and_vectors_of_declarations_from_before_keep_their_bytes(make_events: Any) -> None:
    """At whole half-lives and of quarters, where every processor has the same bits."""
    space = FeatureSpace.compile(
        [
            Feature("purchases", on=("purchase",), by=BY, half_lives=("2d", "8d", "inf")),
            Feature("recency", kind="recency", on=("purchase",), by=BY, half_lives=("2d",)),
            Feature("days", kind="recency", by=BY),
            Feature("paid", kind="recency", value="value", half_lives=("2d",)),
            Feature("store", kind="latest", by=("attributes.store",), buckets=16),
            Feature("last_value", kind="latest", value="value"),
            Feature("spend", value="value", half_lives=("inf",), scale=0.5),
            Feature("day", kind="calendar", by=("day_of_week",)),
        ],
        WORDS,
    )
    words = WORDS["category_id"]
    rows = [
        {"category": words[i * i % 3], "at": START + i * 7 % 11 * 8 * DAY, "value": i / 4 or None,
         "type": ("view", "purchase")[i % 2], "attributes": {"store": str(i % 3)}}
        for i in range(60)
    ]  # fmt: skip
    states = folded(make_events, rows, space, (7, 20))
    row = csr.build(states, space, np.array([START + 96 * DAY]))
    text = hashlib.sha256()
    record = np.empty(in_words(states), np.uint32)
    put_words(record, states, space.fingerprint)
    for part in (record, row.indices, row.data):
        text.update(part.tobytes())
    assert space.fingerprint_hex == "eea79a4cd8449424"
    assert text.hexdigest()[:16] == "fbfc077170cd73cf"


def test_a_record_that_lacks_an_event_differs_in_the_columns_that_show_it(make_events: Any) -> None:
    rows = at_days(0, 4, 6)
    whole = folded(make_events, rows)
    lacking = folded(make_events, [rows[0], {**rows[1], "category": "bread"}, rows[2]])
    named = {d.what for d in differences(whole, lacking, SPACE)}
    assert {"gap[category_id=soup]", "recency@inf[category_id=bread]"} <= named


def test_several_half_lives_have_names_of_their_own() -> None:
    names = FeatureSpace.compile(ALL, WORDS).names()
    assert names[:: len(WORDS["category_id"])] == (
        "recency@7d[category_id=soup]", "recency@inf[category_id=soup]",
        "first@7d[category_id=soup]", "first@inf[category_id=soup]",
        "gap[category_id=soup]", "overdue[category_id=soup]",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (Feature("x", kind="gap", half_lives=("14d",)),
         "features.x.half_lives: '14d': gap does not fade: leave half_lives out"),
        (Feature("x", kind="overdue", half_lives=("14d", "inf")),
         "features.x.half_lives: '14d, inf': overdue does not fade: leave half_lives out"),
        (Feature("x", kind="latest", by=BY, half_lives=("14d", "inf")),
         "features.x.half_lives: '14d, inf': latest takes one; kinds that take several: decayed,"
         " recency, first, trend"),
        (Feature("x", kind="recency", half_lives=("14d", "14d")),
         "features.x.half_lives: '14d': is listed twice; list each half-life once"),
        (Feature("x", kind="first", value="value"),
         "features.x.value: 'value': first looks only at the moments of events: leave value out"),
        (Feature("x", kind="gap", value=2.0),
         "features.x.value: '2.0': gap looks only at the moments of events: leave value out"),
        (Feature("x", kind="overdue", by=("product_id",)),
         "features.x.by: 'product_id': has no vocabulary: list its values in "
         "vocabularies.product_id, or set buckets to hash them"),
    ],
)  # fmt: skip
def test_a_combination_that_means_nothing_is_refused(feature: Feature, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        FeatureSpace.compile([feature], WORDS)
    assert said in str(refused.value)
