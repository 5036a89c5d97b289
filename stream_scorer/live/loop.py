"""The long-running loop around `Pipeline.step`: when to step, when to wait, when to stop.

A request to stop (stop.py) is read between micro-batches, so the current micro-batch is finished,
published and committed before the consumer leaves the group. While Redis or Kafka is
unavailable the batch is kept and tried again, with growing waits, and the source goes on polling
Kafka so that the group does not evict this member. Where the store came back without its newest
writes, the source reads the lost part again. What one step does is in pipeline.py.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from stream_scorer.backoff import delays
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.dead_letter_window import DeadLetterWindow
from stream_scorer.core.events.record_keys import KEY_REMEDY, SPLIT_REMEDY
from stream_scorer.core.events.refused import Refused, refused_in_words
from stream_scorer.core.features.ignored_values import IgnoredValues, ignored_in_words
from stream_scorer.errors import ClientLost, Halt, StoreRewound, StoreUnavailable, Unavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.consumer import Consumer, clock_ms
from stream_scorer.live.health import Health
from stream_scorer.live.stop import Stop
from stream_scorer.log_events import event
from stream_scorer.result import Result

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.1
MOST_DELAY_SECONDS = 5.0
WAIT_SLICE_SECONDS = 0.25  # a wait checks this often whether it should stop
LAG_SECONDS = 5.0
VERIFY_SECONDS = 5.0
REPORT_SECONDS = 60.0


@dataclass(frozen=True)
class Totals(Result):
    """What was done since the start."""

    records: int = 0
    applied: int = 0
    duplicates: int = 0
    too_old: int = 0
    ignored_events: int = 0
    dead_letters: int = 0
    propensities: int = 0
    batches: int = 0
    seconds: float = 0.0
    erased_events: int = 0

    def plus(self, report: BatchReport) -> Totals:
        """With one more micro-batch."""
        return Totals(
            records=self.records + report.records,
            applied=self.applied + report.applied,
            duplicates=self.duplicates + report.duplicates,
            too_old=self.too_old + report.too_old,
            ignored_events=self.ignored_events + report.ignored_events,
            erased_events=self.erased_events + report.erased_events,
            dead_letters=self.dead_letters + len(report.dead_letters),
            propensities=self.propensities + report.propensities,
            batches=self.batches + 1,
        )


class Loop:
    """Steps of one consumer until it is asked to stop.

    between: called in turn between two micro-batches, each with a few milliseconds of work; what
    they raise is treated as if a step had raised it. health: is told what the loop does.
    done: is told of each micro-batch that is published and committed; it must not raise.
    """

    def __init__(
        self,
        consumer: Consumer,
        window: DeadLetterWindow,
        metrics: Metrics,
        stop: Stop,
        between: Sequence[Callable[[], None]] = (),
        health: Health | None = None,
        done: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        self._done = done
        self._consumer, self._metrics, self._stop = consumer, metrics, stop
        self._window, self._between = window, between
        self._health = Health(float("inf")) if health is None else health
        self._read_again: dict[TopicPartition, int] = {}
        self._delays = _retry_delays()
        self._next_lag = self._next_report = self._next_verify = 0.0
        self._totals, self._started = Totals(), time.monotonic()
        # Since the last report.
        self._foreign_keys = self._split_customers = 0
        self._refused, self._ignored = Refused(), IgnoredValues()

    @property
    def totals(self) -> Totals:
        """What was done until now."""
        return replace(self._totals, seconds=round(time.monotonic() - self._started, 3))

    def judge_dead_letters(self, window: DeadLetterWindow) -> None:
        """Count dead letters in another window from now on, which begins empty."""
        self._window = window

    def run(self) -> None:
        """Step until asked to stop. Raises Halt and InputError."""
        try:
            self._run()
        finally:
            self._report_left_out()

    def _run(self) -> None:
        while not self._stop.asked:
            try:
                self._verify()
                self._step()
                # Where another batch is on its way already, after one of the next steps.
                if self._consumer.pipeline.idle:
                    for work in self._between:
                        work()
                # A step has succeeded, so the next failure waits briefly again.
                self._delays = _retry_delays()
                self._health.assigned(*self._consumer.source.assignment())
                self._health.worked(time.monotonic())
            except StoreRewound as rewound:
                topics = sorted({topic for topic, _ in rewound.offsets})
                partitions = sorted(partition for _, partition in rewound.offsets)
                log.warning(
                    "%s", rewound,
                    extra=event("store_rewound", topic=",".join(topics), partitions=partitions),
                )  # fmt: skip
                self._metrics.store_rewinds.inc()
                self._read_again |= rewound.offsets
                self._health.moved(time.monotonic())
            except ClientLost as error:
                self._join_anew(error)
            except Unavailable as error:
                self._wait_for(error)
            if not self._stop.asked:
                self._report()
        self._health.stops()
        self._finish()

    def _step(self) -> None:
        consumer = self._consumer
        if self._read_again:
            consumer.claim()  # an emptied store has forgotten whose it is
            consumer.source.seek(self._read_again)
            self._read_again = {}
        self._take(consumer.pipeline.step())

    def _finish(self) -> None:
        """Publish and commit the micro-batch that is folded already, where there is one."""
        try:
            self._count(self._consumer.pipeline.finish())
        except Unavailable as error:
            log.warning("%s; the next owner publishes the last micro-batch", error)

    def _take(self, report: BatchReport) -> None:
        if not report.records:
            return
        self._count(report)
        try:
            self._window.add(report.records, report.dead_letters)
        except Halt:
            # What is saved when the consumer stops is published and committed, too.
            self._finish()
            raise

    def _count(self, report: BatchReport) -> None:
        if not report.records:
            return
        self._metrics.observe(report)
        self._done(report)
        self._totals = self._totals.plus(report)
        self._foreign_keys += report.foreign_keys
        self._split_customers += report.split_customers
        self._refused.add(report.records, report.dead_letters)
        self._ignored.add(report.ignored)

    def _verify(self) -> None:
        """At the start and every `VERIFY_SECONDS`: the topic is still the one that the store knows,
        and the store has lost and evicted nothing. A consumer without events would not notice it by
        writing."""
        if time.monotonic() >= self._next_verify:
            self._consumer.verify()
            self._metrics.redis_evicted_keys.inc(self._consumer.evictions.evicted())
            self._next_verify = time.monotonic() + VERIFY_SECONDS

    def _join_anew(self, error: Unavailable) -> None:
        """Join the group with new clients. They read on from the committed offsets."""
        self._read_again = {}
        while not self._stop.asked:
            delay = next(self._delays)
            log.warning(
                "%s; joining the group again in %.1f s", error, delay,
                extra=event("group_joined_anew", delay_seconds=delay),
            )  # fmt: skip
            self._health.waits("kafka", time.monotonic())
            until = time.monotonic() + delay
            while not self._stop.asked and (left := until - time.monotonic()) > 0:
                # Here the old source is gone, so there is nothing to poll.
                time.sleep(min(left, WAIT_SLICE_SECONDS))
                self._health.moved(time.monotonic())
            try:
                self._consumer.join()
                self._health.joined(time.monotonic())
                return
            except Unavailable as again:
                error = again

    def _wait_for(self, error: Unavailable) -> None:
        server = "redis" if isinstance(error, StoreUnavailable) else "kafka"
        self._metrics.waits.labels(server).inc()
        delay = next(self._delays)
        log.warning(
            "%s; trying again in %.1f s", error, delay,
            extra=event("server_awaited", server=server, delay_seconds=delay),
        )  # fmt: skip
        self._health.waits(server, time.monotonic())
        until = time.monotonic() + delay
        while not self._stop.asked and (left := until - time.monotonic()) > 0:
            # Polls Kafka without taking records, or the group would evict this member while it
            # waits.
            self._consumer.source.wait(min(left, WAIT_SLICE_SECONDS))
            self._health.moved(time.monotonic())

    def _report(self) -> None:
        now = time.monotonic()
        if now >= self._next_lag:
            self._next_lag = now + LAG_SECONDS
            source = self._consumer.source
            behind = source.lag()
            seconds = source.lag_seconds(behind, clock_ms())
            self._metrics.observe_lag(behind, seconds, len(source.handed_out()))
        if now >= self._next_report:
            self._next_report = now + REPORT_SECONDS
            lag = sum(self._consumer.source.lag().values())
            done = self._totals.records
            log.info(
                "%s events, %s behind", f"{done:,}", f"{lag:,}",
                extra=event("progress", records=done, lag_records=lag),
            )  # fmt: skip
            self._report_left_out()

    def _warn_of_lost_order(self) -> None:
        """Where events of one customer may not have come in their order."""
        if self._foreign_keys:
            log.warning(
                "%s events had another key than the customer id, so a customer's order is lost: %s",
                f"{self._foreign_keys:,}", KEY_REMEDY,
                extra=event("keys_foreign", events=self._foreign_keys),
            )  # fmt: skip
        if self._split_customers:
            log.warning(
                "%s times a customer had events in two partitions, so their order is lost: %s",
                f"{self._split_customers:,}", SPLIT_REMEDY,
                extra=event("customers_split", customers=self._split_customers),
            )  # fmt: skip
        self._foreign_keys = self._split_customers = 0

    def _report_left_out(self) -> None:
        """Log what could not be applied, or not be used, or may have come out of order, since the
        last report."""
        self._warn_of_lost_order()
        refusals = self._refused.refusals()
        lines = refused_in_words(refusals, ())
        for refusal, line in zip(refusals, lines, strict=False):
            said = event("records_refused", reason=refusal.reason, records=refusal.records)
            log.warning("%s", line, extra=said)
        for example in lines[len(refusals) :]:
            log.warning("%s", example)
        for value in self._ignored.found(self._consumer.space.vocabularies):
            said = event(
                "values_ignored", field=value.field, problem=value.problem, events=value.events
            )
            for line in ignored_in_words([value]):
                log.warning("%s", line, extra=said)
        self._refused, self._ignored = Refused(), IgnoredValues()


def _retry_delays() -> Iterator[float]:
    return delays(FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS, random.random)
