"""Past events into customers' vectors in a store: no scores.

A replay prepares and folds events with the code of the live path (`Preparation`, `StoreFold`), so
its vectors have the bits of the live ones. With more than one thread it reads a batch ahead,
prepares a batch ahead, and divides the customers of a batch among threads. No vector depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.features.ignored_values import IgnoredValues
from stream_scorer.core.features.preparation import Preparation, PreparedEvents
from stream_scorer.core.features.trend_events import TrendEvents
from stream_scorer.errors import EventFileError
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.store import Store
from stream_scorer.live.store_fold import StoreFold
from stream_scorer.live.trend_keeper import TrendKeeper
from stream_scorer.past.daily_trend import DailyTrend
from stream_scorer.past.prefetch import read_ahead
from stream_scorer.past.sources import PastEvents, stopping
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings

BATCH_RECORDS = 350_000  # into memory: a batch costs a pass over all records, whatever is in it
# As the live path reports them, without those of scoring. "decode" is validating and finding
# columns. A replay publishes and commits nothing, so these two stay 0.
STAGES = ("poll", "decode", "load", "apply", "save", "publish", "commit")


class _Prepared(NamedTuple):
    records: int
    next_offsets: dict[TopicPartition, int]
    events: PreparedEvents
    outside_window: int


@dataclass(frozen=True)
class FoldCounts(Result):
    """records: all, refused ones too. events: valid ones, which are applied, duplicates, or so old
    that their customer would have been forgotten since. ignored_events: of ignored customers.
    outside_window: events of files, or records of the topic, outside --from and --to.
    erased_events: of customers who were forgotten on request, from before that."""

    records: int
    events: int
    applied: int
    duplicates: int
    too_old: int
    ignored_events: int
    outside_window: int = 0
    erased_events: int = 0


class PastFold:
    """All events of `past` into `store`. After `run`, what was refused and counted.

    threads: 1 does everything in turn. quiet: without a progress bar. seconds: by stage; those of
    "poll" are spent waiting for the next prepared batch. goes_on: with what was read before, so
    that there may be no events any more. trend: counts what events add to the shop's trend, by
    partition, for a namespace; days: by day, for scores. Either only where one is declared.
    """

    def __init__(
        self, settings: Settings, past: PastEvents, store: Store, threads: int,
        *, quiet: bool = False, goes_on: bool = False, trend: TrendKeeper | None = None,
        days: DailyTrend | None = None,
    ) -> None:  # fmt: skip
        space = settings.feature_space()
        self._preparation = Preparation(settings.event_rules(), space, settings.memory())
        self._fold = StoreFold(store, space, threads=threads, rates=settings.customer_rates())
        self._past, self._store, self._quiet, self._threads = past, store, quiet, threads
        self._goes_on, self._trend, self._days = goes_on, trend, days
        self.refused, self.ignored = stopping(settings), IgnoredValues()
        self.refused.outside_window = past.outside_window
        self.next_offsets: dict[TopicPartition, int] = {}
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._records = self._applied = self._duplicates = self._too_old = 0

    def run(self) -> None:
        """To the end. Raises Unavailable, InputError, Halt (TooManyDeadLetters before the batch is
        folded that has too many); it can be started again.
        """
        with (
            progress("folding events", self._past.most_records, quiet=self._quiet) as meter,
            ExitStack() as readers,
        ):
            batches: Iterable[DecodedBatch] = self._past.batches
            if self._threads > 1:
                batches = readers.enter_context(read_ahead(batches))
            prepared = self._prepared(batches)
            if self._threads > 1:
                prepared = readers.enter_context(read_ahead(prepared))
            while (batch := self._next(prepared)) is not None:
                self._add(batch)
                meter.advance(batch.records, self._past.expected_records())
        # An empty result is nearly always a wrong window or config, and must not look like success.
        if not self.counts().events and not self._goes_on:
            raise EventFileError("events", self._past.name, self.refused.nothing_left())

    def _prepared(self, batches: Iterable[DecodedBatch]) -> Iterator[_Prepared]:
        for batch in batches:
            started = time.perf_counter()
            events = self._preparation.prepare(batch, self._past.now_ms)
            self.seconds["decode"] += time.perf_counter() - started
            yield _Prepared(len(batch), batch.origin.next_offsets(), events, batch.outside_window)

    def _next(self, prepared: Iterator[_Prepared]) -> _Prepared | None:
        started = time.perf_counter()
        batch = next(prepared, None)
        self.seconds["poll"] += time.perf_counter() - started
        return batch

    def _add(self, batch: _Prepared) -> None:
        self.refused.add(
            batch.records, batch.events.dead_letters,
            ignored_events=batch.events.ignored_events,
            erased_events=batch.events.erased_events, outside_window=batch.outside_window,
        )  # fmt: skip
        self.ignored.add(batch.events.ignored)
        report = BatchReport(batch.records)
        self._fold.fold(batch.events, report)
        if self._trend is not None and batch.events.trend is not None:
            self._count(self._trend, batch.events.trend, batch.next_offsets)
        if self._days is not None and batch.events.trend is not None:
            self._days.add(batch.events.trend)
        with report.stage("save"):
            self._store.advance(batch.next_offsets)
        if not self._past.ranges:  # files that were read to their end need not be watched any more
            self._store.release(sorted(self.next_offsets.keys() - batch.next_offsets.keys()))
        self.next_offsets |= batch.next_offsets
        self._records += report.records
        self._applied += report.applied
        self._duplicates += report.duplicates
        self._too_old += report.too_old
        self.refused.erased_events += report.erased_events
        for stage, spent in report.seconds.items():
            self.seconds[stage] += spent

    def _count(
        self, trend: TrendKeeper, events: TrendEvents, next_offsets: dict[TopicPartition, int]
    ) -> None:
        if not self._past.ranges:
            # Positions of files count on within their directory, which is begun when it is seen.
            next_offsets = {
                tp: int(events.of_partition(number)[0].max(initial=-1)) + 1
                for number, tp in enumerate(events.partitions)
            }
            new = {tp: 0 for tp in next_offsets if tp not in trend.records}
            if new:
                trend.begin(new, new)
        trend.add(events, next_offsets)
        trend.save_due()

    @property
    def sources(self) -> list[TopicPartition]:
        """What the vectors' records name as their sources."""
        numbering = self._past.numbering
        if numbering is None:
            return sorted(self.next_offsets)
        return sorted({(numbering.source_of[file], number) for file, number in self.next_offsets})

    def counts(self) -> FoldCounts:
        """What was read so far."""
        events = self._applied + self._duplicates + self._too_old
        return FoldCounts(
            self._records, events, self._applied, self._duplicates, self._too_old,
            self.refused.ignored_events, self.refused.outside_window, self.refused.erased_events,
        )  # fmt: skip
