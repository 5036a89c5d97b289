"""Which protocol a consumer group is joined with: the classic one, or KIP-848's "consumer".

With the classic protocol a member leads the rebalance, and all wait for the slowest. With the other
one the broker's coordinator hands out partitions by its answers to heartbeats, and nobody waits.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from stream_scorer.io.kafka.broker_requests import GROUP_HEARTBEAT, newest_requests

log = logging.getLogger(__name__)

CLASSIC, CONSUMER = "classic", "consumer"


def brokers_have_consumer_protocol(properties: Mapping[str, Any]) -> bool:
    """Whether the brokers know the protocol "consumer". Raises BusUnavailable or Halt."""
    return GROUP_HEARTBEAT in newest_requests(properties)


def chosen_protocol(classic_properties: Collection[str], properties: Mapping[str, Any]) -> str:
    """What to join with where the settings leave it open. Raises BusUnavailable or Halt.

    classic_properties: those that are set and that only the classic protocol has.
    """
    if classic_properties:
        log.info(
            "the group is joined with the classic protocol, since %s is set; without it the "
            "brokers choose",
            " and ".join(classic_properties),
        )
        return CLASSIC
    return CONSUMER if brokers_have_consumer_protocol(properties) else CLASSIC
