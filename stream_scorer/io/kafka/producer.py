"""Records to Kafka, each confirmed: what the sink, `publish` and `dead-letters replay` send.

Idempotence keeps the order within a partition through retries. Records that a topic refuses as too
large are handed back, because only their sender knows what to do instead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream_scorer.errors import BusUnavailable, Halt
from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import ErrorLog, Rights, ask, translate_error
from stream_scorer.io.kafka.transaction import REQUEST_SECONDS, ConnectionLog

log = logging.getLogger(__name__)

FIXED_PROPERTIES: dict[str, str | bool] = {
    "enable.idempotence": "true",
    "acks": "all",
    # Only failures call back into Python: a callback for each record costs more than sending it.
    "delivery.report.only.error": True,
}
DEFAULT_PROPERTIES: dict[str, str | int] = {
    # kafka.partitioner's default. librdkafka's own is CRC32, which no Java producer agrees with.
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    # A micro-batch is tens of megabytes at most; librdkafka's own default is a gigabyte.
    "queue.buffering.max.kbytes": 131_072,
}
# Beyond delivery.timeout.ms, when librdkafka has confirmed or failed every record.
GRACE_SECONDS = 5.0
METADATA_SECONDS = 2.0
Headers = Mapping[bytes, Sequence[tuple[str, bytes]]]  # by the key of the record
NO_HEADERS: Headers = {}
BY_KEY = -1  # in place of a partition: the partitioner decides by the key
# Deliveries are not reported, so `poll` waits this long even where the queue has room again: a
# longer wait is idle time.
FULL_QUEUE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Oversized:
    """A record that its topic refused as too large.

    certain: the record itself is too large. Otherwise the broker refused a request of several
    records, which may only be too large together. partition: where it was sent, `BY_KEY` where
    that was not decided yet.
    """

    topic: str
    key: bytes | None
    value: bytes
    certain: bool
    partition: int = BY_KEY


class ConfirmedProducer:
    """A producer whose records are all confirmed when `settle` returns."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        config = {**DEFAULT_PROPERTIES, **properties, **FIXED_PROPERTIES}
        # 300,000 is librdkafka's own default.
        timeout_ms = int(config.get("delivery.timeout.ms", 300_000))
        self._settle_seconds = timeout_ms / 1000 + GRACE_SECONDS
        self._failures: list[tuple[str, KafkaError]] = []  # with the topic
        self._topics: set[str] = set()  # of the records that are not confirmed yet
        self.connections = ConnectionLog()
        self._error_log = ErrorLog()
        self._oversized: list[Oversized] = []
        self._connected = Connected(Producer, config, self._on_client_error, self.connections)
        self.client = self._connected.client

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        partition: int = BY_KEY,
        headers: Headers = NO_HEADERS,
    ) -> None:
        """Queue records, key i with value i; waits while the queue is full.

        headers: of the records with these keys; for a few, which are queued one by one. Raises
        BusUnavailable where Kafka takes none of them for long.
        """
        waiting: list[dict[str, Any]] = [
            {"key": key, "value": value} for key, value in zip(keys, values, strict=True)
        ]
        if waiting:
            self._topics.add(topic)
        deadline = time.monotonic() + self._settle_seconds
        if headers:
            # The client takes no headers with a batch.
            for record in [record for record in waiting if record["key"] in headers]:
                self._send_one(topic, record, partition, headers[record["key"]], deadline)
            waiting = [record for record in waiting if record["key"] not in headers]
        while waiting:
            # A record that was not queued gets its error under the key `_error`; see `_refused`.
            # The partition is one of the call: that of a record, which the client's documentation
            # describes, has no effect (confluent-kafka 2.16.1).
            queued = self.client.produce_batch(
                topic, waiting, partition, on_delivery=self._on_failure
            )
            if queued == len(waiting):
                return
            before = len(waiting)
            waiting = self._refused(topic, waiting, partition)
            if len(waiting) < before:
                deadline = time.monotonic() + self._settle_seconds
            if waiting:
                self._wait_for_room(topic, deadline)

    def _send_one(
        self,
        topic: str,
        record: dict[str, Any],
        partition: int,
        headers: Sequence[tuple[str, bytes]],
        deadline: float,
    ) -> None:
        while True:
            try:
                self.client.produce(
                    topic, record["value"], record["key"], partition,
                    on_delivery=self._on_failure, headers=list(headers),
                )  # fmt: skip
                return
            except BufferError:
                self._wait_for_room(topic, deadline)
            except KafkaException as error:
                self._refused(topic, [record | {"_error": error.args[0]}], partition)
                return

    def _wait_for_room(self, topic: str, deadline: float) -> None:
        """Let the queue become shorter. Raises BusUnavailable after `deadline`."""
        rights = _rights([topic])
        ask(f"producing to {topic}", self.client.poll, FULL_QUEUE_SECONDS, rights=rights)
        if time.monotonic() > deadline:
            with self._connected.explained():
                raise BusUnavailable(
                    f"Kafka has accepted no records for topic {topic} for "
                    f"{self._settle_seconds:g} s"
                )

    def settle(self) -> list[Oversized]:
        """Wait until every record is confirmed; returns those that were too large.

        Raises BusUnavailable or Halt where any other record failed.
        """
        with self._connected.explained():
            return self._settle()

    def _settle(self) -> list[Oversized]:
        doing, rights = f"delivering to {', '.join(sorted(self._topics))}", _rights(self._topics)
        left = ask(doing, self.client.flush, self._settle_seconds, rights=rights)
        failures, self._failures = self._failures, []
        oversized, self._oversized = self._oversized, []
        topics, self._topics = sorted(self._topics), set()
        if failures:
            refused = {topic for topic, _ in failures}
            doing = f"delivering {len(failures)} records to {', '.join(sorted(refused))}"
            error = translate_error(failures[0][1], doing, _rights(refused))
            raise self._with_missing(error, topics)
        if left:
            unconfirmed = f"Kafka did not confirm {left} records for {', '.join(topics)}"
            raise self._with_missing(BusUnavailable(unconfirmed), topics)
        return oversized

    def send_alone(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int = BY_KEY
    ) -> list[Oversized]:
        """One record in a request of its own, confirmed; call it when all else is settled."""
        self.send(topic, [key], [value], partition)
        return [replace(refused, certain=True) for refused in self.settle()]

    def partitions(self, topic: str) -> int:
        """How many partitions `topic` has. Raises BusUnavailable or Halt."""
        doing = f"asking for topic {topic}"
        found = ask(doing, self.client.list_topics, topic, REQUEST_SECONDS).topics[topic]
        if found.error is not None:
            raise translate_error(found.error, doing, _rights([topic]))
        return len(found.partitions)

    def close(self) -> None:
        """Wait up to `GRACE_SECONDS` for records that are still queued."""
        try:
            ask("delivering what is left", self.client.flush, GRACE_SECONDS)
        except (BusUnavailable, Halt) as error:
            log.warning("%s", error)

    def _with_missing(
        self, error: Halt | BusUnavailable, topics: list[str]
    ) -> Halt | BusUnavailable:
        """`error`, and which of `topics` are gone: to the client their records only time out."""
        missing = ", ".join(topic for topic in topics if self._is_missing(topic))
        if not missing or type(error) is not BusUnavailable:
            return error
        remedy = "create it with `stream-scorer topics create`"
        return BusUnavailable(f"{error}; there is no topic {missing}: {remedy}")

    def _is_missing(self, topic: str) -> bool:
        try:
            found = self.client.list_topics(topic, timeout=METADATA_SECONDS).topics[topic].error
        except KafkaException:
            return False
        return found is not None and found.code() == KafkaError.UNKNOWN_TOPIC_OR_PART

    def _refused(
        self, topic: str, batch: list[dict[str, Any]], partition: int
    ) -> list[dict[str, Any]]:
        """Of a batch that was not queued as a whole, the records to queue again."""
        again = []
        for record in batch:
            error: KafkaError | None = record.pop("_error", None)
            if error is None:
                continue
            if error.code() == KafkaError._QUEUE_FULL:
                again.append(record)
            elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                large = Oversized(topic, record["key"], record["value"], True, partition)
                self._oversized.append(large)
            else:
                self._failures.append((topic, error))
        return again

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._oversized.append(
                Oversized(
                    message.topic() or "",
                    message.key(),
                    message.value() or b"",
                    False,
                    message.partition() or 0,
                )
            )
        else:
            self._failures.append((message.topic() or "", error))

    def _on_client_error(self, error: KafkaError) -> None:
        self.connections.broken += 1
        self._error_log.report(error, "producing")


def _rights(topics: Iterable[str]) -> Rights:
    """What sending to `topics` needs."""
    right = f"Write on topic {', '.join(sorted(topics))}"
    # Who may write to no topic is refused the producer id that keeps the order, before any record.
    return Rights(topic=right, cluster=f"{right} (before Kafka 2.8 IdempotentWrite on the cluster)")
