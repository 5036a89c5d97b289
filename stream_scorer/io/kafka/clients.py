"""Every Kafka client is made here: what it is given wrongly, and why it reaches no broker.

librdkafka refuses a wrong property while a client is made, which is a mistake in the config. Why a
broker can't be reached it says only in passing, in its error callback and in its log, while the
call that waits ends with "Broker transport failure" or with no answer. So the newest cause is kept
beside the client, and `Connected.explained` adds it with its remedy.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

from stream_scorer.confidential import is_secret, without_credentials
from stream_scorer.errors import BusUnavailable, ClientLost, ConfigError, NotAllowed


class _Served(Protocol):
    """A client of librdkafka: `poll` lets it call back."""

    def poll(self, timeout: float, /) -> Any: ...


Client = TypeVar("Client", bound=_Served)

log = logging.getLogger("librdkafka")

WARN_AGAIN_SECONDS = 10.0  # a client that is not let in tries it several times a second

# The setting that a property of librdkafka comes from.
_SETTINGS = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "client.id": "kafka.client_id",
    "security.protocol": "kafka.security_protocol",
    "sasl.mechanism": "kafka.sasl_mechanism",
    "sasl.mechanisms": "kafka.sasl_mechanism",
    "sasl.username": "kafka.username",
    "sasl.password": "kafka.password",
    "ssl.ca.location": "kafka.ssl_ca_file",
    "ssl.certificate.location": "kafka.ssl_certificate_file",
    "ssl.key.location": "kafka.ssl_key_file",
    "ssl.key.password": "kafka.ssl_key_password",
    "delivery.timeout.ms": "kafka.delivery_timeout_ms",
    "max.poll.interval.ms": "kafka.max_poll_interval_ms",
    "queued.max.messages.kbytes": "kafka.queued_max_kbytes",
    "fetch.max.bytes": "kafka.fetch_max_bytes",
}
# librdkafka names a property in its errors as on the left, whatever name it was given.
_OTHER_NAMES = {
    "compression.codec": "compression.type",
    "message.timeout.ms": "delivery.timeout.ms",
    "request.required.acks": "acks",
    "queue.buffering.max.ms": "linger.ms",
    "message.send.max.retries": "retries",
    "sasl.mechanisms": "sasl.mechanism",
}
_CORRECT = "correct it; librdkafka's CONFIGURATION.md lists its properties and their values"
# What is in an error's text, and the remedy. The first that fits is taken.
_MADE_WRONGLY = (
    (r"Unsupported SASL mechanism|No provider for SASL mechanism",
     'use "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" or "OAUTHBEARER"'),
    (r"sasl\.username and sasl\.password must be set",
     "set kafka.username and kafka.password, or kafka.password_file"),
    (r"ssl\.key\.location failed.*key values mismatch",
     "it is not the key of the certificate in kafka.ssl_certificate_file"),
    (r"ssl\.key\.location failed",
     "is no private key in PEM, or kafka.ssl_key_password is not its password"),
    (r"ssl\.certificate\.location failed", "is no certificate in PEM"),
    (r"ssl\.ca\.location failed", "can't be read, or holds no certificate in PEM"),
    (r"No such configuration property",
     "there is no such property of librdkafka; correct its name or remove it"),
)  # fmt: skip
# What is in the text of a cause, and the remedy. The first that fits is taken.
_UNREACHABLE = (
    (r"Failed to resolve",
     "this host name is unknown here; check kafka.bootstrap_servers, or where it is a name that "
     "the brokers give (advertised.listeners), the DNS"),
    (r"Connection refused",
     "nothing listens there; check host and port in kafka.bootstrap_servers, and that it runs"),
    (r"PLAINTEXT broker listener|wrong version number|unexpected message|packet length"
     r"|Disconnected.*in state SSL_HANDSHAKE",
     'this port does not speak TLS; set kafka.security_protocol to "plaintext" or '
     '"sasl_plaintext", or use the TLS port'),
    (r"certificate verify failed",
     "kafka.ssl_ca_file does not hold the authority that signed the broker's certificate, or the "
     "certificate was made for another host name"),
    (r"alert|certificate required|bad certificate|unknown ca",
     "the broker refuses this client's certificate; set kafka.ssl_certificate_file and "
     "kafka.ssl_key_file to ones that it trusts"),
    (r"SSL",
     "check kafka.security_protocol, kafka.ssl_ca_file, and the TLS versions of both sides"),
    (r"in state APIVERSION_QUERY",
     "the port closed the connection at the first request: most likely it speaks TLS; set "
     'kafka.security_protocol to "ssl" or "sasl_ssl"'),
    (r"in state AUTH|SASL",
     "check kafka.sasl_mechanism, kafka.username and kafka.password"),
    (r"timed out", "nothing answers there; check the network and firewalls"),
)  # fmt: skip
# Noise: they say that there is trouble, but not which.
_VAGUE = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT}


class Logger(Protocol):
    """What librdkafka's log lines go to."""

    def log(self, level: int, text: str, /, *arguments: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a broker was not reached.

    refused: it does not let this user in, so trying again is in vain.
    """

    text: str
    refused: bool

    @property
    def remedy(self) -> str:
        """What to change."""
        for pattern, remedy in _UNREACHABLE:
            if re.search(pattern, self.text):
                return remedy
        return "check kafka.bootstrap_servers, and that the brokers are up"


class Causes:
    """What librdkafka said of one client's connections; the client's `logger`, too.

    on_error: called with every error of the client's error callback. logger: gets every line.
    """

    def __init__(
        self, on_error: Callable[[KafkaError], None] | None = None, logger: Logger = log
    ) -> None:
        self._on_error, self._logger = on_error, logger
        self._newest: Cause | None = None
        self._warned_at = -WARN_AGAIN_SECONDS

    def forget(self) -> None:
        """Begin anew: what was said until now does not explain the next call."""
        self._newest = None

    @property
    def newest(self) -> Cause | None:
        """The newest cause, where one was said."""
        return self._newest

    def error_cb(self, error: KafkaError) -> None:
        """For librdkafka."""
        if error.code() not in _VAGUE:
            refused = error.code() in (
                KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED,
            )  # fmt: skip
            self._note(error.str(), refused)
        if self._on_error is not None:
            self._on_error(error)

    def log(self, level: int, text: str, *arguments: object) -> None:
        """For librdkafka, whose arguments are facility, client and text."""
        facility, said = str(arguments[0]), str(arguments[-1])
        # That a plain client is on a TLS port shows here alone, and here as a line of level INFO.
        if facility == "FAIL" and "in state UP" not in said:
            self._note(said.partition("]: ")[2] or said, False)
            self._warn_of_wrong_port(said)
        self._logger.log(level, text, *arguments)

    def _warn_of_wrong_port(self, said: str) -> None:
        now = time.monotonic()
        if "in state APIVERSION_QUERY" not in said or self._newest is None:
            return
        if now - self._warned_at >= WARN_AGAIN_SECONDS:
            self._warned_at = now
            log.warning("Kafka: %s; %s", self._newest.text, self._newest.remedy)

    def _note(self, text: str, refused: bool) -> None:
        if self._newest is None or not self._newest.refused or refused:
            shown = re.sub(r" \(after \d+ms in state (\w+)[^)]*\)", r" (in state \1)", text)
            self._newest = Cause(without_credentials(shown), refused)


class Connected(Generic[Client]):
    """A client with the causes of its failures.

    Raises ConfigError where librdkafka does not take `properties`.
    """

    def __init__(
        self,
        kind: Callable[..., Client],
        properties: Mapping[str, Any],
        on_error: Callable[[KafkaError], None] | None = None,
        logger: Logger = log,
    ) -> None:
        self.causes = Causes(on_error, logger)
        try:
            self.client = kind({**properties, "error_cb": self.causes.error_cb}, logger=self.causes)
        except KafkaException as error:
            raise _made_wrongly(error.args[0].str(), properties) from None
        # What the Python layer makes of a property of its own, such as oauth_cb.
        except (TypeError, ValueError, AttributeError) as error:
            raise _made_wrongly(str(error), properties) from None

    @contextmanager
    def explained(self) -> Iterator[None]:
        """A BusUnavailable raised within gets its cause, or becomes NotAllowed where it is one."""
        self.causes.forget()
        try:
            yield
        except ClientLost:
            raise
        except BusUnavailable as error:
            # librdkafka keeps its callbacks and log lines until it is polled. A record that this
            # hands out is no loss, because reading has failed.
            self.client.poll(0)
            cause = self.causes.newest
            if cause is None:
                raise
            kind = NotAllowed if cause.refused else BusUnavailable
            raise kind(f"{error}: {cause.text}", cause.remedy) from error


def _made_wrongly(text: str, properties: Mapping[str, Any]) -> ConfigError:
    said = re.sub(r"^Failed to create \w+( client)?: ", "", " ".join(text.split()))
    remedy = next((r for pattern, r in _MADE_WRONGLY if re.search(pattern, said)), _CORRECT)
    name = _property_in(said, properties)
    if name is None:
        return ConfigError("kafka.properties", "(all)", f"librdkafka refuses them: {said}")
    value = properties.get(name, "(not set)")
    # The value of an unknown property is hidden, too: the name may be that of a misspelt password.
    if is_secret(name) or "No such configuration property" in said:
        value = "(not shown)"
        said = re.sub(r'Invalid value ".*" for', "Invalid value for", said)
    field = _SETTINGS.get(name, f"kafka.properties[{name!r}]")
    return ConfigError(field, value, f"librdkafka says: {without_credentials(said)}; {remedy}")


def _property_in(said: str, properties: Mapping[str, Any]) -> str | None:
    """The property that an error is about, by the name that it was given."""
    if "SASL mechanism" in said:
        return "sasl.mechanism" if "sasl.mechanism" in properties else "sasl.mechanisms"
    unknown = re.search(r'No such configuration property: "(.*)"', said)
    if unknown:
        return str(unknown[1])
    words: list[str] = re.findall(r"[a-z_]+(?:\.[a-z0-9_]+)*", said)
    for word in words:
        name = word if word in properties else _OTHER_NAMES.get(word, word)
        if name in properties:
            return name
    return next((w for w in words if w in _SETTINGS), None)
