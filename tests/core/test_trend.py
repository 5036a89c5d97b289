"""The shop's trend: counts by day, and the table of contrasts that follows from them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core import trend
from stream_scorer.core.events.batch import EventBatch, StringColumn
from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace
from stream_scorer.core.trend import NO_DAY, DailyCounts, TrendTable, trend_features
from stream_scorer.errors import InputError

WORDS = ("apples", "bread", "coffee")
TRENDS = (
    Feature("bought", on=("purchase",), by=("category_id",), half_lives=("30d",)),
    Feature(
        "trend", kind="trend", on=("purchase",), by=("category_id",),
        half_lives=("2d", "5d", "14d"),
    ),
    Feature("seen", kind="trend", by=("category_id",), half_lives=("1d", "3d")),
)  # fmt: skip
SPACE = FeatureSpace.compile(TRENDS, {"category_id": WORDS})
FIRST, LAST = 100, 180

# (day, category or None, type) of one event
Event = tuple[int, "str | None", str]
EVENTS = st.lists(
    st.tuples(
        st.integers(90, 190),
        st.sampled_from([*WORDS, "unknown", None]),
        st.sampled_from(["purchase", "view"]),
    ),
    max_size=60,
)


def _batch(events: list[Event]) -> EventBatch:
    n = len(events)
    texts = StringColumn.of([f"e{i}" for i in range(n)])
    nothing: list[str | None] = [None] * n
    return EventBatch(
        event_id=texts,
        customer_id=texts,
        event_type=StringColumn.of([kind for _, _, kind in events]),
        category_id=StringColumn.of([category for _, category, _ in events]),
        product_id=StringColumn.of(nothing),
        value=np.zeros(n),
        has_value=np.zeros(n, np.bool_),
        occurred_at_ms=np.array([day * DAY_MS + 7_000 * i for i, (day, _, _) in enumerate(events)])
        if n
        else np.zeros(0, np.int64),
        attributes=StringColumn.of([""] * n),
        partitions=[("events", 0)],
        partition_index=np.zeros(n, np.int32),
        offsets=np.arange(n),
        record_index=np.arange(n),
    )


def _counts(events: list[Event]) -> DailyCounts:
    return DailyCounts.of(SPACE, _batch(events))


def _table(events: list[Event], first: int = FIRST, last: int = LAST) -> TrendTable:
    return TrendTable.of(SPACE, _counts(events), first, last)


def _by_hand(events: list[Event], day: int) -> np.ndarray:
    """(G, V) by the sums of the module's head, one event at a time."""
    found = []
    for feature in trend_features(SPACE):
        counted = [
            (d, c) for d, c, kind in events if c in WORDS and (not feature.on or kind in feature.on)
        ]
        halves = [float(h.removesuffix("d")) for h in feature.half_lives]
        window = math.ceil(trend.WINDOW_HALF_LIVES * max(halves))
        began = min((d for d, _ in counted), default=day)
        ages = min(max(day - began, 0), window)
        for short, long in pairwise(halves):
            row = []
            for word in WORDS:
                if not ages:
                    row.append(0.0)
                    continue
                reach = {h: sum(2 ** -(age / h) for age in range(ages)) for h in (short, long)}
                rate = {
                    h: sum(
                        2 ** -((day - 1 - d) / h)
                        for d, c in counted
                        if c == word and 0 <= day - 1 - d < window
                    )
                    / reach[h]
                    for h in (short, long)
                }
                s = reach[short]
                row.append(math.log((rate[short] * s + 10) / (rate[long] * s + 10)))
            found.append(row)
    return np.array(found)


@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_a_table_has_the_sums_that_its_page_names(events: list[Event]) -> None:
    table = _table(events)
    assert table.contrasts.shape == (81, 3, 3)
    assert table.contrasts.dtype == np.float32
    for day in range(FIRST, LAST + 1, 7):
        np.testing.assert_allclose(
            table.contrasts[day - FIRST], _by_hand(events, day), rtol=0, atol=2e-5
        )


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, order=st.randoms(), pieces=st.integers(1, 5))
def test_splitting_events_into_batches_in_any_order_changes_no_bit(
    events: list[Event], order: object, pieces: int
) -> None:
    shuffled = list(events)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [_counts(shuffled[i::pieces]) for i in range(pieces)]
    together = DailyCounts.sum(parts)
    whole = _counts(events)
    for name in DailyCounts.__slots__:
        assert np.array_equal(getattr(together, name), getattr(whole, name)), name
    expected = _table(events).contrasts
    assert np.array_equal(TrendTable.of(SPACE, together, FIRST, LAST).contrasts, expected)


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, day=st.integers(90, 190), word=st.sampled_from(WORDS))
def test_an_event_changes_no_day_up_to_its_own(events: list[Event], day: int, word: str) -> None:
    before, after = _table(events), _table([*events, (day, word, "purchase")])
    same = max(0, day + 1 - FIRST)
    assert np.array_equal(before.contrasts[:same], after.contrasts[:same])


def test_an_event_changes_the_day_after_its_own() -> None:
    events: list[Event] = [(120, "bread", "purchase"), (130, "apples", "purchase")]
    before, after = _table(events), _table([*events, (150, "bread", "purchase")])
    changed = np.flatnonzero((before.contrasts != after.contrasts).any(axis=(1, 2))) + FIRST
    assert changed[0] == 151


@settings(max_examples=20, deadline=None)
@given(events=EVENTS, first=st.integers(100, 140), days=st.integers(1, 40))
def test_a_day_has_the_same_bits_whichever_days_stand_beside_it(
    events: list[Event], first: int, days: int
) -> None:
    alone = _table(events, first, first + days - 1)
    part = _table(events).part(first, first + days - 1)
    assert alone.first_day == part.first_day == first
    assert np.array_equal(alone.contrasts, part.contrasts)


def test_pieces_of_days_and_of_categories_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)
    events: list[Event] = [
        (int(day), str(draw.choice(WORDS)), "purchase") for day in draw.integers(60, 180, 2000)
    ]
    whole = _table(events)
    monkeypatch.setattr(trend, "_PIECE_DAYS", 7)
    monkeypatch.setattr(trend, "_PIECE_CATEGORIES", 2)
    assert np.array_equal(_table(events).contrasts, whole.contrasts)


@settings(max_examples=20, deadline=None)
@given(events=EVENTS)
def test_counts_older_than_the_window_are_not_needed(events: list[Event]) -> None:
    window = max(trend.window_days(feature) for feature in trend_features(SPACE))
    kept = _counts(events).since(150 - window)
    expected = _table(events, 150, 170).contrasts
    assert np.array_equal(TrendTable.of(SPACE, kept, 150, 170).contrasts, expected)


def test_a_steady_shop_has_no_trend_however_short_its_log_is() -> None:
    events: list[Event] = [(day, "bread", "purchase") for day in range(140, 181) for _ in range(50)]
    # Without dividing by the weights of the days that were seen, the shop's beginning would look
    # like a rise of everything: log(S14d / S5d) is far from 0 on day 141.
    assert np.abs(_table(events, 141, 180).contrasts).max() < 1e-6


def test_what_is_asked_for_more_of_late_is_above_zero_and_the_shorter_half_life_reacts_more() -> (
    None
):
    events: list[Event] = [(day, "bread", "purchase") for day in range(100, 170) for _ in range(20)]
    events += [(169, "bread", "purchase")] * 60
    short, long, _ = _table(events, 170, 170).contrasts[0, :, 1]
    assert short > long > 0.1


def test_only_types_of_on_and_words_of_the_vocabulary_are_counted() -> None:
    counts = _counts(
        [(101, "bread", "view"), (101, "unknown", "purchase"), (102, None, "purchase"),
         (103, "bread", "purchase"), (103, "bread", "purchase")]
    )  # fmt: skip
    found = list(
        zip(
            counts.feature.tolist(), counts.day.tolist(), counts.category.tolist(),
            counts.count.tolist(), strict=True,
        )
    )  # fmt: skip
    assert found == [(0, 103, 1, 2), (1, 101, 1, 1), (1, 103, 1, 2)]
    assert counts.first_day.tolist() == [103, 101]


def test_no_events_make_no_counts_and_a_table_of_zeros() -> None:
    counts = _counts([])
    assert counts.first_day.tolist() == [NO_DAY, NO_DAY]
    assert not TrendTable.of(SPACE, counts, FIRST, LAST).contrasts.any()


def test_a_declaration_without_a_trend_has_no_counts() -> None:
    space = FeatureSpace.compile(TRENDS[:1], {"category_id": WORDS})
    counts = DailyCounts.of(space, _batch([(100, "bread", "purchase")]))
    assert len(counts) == 0
    assert TrendTable.of(space, counts, FIRST, LAST).contrasts.shape == (81, 0, 0)


def test_a_table_knows_its_days() -> None:
    table = _table([])
    assert (table.first_day, table.last_day) == (FIRST, LAST)
    assert table.covers(100, 180)
    assert not table.covers(99, 120)
    assert not table.covers(150, 181)


def test_a_table_that_is_too_large_is_refused_before_it_is_made() -> None:
    with pytest.raises(InputError, match=r"rows lie 60,000,000 days apart.* shorter time"):
        TrendTable.of(SPACE, _counts([]), 0, 59_999_999)
