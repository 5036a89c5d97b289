"""Latency from event to propensity with a refresh of quiet customers running, and without.

On a real broker and a real Redis, at a given rate, the two in turn, so that a busy machine is busy
for both. With it, a round over as many quiet customers as there are runs all the time.

Usage: python tests/quality/refresh_latency.py [--rate EVENTS] [--customers N] [--turns N]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np

from stream_scorer.bench import latency
from stream_scorer.bench.peer_comparison import PARTITIONS, open_real_testbed
from stream_scorer.bench.real_servers import ServerAddresses, topics_of
from stream_scorer.bench.testbed import Testbed, untrained
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.features.fold import fold_events
from stream_scorer.core.features.state import CustomerStates, take
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.telemetry import Metrics
from stream_scorer.live.consumer import Consumer, clock_ms, open_store
from stream_scorer.live.refresh import Refresher

HOUSEHOLDS = 500


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


def measured(testbed: Testbed, rate: float, quiet: CustomerStates, refreshes: bool) -> Any:
    """Latency at this rate, and how many customers were refreshed each second meanwhile."""
    metrics, began = Metrics(), [0.0]

    class Refreshing(Consumer):
        def join(self) -> None:
            super().join()
            filling = open_store(self.settings, self.space)
            for first in range(0, len(quiet), 5000):
                filling.save(quiet, np.arange(first, min(first + 5000, len(quiet))))
                filling.advance({("filling", 0): first + 1})
            filling.close()
            if not refreshes:
                return
            refresher = Refresher(self, metrics, clock_ms)
            step = self.pipeline.step
            began[0] = time.monotonic()

            def step_and_refresh() -> Any:
                report = step()
                refresher.slice()
                return report

            self.pipeline.step = step_and_refresh  # type: ignore[method-assign]

    settings = testbed.scene.settings
    chosen = settings.refresh.model_copy(update={"every": "1s" if refreshes else ""})
    store = settings.store.model_copy(update={"time_to_live_seconds": 0})
    scene = replace(
        testbed.scene, settings=settings.model_copy(update={"refresh": chosen, "store": store})
    )
    topic = f"{settings.kafka.input_topic}-{uuid4().hex[:8]}"
    before = vars(latency)["Consumer"]
    setattr(latency, "Consumer", Refreshing)  # noqa: B010 - it offers no other way in
    try:
        with topics_of(testbed.bootstrap_servers, {topic: {}}, PARTITIONS):
            found = latency.latency_at(replace(testbed, scene=scene), topic, rate)
    finally:
        setattr(latency, "Consumer", before)  # noqa: B010
    name, labels = "stream_scorer_refresh_customers_total", {"outcome": "refreshed"}
    done = metrics.registry.get_sample_value(name, labels) or 0.0
    return found, done / (time.monotonic() - began[0]) if refreshes else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=5000)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=3)
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
                found, per_second = measured(testbed, given.rate, quiet, refreshes)
                if turn:
                    all_p99[refreshes].append(found.p99_ms)
                print(
                    f"{'with' if refreshes else 'without'} refresh: p50 {found.p50_ms:.0f} ms, "
                    f"p99 {found.p99_ms:.0f} ms at {found.rate:,.0f} events/s, "
                    f"{per_second:,.0f} customers/s refreshed",
                    flush=True,
                )
    off, on = (float(np.median(all_p99[refreshes])) for refreshes in (False, True))
    print(f"median p99: {off:.0f} ms without, {on:.0f} ms with: {on / off - 1:+.0%}")


if __name__ == "__main__":
    main()
