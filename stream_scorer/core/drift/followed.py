"""Customers who are followed: what was predicted of them, and what they then did.

A customer is followed by a hash of the id alone, so the same ones are followed by every member and
after every restart. A hash's rank is how many of its first bits are 0: half of all customers have a
rank of at least 1, a quarter of at least 2. Whoever has at least the rank that is followed now is
followed, so a higher rank keeps a part of those who were followed before. Only hashes are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from stream_scorer.core.events.batch import NULL, EventBatch, Int32, Int64, UInt8
from stream_scorer.core.features.keys import EventColumns, event_type_counts
from stream_scorer.core.features.state import NEVER, Float32
from stream_scorer.core.labels.labels import LabelRule

UInt16 = npt.NDArray[np.uint16]
UInt64 = npt.NDArray[np.uint64]

# Log odds are kept in 16 bits: to within 0.0003, a probability to within 0.03 % of itself.
MOST_LOG_ODDS = 16.0
LOG_ODDS_STEPS = 65_535

# By hash of a customer who was forgotten on request, the moment in ms since 1970 UTC up to which
# nothing of hers may be kept.
Boundaries = Mapping[int, int]


def customer_hashes(keys: Sequence[bytes]) -> UInt64:
    """(B,) uint64 xxHash64 of customers' ids in UTF-8."""
    return np.fromiter(map(xxhash.xxh64_intdigest, keys), np.uint64, len(keys))


def has_rank(hashes: UInt64, rank: int) -> npt.NDArray[np.bool_]:
    """(B,): whether the first `rank` bits of each hash are 0; rank 0 to 63."""
    found: npt.NDArray[np.bool_] = hashes >> np.uint64(64 - rank) == 0 if rank else hashes >= 0
    return found


def boundaries_by_hash(erased_customers: Mapping[str, int], rank: int = 0) -> dict[int, int]:
    """Of these customers, by id, those of at least this rank, by hash."""
    hashes = customer_hashes([i.encode() for i in erased_customers])
    found: dict[int, int] = {}
    for hashed, ms in zip(hashes.tolist(), erased_customers.values(), strict=True):
        if hashed >> (64 - rank) == 0:
            found[hashed] = max(ms, found.get(hashed, NEVER))
    return found


def is_erased(customer: UInt64, at_ms: Int64, erased: Boundaries) -> npt.NDArray[np.bool_]:
    """(A,): whether what was at `at_ms` (A,) lies at or before its customer's boundary."""
    until = np.fromiter((erased.get(c, NEVER) for c in customer.tolist()), np.int64, len(customer))
    found: npt.NDArray[np.bool_] = (at_ms <= until) & (until != NEVER)
    return found


def rank_of_share(one_in: int) -> int:
    """The rank that one of `one_in` customers has, rounded up to a power of two."""
    return (one_in - 1).bit_length()


def packed_log_odds(p: Float32) -> UInt16:
    """uint16 of probabilities of any shape."""
    given = np.clip(p.astype(np.float64), 1e-9, 1 - 1e-9)
    odds = np.clip(np.log(given / (1 - given)), -MOST_LOG_ODDS, MOST_LOG_ODDS)
    steps = np.rint((odds + MOST_LOG_ODDS) * (LOG_ODDS_STEPS / (2 * MOST_LOG_ODDS)))
    packed: UInt16 = steps.astype(np.uint16)
    return packed


def unpacked_log_odds(packed: UInt16) -> Float32:
    """The probabilities, float32."""
    odds = packed.astype(np.float64) * (2 * MOST_LOG_ODDS / LOG_ODDS_STEPS) - MOST_LOG_ODDS
    p: Float32 = (1 / (1 + np.exp(-odds))).astype(np.float32)
    return p


class Scores(NamedTuple):
    """S scores of followed customers: customer (S,) uint64 hashes; as_of_ms (S,) int64, of the
    newest event that the score knows of; scored_at_ms (S,) int64, by the member's clock; log_odds
    (S, N) uint16, packed."""

    customer: UInt64
    as_of_ms: Int64
    scored_at_ms: Int64
    log_odds: UInt16

    @classmethod
    def none(cls, categories: int) -> Scores:
        """None, of so many categories."""
        return cls(
            np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64),
            np.zeros((0, categories), np.uint16),
        )  # fmt: skip

    def take(self, rows: npt.NDArray[Any]) -> Scores:
        """Only `rows`: positions, or whether each."""
        return Scores(*(column[rows] for column in self))


class Actions(NamedTuple):
    """A events of label types of followed customers: customer (A,) uint64 hashes; at_ms (A,) int64;
    category (A,) int32 into the vocabulary; action_class (A,) uint8, never 0."""

    customer: UInt64
    at_ms: Int64
    category: Int32
    action_class: UInt8

    @classmethod
    def none(cls) -> Actions:
        """None."""
        return cls(
            np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int32),
            np.zeros(0, np.uint8),
        )  # fmt: skip

    def take(self, rows: npt.NDArray[Any]) -> Actions:
        """Only `rows`: positions, or whether each."""
        return Actions(*(column[rows] for column in self))


def joined_scores(parts: Iterable[Scores], categories: int) -> Scores:
    """All of them, in order."""
    columns = zip(*parts, strict=True)
    found = [np.concatenate(column) for column in columns]
    return Scores(*found) if found else Scores.none(categories)


def joined_actions(parts: Iterable[Actions]) -> Actions:
    """All of them, in order."""
    found = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Actions(*found) if found else Actions.none()


class WatchedEvents(NamedTuple):
    """What is watched of a batch of valid events. types: how many of each event type. actions: of
    customers of the rank that is followed at least."""

    types: dict[str, int]
    actions: Actions


class EventWatch:
    """Looks at valid events; rank: of customers whose actions are noted."""

    def __init__(self, rule: LabelRule, vocabulary: Sequence[str], rank: int) -> None:
        self._rule, self._rank = rule, rank
        self._index = {word: i for i, word in enumerate(vocabulary)}

    def __call__(self, events: EventBatch, columns: EventColumns) -> WatchedEvents:
        """Of these events."""
        counts = event_type_counts(columns)
        codes, types = columns.coded("event_type")
        classes = np.array([*(self._rule.class_of(t) for t in types), 0], np.uint8)[codes]
        rows = np.flatnonzero(classes)
        if len(rows):
            who, ids = events.customer_id.take(rows).intern()
            hashes = customer_hashes([i.encode() for i in ids])[who]
            kept = has_rank(hashes, self._rank)
            rows, hashes = rows[kept], hashes[kept]
        if not len(rows):
            return WatchedEvents(counts, Actions.none())
        words, texts = columns.coded(self._rule.by)
        category = np.array([*(self._index.get(t, NULL) for t in texts), NULL], np.int32)[words]
        actions = Actions(hashes, events.occurred_at_ms[rows], category[rows], classes[rows])
        return WatchedEvents(counts, actions.take(actions.category != NULL))
