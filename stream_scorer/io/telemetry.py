"""What the consumer reports about itself: metrics for Prometheus, and log lines.

`Metrics` holds typed metrics on a registry of its own; `observe` is called once for each finished
micro-batch. Names are `stream_scorer_NOUN_UNIT`, and labels have few values. Logging goes to
stderr, one line for each event, as text or as JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import datetime, timezone

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream_scorer.confidential import without_credentials
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.io.batch_report import BatchReport

# Steps of about three: a quantile is known to within such a factor. More buckets would be more time
# series for each label.
SIZES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
SECONDS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Metrics:
    """All metrics of one consumer."""

    def __init__(self) -> None:
        # Not the global registry, which takes each name only once in a process.
        r = self.registry = CollectorRegistry()
        self.events = Counter(
            "stream_scorer_events",
            "Events, by outcome: applied, duplicate, too_old (forgotten since), ignored_customer",
            ["outcome"],
            registry=r,
        )
        self.extreme_customers = Counter(
            "stream_scorer_extreme_customers",
            "Customers with more events within an hour than events.extreme_events_per_hour",
            registry=r,
        )
        self.dead_letters = Counter(
            "stream_scorer_dead_letters",
            "Records that became dead letters, by reason",
            ["reason"],
            registry=r,
        )
        self.ignored_values = Counter(
            "stream_scorer_ignored_values",
            "Valid events with a value that features can't use, by field and problem: "
            "unknown_word, which the field's vocabulary lacks, or not_a_number",
            ["field", "problem"],
            registry=r,
        )
        self.lag = Gauge(
            "stream_scorer_consumer_lag",
            "Records in the topic that this member has not read yet, by partition",
            ["topic", "partition"],
            registry=r,
        )
        self.stages = Histogram(
            "stream_scorer_stage_seconds",
            "Time that each stage of a micro-batch took; stages of two batches may overlap",
            ["stage"],
            buckets=SECONDS,
            registry=r,
        )
        self.batch_records = Histogram(
            "stream_scorer_batch_records", "Records in a micro-batch", buckets=SIZES, registry=r
        )
        self.batch_customers = Histogram(
            "stream_scorer_batch_customers",
            "Customers scored in a micro-batch",
            buckets=SIZES,
            registry=r,
        )
        self.propensities = Counter(
            "stream_scorer_propensities", "Propensity records that Kafka confirmed", registry=r
        )
        self.refused_writes = Counter(
            "stream_scorer_refused_writes",
            "Writes that the store refused because another owner had written newer ones, or the "
            "record was deleted meanwhile",
            registry=r,
        )
        self.loaded_records = Counter(
            "stream_scorer_loaded_records",
            "Records of customers that were loaded, by where they came from: memory or redis",
            ["origin"],
            registry=r,
        )
        self.hot_bytes = Gauge(
            "stream_scorer_hot_records_bytes",
            "Memory that is taken by records which were saved lately (store.hot_bytes)",
            registry=r,
        )
        self.foreign_keys = Counter(
            "stream_scorer_foreign_keys",
            "Events whose record has another key than the customer id, or none",
            registry=r,
        )
        self.split_customers = Counter(
            "stream_scorer_split_customers",
            "Customers of micro-batches whose events came in two or more partitions of the topic",
            registry=r,
        )
        self.store_rewinds = Counter(
            "stream_scorer_store_rewinds",
            "Times that the store was found to have lost its newest writes",
            registry=r,
        )
        self.redis_evicted_keys = Counter(
            "stream_scorer_redis_evicted_keys",
            "Keys that Redis deleted for lack of memory; customers' vectors may be among them",
            registry=r,
        )
        self.trend_age = Gauge(
            "stream_scorer_trend_age_seconds",
            "How long ago the newest event occurred that counts in the shop's trend, of the "
            "partition where that is longest; NaN without features of kind trend",
            registry=r,
        )
        self.trend_age.set(float("nan"))
        self.trend_missed = Gauge(
            "stream_scorer_trend_missed_offsets",
            "Offsets of all partitions that the shop's trend could not count, because Kafka no "
            "longer held them or a record of the trend was gone",
            registry=r,
        )
        self.trend_early_rows = Counter(
            "stream_scorer_trend_early_rows",
            "Customers scored as of a day before the oldest that the shop's trend is known of, "
            "with the trend of that one",
            registry=r,
        )
        self.waits = Counter(
            "stream_scorer_waits",
            "Waits because a server did not answer, by server",
            ["server"],
            registry=r,
        )
        self.kafka_errors = Counter(
            "stream_scorer_kafka_errors",
            "Transient errors of the Kafka clients, by error",
            ["error"],
            registry=r,
        )
        self.challenger_on = Gauge(
            "stream_scorer_challenger_on",
            "Whether the challenger works: 0 where it failed or is the active model now",
            ["model_version", "mode"],
            registry=r,
        )
        self.challenger_customers = Counter(
            "stream_scorer_challenger_customers",
            "Customers, by what the challenger did with them: compared or skipped by a shadow, "
            "served by a canary",
            ["outcome"],
            registry=r,
        )
        self.challenger_failures = Counter(
            "stream_scorer_challenger_failures",
            "Times that the challenger failed and was switched off until the next start",
            registry=r,
        )
        self.challenger_agreement = Gauge(
            "stream_scorer_challenger_agreement",
            "Of the last report of a shadow: the mean share of the top k that both models chose "
            "(overlap), and the share of customers with the same top k in the same order "
            "(same_order)",
            ["measure"],
            registry=r,
        )
        self.challenger_difference = Gauge(
            "stream_scorer_challenger_difference",
            "Of the last report of a shadow: the challenger's probabilities minus the active "
            "model's; all measures but mean are of the absolute difference",
            ["measure"],
            registry=r,
        )
        self.challenger_seconds = Gauge(
            "stream_scorer_challenger_seconds_per_customer",
            "Of the last report: time that each model's engine took to score one customer",
            ["model"],
            registry=r,
        )
        self.build_info = Gauge(
            "stream_scorer_build_info",
            "1, with the model that is served, its feature declaration, and this program's version",
            ["model_version", "fingerprint", "build"],
            registry=r,
        )
        self.model_switches = Counter(
            "stream_scorer_model_switches",
            "Times that an announced model was taken while running",
            registry=r,
        )
        self.refused_models = Counter(
            "stream_scorer_refused_models",
            "Times that an announced model could not be served here; the one before goes on",
            registry=r,
        )
        self.last_model_switch_seconds = Gauge(
            "stream_scorer_last_model_switch_seconds",
            "From seeing an announced model to serving it, the last time",
            registry=r,
        )
        self.refresh_customers = Counter(
            "stream_scorer_refresh_customers",
            "Customers that a refresh looked at, by outcome: refreshed, unmoved (by less than "
            "refresh.least_change), fresh (published since the round began), waiting (an event "
            "that is not published yet will do it), forgotten",
            ["outcome"],
            registry=r,
        )
        self.refresh_progress = Gauge(
            "stream_scorer_refresh_progress",
            "How much of the customers the round that runs has looked at, 0 to 1; 1 between rounds",
            registry=r,
        )
        self.oldest_score = Gauge(
            "stream_scorer_oldest_score_seconds",
            "No score of a customer of this member's partitions is older, or was looked at longer "
            "ago; NaN until the first round has shown it",
            registry=r,
        )
        self.scores_by_model = Gauge(
            "stream_scorer_scores",
            "Customers of this member's partitions by the model version of their newest score, as "
            "of the last round",
            ["model_version"],
            registry=r,
        )
        self.last_batch = Gauge(
            "stream_scorer_last_batch_timestamp_seconds",
            "When the last micro-batch was finished",
            registry=r,
        )

    def observe(self, report: BatchReport) -> None:
        """Count one micro-batch that is done."""
        self.events.labels("applied").inc(report.applied)
        self.events.labels("duplicate").inc(report.duplicates)
        self.events.labels("too_old").inc(report.too_old)
        self.events.labels("ignored_customer").inc(report.ignored_events)
        self.extreme_customers.inc(len(report.extreme_customers))
        for dead_letter in report.dead_letters:
            self.dead_letters.labels(dead_letter.reason.value).inc()
        for ignored in report.ignored:
            self.ignored_values.labels(ignored.field, ignored.problem).inc(ignored.events)
        for stage, seconds in report.seconds.items():
            self.stages.labels(stage).observe(seconds)
        self.batch_records.observe(report.records)
        self.batch_customers.observe(report.customers)
        self.propensities.inc(report.propensities)
        self.refused_writes.inc(report.refused_writes)
        self.foreign_keys.inc(report.foreign_keys)
        self.split_customers.inc(report.split_customers)
        self.last_batch.set_to_current_time()

    def observe_model(self, model_version: str, fingerprint: str, build: str) -> None:
        """The model that is served from now on."""
        self.build_info.clear()
        self.build_info.labels(model_version, fingerprint, build).set(1)

    def observe_hot_records(self, found: int, missing: int, held_bytes: int) -> None:
        """Count records that were found in memory, and those that were not."""
        self.loaded_records.labels("memory").inc(found)
        self.loaded_records.labels("redis").inc(missing)
        self.hot_bytes.set(held_bytes)

    def observe_lag(self, lag: Mapping[TopicPartition, int]) -> None:
        """The lag of every partition read now; those given up are no longer shown."""
        self.lag.clear()
        for (topic, partition), records in lag.items():
            self.lag.labels(topic, str(partition)).set(records)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_credentials(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = without_credentials(self.formatException(record.exc_info))
        return json.dumps(line)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().replace("\n", " | ")
        line = f"{_iso(record.created)} {record.levelname.lower():7} {message}"
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return without_credentials(line + trace)


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_to_stderr(level: str, log_format: str) -> None:
    """Set up logging: level "debug" to "error", log_format "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # The HTTP client of the schema registry logs every request, in one of two packages.
    for name in ("httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    client = logging.getLogger("librdkafka")
    client.setLevel(max(root.level, logging.WARNING))
    client.addFilter(_is_worth_logging)


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Of librdkafka's lines, arguments (facility, client, text)."""
    facility, *_, text = record.args if isinstance(record.args, tuple) else ("", "")
    # Lost connections also reach our error callbacks, which log each kind once in a while. Since
    # kafka.properties are given to consumer and producer alike, each warns about the other's.
    return facility not in ("FAIL", "ERROR") and "and will be ignored by this" not in str(text)
