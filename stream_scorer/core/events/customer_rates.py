"""Customers with more events within an hour than one person makes: a guest id, a bot, a test.

Counted are events by customer and hour of their own time, so that a replay finds what the live
consumer does. Of each batch only the customers with most events are looked at, and the counts that
are kept are bounded, so a count may be too low and never too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import Int32, Int64
from stream_scorer.core.events.moments import moment_text

HOUR_MS = 3_600_000
MOST_OF_A_BATCH = 32
MOST_COUNTS = 10_000


@dataclass(frozen=True)
class ExtremeRate:
    """A customer's events within the hour from hour_ms on: at least so many."""

    customer_id: str
    hour_ms: int
    events: int

    def __str__(self) -> str:
        return (
            f"customer {self.customer_id!r} has at least {self.events:,} events within the hour "
            f"from {moment_text(self.hour_ms)}, more than events.extreme_events_per_hour; if this "
            "id stands for many people, or for none, list it in events.ignored_customer_ids"
        )


class CustomerRates:
    """extreme_per_hour: the count that is reported when it is passed; 0: nothing is counted."""

    def __init__(self, extreme_per_hour: int) -> None:
        self._extreme = extreme_per_hour
        self._counts: dict[tuple[str, int], int] = {}

    def add(
        self, customer_ids: Sequence[str], customer: Int32, occurred_ms: Int64
    ) -> list[ExtremeRate]:
        """Count events (n,) of customers, numbers into customer_ids.

        Returns who passed the count now, each only once an hour.
        """
        if not self._extreme or not len(customer):
            return []
        counts = np.bincount(customer, minlength=len(customer_ids))
        watched = np.ones(len(counts), np.bool_)
        if len(counts) > MOST_OF_A_BATCH:
            watched[np.argpartition(counts, -MOST_OF_A_BATCH)[:-MOST_OF_A_BATCH]] = False
        rows = np.flatnonzero(watched[customer])
        pairs = np.stack([customer[rows], occurred_ms[rows] // HOUR_MS], axis=1)
        found = []
        distinct, events = np.unique(pairs, axis=0, return_counts=True)
        for (number, hour), more in zip(distinct.tolist(), events.tolist(), strict=True):
            key = customer_ids[number], hour
            before = self._counts.get(key, 0)
            self._counts[key] = before + more
            if before <= self._extreme < before + more:
                found.append(ExtremeRate(key[0], hour * HOUR_MS, before + more))
        if len(self._counts) > MOST_COUNTS:
            # Who has few events so far needs long to become extreme: those may be forgotten.
            kept = sorted(self._counts.items(), key=lambda item: -item[1])[: MOST_COUNTS // 2]
            self._counts = dict(kept)
        return found
