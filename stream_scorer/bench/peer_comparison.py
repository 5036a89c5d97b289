"""`bench peers`: this consumer beside what people would use instead, on real servers.

Apache Kafka and Redis share this machine with whoever consumes, one at a time and in turns: the
bare client, ours with and without a model, a consumer in plain Python (peer.py), Quix Streams and
Bytewax (peers/). All read the same records and keep the same vectors: before anything is timed,
everybody's vectors are compared with ours, so that nobody is fast because of work left out.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from scipy import sparse

from stream_scorer.bench import consumers
from stream_scorer.bench.customer_scaling import ManyCustomers
from stream_scorer.bench.latency import Latency, latency_at
from stream_scorer.bench.peer import Vectors, matrix_of
from stream_scorer.bench.peer_processes import PeerProcess, peer_versions
from stream_scorer.bench.peers.declared_counts import Vector
from stream_scorer.bench.real_servers import ServerAddresses, open_broker, open_redis, topics_of
from stream_scorer.bench.testbed import Testbed, untrained
from stream_scorer.bench.timing import Findings, ratio_of_turns
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.features import csr
from stream_scorer.demo.scenario import prepare
from stream_scorer.errors import Halt
from stream_scorer.io.stores.redis import RedisStore

STAGE = "peers"
PARTITIONS = 4
EPOCH_SECONDS = 1

RAW = "raw consume by confluent-kafka, nothing done"
OURS_VECTORS = "this consumer, vectors alone"
OURS_NATIVE = "this consumer, events to propensities, native"
OURS_MXNET = "this consumer, events to propensities, mxnet"
PLAIN_VECTORS = "plain Python and Redis, vectors alone"
PLAIN_WHOLE = "plain Python and Redis, events to propensities, mxnet"
QUIX = "Quix Streams with changelog, vectors alone"
QUIX_LOCAL = "Quix Streams without changelog, vectors alone"
BYTEWAX = "Bytewax with recovery, vectors alone"
BYTEWAX_MEMORY = "Bytewax in memory, vectors alone"

PROCESSES = {
    QUIX: PeerProcess("quix_peer.py", {"changelog": True}),
    QUIX_LOCAL: PeerProcess("quix_peer.py", {"changelog": False}),
    BYTEWAX: PeerProcess("bytewax_peer.py", {"recovery": True, "epoch_seconds": EPOCH_SECONDS}),
    BYTEWAX_MEMORY: PeerProcess("bytewax_peer.py", {"recovery": False}),
}

RATIOS = {  # rates of the same turns
    "features_only_vs_raw_consume": (OURS_VECTORS, RAW),
    "features_only_vs_plain_python": (OURS_VECTORS, PLAIN_VECTORS),
    "features_only_vs_quix": (OURS_VECTORS, QUIX),
    "features_only_vs_bytewax_recovery": (OURS_VECTORS, BYTEWAX),
    "features_only_vs_bytewax_memory": (OURS_VECTORS, BYTEWAX_MEMORY),
    "propensities_vs_raw_consume": (OURS_NATIVE, RAW),
    "propensities_mxnet_vs_raw_consume": (OURS_MXNET, RAW),
    # Only the consumer in plain Python scores; a framework with a model is slower than without one.
    "end_to_end_vs_best_peer": (OURS_NATIVE, PLAIN_WHOLE),
}


@dataclass(frozen=True)
class PeerSetup:
    """servers: which to use. python: the interpreter of the peers' environment."""

    servers: ServerAddresses = field(default_factory=ServerAddresses)
    python: str | None = None


def measure(sizes: Sizes, findings: Findings, setup: PeerSetup) -> None:
    """Add results and ratios to `findings`. Raises InputError and Halt."""
    versions = peer_versions(setup.python)
    findings.notes.append(
        "peers run on " + ", ".join(f"{name} {found}" for name, found in versions.items())
    )
    with open_real_testbed(sizes, setup.servers) as testbed:
        untrained(testbed.scene)
        events = testbed.fill(sizes.topic_events)
        compare_vectors(testbed, events, setup.python or "")
        rates = _measure_rates(testbed, events, sizes.peer_runs, findings, setup.python or "")
        _measure_latency(testbed, statistics.median(rates[OURS_NATIVE]), sizes.peer_runs, findings)
        _measure_scaling(testbed, events, sizes, findings)


@contextmanager
def open_real_testbed(sizes: Sizes, servers: ServerAddresses) -> Iterator[Testbed]:
    """On a real broker and a real Redis, with topics of their own, which are deleted at the end."""
    logging.getLogger("librdkafka").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="stream-scorer-bench-") as name:
        folder = Path(name)
        with (
            open_redis(servers.redis_url) as (url, client),
            open_broker(servers, folder) as bootstrap_servers,
        ):
            scene = prepare(folder, bootstrap_servers, url, sizes.households)
            run = f"stream-scorer-bench-{uuid4().hex[:8]}"
            kafka = scene.settings.kafka.model_copy(
                update={
                    "input_topic": f"{run}-events", "output_topic": f"{run}-propensities",
                    "dead_letter_topic": f"{run}-dead-letters", "properties": {},
                }
            )  # fmt: skip
            scene = replace(scene, settings=scene.settings.model_copy(update={"kafka": kafka}))
            topics = {
                kafka.input_topic: {},
                # So that latency can be seen from the records alone.
                kafka.output_topic: {"message.timestamp.type": "LogAppendTime"},
                kafka.dead_letter_topic: {},
            }
            files = folder / "past.parquet", folder / "stream.parquet"
            with topics_of(bootstrap_servers, topics, PARTITIONS):
                yield Testbed(scene, files, bootstrap_servers, client)


def compare_vectors(testbed: Testbed, events: int, python: str) -> None:
    """Everybody's vectors of these events with ours. Raises Halt where they differ."""
    store = testbed.store()
    consumers.fold_topic(testbed.settings(consumers.batch_events(events)), store, events)
    ids = sorted({key.decode() for key, _ in testbed.scene.encoded[:events]})
    ours = _our_matrix(store, ids, testbed)
    consumers.plain_vectors(testbed, events)
    found = {PLAIN_VECTORS: Vectors(testbed.client, testbed.scene.space).stored(ids)}
    for case, peer in PROCESSES.items():
        _, found[case] = peer.run(python, testbed, events)
    for case, vectors in found.items():
        refuse_other_vectors(case, ours, vectors, ids, testbed)


def refuse_other_vectors(
    case: str, ours: sparse.csr_matrix, vectors: dict[str, Vector], ids: list[str], testbed: Testbed
) -> None:
    """Raise Halt where a peer's vectors are not ours, to rounding: it did other work then."""
    if set(vectors) != set(ids):
        raise Halt(f"{case}: vectors of {len(vectors):,} customers instead of {len(ids):,}")
    theirs = matrix_of({i: vectors[i] for i in ids}, testbed.scene.space)
    far = np.abs((theirs - ours).toarray()) > 2e-5 + 1e-4 * np.abs(ours.toarray())
    if far.any():
        raise Halt(f"{case}: other vectors than ours for {far.any(axis=1).sum():,} customers")


def _our_matrix(store: RedisStore, ids: list[str], testbed: Testbed) -> sparse.csr_matrix:
    states = store.load(ids)
    return csr.build(states, testbed.scene.space, states.arrays.newest_ms)


def _measure_rates(
    testbed: Testbed, events: int, runs: int, findings: Findings, python: str
) -> dict[str, list[float]]:
    def in_process(name: str) -> Callable[[], float]:
        return lambda: PROCESSES[name].run(python, testbed, events)[0]

    cases: dict[str, Callable[[], float]] = {
        RAW: lambda: consumers.raw_consume(testbed, events),
        OURS_VECTORS: lambda: consumers.vectors_alone(testbed, events),
        OURS_NATIVE: lambda: consumers.events_to_propensities(testbed, events, "native"),
        OURS_MXNET: lambda: consumers.events_to_propensities(testbed, events, "mxnet"),
        PLAIN_VECTORS: lambda: consumers.plain_vectors(testbed, events),
        PLAIN_WHOLE: lambda: consumers.plain_propensities(testbed, events),
        **{case: in_process(case) for case in PROCESSES},
    }
    rates: dict[str, list[float]] = {case: [] for case in cases}
    for run in range(runs + 1):  # the first to warm up
        for case, consume in cases.items():
            if run or case not in PROCESSES:  # a process is cold each time
                rate = consume()
                if run:
                    rates[case].append(rate)
    for case, found in rates.items():
        findings.add(STAGE, f"{case}, {events:,} events", "events/s", found)
    for name, (ours, theirs) in RATIOS.items():
        findings.ratios[name] = ratio_of_turns(rates[ours], rates[theirs])
    return rates


def _measure_latency(testbed: Testbed, highest: float, runs: int, findings: Findings) -> None:
    found: list[Latency] = []
    kafka = testbed.scene.settings.kafka
    for run in range(runs):
        topic = f"{kafka.input_topic}-paced-{run}"
        with topics_of(testbed.bootstrap_servers, {topic: {}}, PARTITIONS):
            found.append(latency_at(testbed, topic, highest / 2))
    case = "from event to propensity at half of the highest rate, native"
    findings.add(STAGE, f"{case}: events", "events/s", [one.rate for one in found])
    findings.add(STAGE, f"{case}: p50", "ms", [one.p50_ms for one in found])
    findings.add(STAGE, f"{case}: p99", "ms", [one.p99_ms for one in found])


def _measure_scaling(testbed: Testbed, events: int, sizes: Sizes, findings: Findings) -> None:
    testbed.store()
    topics = {
        customers: f"{testbed.scene.settings.kafka.input_topic}-of-{customers}"
        for customers in sizes.peer_customers
    }
    with topics_of(testbed.bootstrap_servers, {topic: {} for topic in topics.values()}, PARTITIONS):
        crowds = {n: ManyCustomers(testbed, topic, n) for n, topic in topics.items()}
        for crowd in crowds.values():
            # A run ends with a whole micro-batch, so it may take some more than it is asked for.
            crowd.fill((sizes.peer_runs + 2) * events)
        costs: dict[int, list[float]] = {customers: [] for customers in crowds}
        for run in range(sizes.peer_runs + 1):
            for customers, crowd in crowds.items():
                cost = 1e6 / crowd.rate(events)
                if run:
                    costs[customers].append(cost)
    for customers, found in costs.items():
        case = f"vectors alone, {customers:,} customers in Redis, events spread over all"
        findings.add(STAGE, case, "us/event", found)
    fewest, most = min(costs), max(costs)
    findings.ratios["cost_per_event_most_vs_fewest_customers"] = ratio_of_turns(
        costs[most], costs[fewest]
    )
