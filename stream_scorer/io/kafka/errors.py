"""librdkafka's errors in our words: which ones an operator must look at, and which pass.

Lives here: that decision, for consumer, producer and admin client alike. Must not live here: what
is done about it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from stream_scorer.errors import BusUnavailable, ClientLost, Halt

_REMEDIES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow this user to use the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "allow this user to use the consumer group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "allow this user what it asked for",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "allow this user the transactional id",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check kafka.username and kafka.password",
    KafkaError._AUTHENTICATION: "check kafka.username, kafka.password and the TLS files",
    KafkaError.FENCED_INSTANCE_ID: "give each member its own group.instance.id",
    KafkaError.PRODUCER_FENCED: "another member took over; give each its own kafka.client_id",
    KafkaError._FENCED: "another member took over; give each its own kafka.client_id",
}


log = logging.getLogger(__name__)

TELL_AGAIN_SECONDS = 10.0


class Teller:
    """Logs errors that pass by themselves, each kind once in a while: they come by hundreds."""

    def __init__(self) -> None:
        self._told: dict[int, float] = {}

    def tell(self, error: KafkaError, doing: str) -> None:
        """Log `error`, unless one of its kind was just logged."""
        now = time.monotonic()
        if now - self._told.get(error.code(), -TELL_AGAIN_SECONDS) >= TELL_AGAIN_SECONDS:
            self._told[error.code()] = now
            log.warning("%s", in_our_words(error, doing))


def in_our_words(error: KafkaError, doing: str) -> Halt | BusUnavailable:
    """What to raise for `error`, which came while `doing` something."""
    remedy = _REMEDIES.get(error.code())
    if remedy is not None:
        return Halt(f"Kafka, {doing}: {error.str()}; {remedy}")
    if error.fatal():
        return ClientLost(f"Kafka, {doing}: {error.str()}")
    return BusUnavailable(f"Kafka, {doing}: {error.str()}")


def ask(doing: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call` answers. Raises Halt or BusUnavailable in place of KafkaException."""
    try:
        return call(*arguments)
    except KafkaException as error:
        raise in_our_words(error.args[0], doing) from error
    except SystemError as error:
        # The client leaves a fatal error's exception set while it runs our callbacks.
        if not isinstance(error.__cause__, KafkaException):
            raise
        raise in_our_words(error.__cause__.args[0], doing) from error
