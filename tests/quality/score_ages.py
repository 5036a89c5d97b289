"""How old the oldest score is, through many rounds of refreshing beside steady traffic.

On a real broker and a real Redis. A reader of its own looks at the output topic alone: it keeps
each customer's newest record (by source offset, then by as-of time), and every few seconds writes
down how long ago the moments lie as of which these were scored. Rounds begin every few minutes in
place of every day, so that half an hour shows several.

Usage: python tests/quality/score_ages.py [--minutes 25] [--every 5m] [--customers 30000]
       [--rate 100] [--out ages.json] [--plot ages.png]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as KafkaPartition
from refresh_latency import fill, quiet_customers

from stream_scorer.bench.peer_comparison import open_real_testbed
from stream_scorer.bench.real_servers import PARTITIONS, ServerAddresses
from stream_scorer.bench.testbed import Testbed, untrained
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.consumer import Consumer, clock_ms, open_store
from stream_scorer.live.loop import Loop
from stream_scorer.live.refresh import Refresher
from stream_scorer.live.stop import Stop
from stream_scorer.settings.tree import Settings

HOUSEHOLDS = 300
SAMPLE_SECONDS = 5.0
ACTIVE = 1_000  # customers of the traffic


class Newest:
    """Each customer's newest record, as a reader of the output topic knows it."""

    def __init__(self, quiet: list[str], since_ms: int) -> None:
        # Who was never published counts as of the start.
        self._of = dict.fromkeys(quiet, (-2, since_ms))
        self.records = 0

    def take(self, values: list[bytes]) -> None:
        found = decode_propensities(values)
        self.records += len(found)
        rows = zip(found.customer_ids, found.offset.tolist(), found.as_of_ms.tolist(), strict=True)
        for customer, offset, as_of_ms in rows:
            at = offset, as_of_ms
            if at > self._of.get(customer, (-3, 0)):
                self._of[customer] = at

    def ages(self) -> list[float]:
        """Of the oldest, of the oldest hundredth and of the median customer, in seconds."""
        at = np.array([as_of_ms for _, as_of_ms in self._of.values()])
        return np.percentile((clock_ms() - at) / 1000, [100, 99, 50]).tolist()


def read(servers: str, topic: str, quiet: list[str], out: str, stopped: Any) -> None:
    """Read along until `stopped`, and write the samples to `out`."""
    client = KafkaConsumer({"bootstrap.servers": servers, "group.id": "ages"})
    client.assign([KafkaPartition(topic, p, 0) for p in range(PARTITIONS)])
    began, samples = time.monotonic(), list[list[float]]()
    newest, next_sample = Newest(quiet, clock_ms()), began + SAMPLE_SECONDS
    parent = multiprocessing.parent_process()
    while not stopped.is_set() and parent is not None and parent.is_alive():
        values = [m.value() or b"" for m in client.consume(5_000, 0.5) if m.error() is None]
        if values:
            newest.take(values)
        if time.monotonic() >= next_sample:
            next_sample += SAMPLE_SECONDS
            samples.append([time.monotonic() - began, newest.records, *newest.ages()])
            Path(out).write_text(json.dumps(samples))
    client.close()


def traffic(servers: str, settings: Settings, rate: float, stop: Stop) -> None:
    """Events of now, of a few customers, at this rate."""
    producer = Producer(
        {
            "bootstrap.servers": servers, "linger.ms": 2, "enable.idempotence": True,
            "partitioner": "murmur2_random",
        }
    )  # fmt: skip
    draw, sent, began = np.random.default_rng(1), 0, time.monotonic()
    categories, kind = settings.vocabularies["category_id"], settings.events.event_types[0]
    while not stop.asked:
        due = int((time.monotonic() - began) * rate)
        events = [
            {
                "event_id": str(i), "customer_id": f"active-{draw.integers(ACTIVE)}",
                "event_type": kind, "category_id": str(draw.choice(categories)), "value": 1.0,
                "occurred_at": clock_ms(),
            }
            for i in range(sent, due)
        ]  # fmt: skip
        for event, value in zip(events, encode_events(events), strict=True):
            producer.produce(settings.kafka.input_topic, value, str(event["customer_id"]))
        sent = due
        producer.poll(0)
        time.sleep(0.01)
    producer.flush(10)


def run(testbed: Testbed, given: argparse.Namespace) -> list[list[float]]:
    """Samples: seconds since the start, records read, and the ages of `Newest.ages`."""
    quiet = quiet_customers(testbed, given.customers)
    testbed.store()  # empties Redis
    settings = testbed.settings(5_000)
    refresh = settings.refresh.model_copy(update={"every": given.every, "least_change": 0.0})
    model = settings.model.model_copy(update={"engine": given.engine})
    settings = settings.model_copy(
        update={
            "refresh": refresh, "model": model,
            "store": settings.store.model_copy(update={"time_to_live_seconds": 0}),
            "batch": settings.batch.model_copy(update={"max_age_ms": 100}),
        }
    )  # fmt: skip
    store = open_store(settings, testbed.scene.space)
    fill(store, quiet)
    store.close()
    metrics, stop, spawn = Metrics(), Stop(), multiprocessing.get_context("spawn")
    stopped, ids = spawn.Event(), quiet.customer_ids
    topic = settings.kafka.output_topic
    reader = spawn.Process(
        target=read, args=(testbed.bootstrap_servers, topic, ids, str(given.out), stopped)
    )
    sending = threading.Thread(
        target=traffic, args=(testbed.bootstrap_servers, settings, given.rate, stop)
    )
    ending = threading.Timer(60 * given.minutes, lambda: setattr(stop, "asked", True))
    with Consumer(settings) as consumer:
        consumer.warm_up()
        consumer.join()
        refresher = Refresher(consumer, metrics, clock_ms)
        for part in (reader, sending, ending):
            part.start()
        window = settings.dead_letter_window(live=True)
        try:
            Loop(consumer, window, metrics, stop, (refresher.slice,)).run()
        finally:
            stop.asked = True
            ending.cancel()
            stopped.set()
            sending.join()
            reader.join()
    found: list[list[float]] = json.loads(given.out.read_text())
    return found


def plot(samples: list[list[float]], every: str, path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    at = np.array(samples)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    minutes = at[:, 0] / 60
    axes.plot(minutes, minutes, "--", color="0.6", label="the oldest, without refresh")
    for column, label in ((2, "the oldest"), (3, "the oldest hundredth"), (4, "the median")):
        axes.plot(minutes, at[:, column] / 60, label=label)
    axes.set(
        xlabel="minutes since the start", ylabel="age of a customer's score, minutes",
        title=f"A round every {every}",
    )  # fmt: skip
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--every", default="5m")
    parser.add_argument("--customers", type=int, default=30_000)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--engine", choices=["native", "mxnet"], default="native")
    parser.add_argument("--out", type=Path, default=Path("ages.json"))
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    with open_real_testbed(Sizes(households=HOUSEHOLDS), ServerAddresses()) as testbed:
        untrained(testbed.scene)
        samples = run(testbed, given)
    oldest = np.array(samples)[:, 2]
    # After the first round: before it nobody was published.
    later = oldest[len(oldest) // 4 :]
    print(
        f"{samples[-1][1]:,.0f} records in {samples[-1][0] / 60:.1f} minutes; the oldest score was "
        f"at most {later.max():.0f} s old after the first quarter, {np.median(later):.0f} s in the "
        "median"
    )
    if given.plot:
        plot(samples, given.every, given.plot)


if __name__ == "__main__":
    main()
