"""`stream-scorer plan`: what a shop needs, from measured costs; wiring only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_scorer.capacity.measured import Measured, read, shipped
from stream_scorer.core.capacity import (
    LEAST_ROUNDING,
    MOST_ROUNDING,
    MOST_UTILISATION,
    Capacity,
    Demand,
    Traffic,
    plan,
    redis_bytes,
)
from stream_scorer.core.installation import Installation, installation, of_one_region
from stream_scorer.core.measured_costs import MeasuredCosts
from stream_scorer.core.monthly_cost import MonthlyCost, Prices, monthly_cost
from stream_scorer.core.redis_servers import CLUSTER_LOOP, CLUSTER_REDIS
from stream_scorer.errors import InputError
from stream_scorer.result import Result


@dataclass(frozen=True)
class Spread(Result):
    """The plan with the least and with the greatest cost that was measured of everything, and of
    Redis's memory with the least and the most rounding of its allocator."""

    members: tuple[int, int]
    busy_cores: tuple[float, float]
    redis_bytes: tuple[float, float]


@dataclass(frozen=True)
class Planned(Result):
    """What `plan` prints. capacity, spread: of one region, which is all where there is one.
    all_regions: together. first_wall: of a region, what ends growth first. assumptions: what the
    figures rest on, in words; each is an argument, or was measured."""

    demand: Demand
    capacity: Capacity
    spread: Spread
    all_regions: Installation
    first_wall: str
    monthly_cost: MonthlyCost | None
    measured: MeasuredCosts
    measured_where: str
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def planned(demand: Demand, prices: Prices | None = None, measured: Path | None = None) -> Planned:
    """measured: a file that `bench --json` wrote, in place of what this package ships. Raises
    InputError."""
    prices = prices or Prices()
    _check(demand, prices)
    costs = shipped() if measured is None else read(measured)
    region = of_one_region(demand)
    capacity = plan(region, costs.costs)
    low, high = plan(region, costs.low), plan(region, costs.high)
    together = installation(demand, costs.costs, capacity)
    return Planned(
        demand=demand,
        capacity=capacity,
        spread=Spread(
            (low.members, high.members),
            (low.busy_cores, high.busy_cores),
            (
                redis_bytes(region, costs.low, LEAST_ROUNDING),
                redis_bytes(region, costs.high, MOST_ROUNDING),
            ),
        ),
        all_regions=together,
        first_wall=capacity.walls[0].name,
        monthly_cost=monthly_cost(together, prices),
        measured=costs.costs,
        measured_where=costs.where,
        assumptions=_assumptions(demand, costs),
        warnings=_warnings(region, capacity),
    )


# What each argument may be; beyond, no figure of the plan means anything.
_BOUNDS = {
    "--customers": ("customers", 1, 1e11),
    "--events-per-second": ("events_per_second", 0.001, 1e9),
    "--categories": ("categories", 1, 1e6),
    "--non-zeros": ("non_zeros", 1, 1e6),
    "--record-bytes": ("record_bytes", 0, 1e9),
    "--partitions": ("partitions", 0, 1e6),
    "--events-per-customer": ("events_per_customer", 1, 1e6),
    "--utilisation": ("utilisation", 0.01, MOST_UTILISATION),
    "--cores-per-member": ("cores_per_member", 1, 1024),
    "--hot-partition": ("hot_partition", 1, 1e6),
    "--top-k": ("published_entries", 0, 1e6),
    "--event-bytes": ("event_bytes", 0, 1e8),
    "--retention-days": ("retention_days", 0, 36_500),
    "--replicas": ("replicas", 1, 100),
    "--outage-minutes": ("outage_minutes", 0, 525_600),
    "--memory-headroom": ("memory_headroom", 1, 100),
    "--precision": ("probability_bytes", 2, 4),
    "--redis-server-memory": ("redis_server_bytes", 1e6, 1e13),
    "--redis-replicas": ("redis_replicas", 0, 5),
    "--regions": ("regions", 1, 1000),
}
LEAST_REFRESH_DAYS, MOST_REFRESH_DAYS, MOST_PRICE = 0.01, 3_650.0, 1e9


def _check(demand: Demand, prices: Prices) -> None:
    for option, (name, least, most) in _BOUNDS.items():
        value = getattr(demand, name)
        if not least <= value <= most:
            raise InputError(option, value, f"give a number from {least:g} to {most:,.12g}")
    days = demand.refresh_days
    if days and not LEAST_REFRESH_DAYS <= days <= MOST_REFRESH_DAYS:
        remedy = f"give 0 for none, or from {LEAST_REFRESH_DAYS:g} to {MOST_REFRESH_DAYS:,g} days"
        raise InputError("--refresh-days", days, remedy)
    for option, price in (
        ("--core-price", prices.core_hour),
        ("--memory-price", prices.memory_gigabyte_hour),
        ("--disk-price", prices.disk_gigabyte_month),
        ("--network-price", prices.network_gigabyte),
    ):
        if price is not None and not 0 <= price <= MOST_PRICE:
            raise InputError(option, price, f"give a number from 0 to {MOST_PRICE:,.0f}")


def _assumptions(demand: Demand, measured: Measured) -> tuple[str, ...]:
    each = (
        "each event is of another customer of its micro-batch, and no record is found in the "
        "member's memory: the most that an event can cost"
        if demand.events_per_customer == 1
        else f"{demand.events_per_customer:g} events of a customer in a micro-batch"
    )
    record = (
        f"a record of {demand.record_bytes:,} bytes, as given"
        if demand.record_bytes
        else f"{demand.non_zeros:,} values of a customer's vector are not 0, with "
        f"{measured.costs.record_bytes_per_non_zero:.1f} bytes each: from 2 where many repeat, "
        "as all that was bought once, to 7 where none does; give --record-bytes once you know yours"
    )
    return (
        f"costs are processor seconds, measured by `bench capacity` on {measured.where}; other "
        "machines differ, so run it on yours and give --measured",
        "loops that wait for Kafka and Redis are not counted: where micro-batches are small, a "
        "member takes fewer events than its processor could",
        each,
        record,
        "the default network and the native engine; MXNet takes about three times as long to score",
        f"members work at {demand.utilisation:.0%} of their highest rate, so that an event waits "
        "for about two micro-batches; with little latency to spare plan for less",
        f"the busiest partition has {demand.hot_partition:g} times the events of the mean one",
        "Redis's allocator rounds a record up by a tenth; by nothing to a quarter, as sizes fall",
        "the network is without Kafka's replication and without compression; lz4 is on by default "
        "for what members produce",
        f"the input topic keeps {demand.retention_days:g} days with {demand.replicas} replicas; "
        "the output topic is compacted, and half of it may be outdated",
        "not planned are the members' own memory (the model, micro-batches and store.hot_bytes), "
        "the status page, and what Redis takes while it rewrites its append-only file: up to as "
        "much again, if all records change meanwhile",
        f"a Redis Cluster takes {CLUSTER_LOOP:g} times a member's time to load and save a customer "
        f"and {CLUSTER_REDIS:g} times Redis's, as measured with three primaries and micro-batches "
        "of 1,000 customers",
        "Spark's time is that of 117 entries and 500 probabilities, measured on two cores, by the "
        "number of both",
    )


def _warnings(demand: Demand, capacity: Capacity) -> tuple[str, ...]:
    found = []
    rate = demand.events_per_second
    for wall in capacity.walls:
        if wall.events_per_second <= 0:
            refresh = f"to refresh everybody in --refresh-days {demand.refresh_days:g} takes more"
            found.append(
                f"{wall.name}: {refresh} than there is, so no event is worked off; refresh less "
                f"often, or {wall.remedy}"
            )
        elif wall.events_per_second < rate:
            found.append(
                f"{wall.name}: ends at {_rate(wall.events_per_second)} events a second, before the "
                f"{_rate(rate)} asked for; {wall.remedy}"
            )
    if capacity.catch_up_seconds is not None and capacity.lost_catch_up_seconds is None:
        found.append("with one member lost an outage's events are never worked off; add a member")
    if capacity.hot_utilisation > demand.utilisation and not found:
        found.append(
            f"the member with the busiest partition works at {capacity.hot_utilisation:.0%}; add "
            "members or partitions"
        )
    return tuple(found)


def in_words(found: Planned) -> list[str]:
    """The result for people."""
    demand, capacity, spread = found.demand, found.capacity, found.spread
    traffic = capacity.traffic_bytes_per_second
    lost = "none" if capacity.lost_utilisation is None else f"{capacity.lost_utilisation:.0%}"
    wall = capacity.walls[0]
    cores = "core" if demand.cores_per_member == 1 else "cores"
    lines = [
        f"{demand.customers:,} customers, {_rate(demand.events_per_second)} events a second, "
        f"{demand.categories:,} categories"
        + (f" in each of {demand.regions:,} regions" if demand.regions > 1 else ""),
        "",
        f"{'Take' if demand.regions == 1 else 'For each region take'} "
        f"{_count(capacity.members, 'member')} (processes that score) with "
        f"{demand.cores_per_member} {cores} each, {_redis(capacity)}, and a topic of events with "
        f"{_count(capacity.partitions, 'partition')}. It carries up to "
        f"{_rate(wall.events_per_second)} events a second; then {wall.name} is the limit.",
        "",
        f"partitions       {capacity.partitions:,}",
        f"members          {capacity.members:,} of {demand.cores_per_member} cores "
        f"({_range(spread.members, '{:,.0f}'.format)} by the spread of what was measured)",
        f"cores            {capacity.cores:,}, of which {capacity.busy_cores:.2f} work "
        f"({_range(spread.busy_cores, '{:.2f}'.format)})",
        f"utilisation      {capacity.utilisation:.0%}; {capacity.hot_utilisation:.0%} with the "
        f"busiest partition; {lost} where one member is lost",
        f"catch-up         after {demand.outage_minutes:g} minutes of outage "
        f"{_duration(capacity.catch_up_seconds)}; "
        f"{_duration(capacity.lost_catch_up_seconds)} where one member is lost",
        f"Redis memory     {_bytes(capacity.redis_bytes)} "
        f"({_range(spread.redis_bytes, _bytes)}), records of "
        f"{capacity.record_bytes:,.0f} bytes; set maxmemory to "
        f"{_bytes(capacity.redis_maxmemory_bytes)}, maxmemory-policy noeviction",
        f"Redis's thread   {capacity.redis_utilisation:.0%}"
        + (" of the busiest primary" if capacity.redis_servers > 1 else ""),
        *_network(demand, traffic),
        f"output topic     {_bytes(capacity.output_topic_bytes)} with {demand.replicas} replicas",
        f"input topic      {_bytes(capacity.input_topic_bytes)} for {demand.retention_days:g} days",
        *_in_all(found),
        *_cost_lines(found.monthly_cost),
        "",
        "What ends growth, the first wall first:",
    ]
    lines += [
        f"  {wall.events_per_second:>12,.0f} events/s  {wall.name}: {wall.remedy}"
        for wall in capacity.walls
    ]
    lines += ["", "What this rests on:", *(f"- {text}" for text in found.assumptions)]
    return lines + [f"WARNING: {text}" for text in found.warnings]


def _redis(capacity: Capacity) -> str:
    if capacity.redis_servers == 1:
        return f"a Redis of {_bytes(capacity.redis_maxmemory_bytes)}"
    each = _bytes(capacity.redis_server_bytes)
    return f"a Redis Cluster of {capacity.redis_servers} primaries of {each} each"


def _in_all(found: Planned) -> list[str]:
    all_regions = found.all_regions
    traffic = all_regions.traffic_bytes_per_second
    lines = [
        f"scores           {_rate(all_regions.scored_per_second)} customers a second, refreshes "
        f"included; {all_regions.core_seconds_per_million:,.0f} core-seconds a million",
        f"Spark            {all_regions.spark_core_hours:,.1f} core-hours to score all customers "
        "once and write all probabilities",
    ]
    if all_regions.regions == 1:
        return lines
    topics = all_regions.output_topic_bytes + all_regions.input_topic_bytes
    return [
        *lines,
        f"all regions      {_count(all_regions.members, 'member')}, {all_regions.cores:,} cores, "
        f"of which {all_regions.busy_cores:.1f} work; {all_regions.partitions:,} partitions",
        f"                 {_count(all_regions.redis_servers, 'Redis server')} with replicas, "
        f"{_bytes(all_regions.redis_maxmemory_bytes)}; topics {_bytes(topics)}",
        f"                 Kafka in {_bytes(traffic.kafka_in)}/s, out "
        f"{_bytes(traffic.kafka_out)}/s; Redis in {_bytes(traffic.redis_in)}/s, out "
        f"{_bytes(traffic.redis_out)}/s",
    ]


def _network(demand: Demand, traffic: Traffic) -> list[str]:
    shown = "all" if not demand.published_entries else f"the {demand.published_entries} best"
    return [
        f"network          Kafka in {_bytes(traffic.kafka_in)}/s, out "
        f"{_bytes(traffic.kafka_out)}/s ({shown} published; ten best "
        f"{_bytes(traffic.kafka_out_ten_best)}/s, all {_bytes(traffic.kafka_out_all)}/s)",
        f"                 Redis in {_bytes(traffic.redis_in)}/s, out "
        f"{_bytes(traffic.redis_out)}/s",
    ]


def _cost_lines(cost: MonthlyCost | None) -> list[str]:
    if cost is None:
        return ["cost             no prices were given (--core-price and others), so none"]
    parts = {
        "members": cost.members, "Redis memory": cost.redis_memory, "disk": cost.disk,
        "network": cost.network,
    }  # fmt: skip
    said = ", ".join(
        f"{name} {'not given' if part is None else f'{part:,.0f}'}" for name, part in parts.items()
    )
    return [
        f"cost a month     {cost.all_given:,.0f} in the currency of your prices ({said})",
        f"                 {cost.per_million_scores:,.3g} for a million scored customers",
    ]


def _rate(events_per_second: float) -> str:
    """Of a small shop its digits, of any other a whole number."""
    if events_per_second < 10:
        return f"{events_per_second:.3g}"
    return f"{events_per_second:,.0f}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _range(pair: Sequence[float], shown: Callable[[float], str]) -> str:
    return f"{shown(min(pair))} to {shown(max(pair))}"


def _bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.0f} B"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"
