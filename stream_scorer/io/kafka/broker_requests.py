"""Which requests brokers take: all that they say of how new they are.

No client has a call that asks for a broker's version, nor has Kafka's protocol a request for it.
What brokers answer to ApiVersions, for each kind of request its newest version, is in the client's
debug log.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from confluent_kafka.admin import AdminClient

from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import ask

REQUEST_SECONDS = 10.0
# Kinds of requests, by Kafka's own numbers.
PRODUCE, METADATA, TRANSACTION_OFFSETS, GROUP_HEARTBEAT = 0, 3, 28, 68
# How librdkafka logs what a broker says of a kind of request that it takes.
_KIND = re.compile(r"([^\s:]+:\d+)/\S+:\s+ApiKey \w+ \((\d+)\) Versions \d+\.\.(\d+)")


class _RequestLog:
    """Takes the client's log lines, and notices what brokers say of requests."""

    def __init__(self) -> None:
        self.newest: dict[str, dict[int, int]] = {}

    def log(self, level: int, text: str, /, *arguments: object) -> None:
        """As of logging.Logger."""
        line = text % arguments if arguments else text
        found = _KIND.search(line)
        if found is not None:
            self.newest.setdefault(found[1], {})[int(found[2])] = int(found[3])
        elif level > logging.DEBUG:
            logging.getLogger("librdkafka").log(level, text, *arguments)


def newest_requests(properties: Mapping[str, Any]) -> dict[int, int]:
    """The newest version that is taken of each kind of request, by its number in the protocol.

    Of brokers that differ, as in the middle of an upgrade, the oldest; of those that were asked,
    which need not be all. Empty where none has said it. Raises BusUnavailable or Halt.
    """
    lines = _RequestLog()
    connected = Connected(AdminClient, {**properties, "debug": "feature"}, logger=lines)
    with connected.explained():
        ask("asking for brokers", connected.client.list_topics, None, REQUEST_SECONDS)
    connected.client.poll(0)
    brokers = list(lines.newest.values())
    kinds = set[int]().union(*brokers)
    return {
        kind: min(broker[kind] for broker in brokers)
        for kind in kinds
        if all(kind in broker for broker in brokers)
    }
