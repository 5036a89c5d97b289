"""No look ahead: a row is a function of the events before its cut-off alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.cutoffs import rows_at_cutoffs
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows, LabelRule

DAY = 86_400_000
WORDS = ("soup", "bread", "milk")
SPACE = FeatureSpace.compile(
    [
        Feature("purchases", by=("category_id",), half_lives=("2d", "14d")),
        Feature("recency", kind="recency", by=("category_id",), half_lives=("7d",)),
        Feature("first", kind="first", by=("category_id",)),
        Feature("overdue", kind="overdue", by=("category_id",)),
    ],
    {"category_id": WORDS},
)
RULE = LabelRule("category_id", (("purchase",),), 5 * DAY)
CUTOFF = 30 * DAY


def stream(seed: int, days: int = 60) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    at = np.sort(draw.integers(0, days * DAY, 300))
    return [
        {"customer": f"c{draw.integers(9)}", "category": WORDS[draw.integers(3)], "at": int(t)}
        for t in at
    ]


def rows_of(make_events: Any, events: list[dict[str, Any]]) -> LabelledRows:
    batch = make_events(events)
    labels = LabelCollector(RULE, WORDS)
    labels.add(batch)
    return next(rows_at_cutoffs(batch, SPACE, labels, [CUTOFF]))


def test_events_at_or_after_the_cutoff_leave_features_bit_identical(make_events: Any) -> None:
    before = [e for e in stream(1) if e["at"] < CUTOFF]
    whole = rows_of(make_events, stream(1))
    altered = [e for e in stream(2) if e["at"] >= CUTOFF]
    edge = [{**before[0], "at": CUTOFF}]
    for future in ([], altered, edge):
        other = rows_of(make_events, before + future)
        assert other.customer_ids == whole.customer_ids
        assert other.matrix.data.tobytes() == whole.matrix.data.tobytes()
        assert other.matrix.indices.tobytes() == whole.matrix.indices.tobytes()


def test_labels_are_what_happened_within_the_horizon(make_events: Any) -> None:
    events = stream(3)
    rows = rows_of(make_events, events)
    for i, (customer, as_of) in enumerate(zip(rows.customer_ids, rows.as_of_ms, strict=True)):
        window = [e for e in events if e["customer"] == customer]
        window = [e for e in window if as_of <= e["at"] < as_of + RULE.horizon_ms]
        found = rows.label_category[rows.label_indptr[i] : rows.label_indptr[i + 1]]
        assert {WORDS[c] for c in found.tolist()} == {e["category"] for e in window}


def test_offsets_out_of_order_do_not_matter(make_events: Any) -> None:
    events = stream(1)
    shuffled = [
        {**e, "offset": i}
        for i, e in zip(np.random.default_rng(0).permutation(300), events, strict=True)
    ]
    one, other = rows_of(make_events, events), rows_of(make_events, shuffled)
    assert one.matrix.data.tobytes() == other.matrix.data.tobytes()


def test_events_out_of_time_order_are_refused(make_events: Any) -> None:
    with pytest.raises(ValueError, match="time order"):
        rows_of(make_events, stream(1)[::-1])
