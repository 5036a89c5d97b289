"""Records to Kafka, confirmed: propensities, dead letters, published events.

`deliver` returns only when the brokers have confirmed every record, and nothing after it happens
before that, so the queue never holds more than one micro-batch. Idempotence keeps the order within
a partition through retries. With `delivery = "exactly_once"` records and offsets are one
transaction (transaction.py). A record too large for the output topic becomes a dead letter, and a
dead letter too large for its topic keeps fewer of its original bytes: neither stops the consumer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream_scorer.core.avro.dead_letter_encoder import encode_dead_letters
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter, Reason, TopicPartition
from stream_scorer.errors import BusUnavailable, ClientLost, Halt
from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import ErrorLog, ask, translate_error
from stream_scorer.io.kafka.transaction import REQUEST_SECONDS, ConnectionLog, Transaction

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
GRACE_SECONDS = (
    5.0  # beyond delivery.timeout.ms, when librdkafka has confirmed or failed every record
)
METADATA_SECONDS = 2.0
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
    ) -> None:
        """Queue records, key i with value i; waits while the queue is full.

        Raises BusUnavailable where Kafka takes none of them for long.
        """
        waiting: list[dict[str, Any]] = [
            {"key": key, "value": value} for key, value in zip(keys, values, strict=True)
        ]
        if waiting:
            self._topics.add(topic)
        deadline = time.monotonic() + self._settle_seconds
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
                ask("producing", self.client.poll, FULL_QUEUE_SECONDS)
            if time.monotonic() > deadline:
                with self._connected.explained(lambda: self._connected.client.poll(0)):
                    raise BusUnavailable(
                        f"Kafka has taken no records for {topic} for {self._settle_seconds:g} s"
                    )

    def settle(self) -> list[Oversized]:
        """Wait until every record is confirmed; returns those that were too large.

        Raises BusUnavailable or Halt where any other record failed.
        """
        with self._connected.explained(lambda: self._connected.client.poll(0)):
            return self._settle()

    def _settle(self) -> list[Oversized]:
        left = ask("delivering", self.client.flush, self._settle_seconds)
        failures, self._failures = self._failures, []
        oversized, self._oversized = self._oversized, []
        topics, self._topics = sorted(self._topics), set()
        if failures:
            names = ", ".join(sorted({topic for topic, _ in failures}))
            doing = f"delivering {len(failures)} records to {names}"
            raise self._with_missing(translate_error(failures[0][1], doing), topics)
        if left:
            unconfirmed = f"Kafka did not confirm {left} records for {', '.join(topics)}"
            raise self._with_missing(BusUnavailable(unconfirmed), topics)
        return oversized

    def send_alone(
        self, topic: str, key: bytes | None, value: bytes, partition: int = BY_KEY
    ) -> list[Oversized]:
        """One record in a request of its own, confirmed; call it when all else is settled."""
        self.send(topic, [key], [value], partition)
        return [replace(refused, certain=True) for refused in self.settle()]

    def partitions(self, topic: str) -> int:
        """How many partitions `topic` has. Raises BusUnavailable or Halt."""
        found = ask("asking for topics", self.client.list_topics, topic, REQUEST_SECONDS)
        return len(found.topics[topic].partitions)

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


class KafkaSink:
    """Propensities to the output topic, dead letters to theirs.

    properties: librdkafka's; with transactional.id, `group_metadata` and `namespace` must be the
    source's, and the source must not commit itself.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        output_topic: str,
        dead_letter_topic: str,
        *,
        max_dead_letter_bytes: int,
        clock_ms: Callable[[], int],
        group_metadata: Callable[[], bytes] | None = None,
        namespace: str = "",
    ) -> None:
        self._output_topic, self._dead_letter_topic = output_topic, dead_letter_topic
        # How many original bytes a dead letter keeps: fewer each time that its topic refuses it.
        self._kept_bytes = (max_dead_letter_bytes, max_dead_letter_bytes // 16, 0)
        self._clock_ms = clock_ms
        self._producer = ConfirmedProducer(properties)
        self._transaction = (
            None
            if group_metadata is None
            else Transaction(
                self._producer.client,
                group_metadata,
                namespace,
                lambda: self._producer.connections.broken,
            )
        )

    def deliver(
        self,
        keys: list[bytes],
        values: list[bytes],
        dead_letters: list[DeadLetter],
        next_offsets: dict[TopicPartition, int],
    ) -> None:
        """Propensity record i is keys[i], values[i]. Returns when all is confirmed.

        A propensity record that the output topic does not take becomes a dead letter. Raises
        BusUnavailable (do the batch again), ClientLost (the group's committed offsets show whether
        the batch was delivered) or Halt.
        """
        items = [self._dead_letter_item(dead_letter, 0) for dead_letter in dead_letters]
        refused = self._attempt(keys, values, items, next_offsets)
        if refused:
            # Only now an object for each record: nearly always nothing is refused.
            pairs = zip(keys, values, strict=True)
            items += [_Item(self._output_topic, key, value) for key, value in pairs]
        while refused:
            items = self._next_attempt(items, refused)
            refused = self._attempt_again(items, next_offsets)

    def close(self) -> None:
        """Stop. What `deliver` did not finish is not delivered."""
        if self._transaction is not None:
            self._transaction.close()
            # A further call to a stuck client may never return, as the one before did not.
            if self._transaction.stuck:
                return
        self._producer.close()

    def _attempt(
        self,
        keys: list[bytes],
        values: list[bytes],
        items: list[_Item],
        next_offsets: dict[TopicPartition, int],
    ) -> list[Oversized]:
        """Send all; returns the records that were too large. Then a transaction is aborted."""
        if self._transaction is None:
            return self._send(keys, values, items)
        with self._transaction.begun():
            refused = self._send(keys, values, items)
            if refused:
                self._transaction.abort()
            else:
                self._transaction.commit(next_offsets)
            return refused

    def _attempt_again(
        self, items: list[_Item], next_offsets: dict[TopicPartition, int]
    ) -> list[Oversized]:
        # The broker never saw the sequence numbers of the records that it refused. The gap may fail
        # the next transaction once; aborting that one begins a new producer epoch without a gap.
        try:
            return self._attempt([], [], items, next_offsets)
        # A ClientLost is a BusUnavailable, too, but this client can't try again.
        except ClientLost:
            raise
        except BusUnavailable as error:
            if self._transaction is None:
                raise
            log.info("%s; trying once more", error)
            return self._attempt([], [], items, next_offsets)

    def _send(self, keys: list[bytes], values: list[bytes], items: list[_Item]) -> list[Oversized]:
        self._producer.send(self._output_topic, keys, values)
        for topic in (self._output_topic, self._dead_letter_topic):
            group = [i for i in items if i.topic == topic and not i.alone]
            self._producer.send(topic, [i.key for i in group], [i.value for i in group])
        refused = self._producer.settle()
        for item in items:
            # After a refusal the transaction must be aborted, so sending more would be in vain.
            if item.alone and not (refused and self._transaction):
                refused += self._producer.send_alone(item.topic, item.key, item.value)
        return refused

    def _next_attempt(self, items: list[_Item], refused: list[Oversized]) -> list[_Item]:
        """What to send next: refused records in another form; in a transaction all others too."""
        certain = {(r.topic, r.key, r.value): r.certain for r in refused}
        out = []
        for item in items:
            verdict = certain.get((item.topic, item.key, item.value))
            if verdict:
                out.append(self._smaller(item))
            elif verdict is not None:
                out.append(replace(item, alone=True))
            elif self._transaction is not None:
                out.append(item)
        return out

    def _smaller(self, item: _Item) -> _Item:
        """For propensities a dead letter, for a dead letter one with fewer original bytes."""
        if item.dead_letter is None:
            log.warning("topic %s refuses a record of %d bytes", item.topic, len(item.value))
            return self._dead_letter_item(_as_dead_letter(item), 0)
        size = item.size + 1
        if size == len(self._kept_bytes):
            raise Halt(
                f"topic {item.topic} refuses a record of {len(item.value)} bytes; raise its "
                "max.message.bytes"
            )
        # The last size keeps no original bytes. Only the key could still make it too large, so the
        # key goes as well.
        keyless = replace(item.dead_letter, key=None)
        return self._dead_letter_item(item.dead_letter if self._kept_bytes[size] else keyless, size)

    def _dead_letter_item(self, dead_letter: DeadLetter, size: int) -> _Item:
        (value,) = encode_dead_letters([dead_letter], self._clock_ms(), self._kept_bytes[size])
        return _Item(
            self._dead_letter_topic, dead_letter.key, value, dead_letter=dead_letter, size=size
        )


@dataclass(frozen=True, slots=True)
class _Item:
    """One record to send.

    alone: in a request of its own. size: for a dead letter, the index into the sink's
    `_kept_bytes`.
    """

    topic: str
    key: bytes | None
    value: bytes
    alone: bool = False
    dead_letter: DeadLetter | None = None
    size: int = 0


def _as_dead_letter(item: _Item) -> DeadLetter:
    detail = f"a propensity record of {len(item.value)} bytes; raise the topic's max.message.bytes"
    return DeadLetter(
        item.topic, -1, -1, NO_TIMESTAMP, Reason.OVERSIZED, detail, item.key, item.value
    )
