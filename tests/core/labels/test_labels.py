"""Labels: against one loop per row and event, and the edges of the window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels import labels
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows, LabelRule
from stream_scorer.errors import ConfigError, InputError

VOCABULARY = ("soup", "bread", "milk")
RULE = LabelRule("category_id", (("view",), ("cart", "purchase")), horizon_ms=100)
CLASS = {"view": 1, "cart": 2, "purchase": 2}

events = st.lists(
    st.fixed_dictionaries(
        {
            "customer": st.sampled_from(["ann", "bob", "zoë"]),
            "type": st.sampled_from(["view", "cart", "purchase", "click"]),
            "category": st.sampled_from([None, "soup", "bread", "milk", "unheard of"]),
            "at": st.integers(0, 400),
        }
    ),
    max_size=40,
)


def labels_by_loop(stream, customer, as_of):
    best: dict[int, int] = {}
    for e in stream:
        inside = as_of <= e["at"] < as_of + RULE.horizon_ms
        if e["customer"] == customer and inside and e["category"] in VOCABULARY:
            column = VOCABULARY.index(e["category"])
            best[column] = max(best.get(column, 0), CLASS.get(e["type"], 0))
    return {k: v for k, v in sorted(best.items()) if v}


@settings(max_examples=60, deadline=None)
@given(
    events,
    st.lists(st.tuples(st.sampled_from(["ann", "bob", "zoë", "eve"]), st.integers(0, 400))),
    st.integers(0, 40),
)
def test_labels_equal_a_loop_over_events(make_events, stream, asked, cut):
    collector = LabelCollector(RULE, VOCABULARY)
    for part in (stream[cut:], stream[:cut]):
        collector.add(make_events(part))
    found = collector.labels([c for c, _ in asked], np.array([t for _, t in asked], np.int64))
    for r, (customer, as_of) in enumerate(asked):
        span = slice(found.indptr[r], found.indptr[r + 1])
        pairs = dict(
            zip(found.category[span].tolist(), found.action_class[span].tolist(), strict=True)
        )
        assert pairs == labels_by_loop(stream, customer, as_of)
        assert list(pairs) == sorted(pairs)


def test_window_starts_at_the_cutoff_and_ends_before_the_horizon(make_events):
    collector = LabelCollector(RULE, VOCABULARY)
    collector.add(
        make_events(
            [
                {"customer": "ann", "type": "view", "category": c, "at": at}
                for c, at in (("soup", 100), ("bread", 99), ("milk", 200))
            ]
        )
    )
    assert collector.labels(["ann"], np.array([100])).category.tolist() == [0]


def rows_of(customers, matrix, labelled, as_of=0) -> LabelledRows:
    """Rows with class-1 labels in the categories `labelled[r]`."""
    return LabelledRows(
        customers,
        np.full(len(customers), as_of, np.int64),
        sparse.csr_matrix(np.array(matrix, np.float32)),
        np.cumsum([0, *map(len, labelled)]).astype(np.int64),
        np.array([c for row in labelled for c in row], np.uint32),
        np.ones(sum(map(len, labelled)), np.uint8),
    )


def test_dense_labels_keep_only_the_models_categories():
    rows = rows_of(["a", "b", "c"], np.zeros((3, 2)), [[0, 2], [], [1, 2, 5]])
    found = labels.dense_labels(rows, np.array([1, 2]))
    assert found.tolist() == [[0, 1], [0, 0], [1, 1]]
    assert found.dtype == np.uint8
    assert labels.dense_labels(rows, np.array([7])).tolist() == [[0], [0], [0]]


def test_rows_weigh_one_each_where_nothing_else_is_said():
    rows = rows_of(["a", "b"], np.eye(2), [[0], []])
    assert rows.weight.dtype == np.float32
    assert rows.weight.tolist() == [1, 1]


def test_weights_stay_with_their_rows():
    rows = replace(
        rows_of(["a", "b", "c"], np.eye(3), [[0, 2], [], [1]]),
        weight=np.array([1, 2, 3], np.float32),
    )
    taken = rows.take(np.array([2, 0]))
    assert taken.weight.tolist() == [3, 1]
    assert labels.concatenate_rows([taken, rows]).weight.tolist() == [3, 1, 1, 2, 3]


def test_rows_taken_and_joined_are_the_same_rows():
    rows = rows_of(["a", "b", "c"], np.eye(3), [[0, 2], [], [1]])
    again = labels.concatenate_rows([rows.take(np.array([0])), rows.take(np.array([1, 2]))])
    assert again.customer_ids == rows.customer_ids
    np.testing.assert_array_equal(again.matrix.toarray(), rows.matrix.toarray())
    for name in ("as_of_ms", "label_indptr", "label_category", "label_class"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
    assert rows.take(np.array([2, 0])).label_category.tolist() == [1, 0, 2]


SPACE = FeatureSpace.compile(
    [
        Feature("bought", on=("purchase",), by=("category_id",)),
        Feature("seen", on=("view",), by=("category_id",)),
    ],
    {"category_id": VOCABULARY},
)


def test_categories_are_those_that_enough_customers_acted_on():
    rule = LabelRule("category_id", (("purchase",),), 100)
    bought, seen = np.zeros((4, 3)), np.zeros((4, 3))
    bought[:2, 0] = 1  # ann's and bob's own columns say soup
    seen[:, 2] = 1  # views are no purchases
    rows = rows_of(["ann", "bob", "ann", "ann"], np.hstack([bought, seen]), [[1], [1], [0], [1, 2]])
    shards = [rows.take(np.array([0, 3])), rows.take(np.array([1, 2]))]
    assert labels.choose_categories(shards, SPACE, rule, 2).tolist() == [0, 1]
    assert labels.choose_categories(shards, SPACE, rule, 1).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="lower it"):
        labels.choose_categories(shards, SPACE, rule, 3)


def test_who_acted_is_counted_the_same_however_many_rows_are_looked_at_together(monkeypatch):
    rule, draw = LabelRule("category_id", (("purchase",),), 100), np.random.default_rng(0)
    own = (draw.random((60, 6)) < 0.1).astype(float)
    acted = [np.flatnonzero(draw.random(3) < share).tolist() for share in draw.random(60) / 4]
    rows = rows_of([f"c{i}" for i in draw.integers(0, 40, 60)], own, acted)
    found = []
    for together in (1, 7, 1000):
        monkeypatch.setattr(labels, "ROWS_TOGETHER", together)
        for enough in (1, 6, 9, 50):
            acting = labels.ActingCustomers(SPACE, rule, enough)
            acting.add(rows)
            found.append((acting.enough.tolist(), acting.too_few().tolist(), acting.customers))
    assert found[:4] == found[4:8] == found[8:]
    assert any(enough and few for enough, few, _ in ((any(e), any(f), c) for e, f, c in found))


@pytest.mark.parametrize(
    ("actions", "horizon"), [((), 1), (((),), 1), ((("a",), ("a",)), 1), ((("a",),), 0)]
)
def test_a_rule_that_means_nothing_is_refused(actions, horizon):
    with pytest.raises(ConfigError, match="labels"):
        LabelRule("category_id", actions, horizon)
