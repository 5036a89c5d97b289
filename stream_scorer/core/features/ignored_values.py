"""Values of valid events that features can't use: words outside a vocabulary, and texts that are no
number where a feature sums or keeps one.

Such an event counts, but not for those features. Nothing else shows that a producer renamed its
categories, or began to write "n/a" for a price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import NULL, Bool
from stream_scorer.core.events.similar_words import meant
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.result import Result

UNKNOWN_WORD, NOT_A_NUMBER = "unknown_word", "not_a_number"
Types = frozenset[str] | None  # None: every event type


class IgnoredCount(NamedTuple):
    """How many events of a batch have such a value in this field, and the first value."""

    field: str
    problem: str
    events: int
    example: str


@dataclass(frozen=True)
class IgnoredValue(Result):
    """Events whose value of this field some features can't use. problem: unknown_word or
    not_a_number. example: the first such value. remedy: what to change.
    """

    field: str
    problem: str
    events: int
    example: str
    remedy: str


@dataclass
class IgnoredValues:
    """Sums the counts of batches."""

    counts: dict[tuple[str, str], IgnoredCount] = field(default_factory=dict)

    def add(self, counts: Iterable[IgnoredCount]) -> None:
        """Those of one more batch."""
        for one in counts:
            key = one.field, one.problem
            before = self.counts.get(key)
            if before is None:
                self.counts[key] = one
            else:
                self.counts[key] = before._replace(events=before.events + one.events)

    def found(self, vocabularies: Mapping[str, Sequence[str]]) -> tuple[IgnoredValue, ...]:
        """By field and problem, with a remedy for each."""
        return tuple(
            IgnoredValue(*one, _remedy(one, vocabularies.get(one.field, ())))
            for _, one in sorted(self.counts.items())
        )


def ignored_in_words(values: Sequence[IgnoredValue]) -> list[str]:
    """A line of text for each."""
    return [
        f"{v.events:,} events have a value of {v.field} that "
        + ("its vocabulary lacks" if v.problem == UNKNOWN_WORD else "is not a number")
        + f", such as {v.example[:100]!r}, and do not count for features by it: {v.remedy}"
        for v in values
    ]


def ignored_values(
    space: FeatureSpace, columns: EventColumns, also: Mapping[str, frozenset[str]] | None = None
) -> list[IgnoredCount]:
    """What features of `space` can't use of these valid events, of the types that they look at.

    also: fields whose vocabulary matters for events of these types, as of labels.
    """
    words, numbers = space.derived(_looked_at)
    for name, acting in (also or {}).items():
        words = {**words, name: _joined(words.get(name, frozenset()), acting)}
    found = []
    for name, types in words.items():
        index = space.index[name]
        codes, texts = columns.coded(name)
        # Nearly always every word is known, which this says without looking at a single event.
        if index.keys() >= set(texts):
            continue
        unknown = np.array([text not in index for text in texts] + [False])
        found += _counted(columns, name, UNKNOWN_WORD, unknown[codes], types)
    for name, types in numbers.items():
        codes, _ = columns.coded(name)
        absurd = np.isnan(columns.numbers(name)) & (codes != NULL)
        found += _counted(columns, name, NOT_A_NUMBER, absurd, types)
    return found


def _counted(
    columns: EventColumns, name: str, problem: str, rows: Bool, types: Types
) -> list[IgnoredCount]:
    if types is not None and rows.any():
        codes, known = columns.coded("event_type")
        rows = rows & np.array([t in types for t in known] + [False])[codes]
    events = int(rows.sum())
    if not events:
        return []
    codes, texts = columns.coded(name)
    return [IgnoredCount(name, problem, events, texts[int(codes[int(rows.argmax())])])]


def _looked_at(space: FeatureSpace) -> tuple[dict[str, Types], dict[str, Types]]:
    """Fields whose vocabulary, and fields whose number, features use; and of which event types."""
    words: dict[str, Types] = {}
    numbers: dict[str, Types] = {}
    for feature in space.features:
        if feature.kind == "calendar":
            continue
        types = frozenset(feature.on) or None
        for name in () if feature.buckets else feature.by:
            words[name] = _joined(words.get(name, frozenset()), types)
        # A null `value` is absent; one that is not finite was refused.
        if isinstance(feature.value, str) and feature.value != "value":
            numbers[feature.value] = _joined(numbers.get(feature.value, frozenset()), types)
    return words, numbers


def _joined(one: Types, other: Types) -> Types:
    return None if one is None or other is None else one | other


def _remedy(one: IgnoredCount, vocabulary: Sequence[str]) -> str:
    if one.problem == NOT_A_NUMBER:
        return "write a number, or leave it out where there is none"
    return f"add it to vocabularies.{one.field}{meant(one.example, frozenset(vocabulary))}"
