"""Which known word is asked for in place of a wrong one."""

from __future__ import annotations

import pytest

from stream_scorer.core.events.similar_words import MOST_COMPARED_WORDS, meant

TYPES = frozenset({"view", "click", "cart", "purchase", "add to cart"})


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("PURCHASE", "purchase"), ("Purchase", "purchase"), (" purchase\t", "purchase"),
        ("purchased", "purchase"), ("purchases", "purchase"), ("puchase", "purchase"),
        ("\ufeffview", "view"), ("add_to_cart", "add to cart"), ("ADD-TO-CART", "add to cart"),
    ],
)  # fmt: skip
def test_a_word_that_differs_in_case_blanks_or_little_is_asked_for(word: str, known: str) -> None:
    assert meant(word, TYPES) == f"; is {known!r} meant?"


@pytest.mark.parametrize("word", ["", "returned", "x" * 100_000, "\x00", "ordering"])
def test_nothing_is_asked_where_no_word_is_near(word: str) -> None:
    assert meant(word, TYPES) == ""


def test_a_large_vocabulary_is_asked_for_case_and_blanks_alone() -> None:
    words = frozenset(f"category {n}" for n in range(MOST_COMPARED_WORDS + 1))
    assert meant("CATEGORY  7", words) == "; is 'category 7' meant?"
    assert meant("categori 7", words) == ""
