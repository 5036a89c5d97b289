"""`bench peers`: this consumer beside what people would use instead, on real servers.

Apache Kafka and Redis share this machine with whoever consumes, one at a time and in turns: the
bare client, ours with and without a model, a consumer in plain Python (peer.py), Quix Streams and
Bytewax (peers/). All read the same records and keep the same vectors: everybody's are compared with
ours, so that nobody is fast because of work left out. A case that takes less than a second or two
runs several times in each turn, since so short a time says little.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from scipy import sparse

from stream_scorer.bench import consumers, customer_scaling
from stream_scorer.bench.latency import measure_latency
from stream_scorer.bench.peer import KINDS, Vectors, matrix_of
from stream_scorer.bench.peer_processes import PeerProcess, peer_versions
from stream_scorer.bench.peers.declared_counts import Vector
from stream_scorer.bench.real_servers import (
    PARTITIONS,
    ServerAddresses,
    open_broker,
    open_redis,
    topics_of,
)
from stream_scorer.bench.testbed import Testbed, untrained
from stream_scorer.bench.time_budget import TimeBudget
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.features import csr
from stream_scorer.demo.scenario import prepare
from stream_scorer.errors import Halt

STAGE = "peers"
EPOCH_SECONDS = 1
# Of the time that the whole may take, when the rates and the latency are to be done.
RATES_SHARE, LATENCY_SHARE = 0.55, 0.75
LEAST_SECONDS, MOST_REPEATS = 2.0, 5  # of one case in one turn

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
    python, versions = setup.python or "", peer_versions(setup.python)
    findings.notes.append(
        "peers run on " + ", ".join(f"{name} {found}" for name, found in versions.items())
    )
    budget, load = TimeBudget(sizes.peer_seconds), os.getloadavg()[0]
    with open_real_testbed(sizes, setup.servers) as testbed:
        untrained(testbed.scene)
        events = testbed.fill(sizes.topic_events)
        rates = _measure_rates(testbed, events, sizes.peer_runs, budget, findings, python)
        highest = statistics.median(rates[OURS_NATIVE])
        measure_latency(testbed, highest / 2, sizes.peer_runs, budget, LATENCY_SHARE, findings)
        customer_scaling.measure(testbed, events, sizes, budget, findings)
    findings.notes.append(
        f"the machine's load was {load:.1f} before and {os.getloadavg()[0]:.1f} at the end (mean "
        f"of a minute); all took {budget.spent_seconds:,.0f} s"
    )


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
            scene = prepare(folder, bootstrap_servers, url, sizes.households, KINDS)
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


def _our_vectors(testbed: Testbed, events: int) -> tuple[list[str], sparse.csr_matrix]:
    """Customers of these events, and their vectors as this consumer makes them."""
    store = testbed.store()
    consumers.fold_topic(testbed.settings(consumers.batch_events(events)), store, events)
    ids = sorted({key.decode() for key, _ in testbed.scene.encoded[:events]})
    states = store.load(ids)
    return ids, csr.build(states, testbed.scene.space, states.arrays.newest_ms)


def _measure_rates(
    testbed: Testbed, events: int, runs: int, budget: TimeBudget, findings: Findings, python: str
) -> dict[str, list[float]]:
    ids, ours = _our_vectors(testbed, events)

    def plain_vectors() -> float:
        rate = consumers.plain_vectors(testbed, events)
        kept = Vectors(testbed.client, testbed.scene.space).stored(ids)
        refuse_other_vectors(PLAIN_VECTORS, ours, kept, ids, testbed)
        return rate

    def in_process(name: str) -> Callable[[], float]:
        def run() -> float:
            rate, vectors = PROCESSES[name].run(python, testbed, events)
            refuse_other_vectors(name, ours, vectors, ids, testbed)
            return rate

        return run

    cases: dict[str, Callable[[], float]] = {
        RAW: lambda: consumers.raw_consume(testbed, events),
        OURS_VECTORS: lambda: consumers.vectors_alone(testbed, events),
        OURS_NATIVE: lambda: consumers.events_to_propensities(testbed, events, "native"),
        OURS_MXNET: lambda: consumers.events_to_propensities(testbed, events, "mxnet"),
        PLAIN_VECTORS: plain_vectors,
        PLAIN_WHOLE: lambda: consumers.plain_propensities(testbed, events),
        **{case: in_process(case) for case in PROCESSES},
    }
    for case, consume in cases.items():
        if case not in PROCESSES:  # a process is cold each time
            consume()  # to warm up
    rates: dict[str, list[float]] = {case: [] for case in cases}
    for _ in budget.turns(runs, RATES_SHARE):
        for case, consume in cases.items():
            rates[case].append(steady_rate(consume, events))
    for case, found in rates.items():
        findings.add(STAGE, f"{case}, {events:,} events", "events/s", found)
    for name, (mine, theirs) in RATIOS.items():
        findings.compare(name, rates[mine], rates[theirs])
    return rates


def steady_rate(consume: Callable[[], float], events: int) -> float:
    """Events a second of so many runs that they take `LEAST_SECONDS` together: their median."""
    found: list[float] = []
    while len(found) < MOST_REPEATS and sum(events / rate for rate in found) < LEAST_SECONDS:
        found.append(consume())
    return statistics.median(found)
