"""Which columns each event of a batch touches, and with what weight.

Fields are interned, so text is looked up or hashed once for each distinct value of a batch;
features that look at the same fields of the same events share the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from stream_scorer.core.avro.attributes import attribute
from stream_scorer.core.events.batch import (
    LARGEST_NUMBER,
    NULL,
    EventBatch,
    Float64,
    Int32,
    Int64,
)
from stream_scorer.core.features.space import ATTRIBUTE, Feature, FeatureSpace


@dataclass(frozen=True)
class Keys:
    """What a batch of n events does to columns.

    Feature f sees an event at key[:, slot[f]], not at all where that is `NULL`: key (n, K) int32,
    slot (features,) int32, `NULL` for a calendar or a trend. Its weight is constant[f], or
    numbers[:, number[f]] where number[f] is not `NULL`, and where that is NaN it does not see the
    event either: constant (features,), numbers (n, W) float64, number (features,) int32.
    """

    key: Int32
    slot: Int32
    constant: Float64
    numbers: Float64
    number: Int32


def keys_of(space: FeatureSpace, columns: EventColumns) -> Keys:
    """What each event of a batch does to each feature."""
    slots: dict[tuple[object, ...], int] = {}  # most features look at the same events
    seen: list[Int32] = []
    slot = np.full(len(space.features), NULL, np.int32)
    for number, feature in enumerate(space.features):
        if feature.kind in ("calendar", "trend"):
            continue
        same = feature.by, feature.buckets, feature.on
        if same not in slots:
            slots[same] = len(seen)
            seen.append(seen_keys(space, feature, columns))
        slot[number] = slots[same]
    fields = list(dict.fromkeys(f.value for f in space.features if isinstance(f.value, str)))
    return Keys(
        _side_by_side(seen, len(columns), np.int32),
        slot,
        np.array([1.0 if isinstance(f.value, str) else f.value for f in space.features]),
        _side_by_side(
            [columns.numbers(field) for field in fields], len(columns), np.float64,
        ),
        np.array(
            [fields.index(f.value) if isinstance(f.value, str) else NULL for f in space.features],
            np.int32,
        ),
    )  # fmt: skip


def _side_by_side(columns: Sequence[Any], n: int, dtype: type) -> Any:
    return np.stack(columns, axis=1) if columns else np.zeros((n, 0), dtype)


def seen_keys(space: FeatureSpace, feature: Feature, columns: EventColumns) -> Int32:
    """(n,) the feature's key of each event of one of its types; `NULL` where it does not see it."""
    key = _feature_keys(space, feature, columns)
    if feature.on:
        allowed = frozenset(feature.on)
        codes, types = columns.coded("event_type")
        # The entry at the end is what the code of a null, -1, finds.
        table = np.array([t in allowed for t in types] + [False], np.bool_)
        # Most features take every type of a batch: then the keys need no copy.
        if not table[:-1].all() or (len(codes) and codes.min() == NULL):
            key = np.where(table[codes], key, NULL)
    return key.astype(np.int32)


def _feature_keys(space: FeatureSpace, feature: Feature, columns: EventColumns) -> Int64:
    if feature.buckets:
        return _hashed(feature, columns)
    key = np.zeros(len(columns), np.int64)
    for position, field in enumerate(feature.by):
        index = space.index[field]
        codes, texts = columns.coded(field)
        # One look-up for each distinct text; the NULL at the end is for absent values, whose code
        # is -1.
        digits = np.array([index.get(t, NULL) for t in texts] + [NULL], np.int64)[codes]
        if position == 0:
            key = digits
            continue
        key = np.where((key == NULL) | (digits == NULL), NULL, key * len(index) + digits)
    return key


class EventColumns:
    """Fields of one batch of n events as codes and numbers, each made once when first asked for."""

    def __init__(self, events: EventBatch) -> None:
        self._events = events
        self._coded: dict[str, tuple[Int32, list[str]]] = {}
        self._numbers: dict[str, Float64] = {}

    def __len__(self) -> int:
        return len(self._events)

    def coded(self, field: str) -> tuple[Int32, list[str]]:
        """Codes (n,) int32, `NULL` where absent, into the distinct texts."""
        if field not in self._coded:
            if field.startswith(ATTRIBUTE):
                column = attribute(self._events, field.removeprefix(ATTRIBUTE))
            else:
                column = getattr(self._events, field)
            self._coded[field] = column.intern()
        return self._coded[field]

    def numbers(self, field: str) -> Float64:
        """(n,) float64, NaN where absent, or no number from -LARGEST_NUMBER to LARGEST_NUMBER."""
        if field == "value":
            return np.where(self._events.has_value, self._events.value, np.nan)
        if field not in self._numbers:
            codes, texts = self.coded(field)
            self._numbers[field] = np.array([_number(t) for t in texts] + [math.nan])[codes]
        return self._numbers[field]


def event_type_counts(columns: EventColumns) -> dict[str, int]:
    """How many of these valid events are of each type."""
    codes, types = columns.coded("event_type")
    counts = np.bincount(codes[codes != NULL], minlength=len(types))
    return dict(zip(types, counts.tolist(), strict=True))


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if abs(number) <= LARGEST_NUMBER else math.nan


def _hashed(feature: Feature, columns: EventColumns) -> Int64:
    """xxHash64 of the length-prefixed texts, modulo buckets; null in any field is not seen."""
    combined, missing = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.bool_)
    texts_of = []
    for field in feature.by:
        codes, texts = columns.coded(field)
        missing |= codes == NULL
        combined = combined * len(texts) + codes
        texts_of.append(texts)
    if len(texts_of) == 1:
        table = np.array([_bucket([text], feature) for text in texts_of[0]] + [NULL], np.int64)
        of_one: Int64 = table[combined]
        return of_one
    # Only combinations that occur are hashed: their number is far below the product of the texts.
    distinct, inverse = np.unique(np.where(missing, NULL, combined), return_inverse=True)
    table = np.full(len(distinct), NULL, np.int64)
    for i, number in enumerate(distinct.tolist()):
        if number == NULL:
            continue
        parts: list[str] = []
        for texts in reversed(texts_of):
            number, digit = divmod(number, len(texts))  # noqa: PLW2901 - unpacking the radix
            parts.append(texts[digit])
        table[i] = _bucket(parts[::-1], feature)
    hashed: Int64 = table[inverse.reshape(-1)]
    return hashed


def _bucket(texts: Sequence[str], feature: Feature) -> int:
    # With the lengths, or ("ab", "c") and ("a", "bc") would always share a bucket.
    text = "".join(f"{len(t)}:{t}" for t in texts)
    return int(xxhash.xxh64_intdigest(text.encode()) % feature.buckets)
