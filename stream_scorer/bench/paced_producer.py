"""A program that produces records at a steady rate, as shops do; the benchmark of latency runs it.

stdin is a pickle of brokers, topic, records (key, value) and records a second. Each record's time
is that at which it was handed to the client, which sends it at once.
"""

from __future__ import annotations

import pickle
import sys
import time

from confluent_kafka import Producer

SLICE_SECONDS = 0.001


def main() -> None:
    """Produce all, and wait until the brokers have them."""
    servers, topic, records, rate = pickle.load(sys.stdin.buffer)
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 0, "partitioner": "murmur2_random"}
    )
    producer.list_topics(topic, timeout=30)  # connected before the first record
    sent, started = 0, time.perf_counter()
    while sent < len(records):
        due = min(len(records), int((time.perf_counter() - started) * rate))
        for key, value in records[sent:due]:
            while not _taken(producer, topic, key, value):
                producer.poll(SLICE_SECONDS)
        sent = due
        producer.poll(0)
        time.sleep(SLICE_SECONDS)
    if left := producer.flush(30):
        sys.exit(f"{left} records were not delivered")


def _taken(producer: Producer, topic: str, key: bytes, value: bytes) -> bool:
    """Whether the client had room for the record; it fills up where the broker is slower."""
    try:
        producer.produce(topic, value, key)
    except BufferError:
        return False
    return True


if __name__ == "__main__":
    main()
