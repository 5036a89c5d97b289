"""Past events through the consumer's own pipeline into a store: vectors alone, no scores."""

from __future__ import annotations

from typing import Any

from stream_scorer.core.events.batch import DeadLetter, TopicPartition
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.errors import EventFileError
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.live.pipeline import Pipeline, Rules
from stream_scorer.past.prefetch import PastSource, past_source
from stream_scorer.past.sources import LATEST_MS, PastEvents, Refused
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings

BATCH_RECORDS = 350_000  # into memory: a batch costs a pass over all records, whatever is in it


class PastFold:
    """All events of `past` into `store`. The pipeline's sink, too: it keeps what was refused.

    threads: 1 does all in turn; more share the customers, while two of their own read and prepare
    what comes next. The vectors are the same. quiet: without a bar.
    """

    def __init__(
        self, settings: Settings, past: PastEvents, store: MemoryStore | RedisStore, threads: int,
        *, quiet: bool = False,
    ) -> None:  # fmt: skip
        self._rules = Rules(settings.feature_space(), settings.publish_policy())
        self._preparation = Preparation(
            past.decoder, settings.event_rules(), self._rules.space,
            settings.events.remember_event_ids,
        )  # fmt: skip
        self._past, self._store, self._quiet = past, store, quiet
        self._threads = threads
        self.refused = Refused()
        self.next_offsets: dict[TopicPartition, int] = {}
        self.seconds: dict[str, float] = {}
        self._records = self._applied = self._duplicates = 0

    def run(self) -> None:
        """To the end. Raises Unavailable, InputError, Halt; it can be begun anew."""
        with (
            progress("folding events", self._past.most_records, quiet=self._quiet) as meter,
            past_source(
                self._past.records, self._preparation, LATEST_MS, ahead=self._threads > 1
            ) as source,
        ):
            pipeline = self._pipeline(source)
            while not source.ended:
                before = set(self.next_offsets)
                report = pipeline.step()
                self._records += report.records
                self._applied += report.applied
                self._duplicates += report.duplicates
                for stage, spent in report.seconds.items():
                    self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
                if not self._past.ranges:  # files that are read need not be watched any more
                    self._store.release(sorted(before - report.next_offsets.keys()))
                meter.advance(report.records)
        if not self._applied + self._duplicates:
            raise EventFileError("events", self._past.name, "has no event that can be applied")

    def _pipeline(self, source: PastSource) -> Pipeline:
        return Pipeline(
            source, self._store, None, self, rules=self._rules, preparation=source, encoder=None,
            clock_ms=lambda: LATEST_MS, threads=self._threads,
        )  # fmt: skip

    @property
    def sources(self) -> list[TopicPartition]:
        """What the vectors' records name as their sources."""
        of = self._past.source_of
        return sorted({(of.get(topic, topic), number) for topic, number in self.next_offsets})

    def counts(self) -> dict[str, Any]:
        """Plain numbers for reports."""
        return {
            "records": self._records,
            "events": self._applied + self._duplicates,
            "applied": self._applied,
            "duplicates": self._duplicates,
        }

    def deliver(
        self,
        keys: list[bytes],
        values: list[bytes],
        dead_letters: list[DeadLetter],
        next_offsets: dict[TopicPartition, int],
    ) -> None:
        """Keep what was refused, and how far the reading came."""
        self.refused.add(dead_letters)
        self.next_offsets |= next_offsets
