"""Rows as of customers' events: a sample of all moments at which events are scored.

A consumer scores each customer after each event. Rows of that kind stand 1 ms after an event, and
each such moment is as likely to be taken as any other: whether it is depends on a hash of the
customer's id, the moment and a seed, never on what the customer did afterwards. The newest event
before a cut-off would be another sample: nothing follows it until the cut-off, and that time is
part of its label window.

Moments lie between the first cut-off and the last, so labels look no further than those of the
cut-offs. What is taken depends neither on the order in which customers are looked at nor on how
they are divided among tasks: tasks need only the totals of `MomentCounts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.as_of import KnownEvents, Moments, after_events, at_cutoffs, rows_at
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows, concatenate_rows

RowsAt = Literal["cutoffs", "events", "both"]
ROWS_AT: tuple[RowsAt, ...] = ("cutoffs", "events", "both")
HASHES = 2**64
ROWS_TOGETHER = 4096
# 2^64 divided by the golden ratio, made odd, and the two factors of SplitMix64 (Steele, Lea, Flood
# 2014), whose output has no visible trace of consecutive inputs.
_ODD = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class MomentCounts(NamedTuple):
    """How many rows all cut-offs have, and how many moments after events lie between them."""

    cutoff_rows: int
    event_moments: int

    def plus(self, other: MomentCounts) -> MomentCounts:
        """Of both, which have no customer in common."""
        return MomentCounts(
            self.cutoff_rows + other.cutoff_rows, self.event_moments + other.event_moments
        )


@dataclass(frozen=True)
class EventSample:
    """The moments after events between ascending cut-offs whose hash is below `bound`.

    seed: another one takes others. bound: 0 to 2^64; the share that is taken, times 2^64.
    """

    cutoffs_ms: tuple[int, ...]
    seed: int
    bound: int

    @classmethod
    def like_cutoffs(
        cls, cutoffs_ms: Sequence[int], seed: int, counts: MomentCounts
    ) -> EventSample:
        """As many as the cut-offs have rows, but for chance; all where there are no more."""
        share = counts.cutoff_rows * HASHES // max(counts.event_moments, 1)
        return cls(tuple(cutoffs_ms), seed, min(share, HASHES))

    def taken(self, known: KnownEvents) -> Moments:
        """Those of these customers."""
        found = moments_between(known, self.cutoffs_ms)
        if self.bound == HASHES:
            return found
        below = _hashes(known, found, self.seed) < np.uint64(self.bound)
        return Moments(found.customer[below], found.as_of_ms[below])

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
            parts.append(LabelledRows(ids, as_of_ms, matrix, *labels.labels(ids, as_of_ms)))
            if sum(map(len, parts)) >= ROWS_TOGETHER:
                yield concatenate_rows(parts)
                parts = []
        if parts:
            yield concatenate_rows(parts)


def counted(known: KnownEvents, cutoffs_ms: Sequence[int]) -> MomentCounts:
    """The totals of these customers."""
    return MomentCounts(
        len(at_cutoffs(known, cutoffs_ms).customer),
        len(moments_between(known, cutoffs_ms).customer),
    )


def moments_between(known: KnownEvents, cutoffs_ms: Sequence[int]) -> Moments:
    """1 ms after every event, from after the first cut-off to before the last.

    A moment that is a cut-off is left out: a row's moment says of which kind it is.
    """
    found = after_events(known, cutoffs_ms[0], cutoffs_ms[-1] - 1)
    other = is_event_row(found.as_of_ms, cutoffs_ms)
    return Moments(found.customer[other], found.as_of_ms[other])


def is_event_row(as_of_ms: Int64, cutoffs_ms: Sequence[int]) -> npt.NDArray[np.bool_]:
    """(R,) whether each row stands after an event rather than at a cut-off."""
    return ~np.isin(as_of_ms, np.array(cutoffs_ms, np.int64))


def _hashes(known: KnownEvents, moments: Moments, seed: int) -> npt.NDArray[np.uint64]:
    """(M,) by customer id, moment and seed alone."""
    by_customer = np.fromiter(
        (xxhash.xxh64_intdigest(customer.encode(), seed) for customer in known.customer_ids),
        np.uint64, len(known.customer_ids),
    )  # fmt: skip
    mixed = by_customer[moments.customer] + moments.as_of_ms.astype(np.uint64) * _ODD
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    hashed: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return hashed
