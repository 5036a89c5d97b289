"""From event to propensity: how long, while events come at a steady rate.

A process of its own produces the public events at a given rate, the consumer that `run` runs scores
them, and nobody reads along. An event's record carries the time at which it was produced; the
output topic's records carry the broker's time of writing, and the position of the newest event in
them. An event's latency ends with the first record of its customer that has it in.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import TopicPartition

from stream_scorer.bench.consumers import Clock
from stream_scorer.bench.testbed import Testbed
from stream_scorer.core.avro.schemas import SINGLE_OBJECT_PREFIX_BYTES, parsed
from stream_scorer.errors import Halt
from stream_scorer.live.consumer import Consumer
from stream_scorer.settings.tree import Settings

SECONDS = 5.0
WARM_SECONDS = 1.0  # not counted: the first fetches and the first large batches
JOIN_SECONDS = 3.0
BATCH_AGE_MS = 10
CALL_SECONDS = 30.0
PRODUCER = Path(__file__).parent / "paced_producer.py"


@dataclass(frozen=True)
class Latency:
    """Of events, in ms; and how many events a second came."""

    p50_ms: float
    p99_ms: float
    rate: float


def latency_at(testbed: Testbed, topic: str, rate: float, engine: str = "native") -> Latency:
    """Produce to the empty `topic` at this rate for some seconds. Raises Halt where it fails."""
    records = testbed.scene.encoded[: max(int(rate * SECONDS), 1)]
    testbed.store()
    settings = testbed.settings(5_000)
    kafka = settings.kafka.model_copy(update={"input_topic": topic})
    batch = settings.batch.model_copy(update={"max_age_ms": BATCH_AGE_MS})
    model = settings.model.model_copy(update={"engine": engine})
    settings = settings.model_copy(update={"kafka": kafka, "batch": batch, "model": model})
    before = _ends(settings, kafka.output_topic)
    with Consumer(settings) as consumer:
        consumer.warm_up()
        consumer.join()
        until = time.perf_counter() + JOIN_SECONDS
        while time.perf_counter() < until:
            consumer.pipeline.step()
        command = [sys.executable, str(PRODUCER)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=False
        ) as producer:
            job = (testbed.bootstrap_servers, topic, records, rate)
            assert producer.stdin is not None
            producer.stdin.write(pickle.dumps(job))
            producer.stdin.close()
            clock = Clock(len(records))
            while clock.running and not producer.poll():
                clock.took(consumer.pipeline.step().records)
            if producer.wait(CALL_SECONDS):
                assert producer.stderr is not None
                raise Halt(f"the producer failed: {producer.stderr.read()[-500:]!r}")
    return _latency(settings, topic, before)


def _latency(settings: Settings, topic: str, before: dict[int, int]) -> Latency:
    written: dict[tuple[str, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    schema = parsed("category_propensities")
    for message in _messages(settings, settings.kafka.output_topic, before):
        body = BytesIO(message.value()[SINGLE_OBJECT_PREFIX_BYTES:])
        record: Any = fastavro.schemaless_reader(body, schema, None)
        source = record["source"]
        offsets, times = written[record["customer_id"], source["partition"]]
        offsets.append(source["offset"])
        times.append(message.timestamp()[1])
    produced, taken = [], []
    for message in _messages(settings, topic, {}):
        offsets, times = written[message.key().decode(), message.partition()]
        at = int(np.searchsorted(offsets, message.offset()))
        if at == len(offsets):
            raise Halt("an event was in no record of the output topic")
        produced.append(message.timestamp()[1])
        taken.append(times[at] - produced[-1])
    produced_ms, taken_ms = np.array(produced), np.array(taken)
    first, last = int(produced_ms.min()), int(produced_ms.max())
    kept = taken_ms[produced_ms >= first + min(WARM_SECONDS * 1000, (last - first) / 2)]
    p50, p99 = np.percentile(kept, [50, 99])
    return Latency(float(p50), float(p99), len(produced) / max((last - first) / 1000, 0.001))


def _ends(settings: Settings, topic: str) -> dict[int, int]:
    client = KafkaConsumer({**settings.kafka.client_properties(), "group.id": "bench-reader"})
    try:
        partitions = client.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions
        return {
            number: client.get_watermark_offsets(
                TopicPartition(topic, number), timeout=CALL_SECONDS
            )[1]
            for number in partitions
        }
    finally:
        client.close()


def _messages(settings: Settings, topic: str, before: dict[int, int]) -> Iterator[Any]:
    """The topic's records from these offsets, or its start, to its end, by partition in order."""
    ends = _ends(settings, topic)
    client = KafkaConsumer({**settings.kafka.client_properties(), "group.id": "bench-reader"})
    left = {n: end for n, end in ends.items() if end > before.get(n, 0)}
    client.assign([TopicPartition(topic, n, before.get(n, 0)) for n in left])
    try:
        while left:
            found = client.consume(10_000, CALL_SECONDS)
            if not found:
                raise Halt(f"topic {topic} could not be read to its end")
            for message in found:
                if message.error() is None:
                    yield message
                    partition: Any = message.partition()
                    if message.offset() + 1 >= ends[partition]:  # type: ignore[operator]
                        left.pop(partition, None)
    finally:
        client.close()
