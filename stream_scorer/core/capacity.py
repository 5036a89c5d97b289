"""How many partitions, members, cores and bytes a shop needs: formulas on measured costs.

A shop is so many customers, events a second and categories. What one event and one scored customer
cost was measured by `bench capacity` in processor seconds, so that it does not matter how many
cores the machine had or what else ran there; what a record takes in Redis, in bytes.

The path of an event is taken as its most expensive case: every event is of another customer, so
that each is loaded, saved, scored and published on its own, and no record is found in the member's
memory. Several events of a customer in one micro-batch cost less (`events_per_customer`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stream_scorer.core.measured_costs import MeasuredCosts
from stream_scorer.core.redis_servers import (
    CLUSTER_LOOP,
    CLUSTER_REDIS,
    PARTS,
    busiest_share,
    primaries_for,
)
from stream_scorer.result import Result

DAY_SECONDS = 86_400
# Of a packed record of version 1 (features/state_codec.py): nine words, one source of four, the
# check word, and what fills the last word, on average.
RECORD_HEAD_BYTES = 36 + 16 + 4 + 2
# Of a Kafka record of format 2 beside key and value: length, attributes, timestamp delta, offset
# delta, lengths of key and value, count of headers; all but attributes are varints of 1 to 3 bytes.
KAFKA_RECORD_BYTES = 12
# Of a published record beside ids and entries: frame 10, two times of 6, fingerprint 17, model
# version 24, source with a topic of 16 bytes, partition and offset 24, ends of arrays 4.
OUTPUT_HEAD_BYTES = 91
ENTRY_BYTES = 6  # of a published entry beside its category: its length, the class, a float32
# Of a core, for each category where all are encoded: 47 us for 5,000 as float32, 38 as float16.
ALL_ENCODED_SECONDS_PER_CATEGORY = {4: 9.4e-9, 2: 7.6e-9}
# What a log that is compacted holds at most, for each live byte: half of it may be outdated before
# it is cleaned (min.cleanable.dirty.ratio, 0.5 by default).
COMPACTED_TWICE = 2.0
# Redis's own builds allocate by jemalloc, which rounds up to one of four sizes in each doubling:
# over many lengths by 1.10 on average, at most by 1.25. The Redis that `bench` measures does not.
LEAST_ROUNDING, MEAN_ROUNDING, MOST_ROUNDING = 1.0, 1.1, 1.25
# Above this share of its highest rate a member does not keep up for long: micro-batches differ.
MOST_UTILISATION = 0.9


@dataclass(frozen=True)
class Demand(Result):
    """What the shop is, and what is decided. Bytes and seconds as the names say.

    non_zeros: values of a customer's vector that are not 0. record_bytes: of a customer's record;
    0: computed from non_zeros. partitions: 0: chosen. events_per_customer: events of one customer
    in a micro-batch. utilisation: the share of a member's highest rate at which it is meant to
    work. hot_partition: events of the busiest partition over those of the mean one; where there are
    fewer partitions, it has all. published_entries: of a record; 0: publish.mode is "all".
    probability_bytes: of one, where all are published: 4, or 2 with publish.precision "float16".
    refresh_days: from one refresh to the next, 0 for none. redis_server_bytes: maxmemory of one
    Redis server at most. redis_replicas: of each of them. regions: among which customers and events
    are divided evenly; each has the categories, and topics, members and records of its own.
    """

    customers: int
    events_per_second: float
    categories: int
    non_zeros: int = 117
    record_bytes: int = 0
    partitions: int = 0
    events_per_customer: float = 1.0
    utilisation: float = 0.5
    cores_per_member: int = 2
    hot_partition: float = 2.0
    published_entries: int = 10
    probability_bytes: int = 4
    id_bytes: int = 12
    category_bytes: int = 12
    event_bytes: int = 0
    refresh_days: float = 1.0
    retention_days: float = 400.0
    replicas: int = 3
    outage_minutes: float = 30.0
    memory_headroom: float = 1.3
    redis_server_bytes: float = 64e9
    redis_replicas: int = 0
    regions: int = 1


@dataclass(frozen=True)
class Wall(Result):
    """What ends growth at so many events a second, and what helps."""

    name: str
    events_per_second: float
    remedy: str


@dataclass(frozen=True)
class Traffic(Result):
    """Bytes a second on the network, without replication between brokers: of events consumed, of
    propensities produced (as chosen, as the ten best, and where all are published), and of records
    loaded from Redis and saved to it."""

    kafka_in: float
    kafka_out: float
    kafka_out_ten_best: float
    kafka_out_all: float
    redis_out: float
    redis_in: float


@dataclass(frozen=True)
class Capacity(Result):
    """What the shop needs. cores: of all members; busy_cores: that their work takes on average.
    utilisation, lost_utilisation: of the busiest thread or the cores, with all members and where
    one is lost (None: it was the only one). hot_utilisation: of the member that has the busiest
    partition. catch_up_seconds: after the outage; None where there is no room to catch up.
    redis_servers: one, or the primaries of a Redis Cluster, without replicas. redis_utilisation: of
    the busiest one's thread. redis_maxmemory_bytes: of all, redis_bytes with headroom for growth,
    fragmentation and clients; redis_server_bytes: of the one that holds most. scored_per_second:
    customers, for their events and by refreshes. walls: the nearest one first."""

    partitions: int
    members: int
    cores: int
    busy_cores: float
    utilisation: float
    lost_utilisation: float | None
    hot_utilisation: float
    catch_up_seconds: float | None
    lost_catch_up_seconds: float | None
    redis_utilisation: float
    record_bytes: float
    redis_bytes: float
    redis_maxmemory_bytes: float
    redis_servers: int
    redis_server_bytes: float
    scored_per_second: float
    traffic_bytes_per_second: Traffic
    output_topic_bytes: float
    input_topic_bytes: float
    walls: tuple[Wall, ...]


def record_bytes(demand: Demand, costs: MeasuredCosts) -> float:
    """Of one customer's record, as state_codec.py packs it."""
    if demand.record_bytes:
        return float(demand.record_bytes)
    return RECORD_HEAD_BYTES + costs.record_bytes_per_non_zero * demand.non_zeros


def redis_bytes(demand: Demand, costs: MeasuredCosts, rounding: float = MEAN_ROUNDING) -> float:
    """Of Redis's used_memory for all customers, what a refresh notes of them included; rounding: of
    a record's length by the allocator."""
    noted = costs.redis_note_bytes if demand.refresh_days else 0.0
    record = rounding * costs.redis_bytes_per_record_byte * record_bytes(demand, costs)
    return demand.customers * (costs.redis_key_bytes + record + noted)


def output_bytes(demand: Demand, entries: int) -> float:
    """Of one published record with its key; entries 0: all probabilities, as one array
    (schemas/category_propensities.avsc, or category_propensities_float16.avsc)."""
    head = KAFKA_RECORD_BYTES + OUTPUT_HEAD_BYTES + 2 * demand.id_bytes
    if not entries:
        return head + float(demand.probability_bytes * demand.categories)
    return head + float(min(entries, demand.categories)) * (ENTRY_BYTES + demand.category_bytes)


@dataclass(frozen=True)
class _Work:
    """Processor seconds a second, for each event a second, with the share of a refresh in
    `refreshed` (which does not grow with events): on the loop's thread, in all, and of Redis."""

    loop: float
    cores: float
    redis: float
    refreshed: _Work | None = None

    def at(self, events_per_second: float) -> tuple[float, float, float]:
        """Of the thread, of all cores, and of Redis."""
        fixed = (0.0, 0.0, 0.0) if self.refreshed is None else self.refreshed.at(1.0)
        own = (self.loop, self.cores, self.redis)
        a, b, c = (e * events_per_second + f for e, f in zip(own, fixed, strict=True))
        return a, b, c


def scoring_seconds(demand: Demand, costs: MeasuredCosts) -> float:
    """Of a core, to score one customer."""
    by_size = costs.score_seconds_per_category * demand.categories
    by_size += costs.score_seconds_per_non_zero * demand.non_zeros
    return costs.score_seconds + by_size


def _work(demand: Demand, costs: MeasuredCosts) -> _Work:
    beside = (
        scoring_seconds(demand, costs)
        + costs.encode_seconds_per_customer
        + costs.kafka_seconds_per_produced
    )
    if not demand.published_entries:
        each = ALL_ENCODED_SECONDS_PER_CATEGORY[demand.probability_bytes]
        beside += each * demand.categories
    published = output_bytes(demand, demand.published_entries)
    beside += costs.kafka_seconds_per_produced_byte * published
    scored = 1 / demand.events_per_customer
    loop = costs.loop_seconds_per_event + scored * costs.loop_seconds_per_customer
    cores = loop + costs.kafka_seconds_per_consumed + scored * beside
    a_second = 0.0
    if demand.refresh_days:
        a_second = demand.customers / (demand.refresh_days * DAY_SECONDS)
    # A refresh works on the loop's thread, scoring included.
    each = costs.loop_seconds_per_customer + beside
    refreshed = _Work(a_second * each, a_second * each, a_second * costs.redis_seconds_per_customer)
    return _Work(loop, cores, scored * costs.redis_seconds_per_customer, refreshed)


def _busy(work: _Work, demand: Demand, members: float, events_per_second: float) -> float:
    """The utilisation of `members`: of their loops' threads or of all cores, which is greater."""
    loop, cores, _ = work.at(events_per_second)
    return max(loop, cores / demand.cores_per_member) / members


def plan(demand: Demand, costs: MeasuredCosts) -> Capacity:
    """Of one region that is all of `demand`.

    Members work at demand.utilisation at most, and at MOST_UTILISATION where one of them is
    lost; two at least. Where `partitions` is 0 there are four for each member, so that they are
    spread evenly also where one is lost. Members above the number of partitions are of no use, so
    there are no more, and a wall says so. Redis is one server where that works at
    demand.utilisation at most and is not too large; else a cluster of as few primaries as do."""
    work, rate = _work(demand, costs), demand.events_per_second
    memory = redis_bytes(demand, costs)
    maxmemory, redis_servers = memory * demand.memory_headroom, 1
    if work.at(rate)[2] > demand.utilisation or maxmemory > demand.redis_server_bytes:
        work = _work(demand, _on_a_cluster(costs))
        redis_servers = primaries_for(
            work.at(rate)[2], maxmemory, demand.utilisation, demand.redis_server_bytes
        )
    share = busiest_share(redis_servers)
    alone = _busy(work, demand, 1.0, rate)
    wanted = max(math.ceil(alone / demand.utilisation), math.ceil(alone / MOST_UTILISATION) + 1, 2)
    partitions = demand.partitions or 4 * wanted
    members = min(wanted, partitions)
    _, busy_cores, redis_busy = work.at(rate)
    # The busiest member has the busiest partition beside those that are its part of the others.
    most = math.ceil(partitions / members)
    busiest = min(demand.hot_partition, partitions)
    hot = alone * min((most - 1 + busiest) / partitions, 1.0)
    lost = _busy(work, demand, members - 1, rate) if members > 1 else None
    size = record_bytes(demand, costs)
    scored = rate / demand.events_per_customer
    if demand.refresh_days:
        scored += demand.customers / (demand.refresh_days * DAY_SECONDS)
    chosen = output_bytes(demand, demand.published_entries)
    event = (demand.event_bytes or costs.event_bytes) + KAFKA_RECORD_BYTES + demand.id_bytes
    return Capacity(
        partitions=partitions,
        members=members,
        cores=members * demand.cores_per_member,
        busy_cores=busy_cores,
        utilisation=alone / members,
        lost_utilisation=lost,
        hot_utilisation=hot,
        catch_up_seconds=catch_up_seconds(demand, work, members, share),
        lost_catch_up_seconds=catch_up_seconds(demand, work, members - 1, share),
        redis_utilisation=share * redis_busy,
        record_bytes=size,
        redis_bytes=memory,
        redis_maxmemory_bytes=maxmemory,
        redis_servers=redis_servers,
        redis_server_bytes=share * maxmemory,
        scored_per_second=scored,
        traffic_bytes_per_second=Traffic(
            kafka_in=rate * event,
            kafka_out=scored * chosen,
            kafka_out_ten_best=scored * output_bytes(demand, 10),
            kafka_out_all=scored * output_bytes(demand, 0),
            redis_out=scored * size,
            redis_in=scored * size,
        ),
        output_topic_bytes=COMPACTED_TWICE * demand.replicas * demand.customers * chosen,
        input_topic_bytes=(demand.replicas * demand.retention_days * DAY_SECONDS * rate * event),
        walls=_walls(demand, work, members, partitions, redis_servers),
    )


def _on_a_cluster(costs: MeasuredCosts) -> MeasuredCosts:
    return replace(
        costs,
        loop_seconds_per_customer=CLUSTER_LOOP * costs.loop_seconds_per_customer,
        redis_seconds_per_customer=CLUSTER_REDIS * costs.redis_seconds_per_customer,
    )


def catch_up_seconds(
    demand: Demand, work: _Work, members: int, busiest_redis: float
) -> float | None:
    """Until the events of an outage are worked off, beside those that come meanwhile: the backlog
    over what is left of the highest rate; None where nothing is left. busiest_redis: the share of
    Redis's work that its busiest server does."""
    if members < 1:
        return None
    highest = min(_highest(work, demand, members), _redis_highest(work, busiest_redis))
    left = highest - demand.events_per_second
    if left <= 0:
        return None
    return 60 * demand.outage_minutes * demand.events_per_second / left


def _highest(work: _Work, demand: Demand, members: float) -> float:
    """Events a second of so many members at MOST_UTILISATION."""
    fixed = work.at(0.0)
    by_loop = (MOST_UTILISATION * members - fixed[0]) / work.loop
    by_cores = (MOST_UTILISATION * members * demand.cores_per_member - fixed[1]) / work.cores
    return max(min(by_loop, by_cores), 0.0)


def _redis_highest(work: _Work, busiest_redis: float) -> float:
    return max((MOST_UTILISATION / busiest_redis - work.at(0.0)[2]) / work.redis, 0.0)


def _walls(
    demand: Demand, work: _Work, members: int, partitions: int, redis_servers: int
) -> tuple[Wall, ...]:
    """Each with the events a second at which it stops growth, the nearest first."""
    most = math.ceil(partitions / members)
    busiest = min(demand.hot_partition, partitions)
    share = min((most - 1 + busiest) / partitions, 1.0)
    each_alone = busiest / partitions
    found = [
        Wall("members", _highest(work, demand, members),
             "add members, up to the number of partitions"),
        Wall("the member with the busiest partition", _highest(work, demand, 1 / share),
             "add members or partitions, or find out which customers are so busy"),
        Wall("the busiest partition, with a member of its own",
             _highest(work, demand, 1 / each_alone),
             "more partitions: as that moves customers, into a new topic and namespace"),
    ]  # fmt: skip
    here = _redis_highest(work, busiest_share(redis_servers))
    if redis_servers == 1:
        remedy = "a Redis Cluster of three primaries or more (redis.mode)"
        found.append(Wall("Redis's one thread", here, remedy))
    elif redis_servers < PARTS:
        found.append(Wall("the busiest Redis primary", here, f"add primaries, up to {PARTS}"))
    if redis_servers > 1:
        remedy = "divide the customers among several regions, each with a Redis of its own"
        found.append(Wall(f"{PARTS} Redis primaries", _redis_highest(work, 1 / PARTS), remedy))
    return tuple(sorted(found, key=lambda wall: wall.events_per_second))
