"""Consumers that read the same records from a topic into an empty Redis, and how fast each was.

Ours (the one that `run` runs) with and without a model, a good one in plain Python (peer.py), and
librdkafka's client alone, which does nothing with the records. The topic is full before the clock
starts, which runs from the first batch on, so that joining a group costs nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import Producer, TopicPartition

from stream_scorer.bench.peer import Vectors
from stream_scorer.bench.testbed import Testbed
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.errors import BusUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.sink import KafkaSink
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.live.consumer import Consumer, clock_ms
from stream_scorer.live.store_fold import StoreFold
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.settings.tree import Settings

MOST_BATCH_EVENTS = 5_000  # the default
LEAST_BATCHES = 8
SILENT_SECONDS = 30.0


class Clock:
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


def events_to_propensities(testbed: Testbed, events: int, engine: str = "mxnet") -> float:
    """Events a second of the consumer that `run` runs."""
    testbed.store()
    settings = testbed.settings(batch_events(events))
    model = settings.model.model_copy(update={"engine": engine})
    with Consumer(settings.model_copy(update={"model": model})) as consumer:
        consumer.warm_up()
        consumer.join()
        clock = Clock(events)
        while clock.running:
            clock.took(consumer.pipeline.step().records)
    return clock.rate


def vectors_alone(testbed: Testbed, events: int) -> float:
    """Events a second of our path up to the saved vectors, with offsets and dead letters."""
    store = testbed.store()  # first: a group of its own goes with it
    return fold_topic(testbed.settings(batch_events(events)), store, events)


def fold_topic(settings: Settings, store: RedisStore, events: int) -> float:
    """The path of one event without what comes after its vector; events a second."""
    kafka, batch, space = settings.kafka, settings.batch, settings.feature_space()
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
        fold, clock = StoreFold(store, space), Clock(events)
        while clock.running:
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


def raw_consume(testbed: Testbed, events: int) -> float:
    """Events a second of the client alone."""
    clock = Clock(events)
    for values, _ in _batches(testbed, events, clock):
        clock.took(len(values))
    return clock.rate


def plain_vectors(testbed: Testbed, events: int) -> float:
    """Events a second of the consumer in plain Python, without a model."""
    testbed.store()
    vectors, clock = Vectors(testbed.client, testbed.scene.space), Clock(events)
    for values, client in _batches(testbed, events, clock):
        vectors.update(values)
        client.commit(asynchronous=False)
        clock.took(len(values))
    return clock.rate


def plain_propensities(testbed: Testbed, events: int) -> float:
    """Events a second of the consumer in plain Python, with MXNet."""
    testbed.store()
    settings, space = testbed.settings(batch_events(events)), testbed.scene.space
    engine = open_engine(artefact.load(settings.model.path, space.fingerprint), "mxnet")
    engine.warm_up(batch_events(events))
    producer = Producer({"bootstrap.servers": testbed.bootstrap_servers, "linger.ms": 5})
    vectors, clock = Vectors(testbed.client, space), Clock(events)
    for values, client in _batches(testbed, events, clock):
        changed = vectors.update(values)
        scores = engine.score(vectors.matrix(changed))[:, :, 1]
        for customer, row in zip(changed, scores, strict=True):
            producer.produce(settings.kafka.output_topic, row.tobytes(), customer)
        producer.flush()
        client.commit(asynchronous=False)
        clock.took(len(values))
    return clock.rate


def _batches(testbed: Testbed, events: int, clock: Clock) -> Iterator[tuple[list[bytes], Any]]:
    """Values of the topic from its start, until the clock has all; and the client to commit by."""
    settings = testbed.settings(batch_events(events))
    properties = {**settings.kafka.consumer_properties(), "enable.auto.commit": False}
    client = KafkaConsumer({**properties, "group.id": f"peer-{time.monotonic_ns()}"})
    topic = settings.kafka.input_topic
    partitions = client.list_topics(topic, timeout=10).topics[topic].partitions
    client.assign([TopicPartition(topic, number, 0) for number in partitions])
    try:
        while clock.running:
            messages = client.consume(batch_events(events), settings.batch.max_age_ms / 1000)
            values = [m.value() for m in messages if m.error() is None]
            if values:
                yield [v for v in values if v is not None], client
    finally:
        client.close()


def batch_events(events: int) -> int:
    """Of a micro-batch: the default, but several where there are few events."""
    return max(1, min(MOST_BATCH_EVENTS, events // LEAST_BATCHES))
