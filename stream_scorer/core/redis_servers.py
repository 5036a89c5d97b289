"""How many Redis servers a shop's records need: one, or the primaries of a Redis Cluster.

A namespace on a cluster has 64 parts (decision 0034), each on one primary. The busiest of P
primaries has ceil(64 / P) of them, and with so many customers about that share of the work and of
the memory. A cluster has three primaries at least: two can't agree on which of them failed.
"""

from __future__ import annotations

import math

PARTS = 64  # of the format of keys: another number is another place for each record
LEAST_PRIMARIES = 3
# What loading and saving a customer takes more on a cluster than on one server, of the member's and
# of Redis's processor time: the 64 parts have scripts and watermarks of their own. Micro-batches of
# 1,000 customers (tests/quality/cluster_cost.py); of 4,000 it is 1.6 and 1.1.
CLUSTER_LOOP, CLUSTER_REDIS = 2.1, 1.5


def busiest_share(primaries: int) -> float:
    """Of a namespace's parts, those of the primary that has most of them."""
    return math.ceil(PARTS / primaries) / PARTS


def primaries_for(
    utilisation: float, memory_bytes: float, most_utilisation: float, most_bytes: float
) -> int:
    """The fewest primaries of a cluster of which none works above most_utilisation or holds more
    than most_bytes; 64 where that is not enough either, for there are no more parts.

    utilisation, memory_bytes: of one server, if it did all the work that a cluster does."""
    for primaries in range(LEAST_PRIMARIES, PARTS):
        share = busiest_share(primaries)
        if share * utilisation <= most_utilisation and share * memory_bytes <= most_bytes:
            return primaries
    return PARTS
