"""How to reach Kafka and a schema registry: settings, and the options of their clients.

Each section is a frozen pydantic model that translates itself to the options of its client. A
secret is given as text or as the path of a file that holds it. The file is read each time a client
is built, so that a secret which was replaced on disk is used by the next client.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from stream_scorer.confidential import Address, read_address
from stream_scorer.core.features.space import parse_duration_ms
from stream_scorer.errors import ConfigError, cannot_read
from stream_scorer.settings.kafka_properties import (
    CLASSIC_ONLY,
    CONSUMER_REMEDY,
    refused_properties,
)
from stream_scorer.settings.sources import read_text

Properties = dict[str, str | int]
HTTP = ("http", "https")
_BROKER = re.compile(r"(?:\w+://)?(?:\[[0-9a-fA-F:.%]+\]|[\w.-]+)(?::(\d{1,5}))?")


def existing_file(path: Path) -> Path:
    """`path` if it is a file. Raises ValueError, which pydantic expects of a validator."""
    if not path.is_file():
        raise ValueError("there is no such file; correct the path")
    return path


def _plain_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", text):
        raise ValueError("use letters, digits, dots, dashes and underscores only, no spaces")
    return text


def _duration(text: str) -> str:
    try:
        parse_duration_ms(text)
    except ConfigError as error:
        raise ValueError(error.remedy) from None
    return text


Duration = Annotated[str, AfterValidator(_duration)]


def _brokers(text: str) -> str:
    for broker in text.split(","):
        found = _BROKER.fullmatch(broker.strip())
        if found is None or int(found[1] or 0) > 65_535:
            raise ValueError("write host:port, several with commas between, such as a:9092,b:9092")
    return text


def http_address_or_none(text: str) -> str:
    """`text` if it is an address without a user, or "". Raises ValueError."""
    if text and read_address(text, HTTP).username is not None:
        raise ValueError("must have no user and password in it")
    return text


def _registry_addresses(text: str) -> str:
    for part in text.split(",") if text else ():
        read_address(part, HTTP)
    return text


SecretFile = Annotated[Path, AfterValidator(existing_file)]
Name = Annotated[str, AfterValidator(_plain_name)]
Count = Annotated[int, Field(gt=0)]
CountOrNone = Annotated[int, Field(ge=0)]
# librdkafka's names; those of its partitioners that send one key to one partition.
Partitioner = Literal[
    "murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a"
]


class Section(BaseModel):
    """A frozen section that refuses unknown settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def secret(self, section: str, name: str) -> str | None:
        """The text of the secret `name`, or of the file in `name`_file; None where neither is set.

        Raises ConfigError where the file can't be read, or is not UTF-8.
        """
        value: SecretStr | None = getattr(self, name)
        path: Path | None = getattr(self, f"{name}_file")
        if path is not None:
            try:
                return read_text(path).rstrip("\r\n")
            except OSError as error:
                remedy = cannot_read(error)
            except UnicodeDecodeError:  # its text has a byte of the password in it
                remedy = "is not UTF-8 text; save it as UTF-8"
            raise ConfigError(f"{section}.{name}_file", "(secret)", remedy)
        return None if value is None else value.get_secret_value()

    def double_secrets(self, section: str, *names: str) -> list[ConfigError]:
        """One error for each secret of `names` that is given both as text and as a file."""
        return [
            ConfigError(f"{section}.{name}", "(secret)", f"remove it or {section}.{name}_file")
            for name in names
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None
        ]


class KafkaSettings(Section):
    """Where events come from, and where propensities and dead letters go."""

    bootstrap_servers: Annotated[str, AfterValidator(_brokers)] = "127.0.0.1:9092"
    client_id: str = ""
    group_id: Name = "stream-scorer"
    group_protocol: Literal["", "classic", "consumer"] = ""
    group_instance_id: str = ""
    input_topic: Name = "customer-events"
    output_topic: Name = "category-propensities"
    dead_letter_topic: Name = "customer-events-dead-letters"
    input_partitions: Count = 12
    output_partitions: Count = 12
    replication_factor: CountOrNone = 0
    partitioner: Partitioner = "murmur2_random"
    input_retention: Duration = "inf"
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    transactional_id: Name = "stream-scorer"
    delivery_timeout_ms: Annotated[int, Field(ge=1000)] = 30_000
    max_poll_interval_ms: Annotated[int, Field(ge=10_000)] = 300_000
    queued_max_kbytes: Count = 65_536
    fetch_max_bytes: Count = 16_777_216
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl_mechanism: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: SecretFile | None = None
    ssl_ca_file: SecretFile | None = None
    ssl_certificate_file: SecretFile | None = None
    ssl_key_file: SecretFile | None = None
    ssl_key_password: SecretStr | None = None
    ssl_key_password_file: SecretFile | None = None
    properties: dict[str, str | int | float | bool] = Field(default={}, repr=False)

    @property
    def input_retention_ms(self) -> int | None:
        """How long the input topic keeps an event; None for ever."""
        return parse_duration_ms(self.input_retention)

    @property
    def client_name(self) -> str:
        """`client_id`, or where that is empty a name with this machine's host name."""
        return self.client_id or f"stream-scorer-{socket.gethostname()}"

    def problems(self) -> list[ConfigError]:
        """One error for each setting of this section that contradicts another."""
        exactly_once = self.delivery == "exactly_once"
        found = refused_properties(self.properties, exactly_once=exactly_once)
        if self.group_protocol == "consumer":
            found += [
                ConfigError(f"kafka.properties[{name!r}]", self.properties[name], CONSUMER_REMEDY)
                for name in self.classic_properties
            ]
        if self.username is not None and not self.security_protocol.startswith("sasl"):
            remedy = 'set kafka.security_protocol to "sasl_ssl" (or "sasl_plaintext")'
            found.append(ConfigError("kafka.username", self.username, remedy))
        topics = {
            "kafka.input_topic": self.input_topic,
            "kafka.output_topic": self.output_topic,
            "kafka.dead_letter_topic": self.dead_letter_topic,
        }
        seen: dict[str, str] = {}
        for field, topic in topics.items():
            if topic in seen:
                remedy = f"{seen[topic]} has this name, too; give each topic a name of its own"
                found.append(ConfigError(field, topic, remedy))
            seen[topic] = field
        return found + self.double_secrets("kafka", "password", "ssl_key_password")

    def client_properties(self) -> Properties:
        """librdkafka properties that every client needs: servers, TLS, SASL, and `properties`.

        Reads the files of secrets.
        """
        chosen: dict[str, object] = {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": self.client_name,
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.username,
            "sasl.password": self.secret("kafka", "password"),
            "ssl.ca.location": self.ssl_ca_file,
            "ssl.certificate.location": self.ssl_certificate_file,
            "ssl.key.location": self.ssl_key_file,
            "ssl.key.password": self.secret("kafka", "ssl_key_password"),
            **self.properties,
        }
        return {k: _plain(v) for k, v in chosen.items() if v is not None}

    def consumer_properties(self) -> Properties:
        """`client_properties`, with the consumer's group and the limits of its queues."""
        return {
            "group.id": self.group_id,
            "max.poll.interval.ms": self.max_poll_interval_ms,
            # What is fetched and waits in this process. 64 MiB in all are seconds of work at full
            # rate; librdkafka's default, 64 MiB for each partition, would let memory fill up while
            # Redis is slow.
            "queued.max.messages.kbytes": self.queued_max_kbytes,
            # One answer of a broker comes on top of the queue, so it needs a limit, too.
            "fetch.max.bytes": self.fetch_max_bytes,
            "max.partition.fetch.bytes": min(self.fetch_max_bytes, 4_194_304),
            **self.client_properties(),
        }

    @property
    def classic_properties(self) -> list[str]:
        """Those of `properties` that only the classic group protocol has."""
        return [name for name in self.properties if name in CLASSIC_ONLY]

    def member_properties(self, protocol: str) -> Properties:
        """`consumer_properties` of a member of the group, which speaks `protocol`: "classic" or
        "consumer"."""
        chosen: Properties = {"group.protocol": protocol}
        if protocol == "classic":
            # How soon a member hears that the group rebalances. A partition that moves waits for
            # the slowest; librdkafka's default of 3 s is its whole pause.
            chosen["heartbeat.interval.ms"] = 1000
        if self.group_instance_id:
            name = self.group_instance_id.replace("{client_id}", self.client_name)
            chosen["group.instance.id"] = name
        return chosen | self.consumer_properties()

    def sender_properties(self) -> Properties:
        """`client_properties`, with the time limit of deliveries and the partitioner."""
        return {
            "delivery.timeout.ms": self.delivery_timeout_ms,
            "partitioner": self.partitioner,
            **self.client_properties(),
        }

    def producer_properties(self) -> Properties:
        """`sender_properties`, with a transactional id where delivery is "exactly_once"."""
        chosen = self.sender_properties()
        if self.delivery == "exactly_once":
            chosen["transactional.id"] = f"{self.transactional_id}-{self.client_name}"
        return chosen


class SchemaRegistrySettings(Section):
    """Where Confluent's schema ids are looked up; an empty url means there is none."""

    url: Annotated[str, AfterValidator(_registry_addresses)] = Field(default="", repr=False)
    username: str | None = None
    password: SecretStr | None = None
    password_file: SecretFile | None = None
    ssl_ca_file: SecretFile | None = None

    def problems(self) -> list[ConfigError]:
        """One error for each setting of this section that contradicts another."""
        found = self.double_secrets("schema_registry", "password")
        if self.username is not None and any(a.username is not None for a in self._addresses()):
            remedy = "schema_registry.url has a user of its own; take it out of the url"
            found.append(ConfigError("schema_registry.username", self.username, remedy))
        return found

    def _addresses(self) -> list[Address]:
        return [read_address(part, HTTP) for part in self.url.split(",") if self.url]

    def client_properties(self) -> dict[str, str]:
        """Properties of the schema registry's client, named as in confluent_kafka.

        The url has no user and password, because it is shown in messages.
        """
        servers = self._addresses()
        chosen = {"url": ",".join(server.url for server in servers)}
        users = [server for server in servers if server.username is not None]
        if self.username is not None:
            password = self.secret("schema_registry", "password") or ""
            chosen["basic.auth.user.info"] = f"{self.username}:{password}"
        elif users:
            password = users[0].password or self.secret("schema_registry", "password") or ""
            chosen["basic.auth.user.info"] = f"{users[0].username}:{password}"
        if self.ssl_ca_file is not None:
            chosen["ssl.ca.location"] = str(self.ssl_ca_file)
        return chosen


def _plain(value: object) -> str | int:
    """The value as librdkafka reads it: true and false in lower case, paths as text."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int) else str(value)
