"""Latency from event to propensity with a refresh of quiet customers running, and without.

On a real broker and a real Redis, at a given rate, the two in turn, so that a busy machine is busy
for both, in the loop that `run` runs. With it, all customers are due all the time, so refreshing
goes as fast as it may. An event's latency ends where the broker has the first record of its
customer with it in.

The producer is a thread here, and idempotent with a short linger: without a linger each record is a
request of its own, and a broker that was just started then answers more slowly than the consumer.

Usage: python tests/quality/refresh_latency.py [--rate EVENTS] [--customers N] [--turns N]
       [--seconds N] [--max-age-ms N] [--delivery at_least_once|exactly_once] [--no-least-change]
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.bench.peer_comparison import open_real_testbed
from stream_scorer.bench.real_servers import PARTITIONS, ServerAddresses, topics_of
from stream_scorer.bench.testbed import Testbed, untrained
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.features.fold import fold_events
from stream_scorer.core.features.state import CustomerStates, take
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.consumer import Consumer, clock_ms, open_store
from stream_scorer.live.loop import Loop
from stream_scorer.live.refresh import Refresher
from stream_scorer.live.stop import Stop
from stream_scorer.settings.tree import Settings

HOUSEHOLDS = 500
WARM_SECONDS = 3.0  # of events that do not count
JOIN_SECONDS = 3.0
CALL_SECONDS = 30.0


@dataclass(frozen=True)
class Found:
    """Of the events in ms, and how many customers a second a refresh looked at meanwhile."""

    p50_ms: float
    p99_ms: float
    events_per_second: float
    customers_per_second: float


def quiet_customers(testbed: Testbed, count: int) -> CustomerStates:
    """As many as that, whose vectors are those of households."""
    events = testbed.scene.past
    customer, ids = events.customer_id.intern()
    found = fold_events(empty_states(ids), events, customer, testbed.scene.space).states
    rows = np.arange(count) % len(ids)
    return replace(take(found, rows), customer_ids=[f"quiet-{i}" for i in range(count)])


def fill(store: RedisStore, states: CustomerStates) -> None:
    """Save all of them, as of a topic that nobody reads."""
    for first in range(0, len(states), 5000):
        store.save(states, np.arange(first, min(first + 5000, len(states))))
        store.advance({("filling", 0): first + 1})


def settings_of(testbed: Testbed, given: argparse.Namespace, refreshes: bool) -> Settings:
    """Another input topic and group each time. All customers are due all the time."""
    settings = testbed.settings(5_000)
    topic = f"{settings.kafka.input_topic}-{uuid4().hex[:8]}"
    refresh: dict[str, Any] = {"every": "1s" if refreshes else ""}
    if given.no_least_change:
        refresh["least_change"] = 0.0
    parts: dict[str, dict[str, Any]] = {
        "kafka": {"input_topic": topic, "delivery": given.delivery, "group_id": topic},
        "batch": {"max_age_ms": given.max_age_ms},
        "model": {"engine": given.engine},
        "store": {"time_to_live_seconds": 0, "namespace": topic},
        "refresh": refresh,
    }
    return settings.model_copy(
        update={
            name: getattr(settings, name).model_copy(update=update)
            for name, update in parts.items()
        }
    )


def produce(settings: Settings, records: list[Any], rate: float, done: Callable[[], None]) -> None:
    """All records at this rate, each with the time at which it was handed over."""
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers, "linger.ms": 1,
            "enable.idempotence": True, "partitioner": "murmur2_random",
        }
    )  # fmt: skip
    producer.list_topics(settings.kafka.input_topic, timeout=CALL_SECONDS)
    sent, began = 0, time.monotonic()
    while sent < len(records):
        due = min(len(records), int((time.monotonic() - began) * rate))
        for key, value in records[sent:due]:
            producer.produce(settings.kafka.input_topic, value, key)
        sent = due
        producer.poll(0)
        time.sleep(0.001)
    producer.flush(CALL_SECONDS)
    done()


def measured(
    testbed: Testbed, given: argparse.Namespace, quiet: CustomerStates, refreshes: bool
) -> Found:
    """One run of `given.seconds`, with a refresh or without it."""
    settings, metrics, stop = settings_of(testbed, given, refreshes), Metrics(), Stop()
    count = int(given.rate * (given.seconds + WARM_SECONDS))
    records = (testbed.scene.encoded * (1 + count // len(testbed.scene.encoded)))[:count]
    testbed.client.flushdb(asynchronous=True)
    store = open_store(settings, testbed.scene.space)
    fill(store, quiet)
    store.close()
    with topics_of(testbed.bootstrap_servers, {settings.kafka.input_topic: {}}, PARTITIONS):
        before = ends_of(settings, settings.kafka.output_topic)
        with Consumer(settings) as consumer:
            consumer.warm_up()
            consumer.join()
            until = time.monotonic() + JOIN_SECONDS
            while time.monotonic() < until:
                consumer.pipeline.step()
            refresher = Refresher(consumer, metrics, clock_ms)
            between = (refresher.slice,) if refreshes else ()

            def ended() -> None:
                # The last events are read by then; a stop finishes what was read.
                threading.Timer(1.0, lambda: setattr(stop, "asked", True)).start()

            job = (settings, records, given.rate, ended)
            sending = threading.Thread(target=produce, args=job)
            sending.start()
            began = time.monotonic()
            window = settings.dead_letter_window(live=True)
            Loop(consumer, window, metrics, stop, between).run()
            sending.join()
            seconds = time.monotonic() - began
        p50, p99, rate = latency(settings, before)
    name = "stream_scorer_refresh_customers_total"
    looked_at = sum(
        metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0
        for outcome in ("refreshed", "unmoved")
    )
    return Found(p50, p99, rate, looked_at / seconds)


def latency(settings: Settings, before: dict[int, int]) -> tuple[float, float, float]:
    """Median and 99th percentile of the events after the warm-up in ms, and their rate."""
    messages = messages_of(settings, settings.kafka.output_topic, before)
    found = decode_propensities([value for _, _, _, value, _ in messages])
    written: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
    rows = zip(found.customer_ids, found.partition.tolist(), found.offset.tolist(), strict=True)
    for (customer, partition, offset), message in zip(rows, messages, strict=True):
        offsets, times = written.setdefault((customer, partition), ([], []))
        offsets.append(offset)
        times.append(message[4])
    produced, taken = [], []
    for partition, offset, key, _, produced_ms in messages_of(
        settings, settings.kafka.input_topic, {}
    ):
        offsets, times = written[key.decode(), partition]
        produced.append(produced_ms)
        taken.append(times[int(np.searchsorted(offsets, offset))] - produced_ms)
    at = np.array(produced)
    counts = at >= at.min() + WARM_SECONDS * 1000
    p50, p99 = np.percentile(np.array(taken)[counts], [50, 99]).tolist()
    return p50, p99, len(at) / max((at.max() - at.min()) / 1000, 0.001)


def reader(settings: Settings) -> KafkaConsumer:
    return KafkaConsumer({**settings.kafka.client_properties(), "group.id": "latency-reader"})


def ends_of(settings: Settings, topic: str) -> dict[int, int]:
    client = reader(settings)
    found = {
        p: client.get_watermark_offsets(KafkaPartition(topic, p), timeout=CALL_SECONDS)[1]
        for p in client.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions
    }
    client.close()
    return found


def messages_of(
    settings: Settings, topic: str, before: dict[int, int]
) -> list[tuple[int, int, bytes, bytes, int]]:
    """(partition, offset, key, value, timestamp) from these offsets to the end."""
    ends, client = ends_of(settings, topic), reader(settings)
    left = {p: end for p, end in ends.items() if end > before.get(p, 0)}
    client.assign([KafkaPartition(topic, p, before.get(p, 0)) for p in left])
    found: list[Any] = []
    while left:
        for m in client.consume(10_000, 1.0):
            if m.error() is None:
                row = m.partition(), m.offset(), m.key(), m.value(), m.timestamp()[1]
                found.append(row)
        places = client.position([KafkaPartition(topic, p) for p in left])
        left = {p.partition: ends[p.partition] for p in places if p.offset < ends[p.partition]}
    client.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=4000)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--max-age-ms", type=int, default=10)
    parser.add_argument("--delivery", default="at_least_once")
    parser.add_argument("--engine", choices=["native", "mxnet"], default="native")
    parser.add_argument("--no-least-change", action="store_true", help="publish every customer")
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--redis")
    given = parser.parse_args()
    servers = ServerAddresses(given.bootstrap_servers, given.redis)
    with open_real_testbed(Sizes(households=HOUSEHOLDS), servers) as testbed:
        untrained(testbed.scene)
        quiet = quiet_customers(testbed, given.customers)
        all_p99: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(given.turns + 1):  # the first to warm up
            for refreshes in (False, True):
                found = measured(testbed, given, quiet, refreshes)
                if turn:
                    all_p99[refreshes].append(found.p99_ms)
                print(
                    f"{'with' if refreshes else 'without'} refresh"
                    f"{'' if turn else ' (warm-up, does not count)'}: p50 {found.p50_ms:.0f} ms, "
                    f"p99 {found.p99_ms:.0f} ms at {found.events_per_second:,.0f} events/s, "
                    f"{found.customers_per_second:,.0f} customers/s looked at",
                    flush=True,
                )
    off, on = (float(np.median(all_p99[refreshes])) for refreshes in (False, True))
    print(f"median p99: {off:.0f} ms without, {on:.0f} ms with: {on / off - 1:+.0%}")


if __name__ == "__main__":
    main()
