"""Vectors as of any moment: what a consumer had then, and nothing of what came later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.events.batch import EventBatch
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels import as_of as m
from stream_scorer.core.labels.cutoffs import rows_at_cutoffs
from stream_scorer.core.labels.labels import LabelCollector, LabelRule

DAY = 86_400_000
CATEGORIES = ("soup", "bread", "milk")
SPACE = FeatureSpace.compile(
    [
        Feature("bought", by=("category_id",), half_lives=("2d", "14d", "inf")),
        Feature("since", kind="recency", by=("category_id",), half_lives=("7d",)),
        Feature("first", kind="first", by=("category_id",), half_lives=("7d", "inf")),
        Feature("gap", kind="gap"),
        Feature("hour", kind="calendar", by=("hour_of_day",)),
    ],
    {"category_id": CATEGORIES},
)
Rows = dict[tuple[str, int], tuple[bytes, bytes]]
Log = Callable[..., EventBatch]


def rows_of(seed: int = 2, count: int = 600) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    return [
        {
            "customer": f"c{draw.integers(25)}", "category": CATEGORIES[draw.integers(3)],
            "at": int(draw.integers(90 * DAY)), "offset": i,
        }
        for i in range(count)
    ]  # fmt: skip


def known(make_events: Log, rows: list[dict[str, Any]]) -> m.KnownEvents:
    events = make_events(rows)
    return m.KnownEvents.of(events, events.occurred_at_ms)


def vectors(log: m.KnownEvents, moments: m.Moments) -> Rows:
    """By customer and moment the bits of its row."""
    found: Rows = {}
    for at, matrix in m.rows_at(log, moments, SPACE):
        for i, p in enumerate(at.tolist()):
            row, key = matrix[i], (log.customer_ids[moments.customer[p]], int(moments.as_of_ms[p]))
            assert key not in found
            found[key] = row.indices.tobytes(), row.data.tobytes()
    assert len(found) == len(moments.as_of_ms)
    return found


def test_at_cutoffs_is_what_snapshots_hold(make_events: Log) -> None:
    log, cutoffs = known(make_events, rows_of()), [20 * DAY, 20 * DAY + 7, 61 * DAY]
    labels = LabelCollector(LabelRule("category_id", (("purchase",),), DAY), CATEGORIES)
    expected: Rows = {}
    for rows in rows_at_cutoffs(log.events, SPACE, labels, cutoffs):
        for i, customer in enumerate(rows.customer_ids):
            row = rows.matrix[i]
            expected[customer, int(rows.as_of_ms[i])] = row.indices.tobytes(), row.data.tobytes()
    assert vectors(log, m.at_cutoffs(log, cutoffs)) == expected


def test_after_events_is_each_moment_once(make_events: Log) -> None:
    rows = rows_of(count=200)
    log = known(make_events, [*rows, {**rows[0], "category": "milk", "offset": 200}])
    found = m.after_events(log, 30 * DAY, 60 * DAY)
    pairs = {(r["customer"], r["at"] + 1) for r in rows if 30 * DAY <= r["at"] < 60 * DAY}
    assert vectors(log, found).keys() == pairs


def test_what_comes_at_or_after_a_moment_changes_no_bit(make_events: Log) -> None:
    rows, at = rows_of(), 45 * DAY
    rows.append({"customer": "c3", "category": "soup", "at": at, "offset": len(rows)})
    before = [r for r in rows if r["at"] < at]
    other = [
        {**r, "category": "milk", "customer": f"new{i % 9}"} for i, r in enumerate(rows)
        if r["at"] >= at
    ]  # fmt: skip
    cutoffs, seen = [10 * DAY, 30 * DAY, at], []
    for changed in (rows, before, before + other):
        log = known(make_events, changed)
        seen.append(vectors(log, m.at_cutoffs(log, cutoffs)))
        upto = m.after_events(log, 0, at - 1)
        seen[-1] |= vectors(log, upto)
    assert seen[0] == seen[1] == seen[2]


def test_groups_change_nothing(make_events: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log = known(make_events, rows_of())
    moments = m.after_events(log, 0, 90 * DAY)
    whole = vectors(log, moments)
    monkeypatch.setattr(m, "GROUP_CUSTOMERS", 4)
    assert vectors(log, moments) == whole


def test_an_event_is_known_from_its_arrival_on(make_events: Log) -> None:
    events = make_events(
        [{"customer": "c", "category": "soup", "at": 5 * DAY, "offset": 0},
         {"customer": "c", "category": "milk", "at": 2 * DAY, "offset": 1}]
    )  # fmt: skip
    log = m.KnownEvents.of(events, np.array([5 * DAY, 9 * DAY]))
    on_time = m.KnownEvents.of(events, events.occurred_at_ms)
    assert not len(m.at_cutoffs(log, [3 * DAY]).as_of_ms)
    assert len(m.at_cutoffs(on_time, [3 * DAY]).as_of_ms) == 1
    # The hour, six columns of each category, and the gap between the two events.
    for day, entries in ((7, 7), (10, 14)):
        ((columns, _),) = vectors(log, m.at_cutoffs(log, [day * DAY])).values()
        assert len(columns) == 4 * entries
    moments = m.at_cutoffs(log, [10 * DAY])
    (late,), (early,) = vectors(log, moments).values(), vectors(on_time, moments).values()
    assert late[0] == early[0]
