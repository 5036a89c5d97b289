"""Counts what partitions add to the shop's trend, in memory, and keeps it in Redis.

Whoever folds a partition's events into customers' vectors, the live consumer or a replay into a
namespace, counts them here as well. A partition's record is saved every few seconds and when the
partition is given up, so Redis may hold less than was counted, by some seconds of events. Nothing
is lost by that: whoever takes a partition over reads it from the record's offset on, where that
lies below the offset at which it would begin otherwise. What customers' records hold already is
skipped then, and what is published already is not published again, as where Redis lost writes. Nor
does it matter whether a record is saved before or after the watermark moves: events below its
offset count once.

A record that is gone, because somebody deleted it, is counted again from the partition's start.
Only what Kafka no longer holds can be missing then. That is logged with its remedy, and stays in
the record (`missed`), where metrics, `doctor` and `verify` find it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.features.trend_events import TrendEvents
from stream_scorer.core.trend_record import TrendRecord
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.log_events import event

MISSED_REMEDY = (
    "scores go on with a trend that is a little wrong until these events are old; to have it "
    "right, build a new namespace (`stream-scorer rollout`, or `replay --into`)"
)

log = logging.getLogger(__name__)


class TrendKeeper:
    """The records of the partitions that this process reads. Not thread-safe.

    starts: of partitions the offset at which the namespace began to read them, where it is known;
    else 0. every_seconds: how often `save_due` saves.
    """

    def __init__(
        self,
        store: TrendStore,
        starts: Callable[[list[TopicPartition]], Mapping[TopicPartition, int]],
        every_seconds: float,
    ) -> None:
        self._store, self._starts, self._every_seconds = store, starts, every_seconds
        self.records: dict[TopicPartition, TrendRecord] = {}
        self._unsaved: set[TopicPartition] = set()
        self._save_at = time.monotonic() + every_seconds
        self._complaint = ""

    def begin(
        self, starts: Mapping[TopicPartition, int], firsts: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """From which offset to read each of these partitions, which would be read from `starts`
        otherwise: no higher one. firsts: the first offset that its log still holds.

        Raises StoreUnavailable and InputError.
        """
        partitions = list(starts)
        stored = self._store.load(partitions)
        unknown = [tp for tp in partitions if tp not in stored]
        began = self._starts(unknown) if unknown else {}
        reads_from = dict(starts)
        for tp, start in starts.items():
            record = stored.get(tp)
            if record is None:
                # New to the namespace; or its record is gone, and all of it is counted again.
                record = TrendRecord.empty(self._store.plan, min(began.get(tp, 0), start))
            self._miss(tp, record, min(firsts.get(tp, start), start))
            self.records[tp] = record
            reads_from[tp] = min(start, record.next_offset)
        # Also the new ones: where a record is missing later, it got lost.
        self._store.save({tp: self.records[tp] for tp in unknown})
        again = sum(starts[tp] - offset for tp, offset in reads_from.items())
        if again:
            log.info("%s records are read again for the shop's trend", f"{again:,}")
        return reads_from

    def _miss(self, tp: TopicPartition, record: TrendRecord, first: int) -> None:
        """Go on from `first` where the log has nothing below it any more."""
        missing = first - record.next_offset
        if missing <= 0:
            return
        log.warning(
            "%s[%d]: Kafka's log begins at %d, so the shop's trend lacks %s offsets from %d on: %s",
            *tp, first, f"{missing:,}", record.next_offset, MISSED_REMEDY,
            extra=event(
                "trend_incomplete", topic=tp[0], partition=tp[1], offset=first,
                missing_offsets=missing,
            ),
        )  # fmt: skip
        record.next_offset, record.missed = first, record.missed + missing
        self._unsaved.add(tp)

    def add(self, events: TrendEvents, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Count the events of partitions that were begun; next_offsets: where they end."""
        numbers = {tp: number for number, tp in enumerate(events.partitions)}
        for tp, next_offset in next_offsets.items():
            record = self.records.get(tp)
            if record is None:
                continue
            # Also where these were counted before: Redis may have lost that.
            self._unsaved.add(tp)
            if tp in numbers:
                record.add(*events.of_partition(numbers[tp]), next_offset)
            else:
                record.next_offset = max(record.next_offset, next_offset)

    def reach(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Nothing that counts lies between what was added and these offsets."""
        for tp, next_offset in next_offsets.items():
            self.records[tp].next_offset = max(self.records[tp].next_offset, next_offset)
            self._unsaved.add(tp)

    def save_due(self) -> None:
        """Save what is not saved, every few seconds; never raises."""
        now = time.monotonic()
        if now >= self._save_at:
            self._save_at = now + self._every_seconds
            self._save_quietly(self._unsaved)

    def save(self) -> None:
        """Save what is not saved. Raises StoreUnavailable."""
        self._store.save({tp: self.records[tp] for tp in sorted(self._unsaved)})
        self._unsaved.clear()

    def release(self, partitions: list[TopicPartition]) -> None:
        """These are read here no more: save and forget their records; never raises."""
        self._save_quietly(self._unsaved & set(partitions))
        for tp in partitions:
            self.records.pop(tp, None)
        self._unsaved -= set(partitions)

    def compare(self, stored: Mapping[TopicPartition, TrendRecord]) -> None:
        """Save again what Redis lost: of these partitions it holds what is in `stored`."""
        for tp, record in self.records.items():
            found = stored.get(tp)
            if found is None or found.next_offset < record.next_offset:
                self._unsaved.add(tp)

    def _save_quietly(self, partitions: set[TopicPartition]) -> None:
        if not partitions:
            return
        try:
            self._store.save({tp: self.records[tp] for tp in sorted(partitions)})
        except StoreUnavailable as error:
            # The next owner reads more events again.
            if f"{error}" != self._complaint:
                log.warning("the shop's trend is not saved: %s", error)
            self._complaint = f"{error}"
        else:
            self._complaint = ""
            self._unsaved -= partitions
