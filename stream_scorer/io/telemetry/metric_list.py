"""Every metric that `run` shows, as data: the one list.

`Metrics` makes its metrics from it, and the reference page, dashboards and alerts are tested
against it: `exposed_series()` has each name that a query may use. Names are
`stream_scorer_NOUN_UNIT` in base units (seconds, bytes, a ratio from 0 to 1), and labels have few
values. A name, once released, stays.
"""

from __future__ import annotations

from dataclasses import replace

from stream_scorer.core.events.batch import Reason
from stream_scorer.io.telemetry.drift_list import DRIFT
from stream_scorer.io.telemetry.metric import OPEN, MetricFamily, counter, gauge, histogram

# Steps of about three: a quantile is known to within such a factor. More buckets would be more time
# series for each label.
SIZES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
# From an event to what it led to: finer, since objectives are about it, and up to hours, since a
# backlog counts as well.
WAITS = (
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
    14400.0,
)  # fmt: skip
SECONDS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

# Of a micro-batch, in their order. A challenger's is only there where there is a challenger, the
# sample's where drift is measured.
STAGES = (
    "poll", "decode", "load", "apply", "save", "csr", "score", "challenger", "sample", "encode",
    "publish", "commit",
)  # fmt: skip

GENERATIONS = ("0", "1", "2")


def _undated(family: MetricFamily) -> MetricFamily:
    """Without the series that says since when it is counted."""
    return replace(family, has_created=False)


EVENTS = (
    counter(
        "stream_scorer_events",
        "Events, by outcome: applied, duplicate, too_old (forgotten since), ignored_customer, "
        "forgotten_customer (of before the customer was forgotten on request)",
        outcome=("applied", "duplicate", "too_old", "ignored_customer", "forgotten_customer"),
    ),
    counter(
        "stream_scorer_extreme_customers",
        "Customers with more events within an hour than events.extreme_events_per_hour",
    ),
    counter(
        "stream_scorer_dead_letters",
        "Records that became dead letters, by reason",
        reason=tuple(reason.value for reason in Reason),
    ),
    counter(
        "stream_scorer_ignored_values",
        "Valid events with a value that features can't use, by field and problem: "
        "unknown_word, which the field's vocabulary lacks, or not_a_number",
        field=OPEN, problem=("unknown_word", "not_a_number"),
    ),
    counter(
        "stream_scorer_foreign_keys",
        "Events whose record has another key than the customer id, or none",
    ),
    counter(
        "stream_scorer_split_customers",
        "Customers of micro-batches whose events came in two or more partitions of the topic",
    ),
)  # fmt: skip

BATCHES = (
    histogram(
        "stream_scorer_stage_seconds",
        "Time that each stage of a micro-batch took; stages of two batches may overlap",
        SECONDS, "seconds", stage=STAGES,
    ),
    _undated(
        histogram(
            "stream_scorer_event_to_propensity_seconds",
            "Of each event that was published for: from its record's timestamp in the input topic "
            "until Kafka had confirmed its customer's propensities, or those of the others where "
            "the event counts for nothing, as of a forgotten customer",
            WAITS, "seconds",
        )
    ),
    histogram("stream_scorer_batch_records", "Records in a micro-batch", SIZES),
    histogram("stream_scorer_batch_customers", "Customers scored in a micro-batch", SIZES),
    counter("stream_scorer_propensities", "Propensity records that Kafka confirmed"),
    gauge(
        "stream_scorer_last_batch_timestamp_seconds",
        "When the last micro-batch was finished",
        "seconds",
    ),
)  # fmt: skip

KAFKA = (
    gauge(
        "stream_scorer_consumer_lag_seconds",
        "No record that this member has not read yet has waited for longer, by partition: the time "
        "since the last record that was read, or since all were read; 0 where all are",
        "seconds", topic=OPEN, partition=OPEN,
    ),
    counter(
        "stream_scorer_rebalances",
        "Rebalances that gave this member partitions or none (assigned), asked for some (revoked), "
        "or had taken them away (lost)",
        kind=("assigned", "revoked", "lost"),
    ),
    histogram(
        "stream_scorer_rebalance_silence_seconds",
        "Of each partition that came and had events waiting: how long the first of them had waited "
        "when it was read here, by its record's timestamp",
        WAITS, "seconds",
    ),
    gauge(
        "stream_scorer_consumer_lag",
        "Records in the topic that this member has not read yet, by partition",
        topic=OPEN, partition=OPEN,
    ),
    counter(
        "stream_scorer_waits",
        "Waits because a server did not answer, by server",
        server=("kafka", "redis"),
    ),
    counter(
        "stream_scorer_kafka_errors",
        "Transient errors of the Kafka clients, by error",
        error=OPEN,
    ),
)  # fmt: skip

MEMBERS = (
    gauge("stream_scorer_alive", "1 where the loop moves, else 0: what /healthz says"),
    gauge(
        "stream_scorer_ready",
        "1 where this member is warm, in its group, reads its partitions and waits for no server, "
        "else 0: what /readyz says",
    ),
    gauge("stream_scorer_partitions", "Partitions of the topic that this member reads"),
    gauge(
        "stream_scorer_members",
        "Members of the namespace that are alive, as this one sees them: their heartbeat in Redis "
        "is not older than 30 s",
    ),
)

STORE = (
    counter(
        "stream_scorer_refused_writes",
        "Writes that the store refused because another owner had written newer ones, or the "
        "record was deleted meanwhile",
    ),
    counter(
        "stream_scorer_loaded_records",
        "Records of customers that were loaded, by where they came from: memory or redis",
        origin=("memory", "redis"),
    ),
    gauge(
        "stream_scorer_hot_records_bytes",
        "Memory that is taken by records which were saved lately (store.hot_bytes)",
        "bytes",
    ),
    counter(
        "stream_scorer_store_rewinds",
        "Times that the store was found to have lost its newest writes",
    ),
    counter(
        "stream_scorer_redis_evicted_keys",
        "Keys that Redis deleted for lack of memory; customers' vectors may be among them",
    ),
)

TREND = (
    gauge(
        "stream_scorer_trend_age_seconds",
        "How long ago the newest event occurred that counts in the shop's trend, of the "
        "partition where that is longest; NaN without features of kind trend",
        "seconds",
    ),
    gauge(
        "stream_scorer_trend_missed_offsets",
        "Offsets of all partitions that the shop's trend could not count, because Kafka no "
        "longer held them or a record of the trend was gone",
    ),
    counter(
        "stream_scorer_trend_early_rows",
        "Customers scored as of a day before the oldest that the shop's trend is known of, "
        "with the trend of that one",
    ),
)

MODELS = (
    gauge(
        "stream_scorer_build_info",
        "1, with the model that is served, its feature declaration, and this program's version",
        model_version=OPEN, fingerprint=OPEN, build=OPEN,
    ),
    counter(
        "stream_scorer_model_switches", "Times that an announced model was taken while running"
    ),
    counter(
        "stream_scorer_refused_models",
        "Times that an announced model could not be served here; the one before goes on",
    ),
    gauge(
        "stream_scorer_last_model_switch_seconds",
        "From seeing an announced model to serving it, the last time",
        "seconds",
    ),
    gauge(
        "stream_scorer_challenger_on",
        "Whether the challenger works: 0 where it failed or is the active model now",
        model_version=OPEN, mode=("shadow", "canary"),
    ),
    counter(
        "stream_scorer_challenger_customers",
        "Customers, by what the challenger did with them: compared or skipped by a shadow, "
        "served by a canary",
        outcome=("compared", "skipped", "served"),
    ),
    counter(
        "stream_scorer_challenger_failures",
        "Times that the challenger failed and was switched off until the next start",
    ),
    gauge(
        "stream_scorer_challenger_agreement",
        "Of the last report of a shadow: the mean share of the top k that both models chose "
        "(overlap), and the share of customers with the same top k in the same order "
        "(same_order)",
        "ratio", measure=("overlap", "same_order"),
    ),
    gauge(
        "stream_scorer_challenger_difference",
        "Of the last report of a shadow: the challenger's probabilities minus the active "
        "model's; all measures but mean are of the absolute difference",
        "ratio", measure=("mean", "mean_absolute", "p50", "p90", "p99", "max"),
    ),
    gauge(
        "stream_scorer_challenger_seconds_per_customer",
        "Of the last report: time that each model's engine took to score one customer",
        "seconds", model=("active", "challenger"),
    ),
)  # fmt: skip

REFRESH = (
    counter(
        "stream_scorer_refresh_customers",
        "Customers that a refresh looked at, by outcome: refreshed, unmoved (by less than "
        "refresh.least_change), fresh (published since the round began), waiting (an event "
        "that is not published yet will do it), forgotten",
        outcome=("refreshed", "unmoved", "fresh", "waiting", "forgotten"),
    ),
    gauge(
        "stream_scorer_refresh_progress",
        "How much of the customers the round that runs has looked at, 0 to 1; 1 between rounds",
        "ratio",
    ),
    gauge(
        "stream_scorer_oldest_score_seconds",
        "No score of a customer of this member's partitions is older, or was looked at longer "
        "ago; NaN until the first round has shown it",
        "seconds",
    ),
    gauge(
        "stream_scorer_scores",
        "Customers of this member's partitions by the model version of their newest score, as "
        "of the last round",
        model_version=OPEN,
    ),
)

# Of the client library's own collectors, which name them.
PROCESS = (
    _undated(counter("process_cpu_seconds", "Total user and system CPU time spent", "seconds")),
    _undated(gauge("process_virtual_memory_bytes", "Virtual memory size", "bytes")),
    _undated(gauge("process_resident_memory_bytes", "Resident memory size", "bytes")),
    _undated(
        gauge(
            "process_start_time_seconds", "When the process started, since 1970 UTC", "seconds"
        )
    ),
    _undated(gauge("process_open_fds", "Open file descriptors")),
    _undated(gauge("process_max_fds", "The most file descriptors that may be open")),
    _undated(
        gauge(
            "python_info", "1, with the version of Python",
            version=OPEN, implementation=OPEN, major=OPEN, minor=OPEN, patchlevel=OPEN,
        )
    ),
    _undated(
        counter(
            "python_gc_objects_collected", "Objects that Python's garbage collector took away",
            generation=GENERATIONS,
        )
    ),
    _undated(
        counter(
            "python_gc_objects_uncollectable",
            "Objects that Python's garbage collector found and could not take away",
            generation=GENERATIONS,
        )
    ),
    _undated(
        counter(
            "python_gc_collections", "Runs of Python's garbage collector", generation=GENERATIONS
        )
    ),
)  # fmt: skip

# Of the supervisor where `run --processes` keeps several members; every other series has the label
# `process` there, too.
PROCESS_UP = gauge(
    "stream_scorer_process_up", "1 where the process of a supervisor runs, 0 where it does not",
    process=OPEN,
)  # fmt: skip
PROCESS_RESTARTS = counter(
    "stream_scorer_process_restarts", "How often a supervisor started a process again",
    process=OPEN,
)  # fmt: skip
SUPERVISOR = (PROCESS_UP, PROCESS_RESTARTS)

OWN_METRICS = (*EVENTS, *MEMBERS, *BATCHES, *KAFKA, *STORE, *TREND, *MODELS, *REFRESH, *DRIFT)
METRICS = (*OWN_METRICS, *SUPERVISOR, *PROCESS)


def exposed_series(families: tuple[MetricFamily, ...] = METRICS) -> dict[str, tuple[str, ...]]:
    """Names of labels by the name of every series that /metrics can have."""
    return {name: labels for family in families for name, labels in family.series().items()}
