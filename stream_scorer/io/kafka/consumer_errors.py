"""What the consumer client's errors mean for the loop: stop, join again, or carry on.

librdkafka reports errors to a callback and as messages among the records. Neither place may raise:
an exception must not cross the C library. So the error is kept here, and `poll` raises it.
"""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import KafkaError, Message

from stream_scorer.errors import FRESH_START, ClientLost, Halt, HistoryGone
from stream_scorer.io.kafka.errors import NO_RIGHTS, ErrorLog, Rights, translate_error
from stream_scorer.io.kafka.leader_epochs import is_truncation, truncation
from stream_scorer.io.kafka.messages import partition_of

NO_CONSUMER_PROTOCOL = (
    'set kafka.group_protocol to "classic": the brokers do not have the other one, or it is '
    "switched off there (group.version)"
)
CLASSIC_MEMBERS = (
    'the brokers refuse members of the protocol "consumer" while the group has members of the '
    "classic one; this one joins when the last of those has stopped, or at once where "
    'kafka.group_protocol is "classic"'
)
# The heartbeat's answer where a classic group with members can't be turned into one of the protocol
# "consumer": its members' data for cooperative-sticky would be lost.
_NOT_TURNED = KafkaError(KafkaError.GROUP_ID_NOT_FOUND).str()
_UNSUPPORTED = [
    KafkaError(code).str()
    for code in (KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE)
]


class ConsumerErrors:
    """The failure that `raise_failure` raises next; transient errors are only counted and logged.

    on_transient is called with the name of each transient error. rights: what consuming needs.
    """

    def __init__(self, on_transient: Callable[[str], None], rights: Rights = NO_RIGHTS) -> None:
        self._on_transient, self.rights = on_transient, rights
        self._failure: Exception | None = None
        self._log = ErrorLog()

    def keep(self, error: Exception) -> None:
        """Raise `error` from the next `raise_failure`."""
        self._failure = error

    def on_client_error(self, error: KafkaError) -> None:
        """For librdkafka's `error_cb`."""
        failure = translate_error(error, "consuming", self.rights)
        if any(text in error.str() for text in _UNSUPPORTED):
            failure = Halt(str(failure), NO_CONSUMER_PROTOCOL)
        elif isinstance(failure, ClientLost) and _NOT_TURNED in error.str():
            failure = ClientLost(f"{failure}: {CLASSIC_MEMBERS}")
        if isinstance(failure, Halt | ClientLost):
            self._failure = failure
        else:
            # The client reconnects by itself; if it can't, the next request of ours fails.
            self._on_transient(error.name())
            self._log.report(error, "consuming")

    def on_message_error(self, message: Message, error: KafkaError) -> None:
        """For a message that carries an error instead of a record."""
        if is_truncation(error):
            self._failure = truncation(partition_of(message), error)
        # What auto.offset.reset "error" makes of an offset that the log does not hold.
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            offset = "the offset" if message.offset() is None else f"offset {message.offset()}"
            self._failure = HistoryGone(
                f"{message.topic()}[{message.partition()}]: Kafka no longer holds {offset} that "
                "must be read next: events were deleted before they were read, or the topic was "
                f"deleted and created again; give the topic a longer retention, and {FRESH_START}"
            )
        else:
            self.on_client_error(error)

    def raise_failure(self) -> None:
        """Raise what was kept, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
