"""What training rows are counted to have, against loops over them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from stream_scorer.core.evaluation.model_card import card_features, card_rows
from stream_scorer.core.evaluation.training_data import (
    KindedRows,
    LeftOutCategory,
    MomentsOfKind,
    RowCounts,
)
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule, choose_categories

DAY_MS = 86_400_000
WORDS = ("soup", "bread", "milk", "tea", "rice")
SPACE = FeatureSpace.compile(
    [
        Feature("bought", on=("purchase",), by=("category_id",), half_lives=("2d", "inf")),
        Feature("seen", on=("view",), by=("category_id",)),
        Feature("total"),
    ],
    {"category_id": WORDS},
)
RULE = LabelRule("category_id", (("purchase",),), 7 * DAY_MS)


def shard(labels: dict[tuple[str, int], list[int]], own: list[int], weight: list[float]):
    """A row for each (customer, day); own: the one filled column of each row, -1: none."""
    filled = [(r, column) for r, column in enumerate(own) if column >= 0]
    values = np.ones(len(filled), np.float32)
    at = tuple(zip(*filled, strict=True)) if filled else ([], [])
    matrix = sparse.csr_matrix((values, at), (len(labels), SPACE.width), dtype=np.float32)
    lengths = [len(of_row) for of_row in labels.values()]
    categories = np.array([c for of_row in labels.values() for c in of_row], np.uint32)
    return LabelledRows(
        [customer for customer, _ in labels], np.array([d for _, d in labels]) * DAY_MS, matrix,
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), categories,
        np.ones(len(categories), np.uint8), np.array(weight, np.float32),
    )  # fmt: skip


FIRST = shard({("a", 3): [0, 1], ("b", 3): [0], ("c", 3): []}, [2, -1, 3], [1.0, 0.5, 0.0])
# In its own columns c bought milk (column 2 of bought@2d) and rice was only seen (column 14).
SECOND = shard({("a", 9): [2], ("d", 5): [0, 2], ("c", 9): [0]}, [14, 15, 2], [2.0, 2.0, 1.0])
KINDS = [np.array([0, 1, 1], np.uint8), np.array([1, 1, 0], np.uint8)]


def counts_of(*, kinds: bool = True, min_customers: int = 3) -> RowCounts:
    given = [KindedRows(FIRST, KINDS[0]), KindedRows(SECOND, KINDS[1] if kinds else None)]
    return RowCounts.of(given, SPACE, RULE, min_customers)


def test_rows_customers_moments_and_weights_are_counted() -> None:
    found = counts_of()
    assert (found.rows, found.customers, found.weight, found.without_weight) == (6, 4, 6.5, 1)
    assert (found.first_ms, found.last_ms) == (3 * DAY_MS, 9 * DAY_MS)
    assert found.moments == (MomentsOfKind("cutoff", 2, 2.0), MomentsOfKind("event", 4, 4.5))
    assert counts_of(kinds=False).moments == ()


def test_columns_and_labels_are_counted() -> None:
    found = counts_of()
    assert found.column_rows.tolist() == [0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert found.acted.tolist() == [4, 1, 2, 0, 0]
    assert found.acted_weight.tolist() == [4.5, 1.0, 4.0, 0.0, 0.0]
    assert found.prior(np.array([0, 2])).tolist() == [5.0 / 7.5, 4.5 / 7.5]


def test_categories_left_out_are_those_that_training_does_not_choose_with_their_customers() -> None:
    """Milk: a and d by labels, a and c by own columns; tea: c by its own column."""
    index = choose_categories([FIRST, SECOND], SPACE, RULE, 3)
    assert index.tolist() == [0, 2]
    found = counts_of()
    assert found.left_out(WORDS, index) == (
        LeftOutCategory("bread", 1, "too_few_customers"),
        LeftOutCategory("tea", 1, "too_few_customers"),
        LeftOutCategory("rice", 0, "no_customer"),
    )
    assert found.labels_left_out(index) == 1
    assert counts_of(min_customers=1).left_out(WORDS, np.arange(5)) == ()


def test_features_say_how_many_of_their_columns_are_empty() -> None:
    found = {f.name: f for f in card_features(SPACE, counts_of().column_rows)}
    assert {name: (f.columns, f.without_value) for name, f in found.items()} == {
        "bought": (10, 8), "seen": (5, 4), "total": (1, 0),
    }  # fmt: skip
    assert (
        found["seen"].meaning == "number of view events, for each category_id; each counts for ever"
    )


def test_rows_of_the_card_say_until_when_labels_look() -> None:
    said = card_rows(counts_of(), [], [9 * DAY_MS, 3 * DAY_MS, 9 * DAY_MS], RULE)
    assert said.first_as_of == "1970-01-04T00:00:00Z"
    assert said.labels_until == "1970-01-17T00:00:00Z"
    assert said.cutoffs == ("1970-01-04T00:00:00Z", "1970-01-10T00:00:00Z")


def test_no_rows_are_no_error() -> None:
    nothing = RowCounts.of([], SPACE, RULE, 1)
    assert (nothing.rows, nothing.customers, nothing.weight, nothing.moments) == (0, 0, 0.0, ())
