"""The dashboard for those who are on call: do events become scores, and if not, why?"""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models
from panels import (
    BAD,
    GOOD,
    RATE,
    WATCH,
    Element,
    board,
    course,
    distribution,
    number,
    row,
)

UID = "stream-scorer-operations"

AT_A_GLANCE: tuple[Element, ...] = (
    row("At a glance"),
    number(
        "Members ready", "sum(stream_scorer_ready)",
        "Members that are warm, read their partitions and wait for no server.",
        steps=((None, BAD), (1, GOOD)),
    ),
    number(
        "Members not ready",
        "count(stream_scorer_ready == 0) or vector(0)",
        "Members that Prometheus reaches and that are not ready. Their own /readyz says why.",
        steps=((None, GOOD), (1, BAD)),
    ),
    number(
        "Events applied", f'sum(rate(stream_scorer_events_total{{outcome="applied"}}[{RATE}]))',
        "Events a second that changed a customer's vector.", "ops",
    ),
    number(
        "Event to propensity, p99",
        "histogram_quantile(0.99, sum by (le) "
        f"(rate(stream_scorer_event_to_propensity_seconds_bucket[{RATE}])))",
        "One event in a hundred waits longer for its customer's propensities.", "s",
        ((None, GOOD), (5, WATCH), (60, BAD)), width=3,
    ),
    number(
        "Consumer lag", "sum(stream_scorer_consumer_lag)",
        "Records of the input topic that no member has read yet.",
        steps=((None, GOOD), (50_000, WATCH), (500_000, BAD)), width=3,
    ),
    number(
        "Dead letters",
        f"sum(rate(stream_scorer_dead_letters_total[{RATE}])) / "
        f"(sum(rate(stream_scorer_dead_letters_total[{RATE}])) + "
        f"sum(rate(stream_scorer_events_total[{RATE}])))",
        "Share of the records that could not be applied. Members stop at dead_letters.max_share.",
        "percentunit", ((None, GOOD), (0.01, WATCH), (0.1, BAD)), width=3, decimals=2,
    ),
    number(
        "Oldest score", "max(stream_scorer_oldest_score_seconds)",
        "No customer's score is older, or was looked at longer ago, once a first round has run.",
        "s", ((None, GOOD), (2 * 86_400, WATCH), (4 * 86_400, BAD)), width=3,
    ),
)  # fmt: skip

THROUGHPUT: tuple[Element, ...] = (
    row("Throughput and lag"),
    course(
        "Events by outcome",
        {"{{outcome}}": f"sum by (outcome) (rate(stream_scorer_events_total[{RATE}]))"},
        "A second. A duplicate was applied before; too old: the customer was forgotten since.",
        "ops", stacked=True,
    ),
    course(
        "Propensities published",
        {"{{instance}}": f"sum by (instance) (rate(stream_scorer_propensities_total[{RATE}]))"},
        "Records a second that Kafka confirmed, by member.", "ops", stacked=True,
    ),
    course(
        "Lag by partition, in time",
        {"{{topic}} {{partition}}": "max by (topic, partition) "
                                    "(stream_scorer_consumer_lag_seconds)"},
        "No record that is not read yet has waited for longer.", "s",
    ),
    course(
        "Lag by partition",
        {"{{topic}} {{partition}}": "sum by (topic, partition) (stream_scorer_consumer_lag)"},
        "Records that are not read yet. One partition that stands out has one busy key, or a slow "
        "member.",
    ),
    course(
        "Rebalances",
        {"{{kind}}": f"sum by (kind) (increase(stream_scorer_rebalances_total[{RATE}]))"},
        "Times that members were given partitions or none, were asked for some, or had lost some.",
        counts=True,
    ),
    course(
        "Silence of a partition that moved, p99",
        {"p99": "histogram_quantile(0.99, sum by (le) "
                f"(rate(stream_scorer_rebalance_silence_seconds_bucket[{RATE}])))"},
        "How long the first of the events that waited had waited when its new member read it.",
        "s",
    ),
    course(
        "Partitions by member", {"{{instance}}": "stream_scorer_partitions"},
        "A member with none stands by: there are more members than partitions.", stacked=True,
    ),
    course(
        "Members",
        {"ready": "sum(stream_scorer_ready)", "alive": "sum(stream_scorer_alive)",
         "seen by members": "max(stream_scorer_members)"},
        "As Prometheus reaches them, and as they see each other by their heartbeats in Redis.",
    ),
    course(
        "Records in a micro-batch",
        {"median": "histogram_quantile(0.5, sum by (le) "
                   f"(rate(stream_scorer_batch_records_bucket[{RATE}])))",
         "p99": "histogram_quantile(0.99, sum by (le) "
                f"(rate(stream_scorer_batch_records_bucket[{RATE}])))"},
        "Full micro-batches (batch.max_events) mean a backlog.",
    ),
)  # fmt: skip

TIMES: tuple[Element, ...] = (
    row("Where the time goes"),
    course(
        "From event to published propensity",
        {name: f"histogram_quantile({quantile}, sum by (le) "
               f"(rate(stream_scorer_event_to_propensity_seconds_bucket[{RATE}])))"
         for name, quantile in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))},
        "From the record's timestamp in the input topic until Kafka had confirmed the customer's "
        "propensities.", "s", width=12, logarithmic=True,
    ),
    distribution(
        "How events wait", "stream_scorer_event_to_propensity_seconds",
        "The same, as how many events waited for how long.",
    ),
    course(
        "Time of a micro-batch by stage, mean",
        {"{{stage}}": f"sum by (stage) (rate(stream_scorer_stage_seconds_sum[{RATE}])) / "
                      f"sum by (stage) (rate(stream_scorer_stage_seconds_count[{RATE}]))"},
        "Stages of two micro-batches overlap under a backlog, so the sum may exceed the time "
        "that passes.", "s", width=12, stacked=True,
    ),
    course(
        "Time of a micro-batch by stage, p99",
        {"{{stage}}": "histogram_quantile(0.99, sum by (le, stage) "
                      f"(rate(stream_scorer_stage_seconds_bucket[{RATE}])))"},
        "One in a hundred takes longer. Known to within a bucket, a factor of about three.",
        "s", width=12, logarithmic=True,
    ),
    course(
        "Cores", {"{{instance}}": f"rate(process_cpu_seconds_total[{RATE}])"},
        "Seconds of processor time a second, by member.",
    ),
    course(
        "Memory", {"{{instance}}": "process_resident_memory_bytes"},
        "Resident memory by member.", "bytes",
    ),
    course(
        "Records of customers from memory",
        {"share": f'sum(rate(stream_scorer_loaded_records_total{{origin="memory"}}[{RATE}])) / '
                  f"sum(rate(stream_scorer_loaded_records_total[{RATE}]))"},
        "Share that need no question to Redis (store.hot_bytes).", "percentunit", most=1,
    ),
)  # fmt: skip

FAULTS: tuple[Element, ...] = (
    row("What goes wrong"),
    course(
        "Dead letters by reason",
        {"{{reason}}": f"sum by (reason) (increase(stream_scorer_dead_letters_total[{RATE}])) > 0"},
        "`stream-scorer dead-letters list` shows them.", counts=True,
    ),
    course(
        "Waits for servers",
        {"{{server}}": f"sum by (server) (increase(stream_scorer_waits_total[{RATE}]))"},
        "A server did not answer, and the member tries again.", counts=True,
    ),
    course(
        "Errors of Kafka's clients",
        {"{{error}}": f"sum by (error) (increase(stream_scorer_kafka_errors_total[{RATE}]))"},
        "Transient ones; each is tried again.", counts=True,
    ),
    course(
        "Redis loses or refuses",
        {"refused writes": f"sum(increase(stream_scorer_refused_writes_total[{RATE}]))",
         "rewinds": f"sum(increase(stream_scorer_store_rewinds_total[{RATE}]))",
         "evicted keys": f"sum(increase(stream_scorer_redis_evicted_keys_total[{RATE}]))"},
        "Refused: another member had written newer ones, which is right after a rebalance. "
        "Rewound: Redis had lost its newest writes. Evicted: its memory is full, and vectors may "
        "be gone.", counts=True,
    ),
    course(
        "Keys and partitions",
        {"foreign keys": f"sum(increase(stream_scorer_foreign_keys_total[{RATE}]))",
         "split customers": f"sum(increase(stream_scorer_split_customers_total[{RATE}]))",
         "extreme customers": f"sum(increase(stream_scorer_extreme_customers_total[{RATE}]))"},
        "Records whose key is not the customer, customers in several partitions, and ids that "
        "stand for many people.", counts=True,
    ),
    course(
        "Values that features can't use",
        {"{{field}}: {{problem}}": "sum by (field, problem) "
                                   f"(increase(stream_scorer_ignored_values_total[{RATE}]))"},
        "A word that a vocabulary lacks, or text where a number is expected.", counts=True,
    ),
)  # fmt: skip

FRESHNESS: tuple[Element, ...] = (
    row("Fresh scores of quiet customers"),
    course(
        "Customers that the refresh looked at",
        {"{{outcome}}": f"sum by (outcome) (rate(stream_scorer_refresh_customers_total[{RATE}]))"},
        "A second.", "ops", stacked=True,
    ),
    course(
        "Progress of the round", {"{{instance}}": "stream_scorer_refresh_progress"},
        "1 between rounds.", "percentunit", most=1,
    ),
    course(
        "Oldest score by member", {"{{instance}}": "stream_scorer_oldest_score_seconds"},
        "A score older than a round of refreshing takes means that rounds do not end.", "s",
    ),
)  # fmt: skip


def operations(link: str) -> models.Dashboard:
    """The dashboard; link: the uid of the other one."""
    elements = (*AT_A_GLANCE, *THROUGHPUT, *TIMES, *FAULTS, *FRESHNESS)
    meaning = "Whether events become scores in time, and where not, why. From stream_scorer."
    return board(UID, "Stream scorer: operations", meaning, elements, past="3h", link=link)
