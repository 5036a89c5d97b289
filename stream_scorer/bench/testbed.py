"""What the benchmarks on events run on: the public data, and servers that this process starts.

The topic is filled before the clock starts, and the model is untrained: its scores mean nothing but
cost as much as any other's.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis

from stream_scorer.bench.peer import KINDS
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.features.state import Float32
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.demo.scenario import Scenario, prepare
from stream_scorer.errors import InputError
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.model import artefact
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import Settings

EVENTS_PER_SEND = 5_000
ENTRIES_PER_ROW = 300  # about what a household has


@dataclass
class Testbed:
    """files: all events, as Parquet, in time order. scene: the demo's; its stream is in the topic
    once `fill` was called.
    """

    scene: Scenario
    files: tuple[Path, Path]
    bootstrap_servers: str
    client: Any
    runs: int = 0

    @property
    def events(self) -> int:
        """In the files."""
        return len(self.scene.past) + len(self.scene.stream)

    def store(self) -> RedisStore:
        """An empty one: nothing is in Redis but what is written from now on."""
        self.client.flushdb(asynchronous=True)
        self.runs += 1
        return RedisStore(self.client, "bench", self.scene.space.fingerprint)

    def settings(self, events_per_batch: int) -> Settings:
        """With a group that has read nothing, and the untrained model."""
        settings = self.scene.settings
        kafka = settings.kafka.model_copy(update={"group_id": f"bench-{self.runs}"})
        batch = settings.batch.model_copy(update={"max_events": events_per_batch})
        return settings.model_copy(update={"kafka": kafka, "batch": batch})

    def fill(self, events: int) -> int:
        """Put the first events of the stream into the topic; how many."""
        chosen = self.scene.encoded[:events]
        topic = self.scene.settings.kafka.input_topic
        self.send(topic, [key for key, _ in chosen], [value for _, value in chosen])
        return len(chosen)

    def send(self, topic: str, keys: list[bytes], values: list[bytes]) -> None:
        """Put records into a topic; returns when all are confirmed."""
        producer = ConfirmedProducer({"bootstrap.servers": self.bootstrap_servers})
        for first in range(0, len(keys), EVENTS_PER_SEND):
            some = slice(first, first + EVENTS_PER_SEND)
            producer.send(topic, keys[some], values[some])
            producer.settle()
        producer.close()


@contextmanager
def open_testbed(sizes: Sizes, findings: Findings, stage: str) -> Iterator[Testbed | None]:
    """None, with a note, where the extra `demo` is not installed."""
    logging.getLogger("librdkafka").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="stream-scorer-bench-") as name:
        folder = Path(name)
        try:
            with EmbeddedKafka() as kafka, EmbeddedRedis() as server:
                brokers, url = kafka.bootstrap_servers, server.url
                scene = prepare(folder, brokers, url, sizes.households, KINDS)
                topics = scene.settings.kafka
                kafka.create(topics.input_topic, topics.output_topic, topics.dead_letter_topic)
                files = folder / "past.parquet", folder / "stream.parquet"
                with redis.Redis(port=server.port) as client:
                    yield Testbed(scene, files, kafka.bootstrap_servers, client)
        except InputError as error:
            if error.field != "extra":
                raise
            findings.notes.append(f"{stage} left out: {error}")
            yield None


def untrained(scene: Scenario) -> None:
    """Save a model of random weights, for all categories, where the settings look for one."""
    from stream_scorer.model import inference_network, network_parameters  # noqa: PLC0415 - imports MXNet

    rule, spec = scene.settings.label_rule(), NetworkSpec()
    index = np.arange(len(scene.space.vocabularies[rule.by]))
    layout = Layout.of(scene.space, rule, index)
    parameters: dict[str, Float32] = network_parameters.initial_parameters(
        layout, spec, head_bias=np.full(len(index), -3, np.float32),
        entries_per_row=ENTRIES_PER_ROW, seed=0,
    )  # fmt: skip
    symbol = inference_network.inference_symbol(layout, spec).tojson()
    trained = TrainedModel(scene.space, rule, index, spec, parameters, symbol)
    artefact.save(trained, scene.settings.model.path)
