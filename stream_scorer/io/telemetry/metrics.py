"""What the consumer counts and measures of itself, for Prometheus.

`Metrics` holds what metric_list.py declares on a registry of its own; `observe` is called once for
each finished micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.telemetry.batch_histogram import BatchHistogram
from stream_scorer.io.telemetry.drift_metrics import DriftMetrics
from stream_scorer.io.telemetry.gauge_series import show_only
from stream_scorer.io.telemetry.metric import OPEN, Kind, MetricFamily
from stream_scorer.io.telemetry.metric_list import OWN_METRICS

DECLARED = {family.name: family for family in OWN_METRICS}


class Metrics:
    """All metrics of one consumer."""

    def __init__(self) -> None:
        # Not the global registry, which takes each name only once in a process.
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.events = self._counter("stream_scorer_events")
        self.extreme_customers = self._counter("stream_scorer_extreme_customers")
        self.dead_letters = self._counter("stream_scorer_dead_letters")
        self.ignored_values = self._counter("stream_scorer_ignored_values")
        self.alive = self._gauge("stream_scorer_alive")
        self.ready = self._gauge("stream_scorer_ready")
        self.partitions = self._gauge("stream_scorer_partitions")
        self.members = self._gauge("stream_scorer_members")
        self.rebalances = self._counter("stream_scorer_rebalances")
        self.silence = self._histogram("stream_scorer_rebalance_silence_seconds")
        self.lag_seconds = self._gauge("stream_scorer_consumer_lag_seconds")
        self.lag = self._gauge("stream_scorer_consumer_lag")
        self.stages = self._histogram("stream_scorer_stage_seconds")
        self.waits_of_events = BatchHistogram(
            _declared("stream_scorer_event_to_propensity_seconds", "histogram"), self.registry
        )
        self.batch_records = self._histogram("stream_scorer_batch_records")
        self.batch_customers = self._histogram("stream_scorer_batch_customers")
        self.propensities = self._counter("stream_scorer_propensities")
        self.refused_writes = self._counter("stream_scorer_refused_writes")
        self.loaded_records = self._counter("stream_scorer_loaded_records")
        self.hot_bytes = self._gauge("stream_scorer_hot_records_bytes")
        self.foreign_keys = self._counter("stream_scorer_foreign_keys")
        self.split_customers = self._counter("stream_scorer_split_customers")
        self.store_rewinds = self._counter("stream_scorer_store_rewinds")
        self.redis_evicted_keys = self._counter("stream_scorer_redis_evicted_keys")
        self.trend_age = self._gauge("stream_scorer_trend_age_seconds")
        self.trend_age.set(float("nan"))
        self.trend_missed = self._gauge("stream_scorer_trend_missed_offsets")
        self.trend_early_rows = self._counter("stream_scorer_trend_early_rows")
        self.waits = self._counter("stream_scorer_waits")
        self.kafka_errors = self._counter("stream_scorer_kafka_errors")
        self.challenger_on = self._gauge("stream_scorer_challenger_on")
        self.challenger_customers = self._counter("stream_scorer_challenger_customers")
        self.challenger_failures = self._counter("stream_scorer_challenger_failures")
        self.challenger_agreement = self._gauge("stream_scorer_challenger_agreement")
        self.challenger_difference = self._gauge("stream_scorer_challenger_difference")
        self.challenger_seconds = self._gauge("stream_scorer_challenger_seconds_per_customer")
        self.build_info = self._gauge("stream_scorer_build_info")
        self.model_switches = self._counter("stream_scorer_model_switches")
        self.refused_models = self._counter("stream_scorer_refused_models")
        self.last_model_switch_seconds = self._gauge("stream_scorer_last_model_switch_seconds")
        self.refresh_customers = self._counter("stream_scorer_refresh_customers")
        self.refresh_progress = self._gauge("stream_scorer_refresh_progress")
        self.oldest_score = self._gauge("stream_scorer_oldest_score_seconds")
        self.scores_by_model = self._gauge("stream_scorer_scores")
        self.last_batch = self._gauge("stream_scorer_last_batch_timestamp_seconds")
        self.drift = DriftMetrics(self._gauge)

    def observe(self, report: BatchReport) -> None:
        """Count one micro-batch that is done."""
        self.events.labels("applied").inc(report.applied)
        self.events.labels("duplicate").inc(report.duplicates)
        self.events.labels("too_old").inc(report.too_old)
        self.events.labels("ignored_customer").inc(report.ignored_events)
        self.events.labels("forgotten_customer").inc(report.erased_events)
        self.extreme_customers.inc(len(report.extreme_customers))
        for dead_letter in report.dead_letters:
            self.dead_letters.labels(dead_letter.reason.value).inc()
        for ignored in report.ignored:
            self.ignored_values.labels(ignored.field, ignored.problem).inc(ignored.events)
        for stage, seconds in report.seconds.items():
            self.stages.labels(stage).observe(seconds)
        self.waits_of_events.observe(report.waited_seconds)
        self.batch_records.observe(report.records)
        self.batch_customers.observe(report.customers)
        self.propensities.inc(report.propensities)
        self.refused_writes.inc(report.refused_writes)
        self.foreign_keys.inc(report.foreign_keys)
        self.split_customers.inc(report.split_customers)
        self.last_batch.set_to_current_time()

    def observe_model(self, model_version: str, fingerprint: str, build: str) -> None:
        """The model that is served from now on."""
        show_only(self.build_info, {(model_version, fingerprint, build): 1})

    def observe_hot_records(self, found: int, missing: int, held_bytes: int) -> None:
        """Count records that were found in memory, and those that were not."""
        self.loaded_records.labels("memory").inc(found)
        self.loaded_records.labels("redis").inc(missing)
        self.hot_bytes.set(held_bytes)

    def observe_lag(
        self,
        lag: Mapping[TopicPartition, int],
        seconds: Mapping[TopicPartition, float],
        partitions: int,
    ) -> None:
        """The lag of those of the partitions that are read now of which it is known, in records and
        in seconds; those given up are no longer shown. partitions: how many are read."""
        gauges: list[tuple[Gauge, Mapping[TopicPartition, float]]]
        gauges = [(self.lag, lag), (self.lag_seconds, seconds)]
        for metric, of_partitions in gauges:
            show_only(metric, {(t, str(p)): value for (t, p), value in of_partitions.items()})
        self.partitions.set(partitions)

    def _counter(self, name: str) -> Counter:
        family = _declared(name, "counter")
        found = Counter(name, family.meaning, tuple(family.labels), registry=self.registry)
        # A series that begins with its first count hides it: increase() sees only what comes after.
        if OPEN not in family.labels.values():
            for values in product(*family.labels.values()):
                if values:
                    found.labels(*values)
        return found

    def _gauge(self, name: str) -> Gauge:
        family = _declared(name, "gauge")
        return Gauge(name, family.meaning, tuple(family.labels), registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        family = _declared(name, "histogram")
        return Histogram(
            name, family.meaning, tuple(family.labels), buckets=family.buckets,
            registry=self.registry,
        )  # fmt: skip


def _declared(name: str, kind: Kind) -> MetricFamily:
    family = DECLARED[name]
    if family.kind != kind:
        raise TypeError(f"{name} is declared as a {family.kind}, not as a {kind}")
    return family
