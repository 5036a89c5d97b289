"""Rows as customers are scored: after their events, and as a refresh scores quiet customers.

A consumer scores each customer after each event: event rows stand 1 ms after one. A refresh scores
every customer anew in rounds, which begin at whole multiples of its period since 1970 UTC: quiet
rows stand there, one for each customer who is known by then and not forgotten.

Of each kind a share is taken: of event rows by chance, of quiet rows evenly in a customer's rounds.
Whether a moment is depends on a hash of the customer's id, the moment and a seed, never on what the
customer did afterwards. The newest event before a cut-off
would be another sample: nothing follows it until the cut-off, and that time is part of its label
window. What is taken depends neither on the order in which customers are looked at nor on how they
are divided among tasks: tasks need only the totals of `MomentCounts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from stream_scorer.core.events.batch import Int64, UInt8
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.as_of import (
    KnownEvents,
    Moments,
    after_events,
    distinct,
    known_by,
    rows_at,
)
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows, concatenate_rows

CUTOFF, EVENT, QUIET = 0, 1, 2  # kinds of rows
KINDS = ("cutoff", "event", "quiet")
HASHES = 2**64
ROWS_TOGETHER = 4096
# 2^64 divided by the golden ratio, made odd, and the two factors of SplitMix64 (Steele, Lea, Flood
# 2014), whose output has no visible trace of consecutive inputs.
_ODD = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class MomentCounts(NamedTuple):
    """How many rows all cut-offs have, and how many moments of each sampled kind are taken."""

    cutoff_rows: int
    event_moments: int
    quiet_moments: int

    def plus(self, other: MomentCounts) -> MomentCounts:
        """Of both, which have no customer in common."""
        return MomentCounts(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class MomentSample:
    """Which moments of customers become rows, beside those of the ascending cut-offs.

    Moments lie from from_ms on and before to_ms. every_ms: from one round of a refresh to the next;
    0 where no quiet rows are asked for. seed: another one takes others. event_share, quiet_share: 0
    to 1, of all moments of the kind. weights: of a row of each kind, in the order of `KINDS`.
    """

    cutoffs_ms: tuple[int, ...]
    from_ms: int
    to_ms: int
    seed: int = 0
    event_share: Fraction = Fraction(0)
    quiet_share: Fraction = Fraction(0)
    every_ms: int = 0
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def like_cutoffs(self, counts: MomentCounts) -> MomentSample:
        """As many event rows as the cut-offs have, but for chance; all where there are no more.

        counts: with all moments after events. Each row stands for itself alone.
        """
        share = Fraction(counts.cutoff_rows, max(counts.event_moments, 1))
        return replace(self, event_share=min(share, Fraction(1)))

    def weighted(self, counts: MomentCounts) -> MomentSample:
        """With weights, by which a sampled row stands for all moments of its kind.

        counts: of the rows that there will be. A row's weight is 1 / share of its kind, divided by
        the mean over all rows, which so becomes 1; 0 for a kind without rows.
        """
        shares = (Fraction(1), self.event_share, self.quiet_share)
        stands_for = [1 / share if share else Fraction(0) for share in shares]
        kinds = list(zip(counts, stands_for, strict=True))
        mean = sum(rows * of for rows, of in kinds) / max(sum(counts), 1)
        cutoff, event, quiet = (float(of / mean) if rows else 0.0 for rows, of in kinds)
        return replace(self, weights=(cutoff, event, quiet))

    def taken(self, known: KnownEvents) -> Moments:
        """Those of these customers, after events and quiet."""
        by_customer = _customer_hashes(known, self.seed)
        parts = [self._after_events(known, by_customer), *self._quiet(known, by_customer)]
        return distinct(
            np.concatenate([moments.customer for moments in parts]),
            np.concatenate([moments.as_of_ms for moments in parts]),
        )

    def kinds(self, as_of_ms: Int64) -> UInt8:
        """(R,) uint8, the kind of the row that stands at each moment."""
        return row_kinds(as_of_ms, self.cutoffs_ms, self.every_ms)

    def weights_at(self, as_of_ms: Int64) -> Float32:
        """(R,) float32, the weight of the row that stands at each moment."""
        return np.array(self.weights, np.float32)[self.kinds(as_of_ms)]

    def rows(
        self, known: KnownEvents, space: FeatureSpace, labels: LabelCollector
    ) -> Iterator[LabelledRows]:
        """Each taken moment as a row: features from the events before it, labels from it on."""
        moments = self.taken(known)
        parts: list[LabelledRows] = []
        # Customers with many moments give many matrices of few rows.
        for at, matrix in rows_at(known, moments, space):
            as_of_ms = moments.as_of_ms[at]
            ids = [known.customer_ids[c] for c in moments.customer[at].tolist()]
            said = labels.labels(ids, as_of_ms)
            parts.append(LabelledRows(ids, as_of_ms, matrix, *said, self.weights_at(as_of_ms)))
            if sum(map(len, parts)) >= ROWS_TOGETHER:
                yield concatenate_rows(parts)
                parts = []
        if parts:
            yield concatenate_rows(parts)

    def _after_events(
        self, known: KnownEvents, by_customer: npt.NDArray[np.uint64]
    ) -> Moments:  # fmt: skip
        """A moment that is a cut-off or a round is left out: a row's moment says of which kind it
        is."""
        if not self.event_share:
            return Moments(np.zeros(0, np.int32), np.zeros(0, np.int64))
        found = after_events(known, self.from_ms - 1, self.to_ms - 1)
        mine = self.kinds(found.as_of_ms) == EVENT
        mine &= self._below(by_customer[found.customer], found.as_of_ms, self.event_share)
        return Moments(found.customer[mine], found.as_of_ms[mine])

    def _quiet(self, known: KnownEvents, by_customer: npt.NDArray[np.uint64]) -> Iterator[Moments]:
        """A round at a time, since all rounds of all customers may be too many to be held."""
        if not self.quiet_share or not self.every_ms:
            return
        first = -(-self.from_ms // self.every_ms) * self.every_ms
        # Before the first event nobody is known.
        start_ms = int(known.known_at_ms[0]) if len(known.known_at_ms) else self.to_ms
        first = max(first, start_ms // self.every_ms * self.every_ms)
        cutoffs = set(self.cutoffs_ms)
        rounds = [r for r in range(first, self.to_ms, self.every_ms) if r not in cutoffs]
        for moment, customer in zip(rounds, known_by(known, rounds), strict=True):
            as_of_ms = np.full(len(customer), moment, np.int64)
            mine = self._due(by_customer[customer], moment // self.every_ms)
            if mine.any():  # of a small share most rounds have nobody
                yield Moments(customer[mine].astype(np.int32), as_of_ms[mine])

    def _due(self, by_customer: npt.NDArray[np.uint64], round_number: int) -> npt.NDArray[np.bool_]:
        """Evenly spaced in the rounds of each customer, who begins at a round of their own. Taken
        by chance, some rows of a customer would stand close together, with labels that are mostly
        the same, and others far apart."""
        if self.quiet_share >= 1:
            return np.ones(len(by_customer), np.bool_)
        # The first round of each 1 / share is that where the sum passes 2^64.
        step = int(self.quiet_share * HASHES)
        so_far = np.uint64(step * round_number % HASHES)
        return by_customer + so_far < np.uint64(step)

    def _below(
        self, by_customer: npt.NDArray[np.uint64], as_of_ms: Int64, share: Fraction
    ) -> npt.NDArray[np.bool_]:
        if share >= 1:
            return np.ones(len(as_of_ms), np.bool_)
        return _mixed(by_customer, as_of_ms) < np.uint64(int(share * HASHES))


def counted(known: KnownEvents, sample: MomentSample) -> MomentCounts:
    """The totals of these customers."""
    kinds = sample.kinds(sample.taken(known).as_of_ms)
    at_cutoffs = sum(map(len, known_by(known, sample.cutoffs_ms)))
    return MomentCounts(at_cutoffs, int((kinds == EVENT).sum()), int((kinds == QUIET).sum()))


def row_kinds(as_of_ms: Int64, cutoffs_ms: tuple[int, ...], every_ms: int) -> UInt8:
    """(R,) uint8: `CUTOFF` at a cut-off, else `QUIET` at a round of a refresh, else `EVENT`.

    every_ms: from one round to the next; 0 where there is no quiet row.
    """
    kinds = np.full(len(as_of_ms), EVENT, np.uint8)
    if every_ms:
        kinds[as_of_ms % every_ms == 0] = QUIET
    kinds[np.isin(as_of_ms, np.array(cutoffs_ms, np.int64))] = CUTOFF
    return kinds


def _customer_hashes(known: KnownEvents, seed: int) -> npt.NDArray[np.uint64]:
    return np.fromiter(
        (xxhash.xxh64_intdigest(customer.encode(), seed) for customer in known.customer_ids),
        np.uint64, len(known.customer_ids),
    )  # fmt: skip


def _mixed(by_customer: npt.NDArray[np.uint64], as_of_ms: Int64) -> npt.NDArray[np.uint64]:
    """(M,) by customer id, seed and moment alone."""
    mixed = by_customer + as_of_ms.astype(np.uint64) * _ODD
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    hashed: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return hashed
