"""A program that produces records at a steady rate, as shops do; the benchmark of latency runs it.

The first argument is a file with the job as JSON (`PacedJob`), the records lie in a file of NumPy
arrays. The client is set up as producers usually are: idempotent, which is the Java client's
default, with the linger time that librdkafka and the Java client of Kafka 4 have by default.
Without idempotence librdkafka has any number of small requests under way; on a broker that has just
been started they queued for more than a second.

A record's time is that at which it was due, also where the program came to it later, so that no
waiting is left out of what is measured. What the client itself takes, from that time until the
broker's confirmation, is reported as well.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Message, Producer

SLICE_SECONDS = 0.001
LINGER_MS = 5
WATCHED_A_SECOND = 1_000  # records whose confirmation is timed; a callback for each would cost much
CALL_SECONDS = 30.0


@dataclass(frozen=True)
class PacedJob:
    """records: a file of `save_records`, which are produced in turn, from the first again after the
    last, `rate` a second. Of the first `warm_seconds` nothing is reported. report: the file for
    `Paced`."""

    bootstrap_servers: str
    topic: str
    records: str
    rate: float
    warm_seconds: float
    seconds: float
    report: str


@dataclass(frozen=True)
class Paced:
    """From when a record was due until it was confirmed, in ms; records a second; how late the last
    record was handed to the client."""

    p50_ms: float
    p99_ms: float
    rate: float
    last_late_ms: float


def save_records(path: Path, records: list[tuple[bytes, bytes]]) -> None:
    """Keys and values as one run of bytes and the lengths of its parts."""
    parts = [part for record in records for part in record]
    lengths = np.array([len(part) for part in parts], np.int64)
    with path.open("wb") as file:
        np.savez(file, data=np.frombuffer(b"".join(parts), np.uint8), lengths=lengths)


def load_records(path: Path) -> list[tuple[bytes, bytes]]:
    """What `save_records` saved."""
    with np.load(path, allow_pickle=False) as found:
        data, ends = found["data"].tobytes(), np.cumsum(found["lengths"]).tolist()
    parts = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return list(zip(parts[::2], parts[1::2], strict=True))


def produce(job: PacedJob, records: list[tuple[bytes, bytes]]) -> Paced:
    """Produce them all, and wait until the brokers have them. Raises TimeoutError."""
    producer = Producer(
        {
            "bootstrap.servers": job.bootstrap_servers, "enable.idempotence": True,
            "linger.ms": LINGER_MS, "partitioner": "murmur2_random",
        }
    )  # fmt: skip
    producer.list_topics(job.topic, timeout=CALL_SECONDS)  # connected before the first record
    total = max(int(job.rate * (job.warm_seconds + job.seconds)), 1)
    watched = max(int(job.rate / WATCHED_A_SECOND), 1)
    taken: list[float] = []
    sent, late_ms, started, started_ms = 0, 0.0, time.perf_counter(), time.time() * 1000
    warm_until_ms = started_ms + job.warm_seconds * 1000

    def confirmed(due_ms: int, _error: object, _message: Message) -> None:
        if due_ms >= warm_until_ms:
            taken.append(time.time() * 1000 - due_ms)

    while sent < total:
        due = min(total, int((time.perf_counter() - started) * job.rate) + 1)
        for number in range(sent, due):
            key, value = records[number % len(records)]
            due_ms = int(started_ms + number / job.rate * 1000)
            report = partial(confirmed, due_ms) if number % watched == 0 else None
            while not _accepted(producer, job.topic, key, value, due_ms, report):
                producer.poll(SLICE_SECONDS)
        sent = due
        late_ms = time.time() * 1000 - (started_ms + (sent - 1) / job.rate * 1000)
        producer.poll(0)
        time.sleep(SLICE_SECONDS)
    if left := producer.flush(CALL_SECONDS):
        raise TimeoutError(f"{left} records were not delivered")
    seconds = job.warm_seconds + job.seconds + late_ms / 1000
    p50, p99 = np.percentile(taken, [50, 99]) if taken else (0.0, 0.0)
    return Paced(float(p50), float(p99), total / seconds, late_ms)


def _accepted(
    producer: Producer, topic: str, key: bytes, value: bytes, due_ms: int, report: Any
) -> bool:
    """Whether the client had room for the record; it fills up where the broker is slower."""
    try:
        producer.produce(topic, value, key, timestamp=due_ms, on_delivery=report)
    except BufferError:
        return False
    return True


def main() -> None:
    """Do the job that the first argument names, and report."""
    job = PacedJob(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    paced = produce(job, load_records(Path(job.records)))
    Path(job.report).write_text(json.dumps(asdict(paced)), encoding="utf-8")


if __name__ == "__main__":
    main()
