"""What a plan costs in a month, by prices that somebody gives: none is known here."""

from __future__ import annotations

from dataclasses import dataclass

from stream_scorer.core.installation import MILLION, Installation
from stream_scorer.result import Result

HOURS_PER_MONTH = 730.0
GIGABYTE = 1e9


@dataclass(frozen=True)
class Prices(Result):
    """Of your cloud or your machines, in one currency; None: not counted."""

    core_hour: float | None = None
    memory_gigabyte_hour: float | None = None
    disk_gigabyte_month: float | None = None
    network_gigabyte: float | None = None


@dataclass(frozen=True)
class MonthlyCost(Result):
    """In the currency of the prices; None where that price was not given. redis_memory: maxmemory
    of all servers, replicas included. disk: of both topics with their replicas. all_given: the sum.
    per_million_scores: of the sum, if customers were scored at the planned rate all the month."""

    members: float | None
    redis_memory: float | None
    disk: float | None
    network: float | None
    all_given: float
    per_million_scores: float


def monthly_cost(all_regions: Installation, prices: Prices) -> MonthlyCost | None:
    """By the prices that are given; None where none is."""
    traffic = all_regions.traffic_bytes_per_second
    a_second = traffic.kafka_in + traffic.kafka_out + traffic.redis_in + traffic.redis_out
    memory_gigabytes = all_regions.redis_maxmemory_bytes / GIGABYTE
    disk_bytes = all_regions.output_topic_bytes + all_regions.input_topic_bytes
    parts = (
        _times(prices.core_hour, all_regions.cores * HOURS_PER_MONTH),
        _times(prices.memory_gigabyte_hour, memory_gigabytes * HOURS_PER_MONTH),
        _times(prices.disk_gigabyte_month, disk_bytes / GIGABYTE),
        _times(prices.network_gigabyte, a_second * 3600 * HOURS_PER_MONTH / GIGABYTE),
    )
    given = [part for part in parts if part is not None]
    if not given:
        return None
    millions = all_regions.scored_per_second * 3600 * HOURS_PER_MONTH / MILLION
    return MonthlyCost(*parts, sum(given), sum(given) / millions)


def _times(price: float | None, amount: float) -> float | None:
    return None if price is None else price * amount
