"""Which properties of librdkafka `kafka.properties` may not set.

Most are passed on as they are, and librdkafka itself refuses unknown names and impossible values.
Refused here is what has a setting of its own, and what would weaken a guarantee while everything
seems to work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stream_scorer.errors import ConfigError

Value = str | int | float | bool

ALWAYS_COMMITS_LAST = "offsets are committed after delivery, always; remove it"
# What is set elsewhere, or can't be chosen at all: refused with any value.
OWNED = {
    "bootstrap.servers": "set kafka.bootstrap_servers",
    "metadata.broker.list": "set kafka.bootstrap_servers",
    "client.id": "set kafka.client_id",
    "group.id": "set kafka.group_id",
    "security.protocol": "set kafka.security_protocol",
    "sasl.username": "set kafka.username",
    "sasl.password": "set kafka.password",
    "transactional.id": "set kafka.transactional_id",
    "partitioner": "set kafka.partitioner",
    # Two names of one property: which of them counts would depend on their order.
    "delivery.timeout.ms": "set kafka.delivery_timeout_ms",
    "message.timeout.ms": "set kafka.delivery_timeout_ms",
    "enable.auto.commit": ALWAYS_COMMITS_LAST,
    "auto.commit.enable": ALWAYS_COMMITS_LAST,
    "enable.auto.offset.store": ALWAYS_COMMITS_LAST,
    "auto.offset.reset": "the start follows from the store and the committed offset; remove it",
    "partition.assignment.strategy": "the classic protocol always has cooperative-sticky, and with "
    "the other one the broker assigns; remove it",
    "enable.partition.eof": "it is always on; remove it",
    "enable.idempotence": "it is always on; remove it",
    "acks": "it is always all; remove it",
    "request.required.acks": "it is always all; remove it",
    "delivery.report.only.error": "every delivery is confirmed; remove it",
    "enabled_events": "errors and log lines of the client would no longer be seen; remove it",
    "log.queue": "the client's log lines are always read by this process; remove it",
    "test.mock.num.brokers": "events would be read from brokers that the client makes up, which "
    "have none; remove it",
    "topic.blacklist": "the consumer would not see its own topics; remove it",
}
# With the protocol "consumer" the brokers decide these, and librdkafka refuses them.
CLASSIC_ONLY = ("group.protocol", "session.timeout.ms", "heartbeat.interval.ms")
CONSUMER_REMEDY = (
    'with kafka.group_protocol "consumer" it is set on the brokers, as group.consumer.NAME, or for '
    'the group; remove it, or set kafka.group_protocol to "classic"'
)
# A transaction's late request shows in the client's log lines alone: see io/kafka/transaction.py.
_UNLOGGED = (
    "with it the client does not log every request that timed out and every connection that broke, "
    'on which delivery = "exactly_once" depends'
)
LEAST_LOG_LEVEL = 6  # librdkafka's own default
LEAST_TRANSACTION_MS = 60_000  # librdkafka's own default


@dataclass(frozen=True, slots=True)
class _Rule:
    """A property that has values which are allowed, and the remedy for all others."""

    allows: Callable[[str], bool]
    remedy: str
    exactly_once_only: bool = False


def _is(*words: str) -> Callable[[str], bool]:
    return lambda text: text in words


def _at_least(least: int) -> Callable[[str], bool]:
    def allows(text: str) -> bool:
        try:
            return int(text) >= least
        except ValueError:  # librdkafka takes "3.0" for 3, and "0x3" as well
            return False

    return allows


_TRUE, _FALSE = _is("true", "t", "1"), _is("false", "f", "0")
_RULES = {
    "isolation.level": _Rule(
        _is("read_committed"),
        "it is always read_committed, so that events of aborted transactions do not count; "
        "remove it",
    ),
    "group.protocol": _Rule(_is("classic"), "remove it, and set kafka.group_protocol"),
    "offset.store.method": _Rule(
        _is("broker"), "offsets are kept by the consumer group in Kafka, always; remove it"
    ),
    "allow.auto.create.topics": _Rule(
        _FALSE,
        "a topic with a misspelt name would be made with the broker's defaults, and read as an "
        "empty one; remove it, and make topics with `stream-scorer topics create`",
    ),
    "api.version.request": _Rule(
        _TRUE,
        "brokers would be taken for old ones that know no leader epochs and no transactions; "
        "remove it",
    ),
    "topic.metadata.refresh.interval.ms": _Rule(
        _at_least(1),
        "partitions that are added to the input topic would never be read; remove it, or set a "
        "number of ms above 0",
    ),
    "log_level": _Rule(
        _at_least(LEAST_LOG_LEVEL),
        f"{_UNLOGGED}; remove it, or set {LEAST_LOG_LEVEL} or 7",
        exactly_once_only=True,
    ),
    "log.connection.close": _Rule(_TRUE, f"{_UNLOGGED}; remove it", exactly_once_only=True),
    "transaction.timeout.ms": _Rule(
        _at_least(LEAST_TRANSACTION_MS),
        "a broker would abort transactions that are only slow; remove it, or set at least "
        f"{LEAST_TRANSACTION_MS}",
        exactly_once_only=True,
    ),
}


def refused_properties(properties: Mapping[str, Value], *, exactly_once: bool) -> list[ConfigError]:
    """One error for each of these properties that may not be set, or not to its value."""
    found = []
    for name, value in properties.items():
        field, text = f"kafka.properties[{name!r}]", str(value).strip().lower()
        rule = _RULES.get(name)
        if name in OWNED:  # its value may be a password
            found.append(ConfigError(field, "(refused)", OWNED[name]))
        elif rule and not rule.allows(text) and (exactly_once or not rule.exactly_once_only):
            found.append(ConfigError(field, value, rule.remedy))
    return found
