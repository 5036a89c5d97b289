"""librdkafka's errors as this project's: which ones an operator must fix, and which pass.

Consumer, producer and admin client share this decision. An error with a remedy stops the program
(`Halt`); a fatal one costs the client (`ClientLost`, which a new client gets over); every other is
`BusUnavailable`, after which the same call is made again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from stream_scorer.errors import BusUnavailable, ClientLost, Halt, NotAllowed

_REMEDIES = {
    KafkaError.FENCED_INSTANCE_ID: "another process has joined with the same "
    "kafka.group_instance_id; give each its own",
    KafkaError.UNRELEASED_INSTANCE_ID: "another process has the same kafka.group_instance_id: give "
    "each its own; or this one was killed before, then start it again when the session time-out "
    "of before has passed",
}
# A client's fatal error hides its cause in the text.
_FATAL_CAUSES = {
    KafkaError(code).str(): code
    for code in (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID)
}
_FENCED = {KafkaError.PRODUCER_FENCED, KafkaError._FENCED}

# The user or its rights: the remedy, and the field of `Rights` that says it better.
_NOT_ALLOWED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: ("allow this user to use the topic", "topic"),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "allow this user Read on the group that kafka.group_id names", "group",
    ),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (
        "allow this user the operation on the cluster", "cluster",
    ),
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
        "allow this user Write on the transactional ids that begin with kafka.transactional_id",
        "transactional_id",
    ),
    KafkaError.SASL_AUTHENTICATION_FAILED: ("check kafka.username and kafka.password", ""),
    KafkaError._AUTHENTICATION: ("check kafka.username, kafka.password and the TLS files", ""),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rights:
    """What a call needs to be allowed, such as "Read on topic events", by the kind of resource that
    is refused; "" where its caller does not know."""

    topic: str = ""
    group: str = ""
    cluster: str = ""
    transactional_id: str = ""


NO_RIGHTS = Rights()

# A commit failed because the group is rebalancing; the next owner reads the same records again.
GROUP_IS_REBALANCING = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._NO_OFFSET,
}

log = logging.getLogger(__name__)

# A smaller value floods the log while a broker is away, a larger one hides that it is still away.
LOG_AGAIN_SECONDS = 10.0


class Fenced(Halt):
    """The broker accepts no more of this transactional producer: a newer one of its id took over,
    or its transaction was open for longer than transaction.timeout.ms."""


class ErrorLog:
    """Logs transient errors, each kind at most once in `LOG_AGAIN_SECONDS`.

    While a broker is away librdkafka reports the same error hundreds of times.
    """

    def __init__(self) -> None:
        self._logged_at: dict[int, float] = {}

    def report(self, error: KafkaError, doing: str) -> None:
        """Log `error`, unless one of its kind was logged a moment ago."""
        now = time.monotonic()
        if now - self._logged_at.get(error.code(), -LOG_AGAIN_SECONDS) >= LOG_AGAIN_SECONDS:
            self._logged_at[error.code()] = now
            log.warning("%s", translate_error(error, doing))


def text_of(error: KafkaError) -> str:
    """What Kafka says of `error`, with the code's name where it says nothing."""
    said = str(error.str() or "").strip()
    # "ConsumerGroupDescribe: " is all that comes with some refusals of that request.
    return f"{said} {error.name()}".lstrip() if not said or said.endswith(":") else said


def code_of(error: BaseException | None) -> int | None:
    """The code of the Kafka error that `error` was raised for."""
    while error is not None and not isinstance(error, KafkaException):
        error = error.__cause__
    return None if error is None else int(error.args[0].code())


def translate_error(
    error: KafkaError, doing: str, rights: Rights = NO_RIGHTS
) -> Halt | BusUnavailable:
    """What to raise for `error`, which came while `doing` something that needs `rights`."""
    if error.code() in _NOT_ALLOWED:
        remedy, resource = _NOT_ALLOWED[error.code()]
        right = getattr(rights, resource) if resource else ""
        found = f"Kafka, {doing}: {text_of(error)}"
        return NotAllowed(found, f"allow this user {right}" if right else remedy)
    # Before `fatal`: being fenced is fatal too, but a new client would only fence the other member
    # in turn.
    if error.code() in _FENCED:
        cause = "another member took over; give each its own kafka.client_id"
        return Fenced(f"Kafka, {doing}: {text_of(error)}", cause)
    code = error.code()
    if code == KafkaError._FATAL:
        code = next((c for text, c in _FATAL_CAUSES.items() if text in error.str()), code)
    if code in _REMEDIES:
        return Halt(f"Kafka, {doing}: {text_of(error)}", _REMEDIES[code])
    if error.fatal() or code == KafkaError._FATAL:
        return ClientLost(f"Kafka, {doing}: {text_of(error)}")
    return BusUnavailable(f"Kafka, {doing}: {text_of(error)}")


def ask(doing: str, call: Callable[..., Any], *arguments: Any, rights: Rights = NO_RIGHTS) -> Any:
    """What `call` answers, which needs `rights`. Raises Halt or BusUnavailable in place of
    KafkaException."""
    try:
        return call(*arguments)
    except KafkaException as error:
        raise translate_error(error.args[0], doing, rights) from error
    except SystemError as error:
        # The client leaves a fatal error's exception set while it runs our callbacks.
        if not isinstance(error.__cause__, KafkaException):
            raise
        raise translate_error(error.__cause__.args[0], doing, rights) from error
