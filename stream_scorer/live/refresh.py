"""Scores of customers who do nothing, computed again between two micro-batches.

A score is a function of a customer's vector and of a moment. Where no event comes the vector stays,
and the score that was published ages. Each member goes through the customers of the partitions that
it owns: their newest event, which the output record names, came from there. So all records of one
customer come from one producer, and since a refresh is delivered between two micro-batches, a later
record is never made from an older state:

- A customer whose record holds an event at or beyond the committed offset is left alone. The
  micro-batch that reaches the event publishes it (as in pipeline.py, `_reached`).
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
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.batch import Int64, TopicPartition
from stream_scorer.core.events.partitioners import partition_of_key
from stream_scorer.core.features.forgetting import is_forgotten
from stream_scorer.core.features.state import NEVER, CustomerStates, take
from stream_scorer.core.freshness import (
    UNKNOWN_MODEL,
    PartitionFreshness,
    Published,
    TokenBucket,
    is_due,
    model_number,
    newest_source,
    packed_marks,
    published,
    round_start_ms,
)
from stream_scorer.core.propensities import largest_change
from stream_scorer.errors import StoreRewound, StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.refresh_store import RefreshRequest, RefreshStore
from stream_scorer.io.telemetry import Metrics
from stream_scorer.live.consumer import Consumer

log = logging.getLogger(__name__)

BUDGET_SECONDS = 0.004  # for looking for customers, and for scoring some
SHARE_OF_TIME = 0.1  # the most of it that refreshing takes, waits for Kafka included
LOOK_SECONDS = 1.0  # how often it is asked whether a round is to begin
KEEP_SECONDS = 1.0  # how often progress is written
REPORT_SECONDS = 60.0
FEWEST, MOST = 10, 500  # customers at once
LEAST_SECONDS = 1e-7  # for one customer, where a clock did not move


@dataclass
class Round:
    """One pass over all customers of some partitions.

    before_ms: scores as of earlier moments are due. as_of_ms: to score as of, None for now.
    everyone: they are published also where they hardly move.
    """

    partitions: set[int]
    before_ms: int
    as_of_ms: int | None
    request: str
    began_ms: int
    everyone: bool = False
    cursor: int | None = 0
    found: list[str] = field(default_factory=list)
    customers: int = 0  # of all partitions, in the pages so far
    outcomes: Counter[str] = field(default_factory=Counter)
    by_partition: dict[int, Counter[str]] = field(default_factory=dict)
    models: Counter[str] = field(default_factory=Counter)


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
        self._memory, self._most_behind = settings.memory(), settings.batch.max_events
        self._store = RefreshStore(consumer.store, settings.store.namespace, self._topic)
        self._bucket = TokenBucket(self._limits.customers_per_second)
        self._known: dict[int, PartitionFreshness] = {}
        self._model = ""
        self._round: Round | None = None
        self._forced = False
        self._per_customer = BUDGET_SECONDS / 50
        self._of = 0  # customers that the last whole pass found
        self._models: Counter[str] = Counter()
        self._not_before = self._look_at = self._keep_at = self._report_at = 0.0
        metrics.refresh_progress.set(1)
        metrics.oldest_score.set(float("nan"))

    def all_due(self, reason: str) -> None:
        """Begin a round at once, also where `refresh.every` says never: every customer whose
        newest score is of another model than the one that is served now is due."""
        log.info("refresh: %s", reason)
        self._forced, self._look_at = True, 0.0

    def slice(self) -> None:
        """A few milliseconds of work. Raises Unavailable, StoreRewound and Halt as a step does."""
        began = self._seconds()
        if began < self._not_before or not self._consumer.pipeline.idle:
            return
        try:
            self._slice(began)
        except (StoreUnavailable, StoreRewound):
            # A cursor may not outlive the server, and what it holds now may be older.
            self._round = None
            self._known, self._look_at = {}, began + LOOK_SECONDS
            raise
        took = self._seconds() - began
        self._not_before = began + took / SHARE_OF_TIME

    def _slice(self, now: float) -> None:
        self._follow()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._show_age()
            self._begin()
        if self._round is not None:
            self._go_on(self._round, now)

    # Which partitions are owned, and which model they are served with.

    def _follow(self) -> None:
        """Take note of partitions that came or went, and of another model."""
        source = self._consumer.source
        owned = {p for _, p in source.acknowledged() if (self._topic, p) in source.publishes_from()}
        for partition in self._known.keys() - owned:
            del self._known[partition]
        model = self._consumer.scoring.serving
        changed: dict[TopicPartition, PartitionFreshness] = {}
        if model != self._model:
            for p, known in self._known.items():
                offset = source.handed_out().get((self._topic, p), 0)
                changed[self._topic, p] = known.serving(model, offset)
        new = sorted((self._topic, p) for p in owned - self._known.keys())
        for tp, known in zip(new, self._store.partitions(new), strict=True):
            after = changed[tp] = known.serving(model, source.publishes_from()[tp])
            self._known[tp[1]] = after
        if changed:
            self._store.keep(changed)
            self._known |= {p: found for (_, p), found in changed.items()}
        if model != self._model:
            # What the round has done so far is of the model before.
            self._model, self._round = model, None
        if changed:
            self._look_at = 0.0
        if self._round is not None:
            self._round.partitions &= owned
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
        behind = {p for (_, p), n in self._consumer.source.lag().items() if n > self._most_behind}
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
        log.info("refresh of partitions %s begins: %s", listing, why)
        as_of_ms, name = (asked.as_of_ms, asked.name) if asked else (None, "")
        everyone = asked is not None and asked.everyone
        self._round = Round(partitions, before_ms, as_of_ms, name, self._clock_ms(), everyone)
        self._keep_at, self._report_at = 0.0, self._seconds() + REPORT_SECONDS

    # The work.

    def _go_on(self, now_round: Round, now: float) -> None:
        wanted = min(
            self._bucket.available(now), MOST,
            max(FEWEST, int(BUDGET_SECONDS / self._per_customer)),
        )  # fmt: skip
        until = now + BUDGET_SECONDS
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
        if some := now_round.found[:wanted]:
            self._bucket.take(len(some))
            self._refresh(now_round, some)
            if self._round is None:
                return
            del now_round.found[: len(some)]
        if now_round.cursor is None and not now_round.found:
            self._finish(now_round)
        elif now >= self._keep_at:
            self._keep_at = now + KEEP_SECONDS
            self._keep(now_round, finished=False)
            if now >= self._report_at:
                self._report_at = now + REPORT_SECONDS
                log.info("refresh: %s", _in_words(now_round.outcomes))

    def _hashed_here(self, ids: list[str], partitions: set[int]) -> list[str]:
        """Of customers without an event from the topic, those whose events would come from these
        partitions."""
        count = self._consumer.partition_count()
        key = self._partitioner
        return [i for i in ids if (partition_of_key(key, i.encode(), count) or 0) in partitions]

    def _refresh(self, now_round: Round, ids: list[str]) -> None:
        """Publish anew what is due of these customers, and note it."""
        # SCAN may give a key twice.
        states, marks, stored = self._store.load(list(dict.fromkeys(ids)))
        committed = self._consumer.source.acknowledged()
        # A store that lost writes is being filled again: its records are older than what was
        # published of them.
        now_round.partitions -= {
            p for (_, p), o in committed.items() if o > stored.get((self._topic, p), 0)
        }
        if not now_round.partitions:
            self._round, self._look_at = None, self._seconds() + LOOK_SECONDS
            return
        began = self._seconds()
        source = partition, offset = newest_source(states, self._topic)
        places = list(zip(partition.tolist(), offset.tolist(), strict=True))
        served = [self._served_at(p, o) for p, o in places]
        known = published(states, source, marks, served)
        as_of, outcome = self._outcomes(now_round, states, places, known)
        due = np.flatnonzero(outcome == "unmoved")
        moved = due if now_round.everyone else self._moved(states, due, known, as_of)
        some, at = take(states, moved), as_of[moved]
        mine = sorted((self._topic, p) for p in now_round.partitions)
        keys, values = self._consumer.scoring.records(some, at, mine, BatchReport())
        self._per_customer = max((self._seconds() - began) / len(states), LEAST_SECONDS)
        if len(moved):
            self._consumer.sink.deliver(keys, values, [], {tp: committed[tp] for tp in mine})
            model = model_number(self._model)
            noted = packed_marks(at, (partition[moved], offset[moved]), model)
            ttl_ms = self._memory.time_to_live_ms
            self._store.note(some, noted, self._clock_ms(), ttl_ms)
        outcome[moved] = "refreshed"
        names = {model_number(v): v for v in (self._model, *served)}
        before = [names.get(number, UNKNOWN_MODEL) for number in known.model.tolist()]
        self._count(now_round, outcome.tolist(), before, partition.tolist())

    def _outcomes(
        self,
        now_round: Round,
        states: CustomerStates,
        places: list[tuple[int, int]],
        known: Published,
    ) -> tuple[Int64, npt.NDArray[np.str_]]:
        """The moment to score each of B customers as of (B,), and what to do (B,): "unmoved" where
        the score is due, "" where it is not this member's to look at, or why it is left out."""
        newest, now_ms = states.arrays.newest_ms, self._clock_ms()
        if now_round.as_of_ms is None:
            as_of = np.maximum(known.as_of_ms, np.maximum(newest, now_ms))
        else:
            as_of = np.full(len(states), now_round.as_of_ms, np.int64)
        committed = self._consumer.source.acknowledged()
        ends = {p: committed.get((self._topic, p), 0) for p in now_round.partitions} | {-1: 0}
        outcome = np.full(len(states), "fresh", "U9")
        model = model_number(self._model)
        outcome[is_due(known, model, now_round.before_ms, as_of) & (newest <= as_of)] = "unmoved"
        outcome[is_forgotten(newest, as_of, self._memory)] = "forgotten"
        waits = [o >= ends.get(p, 0) for p, o in places]
        outcome[np.array(waits, np.bool_)] = "waiting"
        # Its record is gone meanwhile, or its newest event came from another partition.
        gone = (newest == NEVER) | np.array([p not in ends for p, _ in places], np.bool_)
        outcome[gone] = ""
        return as_of, outcome

    def _moved(self, states: CustomerStates, due: Int64, known: Published, as_of: Int64) -> Int64:
        """Of the rows `due` (k,) those whose score moves by more than the least change, or is of
        another model, or the first. A canary's customers are not compared: they are few."""
        scoring, least = self._consumer.scoring, self._limits.least_change
        same = known.model[due] == np.uint64(model_number(self._model))
        same &= known.as_of_ms[due] != NEVER
        same &= ~np.isin(due, scoring.canary_rows(states.customer_ids))
        again = due[same]
        if not least or not len(again):
            return due
        some = take(states, again)
        # What was published last, computed again: so that it need not be stored.
        before, after = (scoring.scores(some, at[again]) for at in (known.as_of_ms, as_of))
        unmoved = again[largest_change(before, after, scoring.publish) <= least]
        return due[~np.isin(due, unmoved)]

    def _served_at(self, partition: int, offset: int) -> str:
        """The model version that scored the event there."""
        known = self._known.get(partition)
        return UNKNOWN_MODEL if known is None else known.served_at(offset)

    # What is known of it.

    def _count(
        self, now_round: Round, outcomes: list[str], models: list[str], partitions: list[int]
    ) -> None:
        metrics = self._metrics
        for outcome, model, partition in zip(outcomes, models, partitions, strict=True):
            if not outcome:
                continue
            now_round.outcomes[outcome] += 1
            now_round.by_partition.setdefault(partition, Counter())[outcome] += 1
            after = self._model if outcome == "refreshed" else model
            now_round.models[after] += 1
            if after != model and self._models[model]:
                self._models[model] -= 1
                self._models[after] += 1
        for outcome in set(outcomes) - {""}:
            metrics.refresh_customers.labels(outcome).inc(outcomes.count(outcome))
        metrics.refresh_progress.set(self._share(now_round))
        self._show_models()

    def _share(self, now_round: Round) -> float:
        """About how much of it is done, 0 to 1."""
        if now_round.cursor is None:
            return 1.0
        of = self._of or self._consumer.store.count()
        return min(now_round.customers / max(of, 1), 0.99)

    def _show_models(self) -> None:
        self._metrics.scores_by_model.clear()
        for version, customers in self._models.items():
            self._metrics.scores_by_model.labels(version).set(customers)

    def _show_age(self) -> None:
        """No score is older than the start of the last round that was finished."""
        oldest = min((known.until_ms for known in self._known.values()), default=0)
        if oldest:
            self._metrics.oldest_score.set((self._clock_ms() - oldest) / 1000)

    def _keep(self, now_round: Round, *, finished: bool) -> None:
        """Write how far the round is, for whoever asked for it and for the next owner."""
        kept: dict[TopicPartition, PartitionFreshness] = {}
        share = round(self._share(now_round), 4)
        for partition in now_round.partitions:
            done = now_round.by_partition.get(partition, Counter())
            known = replace(
                self._known[partition], began_ms=now_round.began_ms, finished=finished,
                share=share, read=done.total(), refreshed=done["refreshed"],
                unmoved=done["unmoved"],
            )  # fmt: skip
            if finished:
                until_ms = max(known.until_ms, now_round.before_ms)
                known = replace(known, model=self._model, until_ms=until_ms)
                if now_round.request:
                    answer = known.read, known.refreshed, known.unmoved
                    known = replace(known, answered=now_round.request, answer=answer)
            kept[self._topic, partition] = self._known[partition] = known
        self._store.keep(kept)

    def _finish(self, now_round: Round) -> None:
        self._of, self._models = now_round.customers, now_round.models
        self._keep(now_round, finished=True)
        seconds = (self._clock_ms() - now_round.began_ms) / 1000
        found = _in_words(now_round.outcomes)
        log.info("refresh is done after %.1f s: %s", seconds, found)
        self._round, self._forced, self._look_at = None, False, 0.0
        self._metrics.refresh_progress.set(1)
        self._show_models()
        self._show_age()


def _in_words(outcomes: Counter[str]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in sorted(outcomes.items())) or "no customers"
