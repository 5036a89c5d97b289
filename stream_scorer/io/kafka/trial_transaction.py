"""Whether transactions can be started, without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Producer

from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import Rights, ask

REQUEST_SECONDS = 10.0


def try_transactions(properties: Mapping[str, Any], right: str) -> None:
    """Ask the coordinator for a producer id for the transactional.id of `properties`.

    This fences whoever uses that id, so it must be one that nobody uses. right: what it needs, for
    the error. Raises NotAllowed where this user may not, BusUnavailable, ConfigError.
    """
    connected = Connected(Producer, properties)
    start, rights = connected.client.init_transactions, Rights(transactional_id=right)
    with connected.explained():
        ask("starting transactions", start, REQUEST_SECONDS, rights=rights)
