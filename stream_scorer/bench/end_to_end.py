"""`bench end-to-end`: from events in Kafka to vectors in Redis and propensities in Kafka.

The topic is full before the clock starts, which runs from the first batch on, so that
joining a group costs nobody. Three consumers read the same records into an empty Redis, in turns:
ours (the one that `run` runs), ours without a model, and a good one in plain Python (peer.py); and
librdkafka's client alone, which does nothing with them. Broker and Redis share this machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import Producer, TopicPartition

from stream_scorer.bench.peer import Vectors
from stream_scorer.bench.testbed import Testbed, open_testbed, untrained
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.errors import BusUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.sink import KafkaSink
from stream_scorer.live.consumer import Consumer, clock_ms
from stream_scorer.live.store_fold import StoreFold
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine

STAGE = "end-to-end"
MOST_BATCH_EVENTS = 5_000  # the default
LEAST_BATCHES = 8
SILENT_SECONDS = 30.0


class _Clock:
    """Events after the first batch, by the time since it."""

    def __init__(self, events: int) -> None:
        self._total, self._first, self._taken, self._started = events, 0, 0, 0.0
        self._newest = time.perf_counter()

    @property
    def running(self) -> bool:
        """Whether some are left. Raises BusUnavailable where none came for long."""
        if time.perf_counter() - self._newest > SILENT_SECONDS:
            raise BusUnavailable(f"{self._taken} of {self._total} records came")
        return self._taken < self._total

    def took(self, events: int) -> None:
        """So many more are done with."""
        if events:
            self._newest = time.perf_counter()
            if not self._taken:
                self._first, self._started = events, self._newest
            self._taken += events

    @property
    def rate(self) -> float:
        """Events a second."""
        return (self._taken - self._first) / (self._newest - self._started)


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    with open_testbed(sizes, findings, STAGE) as testbed:
        if testbed is None:
            return
        untrained(testbed.scene)
        events = testbed.fill(sizes.topic_events)
        cases = {
            "raw consume by confluent-kafka, nothing done": _raw,
            "features only": _features_only,
            "events to propensities": _whole,
            "plain Python peer, features only": _peer_features_only,
            "plain Python peer, events to propensities": _peer_whole,
        }
        rates: dict[str, list[float]] = {case: [] for case in cases}
        for run in range(sizes.runs + 1):  # the first to warm up
            for case, consume in cases.items():
                rate = consume(testbed, events)
                if run:
                    rates[case].append(rate)
        for case, found in rates.items():
            findings.add(STAGE, f"{case}, {events:,} events", "events/s", found)
        few = min(events, 1_000)
        counted = [_counted_in_redis(testbed, few) for _ in range(sizes.runs)]
        findings.add(STAGE, f"HINCRBYFLOAT for each feature, {few:,} events", "events/s", counted)
        raw, features, whole, peer_features, peer = rates.values()
        findings.ratios["features_only_vs_raw_consume"] = _ratio(features, raw)
        findings.ratios["features_only_vs_best_peer"] = _ratio(features, peer_features)
        findings.ratios["end_to_end_vs_best_peer"] = _ratio(whole, peer)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over turns."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _whole(testbed: Testbed, events: int) -> float:
    testbed.store()
    with Consumer(testbed.settings(_batch_events(events))) as consumer:
        consumer.warm_up()
        consumer.join()
        clock = _Clock(events)
        while clock.running:
            clock.took(consumer.pipeline.step().records)
    return clock.rate


def _features_only(testbed: Testbed, events: int) -> float:
    store, settings, space = (
        testbed.store(),
        testbed.settings(_batch_events(events)),
        testbed.scene.space,
    )
    kafka, batch = settings.kafka, settings.batch
    with ExitStack() as closing:
        source = KafkaSource(
            kafka.consumer_properties(), kafka.input_topic, store,
            max_events=batch.max_events, max_age_ms=batch.max_age_ms,
        )  # fmt: skip
        closing.callback(source.close)
        sink = KafkaSink(
            kafka.producer_properties(), kafka.output_topic, kafka.dead_letter_topic,
            max_dead_letter_bytes=settings.publish.max_dead_letter_bytes, clock_ms=clock_ms,
        )  # fmt: skip
        closing.callback(sink.close)
        decoder = Decoder(lambda _key: None, max_record_bytes=settings.events.max_record_bytes)
        preparation = Preparation(settings.event_rules(), space)
        fold, clock = StoreFold(store, space), _Clock(events)
        while clock.running:  # the path of one event without what comes after its vector
            records = source.poll()
            if len(records):
                decoded = DecodedBatch(*decoder.decode(records), records)
                prepared = preparation.prepare(decoded, clock_ms())
                fold.fold(prepared, BatchReport())
                store.advance(records.next_offsets())
                sink.deliver([], [], prepared.dead_letters, records.next_offsets())
                source.commit(records.next_offsets())
            clock.took(len(records))
    return clock.rate


def _raw(testbed: Testbed, events: int) -> float:
    clock = _Clock(events)
    for values, _ in _batches(testbed, events, clock):
        clock.took(len(values))
    return clock.rate


def _peer_features_only(testbed: Testbed, events: int) -> float:
    testbed.store()
    vectors, clock = Vectors(testbed.client, testbed.scene.space), _Clock(events)
    for values, client in _batches(testbed, events, clock):
        vectors.update(values)
        client.commit(asynchronous=False)
        clock.took(len(values))
    return clock.rate


def _peer_whole(testbed: Testbed, events: int) -> float:
    testbed.store()
    settings, space = testbed.settings(_batch_events(events)), testbed.scene.space
    engine = open_engine(artefact.load(settings.model.path, space.fingerprint), "mxnet")
    engine.warm_up(_batch_events(events))
    producer = Producer({"bootstrap.servers": testbed.kafka.bootstrap_servers, "linger.ms": 5})
    vectors, clock = Vectors(testbed.client, space), _Clock(events)
    for values, client in _batches(testbed, events, clock):
        changed = vectors.update(values)
        scores = engine.score(vectors.matrix(changed))[:, :, 1]
        for customer, row in zip(changed, scores, strict=True):
            producer.produce(settings.kafka.output_topic, row.tobytes(), customer)
        producer.flush()
        client.commit(asynchronous=False)
        clock.took(len(values))
    return clock.rate


def _batches(testbed: Testbed, events: int, clock: _Clock) -> Iterator[tuple[list[bytes], Any]]:
    """Values of the topic from its start, until the clock has all; and the client to commit by."""
    settings = testbed.settings(_batch_events(events))
    properties = {**settings.kafka.consumer_properties(), "enable.auto.commit": False}
    client = KafkaConsumer({**properties, "group.id": f"peer-{time.monotonic_ns()}"})
    topic = settings.kafka.input_topic
    partitions = client.list_topics(topic, timeout=10).topics[topic].partitions
    client.assign([TopicPartition(topic, number, 0) for number in partitions])
    try:
        while clock.running:
            messages = client.consume(_batch_events(events), settings.batch.max_age_ms / 1000)
            values = [m.value() for m in messages if m.error() is None]
            if values:
                yield [v for v in values if v is not None], client
    finally:
        client.close()


def _batch_events(events: int) -> int:
    return max(1, min(MOST_BATCH_EVENTS, events // LEAST_BATCHES))


def _counted_in_redis(testbed: Testbed, events: int) -> float:
    testbed.store()
    vectors = Vectors(testbed.client, testbed.scene.space)
    values = [value for _, value in testbed.scene.encoded[:events]]
    landmark_ms = int(testbed.scene.stream.occurred_at_ms[0])
    started = time.perf_counter()
    vectors.count_in_redis(values, landmark_ms)
    return events / (time.perf_counter() - started)
