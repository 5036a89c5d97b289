"""The demo's two threads beside the consumer: one publishes events, one reads propensities.

Each has Kafka clients of its own. The mock cluster keeps only about 5 MB of a partition, so the
publisher stays at most `lead` events ahead of the consumer, which sets `taken`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from stream_scorer.errors import BusUnavailable

CHUNK = 1000


class EventPublisher(threading.Thread):
    """Publishes (key, value) events in order, as fast as the consumer keeps up.

    `published` counts confirmed events; `finished` is set when all are out or `stop_at_s` (on
    time.monotonic) has passed. `sent_ms` has, by (partition, offset), when each was sent.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        events: Sequence[tuple[bytes, bytes]],
        *,
        lead: int,
        stop_at_s: float | None,
    ) -> None:
        super().__init__(name="publisher", daemon=True)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "linger.ms": 5, "log_level": 0}
        )
        self._topic, self._events = topic, events
        self._lead, self._stop_at_s = lead, stop_at_s
        self.published = 0
        self.sent_ms: dict[tuple[int, int], int] = {}
        self.taken = 0  # set by the consumer's side
        self.finished = threading.Event()
        self.failed: str | None = None

    def run(self) -> None:
        try:
            self._publish()
        except Exception as error:  # the consumer's thread raises it
            self.failed = repr(error)
        finally:
            self.finished.set()

    def _publish(self) -> None:
        sent = 0
        while sent < len(self._events) and not self._is_over():
            if sent - self.taken > self._lead - CHUNK:
                self._producer.poll(0.002)
                continue
            chunk = self._events[sent : sent + CHUNK]
            now_ms = time.time_ns() // 1_000_000
            messages = [{"key": k, "value": v} for k, v in chunk]
            delivered = partial(self._delivered, now_ms)
            self._producer.produce_batch(self._topic, messages, on_delivery=delivered)
            sent += len(chunk)
            self._producer.poll(0)
        if self._producer.flush(30) and self.failed is None:
            self.failed = "the embedded broker did not confirm every event"

    def _is_over(self) -> bool:
        late = self._stop_at_s is not None and time.monotonic() > self._stop_at_s
        return late or self.failed is not None

    def _delivered(self, now_ms: int, error: object, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if error is not None or partition is None or offset is None:
            self.failed = str(error)
            return
        self.sent_ms[partition, offset] = now_ms
        self.published += 1


class Reader(threading.Thread):
    """Reads the output topic from its start; values with the time at which each was read."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int) -> None:
        super().__init__(name="reader", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "demo-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        self.values: list[bytes] = []
        self.read_at_ms: list[int] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            messages = self._consumer.consume(1000, 0.05)
            now_ms = time.time_ns() // 1_000_000
            for message in messages:
                value = message.value()
                if message.error() is None and value is not None:
                    self.values.append(value)
                    self.read_at_ms.append(now_ms)
        self._consumer.close()

    def finish(self, expected: int, timeout_s: float = 30.0) -> None:
        """Wait for `expected` values, then stop. Raises BusUnavailable where they do not come."""
        deadline = time.monotonic() + timeout_s
        while len(self.values) < expected and time.monotonic() < deadline:
            time.sleep(0.01)
        self._over.set()
        self.join()
        if len(self.values) < expected:
            raise BusUnavailable(
                f"only {len(self.values)} of {expected} propensity records were read back"
            )
