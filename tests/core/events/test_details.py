"""What is wrong with a record, in words that may hold words of the record's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_scorer.core.events import similar_words
from stream_scorer.core.events.batch import (
    MOST_DETAIL_CHARACTERS,
    NO_TIMESTAMP,
    DeadLetter,
    Reason,
    RecordBatch,
)
from stream_scorer.core.events.validation import EventRules, validate

RULES = EventRules(frozenset({"view", "purchase"}), frozenset({"bread"}), True, 300_000)


def detail_of(detail: str) -> str:
    return DeadLetter("t", 0, 0, NO_TIMESTAMP, Reason.UNDECODABLE, detail, None, None).detail


def test_a_detail_is_one_line_that_moves_no_cursor() -> None:
    assert detail_of("a\nb\x1b[31m größer\u2028") == r"a\nb\x1b[31m größer\u2028"
    assert detail_of("größer") == "größer"


def test_a_long_detail_keeps_its_beginning_and_its_remedy() -> None:
    detail = detail_of("customer_id is " + "x" * 900_000 + "; give text")
    assert len(detail) < MOST_DETAIL_CHARACTERS + 50
    assert detail.startswith("customer_id is xxx")
    assert detail.endswith("xxx; give text")
    assert f"({900_026 - MOST_DETAIL_CHARACTERS} characters left out)" in detail
    assert detail_of("x" * MOST_DETAIL_CHARACTERS) == "x" * MOST_DETAIL_CHARACTERS


@pytest.mark.parametrize(("field", "says"), [("type", "event_types"), ("category", "vocabularies")])
def test_a_long_word_is_refused_in_short_words(
    make_events: Any, monkeypatch: pytest.MonkeyPatch, field: str, says: str
) -> None:
    words = [f"{n}" + "p" * 300_000 for n in range(20)]
    events = make_events([{"customer": "c", "at": 5, field: word} for word in words])
    n = len(events)
    records = RecordBatch(
        [b"x"] * n, [None] * n, [("events", 0)], np.zeros(n, np.int32), np.arange(n),
        np.full(n, NO_TIMESTAMP),
    )  # fmt: skip
    folded: list[int] = []
    fold = similar_words._fold

    def recorded(word: str) -> str:
        folded.append(len(word))
        return fold(word)

    monkeypatch.setattr(similar_words, "_fold", recorded)
    _, dead_letters = validate(events, records, RULES, 2**60)
    # Comparing a whole word took 0.15 s, and 1,024 of them were kept: 0.9 GB.
    assert max(folded) <= similar_words.MOST_CHARACTERS
    assert len(dead_letters) == n
    assert all(says in d.detail and len(d.detail) < 1_100 for d in dead_letters)
