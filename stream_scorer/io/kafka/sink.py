"""Propensities and dead letters to Kafka.

`deliver` returns only when the brokers have confirmed every record, and nothing after it happens
before that, so the queue never holds more than one micro-batch. With `delivery = "exactly_once"`
records and offsets are one transaction (transaction.py). A record too large for the output topic
becomes a dead letter, and a dead letter too large for its topic keeps fewer of its original bytes:
neither stops the consumer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.avro.dead_letter_encoder import encode_dead_letters
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter, Reason, TopicPartition
from stream_scorer.errors import BusUnavailable, ClientLost, Halt
from stream_scorer.io.kafka.producer import NO_HEADERS, ConfirmedProducer, Headers, Oversized
from stream_scorer.io.kafka.transaction import TIMEOUT_MS, Transaction, plain_offsets
from stream_scorer.log_events import event

log = logging.getLogger(__name__)


class KafkaSink:
    """Propensities to the output topic, dead letters to theirs.

    properties: librdkafka's; with transactional.id, `group_metadata` and `for_commit` must be the
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
        for_commit: Callable[[dict[TopicPartition, int]], list[KafkaPartition]] = plain_offsets,
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
                for_commit,
                lambda: self._producer.connections.broken,
                int(properties.get("transaction.timeout.ms", TIMEOUT_MS)),
            )
        )

    def deliver(
        self,
        keys: list[bytes],
        values: Sequence[bytes | None],
        dead_letters: list[DeadLetter],
        next_offsets: dict[TopicPartition, int],
        headers: Headers = NO_HEADERS,
    ) -> None:
        """Propensity record i is keys[i], values[i], a tombstone where that is None. Returns when
        all is confirmed.

        headers: of the records with these keys.

        A propensity record that the output topic does not take becomes a dead letter. Raises
        BusUnavailable (do the batch again), ClientLost (the group's committed offsets show whether
        the batch was delivered) or Halt.
        """
        items = [self._dead_letter_item(dead_letter, 0) for dead_letter in dead_letters]
        refused = self._attempt(keys, values, items, next_offsets, headers)
        if refused:
            # Only now an object for each record: nearly always nothing is refused.
            pairs = zip(keys, values, strict=True)
            items += [_Item(self._output_topic, key, value) for key, value in pairs]
        while refused:
            items = self._next_attempt(items, refused)
            refused = self._attempt_again(items, next_offsets, headers)

    def commit_alone(self, next_offsets: dict[TopicPartition, int]) -> None:
        """Commit offsets in a transaction without records. Raises as `deliver` does."""
        if self._transaction is None:
            raise ValueError("a sink without transactional.id commits no offsets")
        with self._transaction.begun():
            self._transaction.commit(next_offsets)

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
        values: Sequence[bytes | None],
        items: list[_Item],
        next_offsets: dict[TopicPartition, int],
        headers: Headers,
    ) -> list[Oversized]:
        """Send all; returns the records that were too large. Then a transaction is aborted."""
        if self._transaction is None:
            return self._send(keys, values, items, headers)
        with self._transaction.begun():
            refused = self._send(keys, values, items, headers)
            if refused:
                self._transaction.abort()
            else:
                self._transaction.commit(next_offsets)
            return refused

    def _attempt_again(
        self, items: list[_Item], next_offsets: dict[TopicPartition, int], headers: Headers
    ) -> list[Oversized]:
        # The broker never saw the sequence numbers of the records that it refused. The gap may fail
        # the next transaction once; aborting that one begins a new producer epoch without a gap.
        try:
            return self._attempt([], [], items, next_offsets, headers)
        # A ClientLost is a BusUnavailable, too, but this client can't try again.
        except ClientLost:
            raise
        except BusUnavailable as error:
            if self._transaction is None:
                raise
            log.info("%s; trying once more", error)
            return self._attempt([], [], items, next_offsets, headers)

    def _send(
        self,
        keys: list[bytes],
        values: Sequence[bytes | None],
        items: list[_Item],
        headers: Headers,
    ) -> list[Oversized]:
        self._producer.send(self._output_topic, keys, values, headers=headers)
        for topic in (self._output_topic, self._dead_letter_topic):
            group = [i for i in items if i.topic == topic and not i.alone]
            of_topic = headers if topic == self._output_topic else NO_HEADERS
            self._producer.send(
                topic, [i.key for i in group], [i.value for i in group], headers=of_topic
            )
        refused = self._producer.settle()
        for item in items:
            # After a refusal the transaction must be aborted, so sending more would be in vain.
            if item.alone and not (refused and self._transaction):
                refused += self._producer.send_alone(item.topic, item.key, item.value)
        return refused

    def _next_attempt(self, items: list[_Item], refused: list[Oversized]) -> list[_Item]:
        """What to send next: refused records in another form; in a transaction all others too."""
        certain: dict[tuple[str, bytes | None, bytes | None], bool] = {
            (r.topic, r.key, r.value): r.certain for r in refused
        }
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
            log.warning(
                "topic %s refuses a record of %d bytes, which becomes a dead letter; raise its "
                "max.message.bytes",
                item.topic, item.value_bytes,
                extra=event("record_too_large", topic=item.topic, size_bytes=item.value_bytes),
            )  # fmt: skip
            return self._dead_letter_item(_as_dead_letter(item), 0)
        size = item.size + 1
        if size == len(self._kept_bytes):
            raise Halt(
                f"topic {item.topic} refuses a record of {item.value_bytes} bytes; raise its "
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
    value: bytes | None
    alone: bool = False
    dead_letter: DeadLetter | None = None
    size: int = 0

    @property
    def value_bytes(self) -> int:
        """The length of the value, 0 for a tombstone."""
        return len(self.value or b"")


def _as_dead_letter(item: _Item) -> DeadLetter:
    detail = f"a propensity record of {item.value_bytes} bytes; raise the topic's max.message.bytes"
    return DeadLetter(
        item.topic, -1, -1, NO_TIMESTAMP, Reason.OVERSIZED, detail, item.key, item.value
    )
