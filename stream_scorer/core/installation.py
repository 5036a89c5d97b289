"""What all regions of an installation need together, and what a million scores take of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from stream_scorer.core.capacity import Capacity, Demand, Traffic, scoring_seconds
from stream_scorer.core.measured_costs import MeasuredCosts
from stream_scorer.result import Result

# Of a core, for each number that a Spark row brings or takes away: `score --engine spark` scores
# 6,000 customers of 117 entries and 500 probabilities a second on a core, and a fifth of that is
# the model (docs/benchmarks.md, "Bulk scoring").
SPARK_SECONDS_PER_NUMBER = 0.8 / 6_000 / (117 + 500)
MILLION = 1e6


@dataclass(frozen=True)
class Installation(Result):
    """Sums over regions. redis_servers, redis_maxmemory_bytes: with replicas. scored_per_second: at
    the planned rate of events, refreshes included. core_seconds_per_million: of members' cores that
    work, for a million scored customers, their events, Redis's client and Kafka's included.
    spark_core_hours: of Spark that scores everybody once, all probabilities written."""

    regions: int
    partitions: int
    members: int
    cores: int
    busy_cores: float
    redis_servers: int
    redis_maxmemory_bytes: float
    scored_per_second: float
    core_seconds_per_million: float
    traffic_bytes_per_second: Traffic
    output_topic_bytes: float
    input_topic_bytes: float
    spark_core_hours: float


def of_one_region(demand: Demand) -> Demand:
    """An even part of customers and events; Demand.regions is 1."""
    return replace(
        demand,
        customers=-(-demand.customers // demand.regions),
        events_per_second=demand.events_per_second / demand.regions,
        regions=1,
    )


def installation(demand: Demand, costs: MeasuredCosts, region: Capacity) -> Installation:
    """demand: of all; region: the plan of one region, `of_one_region(demand)`."""
    n = demand.regions
    servers = n * (1 + demand.redis_replicas)
    traffic = region.traffic_bytes_per_second
    on_spark = scoring_seconds(demand, costs)
    on_spark += SPARK_SECONDS_PER_NUMBER * (demand.non_zeros + demand.categories)
    return Installation(
        regions=n,
        partitions=n * region.partitions,
        members=n * region.members,
        cores=n * region.cores,
        busy_cores=n * region.busy_cores,
        redis_servers=servers * region.redis_servers,
        redis_maxmemory_bytes=servers * region.redis_maxmemory_bytes,
        scored_per_second=n * region.scored_per_second,
        core_seconds_per_million=MILLION * region.busy_cores / region.scored_per_second,
        traffic_bytes_per_second=Traffic(
            *(n * getattr(traffic, field.name) for field in fields(Traffic))
        ),
        output_topic_bytes=n * region.output_topic_bytes,
        input_topic_bytes=n * region.input_topic_bytes,
        spark_core_hours=demand.customers * on_spark / 3600,
    )
