"""Scores of customers who do nothing, computed again between two micro-batches.

A score is a function of a customer's vector and of a moment. Where no event comes the vector stays,
and the score that was published ages. Each member goes through the customers of the partitions that
it owns: their newest event, which the output record names, came from there. So all records of one
customer come from one producer, and since a refresh is delivered between two micro-batches, a later
record is never made from an older state:

- A customer whose record holds an event at or beyond the committed offset is left alone. The
  micro-batch that reaches the event publishes it (unpublished.py, `is_reached`).
- Records are read together with the watermarks: where Redis lost writes, and until the log has been
  read again, nothing is published.
- A partition that lags behind its log is left out until it has caught up: a vector that lacks
  events has no score as of now.
- Under exactly_once a page of customers is one transaction, with the committed offsets once more,
  so that the broker refuses a member whose partitions went to another. Under at_least_once such a
  member may publish late, and readers go by source offset, then by as-of time.

What was published is noted after its confirmation: a crash between the two repeats a refresh. A
round that is interrupted begins anew and passes over the customers that it has refreshed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.partitioners import partition_of_key
from stream_scorer.core.freshness import UNKNOWN_MODEL, PartitionFreshness, round_start_ms
from stream_scorer.core.refresh_pace import Pace
from stream_scorer.errors import StoreRewound, StoreUnavailable
from stream_scorer.io.stores.refresh_store import RefreshRequest, RefreshStore
from stream_scorer.io.telemetry.gauge_series import show_only
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.consumer import Consumer
from stream_scorer.live.refresh_page import PageDone, PageRefresher
from stream_scorer.live.refresh_round import Round
from stream_scorer.log_events import event
from stream_scorer.settings.tree import RefreshSettings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # how often it is asked whether a round is to begin
KEEP_SECONDS = 1.0  # how often progress is written
REPORT_SECONDS = 60.0


class Refresher:
    """The refreshes of one member; `slice` is called between two micro-batches. Not thread-safe.

    clock_ms: now, in ms since 1970 UTC. seconds: a clock that never goes back.
    """

    def __init__(
        self,
        consumer: Consumer,
        metrics: Metrics,
        clock_ms: Callable[[], int],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = consumer.settings
        self._consumer, self._metrics = consumer, metrics
        self._clock_ms, self._seconds = clock_ms, seconds
        self._topic, self._limits = settings.kafka.input_topic, settings.refresh
        self._partitioner = settings.kafka.partitioner
        self._most_behind = settings.batch.max_events
        self._store = RefreshStore(consumer.store, settings.store.namespace, self._topic)
        self._pages = PageRefresher(consumer, self._store, self._served_at, clock_ms, seconds)
        self._pace = Pace(self._limits.customers_per_second)
        self._known: dict[int, PartitionFreshness] = {}
        self._begun: dict[int, int] = {}  # as `_owned`, when that was looked at last
        self._model = ""
        self._round: Round | None = None
        self._forced = False
        self._read_until: Mapping[TopicPartition, int] = {}
        self._partitions_of_topic = 0  # not asked yet
        self._of = 0  # customers of the namespace, as the last whole pass found them
        self._models: Counter[str] = Counter()
        self._look_at = self._keep_at = self._report_at = 0.0
        metrics.refresh_progress.set(1)
        metrics.oldest_score.set(float("nan"))

    def all_due(self, reason: str) -> None:
        """Begin a round at once, also where `refresh.every` says never: every customer whose
        newest score is of another model than the one that is served now is due."""
        log.info("refresh: %s", reason)
        self._forced, self._look_at = True, 0.0

    def limit(self, limits: RefreshSettings) -> None:
        """Go on with other settings; a round that runs is finished with them."""
        if limits.customers_per_second != self._limits.customers_per_second:
            self._pace.allow(limits.customers_per_second)
        self._limits, self._look_at = limits, 0.0
        self._pages.least_change = limits.least_change

    def slice(self) -> None:
        """A few milliseconds of work. Raises Unavailable, StoreRewound and Halt as a step does."""
        began = self._seconds()
        before = self._read_until
        self._read_until = self._consumer.source.handed_out()
        may_begin = self._pace.may_begin(began, busy=self._read_until != before)
        if not self._consumer.pipeline.idle:
            return
        try:
            # Also while it rests: another model, or the same partition after another member had it,
            # may be gone again by the end of the rest.
            if (self._consumer.scoring.serving, self._owned()) != (self._model, self._begun):
                self._follow()
            if may_begin:
                self._slice(began)
        except (StoreUnavailable, StoreRewound):
            # A cursor may not outlive the server, and what it holds now may be older.
            self._round = None
            self._known, self._begun, self._look_at = {}, {}, began + LOOK_SECONDS
            raise
        finally:
            if may_begin:
                self._pace.ended(began, self._seconds())

    def _slice(self, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._show_age()
            self._begin()
        if self._round is not None:
            self._go_on(self._round, now)

    # Which partitions are owned, and which model they are served with.

    def _owned(self) -> dict[int, int]:
        """By partition that is read, and whose committed offset is known, the offset from which on
        its events were published by this member since it got the partition."""
        source = self._consumer.source
        begun = source.publishes_from()
        return {p: begun[topic, p] for topic, p in source.acknowledged() if (topic, p) in begun}

    def _follow(self) -> None:
        """Take note of partitions that came or went, and of another model."""
        owned = self._owned()
        # One that went and came back counts as new: its other owner has written of it, too.
        same = {p for p in owned.keys() & self._known.keys() if owned[p] == self._begun.get(p)}
        self._known = {p: self._known[p] for p in same}
        model = self._consumer.scoring.serving
        changed: dict[TopicPartition, PartitionFreshness] = {}
        new = sorted((self._topic, p) for p in owned.keys() - same)
        for tp, known in zip(new, self._store.partitions(new), strict=True):
            changed[tp] = known.serving(self._model or model, owned[tp[1]])
        if model != self._model:
            offsets = self._consumer.source.handed_out()
            for p, known in (self._known | {p: found for (_, p), found in changed.items()}).items():
                changed[self._topic, p] = known.serving(model, offsets.get((self._topic, p), 0))
        if changed:
            self._store.keep(changed)
            self._known |= {p: found for (_, p), found in changed.items()}
        if model != self._model:
            # What the round has done so far is of the model before.
            self._model, self._round = model, None
        self._begun = owned
        if changed:
            self._look_at = 0.0
        if self._round is not None:
            self._round.partitions &= same
            if not self._round.partitions:
                log.info("refresh: its partitions went to other members, who begin anew")
                self._round = None

    def _begin(self) -> None:
        """Begin a round where one is due. One that was asked for ends one that was not."""
        if self._round is not None and self._round.request:
            return
        every_ms, now_ms = self._limits.every_ms, self._clock_ms()
        start = round_start_ms(now_ms, every_ms) if every_ms else 0
        asked = self._store.asked()
        lag = self._consumer.source.lag()
        # Those whose lag is not known yet may be far behind.
        behind = {p for p in self._known if lag.get((self._topic, p), inf) > self._most_behind}
        ready = {p: known for p, known in self._known.items() if p not in behind}
        wanted = {p for p, known in ready.items() if asked and known.answered != asked.name}
        if asked and wanted:
            before = asked.asked_ms if asked.as_of_ms is None else asked.as_of_ms
            self._start(wanted, before, asked, "it was asked for")
        if self._round is not None:
            return
        late = {p for p, known in ready.items() if known.until_ms < start}
        other = set[int]()
        if every_ms or self._forced:
            other = {p for p, known in ready.items() if known.model != self._model}
        if late | other:
            why = (
                f"a round every {self._limits.every}" if late else f"model {self._model} is served"
            )
            self._start(late | other, start, None, why)
        elif not behind:
            self._forced = False

    def _start(
        self, partitions: set[int], before_ms: int, asked: RefreshRequest | None, why: str
    ) -> None:
        listing = ", ".join(map(str, sorted(partitions)))
        log.info(
            "refresh of partitions %s begins: %s", listing, why,
            extra=event("refresh_begun", partitions=sorted(partitions)),
        )  # fmt: skip
        as_of_ms, name = (asked.as_of_ms, asked.name) if asked else (None, "")
        everyone = asked is not None and asked.everyone
        self._round = Round(partitions, before_ms, as_of_ms, name, self._clock_ms(), everyone)
        self._keep_at, self._report_at = 0.0, self._seconds() + REPORT_SECONDS
        self._of = self._of or self._consumer.store.count()
        self._partitions_of_topic = 0

    # The work.

    def _go_on(self, now_round: Round, now: float) -> None:
        wanted = self._pace.page(now)
        if wanted and len(now_round.found) < wanted and now_round.cursor is not None:
            # Found ones are refreshed by the next slices, so that this one remains short.
            self._find(now_round, wanted, now + self._pace.slice_seconds)
        elif some := now_round.found[:wanted]:
            began = self._seconds()
            done = self._pages.refresh(now_round, some, self._model)
            if done is None:
                self._round, self._look_at = None, self._seconds() + LOOK_SECONDS
                return
            self._pace.took(len(some), self._seconds() - began, done.waited_seconds)
            self._count(now_round, done)
            del now_round.found[: len(some)]
        if now_round.is_over:
            self._finish(now_round)
        elif now >= self._keep_at:
            self._keep_at = now + KEEP_SECONDS
            self._keep(now_round, finished=False)
            if now >= self._report_at:
                self._report_at = now + REPORT_SECONDS
                log.info("refresh: %s", now_round.in_words())

    def _find(self, now_round: Round, wanted: int, until: float) -> None:
        """Look for customers until so many are found, or `until`."""
        while (
            now_round.cursor is not None
            and len(now_round.found) < wanted
            and self._seconds() < until
        ):
            page = self._store.page(now_round.cursor, sorted(now_round.partitions))
            now_round.found += page.mine
            if page.sourceless:
                now_round.found += self._hashed_here(page.sourceless, now_round.partitions)
            now_round.customers += page.customers
            now_round.cursor = page.cursor

    def _hashed_here(self, ids: list[str], partitions: set[int]) -> list[str]:
        """Of customers without an event from the topic, those whose events would come from these
        partitions."""
        # Once a round: Kafka may take seconds to answer, and events wait.
        self._partitions_of_topic = self._partitions_of_topic or self._consumer.partition_count()
        count = self._partitions_of_topic
        key = self._partitioner
        return [i for i in ids if (partition_of_key(key, i.encode(), count) or 0) in partitions]

    def _served_at(self, partition: int, offset: int) -> str:
        """The model version that scored the event there."""
        known = self._known.get(partition)
        return UNKNOWN_MODEL if known is None else known.served_at(offset)

    # What is known of it.

    def _count(self, now_round: Round, done: PageDone) -> None:
        metrics = self._metrics
        found = zip(done.outcomes, done.models, done.partitions, strict=True)
        for outcome, before, partition in found:
            if not outcome:
                continue
            after = self._model if outcome == "refreshed" else before
            now_round.count(outcome, partition, after)
            if after != before and self._models[before]:
                self._models[before] -= 1
                self._models[after] += 1
        for outcome in set(done.outcomes) - {""}:
            metrics.refresh_customers.labels(outcome).inc(done.outcomes.count(outcome))
        metrics.refresh_progress.set(now_round.share(self._of))
        self._show_models()

    def _show_models(self) -> None:
        by_version: dict[tuple[str, ...], float] = {(v,): n for v, n in self._models.items()}
        show_only(self._metrics.scores_by_model, by_version)

    def _show_age(self) -> None:
        """No score is older than the start of the last round that was finished; NaN where a
        partition never saw one, or none is read."""
        oldest = min((known.until_ms for known in self._known.values()), default=0)
        age = (self._clock_ms() - oldest) / 1000 if oldest else float("nan")
        self._metrics.oldest_score.set(age)

    def _keep(self, now_round: Round, *, finished: bool) -> None:
        """Write how far the round is, for whoever asked for it and for the next owner."""
        kept: dict[TopicPartition, PartitionFreshness] = {}
        for partition in now_round.partitions:
            known = self._known[partition]
            kept[self._topic, partition] = self._known[partition] = (
                now_round.finished(known, partition, self._of, self._model)
                if finished
                else now_round.progress(known, partition, self._of)
            )
        self._store.keep(kept)

    def _finish(self, now_round: Round) -> None:
        self._of, self._models = now_round.customers, now_round.models
        self._keep(now_round, finished=True)
        seconds = (self._clock_ms() - now_round.began_ms) / 1000
        log.info(
            "refresh is done after %.1f s: %s", seconds, now_round.in_words(),
            extra=event("refresh_done", seconds=seconds),
        )  # fmt: skip
        self._round, self._forced, self._look_at = None, False, 0.0
        self._metrics.refresh_progress.set(1)
        self._show_models()
        self._show_age()
