"""Which protocol a consumer group is joined with: the classic one, or KIP-848's "consumer".

With the classic protocol a member leads the rebalance, and all wait for the slowest. With the other
one the broker's coordinator hands out partitions by its answers to heartbeats, and nobody waits.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka.admin import AdminClient

from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import ask

log = logging.getLogger(__name__)

CLASSIC, CONSUMER = "classic", "consumer"
REQUEST_SECONDS = 10.0
# How librdkafka logs what a broker says of the requests that it takes.
_HEARTBEAT = re.compile(r"ApiKey ConsumerGroupHeartbeat \(68\)")


class _ApiLog:
    """Takes the client's log lines, and notices the request that only KIP-848 has."""

    def __init__(self) -> None:
        self.has_consumer_protocol = False

    def log(self, level: int, text: str, /, *arguments: object) -> None:
        """As of logging.Logger."""
        line = text % arguments if arguments else text
        if _HEARTBEAT.search(line):
            self.has_consumer_protocol = True
        elif level > logging.DEBUG:
            logging.getLogger("librdkafka").log(level, text, *arguments)


def brokers_have_consumer_protocol(properties: Mapping[str, Any]) -> bool:
    """Whether the brokers know the protocol "consumer". Raises BusUnavailable or Halt.

    No client has a call that asks; what the brokers answer to ApiVersions is in its debug log.
    """
    lines = _ApiLog()
    config = {**properties, "debug": "feature"}
    connected = Connected(AdminClient, config, logger=lines)
    with connected.explained():
        ask("asking for brokers", connected.client.list_topics, None, REQUEST_SECONDS)
    connected.client.poll(0)
    return lines.has_consumer_protocol


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
