"""What rows of a sample of customers need of everybody's events, as these pass.

A sampled replay must give its customers the rows that the whole replay gives them. Three things in
these come of all valid events: the first and the last moment of the log, between which rows lie
where no period is given; and the shop's trend. They are noted here, and all else of the events of
other customers is let go at once: memory is by the sample, and with a trend by days and categories.
"""

from __future__ import annotations

from stream_scorer.core.customer_sample import OPTION, CustomerSample
from stream_scorer.core.events.batch import EventBatch
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.trend import DailyCounts, contrast_count
from stream_scorer.errors import InputError


class WholeLog:
    """events: how many passed. first_ms, last_ms: the earliest and the latest of them; None of
    none. left_out: how many were of customers outside the sample."""

    def __init__(self, space: FeatureSpace, sample: CustomerSample) -> None:
        self._space, self._sample = space, sample
        self.events = self.left_out = 0
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self._counts = DailyCounts.none(space)

    def sampled(self, events: EventBatch) -> EventBatch:
        """Note these valid events, and return those of the sample's customers."""
        if not len(events):
            return events
        at_ms = events.occurred_at_ms
        self._note(len(events), int(at_ms.min()), int(at_ms.max()))
        if contrast_count(self._space):
            self._counts = DailyCounts.sum([self._counts, DailyCounts.of(self._space, events)])
        kept = self._sample.events_of(events)
        self.left_out += len(events) - len(kept)
        return kept

    def join(self, other: WholeLog) -> None:
        """Add what passed by `other`, of the same declaration and sample."""
        if other.first_ms is not None and other.last_ms is not None:
            self._note(other.events, other.first_ms, other.last_ms)
        self.left_out += other.left_out
        self._counts = DailyCounts.sum([self._counts, other._counts])

    @property
    def daily_counts(self) -> DailyCounts:
        """Of everybody, for the shop's trend; of no event where none is declared."""
        return self._counts

    def refuse_empty_sample(self) -> None:
        """Raises InputError where there were events, and none of a customer of the sample."""
        if self.events and self.left_out == self.events:
            remedy = (
                f"none of the customers of these {self.events:,} events is in that share, which a "
                "hash of the id decides; give a larger one"
            )
            raise InputError(OPTION, self._sample, remedy)

    def _note(self, events: int, first_ms: int, last_ms: int) -> None:
        self.events += events
        self.first_ms = first_ms if self.first_ms is None else min(self.first_ms, first_ms)
        self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)
