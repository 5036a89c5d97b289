"""`bench end-to-end`: from events in Kafka to vectors in Redis and propensities in Kafka.

The consumers of consumers.py take turns. Broker and Redis are embedded and share this machine: the
broker is librdkafka's mock cluster. `bench peers` does this on a real broker, beside frameworks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from stream_scorer.bench import consumers
from stream_scorer.bench.peer import Vectors
from stream_scorer.bench.testbed import Testbed, open_testbed, untrained
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes

STAGE = "end-to-end"


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    with open_testbed(sizes, findings, STAGE) as testbed:
        if testbed is None:
            return
        untrained(testbed.scene)
        events = testbed.fill(sizes.topic_events)
        cases: dict[str, Callable[[Testbed, int], float]] = {
            "raw consume by confluent-kafka, nothing done": consumers.raw_consume,
            "features only": consumers.vectors_alone,
            "events to propensities": consumers.events_to_propensities,
            "plain Python peer, features only": consumers.plain_vectors,
            "plain Python peer, events to propensities": consumers.plain_propensities,
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
        findings.compare("features_only_vs_raw_consume", features, raw)
        findings.compare("features_only_vs_best_peer", features, peer_features)
        findings.compare("end_to_end_vs_best_peer", whole, peer)


def _counted_in_redis(testbed: Testbed, events: int) -> float:
    testbed.store()
    vectors = Vectors(testbed.client, testbed.scene.space)
    values = [value for _, value in testbed.scene.encoded[:events]]
    landmark_ms = int(testbed.scene.stream.occurred_at_ms[0])
    started = time.perf_counter()
    vectors.count_in_redis(values, landmark_ms)
    return events / (time.perf_counter() - started)
