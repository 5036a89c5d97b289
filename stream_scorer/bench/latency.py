"""From event to propensity: how long, while events come at a steady rate.

A process of its own produces the public events at a given rate, the consumer that `run` runs scores
them, and nobody reads along. An event's record carries the time at which it was due; the output
topic's records carry the broker's time of writing, and the position of the newest event in them. An
event's latency ends with the first record of its customer that has it in, and so it includes what
the producer takes, which is reported beside it. The first seconds, in which the broker's JVM
compiles, are not counted.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import TopicPartition

from stream_scorer.bench import paced_producer
from stream_scorer.bench.consumers import Clock
from stream_scorer.bench.paced_producer import Paced, PacedJob, save_records
from stream_scorer.bench.real_servers import PARTITIONS, topics_of
from stream_scorer.bench.testbed import Testbed
from stream_scorer.bench.time_budget import TimeBudget
from stream_scorer.bench.timing import Findings
from stream_scorer.core.avro.schemas import SINGLE_OBJECT_PREFIX_BYTES, parsed
from stream_scorer.errors import Halt
from stream_scorer.live.consumer import Consumer
from stream_scorer.settings.tree import Settings

STAGE = "peers"
SECONDS = 5.0
WARM_SECONDS = 3.0
JOIN_SECONDS = 3.0
# A micro-batch may be small: what comes while the one before is worked on waits anyway.
BATCH_AGE_MS = 2
RATE_HELD = 0.98  # a producer that reaches less of the rate was too slow for it
CALL_SECONDS = 30.0
RECORDS_PER_CALL, POLL_SECONDS = 10_000, 0.1
LAST_FIELD_READ = "source"  # of an output record, from which nothing after this field is needed


@dataclass(frozen=True)
class Latency:
    """Of events, in ms, and events a second that were asked for; and the producer's own part."""

    p50_ms: float
    p99_ms: float
    asked: float
    producer: Paced

    @property
    def rate(self) -> float:
        """Events a second that came."""
        return self.producer.rate


def measure_latency(
    testbed: Testbed, rate: float, runs: int, budget: TimeBudget, share: float, findings: Findings
) -> None:
    """Add the latency at this rate, in a topic of its own for each run."""
    found: list[Latency] = []
    kafka = testbed.scene.settings.kafka
    for run in budget.turns(runs, share):
        topic = f"{kafka.input_topic}-paced-{run}"
        with topics_of(testbed.bootstrap_servers, {topic: {}}, PARTITIONS):
            found.append(latency_at(testbed, topic, rate))
    case = "from event to propensity at half of the highest rate, native"
    findings.add(STAGE, f"{case}: events", "events/s", [one.rate for one in found])
    findings.add(STAGE, f"{case}: p50", "ms", [one.p50_ms for one in found])
    findings.add(STAGE, f"{case}: p99", "ms", [one.p99_ms for one in found])
    part = "of it from event to Kafka's confirmation, by the producer"
    findings.add(STAGE, f"{part}: p50", "ms", [one.producer.p50_ms for one in found])
    findings.add(STAGE, f"{part}: p99", "ms", [one.producer.p99_ms for one in found])
    if slow := [one for one in found if one.rate < RATE_HELD * rate]:
        findings.notes.append(
            f"in {len(slow)} of {len(found)} runs the producer could not hold {rate:,.0f} events a "
            f"second, it reached {min(one.rate for one in slow):,.0f}: that latency is largely its "
            "own; measure again on an idle machine"
        )


def latency_at(testbed: Testbed, topic: str, rate: float, engine: str = "native") -> Latency:
    """Produce to the empty `topic` at this rate for some seconds. Raises Halt where it fails."""
    testbed.store()
    settings = testbed.settings(5_000)
    kafka = settings.kafka.model_copy(update={"input_topic": topic})
    batch = settings.batch.model_copy(update={"max_age_ms": BATCH_AGE_MS})
    model = settings.model.model_copy(update={"engine": engine})
    settings = settings.model_copy(update={"kafka": kafka, "batch": batch, "model": model})
    before = _ends(settings, kafka.output_topic)
    with (
        tempfile.TemporaryDirectory(prefix="stream-scorer-paced-") as name,
        Consumer(settings) as consumer,
    ):
        folder = Path(name)
        save_records(folder / "records", testbed.scene.encoded)
        job = PacedJob(
            testbed.bootstrap_servers, topic, str(folder / "records"), rate, WARM_SECONDS, SECONDS,
            str(folder / "report"),
        )  # fmt: skip
        (folder / "job").write_text(json.dumps(asdict(job)), encoding="utf-8")
        consumer.warm_up()
        consumer.join()
        until = time.perf_counter() + JOIN_SECONDS
        while time.perf_counter() < until:
            consumer.pipeline.step()
        with _set_aside():
            _consume(consumer, folder, int(rate * (WARM_SECONDS + SECONDS)))
        paced = Paced(**json.loads((folder / "report").read_text(encoding="utf-8")))
    p50, p99 = _latency(settings, topic, before)
    return Latency(p50, p99, rate, paced)


def _consume(consumer: Consumer, folder: Path, events: int) -> None:
    """Score until all that the producer produces is done. Raises Halt where that fails."""
    command = [sys.executable, paced_producer.__file__, str(folder / "job")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as producer:
        clock = Clock(max(events, 1))
        while clock.running and not producer.poll():
            clock.took(consumer.pipeline.step().records)
        if producer.wait(CALL_SECONDS):
            assert producer.stderr is not None
            raise Halt(f"the producer failed: {producer.stderr.read()[-500:]!r}")


@contextmanager
def _set_aside() -> Iterator[None]:
    """The garbage collector leaves alone what the benchmark holds, and `run` would not: hundreds of
    thousands of events."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _latency(settings: Settings, topic: str, before: dict[int, int]) -> tuple[float, float]:
    """p50 and p99 of the events that were due after the warm seconds, in ms."""
    written: dict[tuple[bytes, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    schema = _first_fields(parsed("category_propensities"))
    for message in _messages(settings, settings.kafka.output_topic, before):
        body = BytesIO(message.value()[SINGLE_OBJECT_PREFIX_BYTES:])
        record: Any = fastavro.schemaless_reader(body, schema, None)
        source = record["source"]
        offsets, times = written[message.key(), source["partition"]]
        offsets.append(source["offset"])
        times.append(message.timestamp()[1])
    found: dict[tuple[bytes, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for message in _messages(settings, topic, {}):
        offsets, times = found[message.key(), message.partition()]
        offsets.append(message.offset())
        times.append(message.timestamp()[1])
    due, taken = [], []
    for customer, (offsets, times) in found.items():
        known, moments = written[customer]
        at = np.searchsorted(known, offsets)
        if len(offsets) and at[-1] == len(known):
            raise Halt("an event was in no record of the output topic")
        due.append(np.array(times))
        taken.append(np.array(moments)[at] - due[-1])
    due_ms, taken_ms = np.concatenate(due), np.concatenate(taken)
    first, last = int(due_ms.min()), int(due_ms.max())
    kept = taken_ms[due_ms >= first + min(WARM_SECONDS * 1000, (last - first) / 2)]
    p50, p99 = np.percentile(kept, [50, 99])
    return float(p50), float(p99)


def _first_fields(schema: Mapping[str, Any]) -> Any:
    """The writer's schema up to `LAST_FIELD_READ`: Avro has a record's fields in order, so that the
    rest of the bytes need not be read."""
    names = [field["name"] for field in schema["fields"]]
    kept = schema["fields"][: names.index(LAST_FIELD_READ) + 1]
    return fastavro.parse_schema({"type": "record", "name": "FirstFields", "fields": kept})


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
    deadline = time.monotonic() + CALL_SECONDS
    try:
        while left:
            # `consume` waits for as many as are asked for, also behind the topic's end.
            found = client.consume(RECORDS_PER_CALL, POLL_SECONDS)
            if found:
                deadline = time.monotonic() + CALL_SECONDS
            elif time.monotonic() > deadline:
                raise Halt(f"topic {topic} could not be read to its end")
            for message in found:
                if message.error() is None:
                    yield message
                    partition: Any = message.partition()
                    if message.offset() + 1 >= ends[partition]:  # type: ignore[operator]
                        left.pop(partition, None)
    finally:
        client.close()
