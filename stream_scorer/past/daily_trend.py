"""The shop's trend for customers who are scored at the end of a replay, as of their newest events.

Events are counted by the day on which they occurred, as they pass, in batches of any size. When all
have passed, a customer whose newest event was on day d is scored with what occurred on the days
before d: that day's row of the table that a labelled snapshot or a backtest of the same events has.
So the scores are a function of the set of events alone; how these were cut into batches, and which
came first, changes nothing, and neither does what occurred on day d or later.

A consumer knew the same, but for events that reached it after a customer was scored, though they
occurred on days before: those count here, and did not there.
"""

from __future__ import annotations

from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.trend_events import TrendEvents
from stream_scorer.core.trend import DailyCounts, TrendTable, day_of, refuse_days


class DailyTrend:
    """Counts what passes. Memory is by days and categories that have events, at most twice over."""

    def __init__(self, space: FeatureSpace) -> None:
        self._space = space
        self._counts = DailyCounts.none(space)
        self._new: list[DailyCounts] = []
        self._new_counts = 0

    def add(self, events: TrendEvents) -> None:
        """Count these events."""
        counts = DailyCounts.of_categories(events.category, events.occurred_ms)
        self._new.append(counts)
        self._new_counts += len(counts)
        # Adding up costs what there is of both, so it waits until there is as much new as old.
        if self._new_counts > len(self._counts):
            self._add_up()

    def table(self, first_ms: int, last_ms: int) -> TrendTable:
        """Of the days from that of first_ms to that of last_ms.

        Raises InputError where they lie too far apart for a table.
        """
        refuse_days(self._space, first_ms, last_ms)
        self._add_up()
        return TrendTable.of(self._space, self._counts, day_of(first_ms), day_of(last_ms))

    def _add_up(self) -> None:
        self._counts = DailyCounts.sum([self._counts, *self._new])
        self._new, self._new_counts = [], 0
