"""The records of the shop's trend in Redis, counted anew from the events and compared.

Of each partition its events are counted from where the namespace began to read it up to the offset
of the stored record, which was read before the events. Sums may differ in their last bits, where
another machine's power of two does; nothing else may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import EventBatch, TopicPartition
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.trend_events import TrendEvents
from stream_scorer.core.trend_record import TrendRecord

RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class TrendsCompared:
    """Partitions' records: how many were checked, what differs of which, and how many could not be
    checked, since their events are not all there."""

    checked: int = 0
    differences: tuple[str, ...] = ()
    unverifiable: int = 0


class TrendRecomputation:
    """Counts the partitions of `stored`, whose records are of this declaration.

    starts: from which offset the namespace read each of them, where that is known; else from 0.
    """

    def __init__(
        self,
        space: FeatureSpace,
        stored: Mapping[TopicPartition, TrendRecord],
        starts: Mapping[TopicPartition, int],
    ) -> None:
        self._space, self._stored, self._starts = space, stored, starts
        self._counted = {
            tp: TrendRecord.empty(record.plan, starts.get(tp, 0)) for tp, record in stored.items()
        }

    def add(self, events: EventBatch) -> None:
        """Valid events, those of each partition in their order."""
        found = None
        if self._counted and len(events):
            found = TrendEvents.of(self._space, events, EventColumns(events))
        if found is None:
            return
        for number, tp in enumerate(found.partitions):
            record = self._counted.get(tp)
            if record is None:
                continue
            offset, occurred_ms, category = found.of_partition(number)
            below = offset < self._stored[tp].next_offset
            end = int(offset[below].max(initial=-1)) + 1
            record.add(offset[below], occurred_ms[below], category[below], end)

    def compared(self, firsts: Mapping[TopicPartition, int]) -> TrendsCompared:
        """firsts: of each partition whose events were read, the first offset of them."""
        checked, found = 0, []
        for tp, stored in sorted(self._stored.items()):
            whole = tp in firsts and firsts[tp] <= self._starts.get(tp, 0)
            if not whole or stored.missed:
                continue
            checked += 1
            what = _difference(stored, self._counted[tp])
            if what:
                found.append(f"{tp[0]}[{tp[1]}]: {what}")
        return TrendsCompared(checked, tuple(found), len(self._stored) - checked)


def _difference(stored: TrendRecord, counted: TrendRecord) -> str:
    """How they differ; "" where they do not."""
    if stored.newest_ms != counted.newest_ms:
        return f"newest event at {stored.newest_ms} ms stored, {counted.newest_ms} ms recomputed"
    if (stored.first_day != counted.first_day).any():
        return f"first days {stored.first_day} stored, {counted.first_day} recomputed"
    for day in sorted(stored.counts.keys() | counted.counts.keys()):
        ours, theirs = (
            int(r.counts[day].sum()) if day in r.counts else 0 for r in (stored, counted)
        )
        same = day in stored.counts and day in counted.counts
        if not same or (stored.counts[day] != counted.counts[day]).any():
            return f"{ours} events of day {day} stored, {theirs} recomputed"
    if not np.allclose(stored.sums, counted.sums, rtol=RELATIVE_TOLERANCE, atol=0):
        worst = int(np.abs(stored.sums - counted.sums).argmax())
        return (
            f"a decayed sum is {stored.sums.flat[worst]:.6g} stored, "
            f"{counted.sums.flat[worst]:.6g} recomputed"
        )
    return ""
