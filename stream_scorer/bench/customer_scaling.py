"""What an event costs where Redis holds few customers, and where it holds many.

All else is the same for both: every customer has a record of a few random events of the public data
before the clock starts; the events that are timed repeat their customer's newest one, so that no
record grows; and customers follow each other in a random order, each with two events, from the
first again after the last, so that a micro-batch of n events has n / 2 distinct customers however
many there are. So what differs is what the number of customers itself costs, in Redis and in its
memory.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_scorer.bench.consumers import batch_events, fold_topic
from stream_scorer.bench.real_servers import PARTITIONS, topics_of
from stream_scorer.bench.testbed import Testbed
from stream_scorer.bench.time_budget import TimeBudget
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.avro.event_encoder import encode_event_batch
from stream_scorer.core.events.batch import StringColumn
from stream_scorer.core.features.fold import fold_events
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.io.stores.redis import RedisStore

STAGE = "peers"
RATIO = "cost_per_event_most_vs_fewest_customers"
NO_TIME_LEFT = f"no time was left for {RATIO}; give more --minutes"
EVENTS_BEFORE = 5  # of each customer
EVENTS_IN_TURN = 2  # of a customer, before the next one's
CUSTOMERS_PER_SAVE = 20_000


def measure(
    testbed: Testbed, events: int, sizes: Sizes, budget: TimeBudget, findings: Findings
) -> None:
    """Vectors alone, by the number of customers; in turns. A note where no time is left for it."""
    if budget.is_spent:  # filling takes the most of it
        findings.notes.append(NO_TIME_LEFT)
        return
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
        for turn in budget.turns(sizes.peer_runs + 1, 1.0):
            for customers, crowd in crowds.items():
                cost = 1e6 / crowd.rate(events)
                if turn:  # the first one warms up
                    costs[customers].append(cost)
    if not all(costs.values()):
        findings.notes.append(NO_TIME_LEFT)
        return
    for customers, found in costs.items():
        case = f"vectors alone, {customers:,} customers in Redis, an event"
        findings.add(STAGE, case, "us/event", found)
    findings.compare(RATIO, costs[max(costs)], costs[min(costs)])


class ManyCustomers:
    """customers: so many, in a namespace and a topic of their own. `fill` comes first; then every
    call of `rate` goes on where the last one ended."""

    def __init__(self, testbed: Testbed, topic: str, customers: int) -> None:
        self._testbed, self._topic, self._customers = testbed, topic, customers

    def fill(self, events: int) -> None:
        """Save everybody's record, and put so many events into the topic."""
        scene, store = self._testbed.scene, self._store()
        draw = np.random.default_rng(1)
        # In the order of their offsets: an event below the last one's would be skipped.
        past = np.sort(draw.integers(0, len(scene.past), (self._customers, EVENTS_BEFORE)), axis=1)
        for first in range(0, self._customers, CUSTOMERS_PER_SAVE):
            rows = past[first : first + CUSTOMERS_PER_SAVE]
            ids = [str(i) for i in range(first, first + len(rows))]
            customer = np.repeat(np.arange(len(ids), dtype=np.int32), EVENTS_BEFORE)
            states = fold_events(
                empty_states(ids), scene.past.take(rows.ravel()), customer, scene.space
            ).states
            store.save(states, np.arange(len(ids)))
        store.close()
        turn = np.arange(events) // EVENTS_IN_TURN
        customer = draw.permutation(self._customers)[turn % self._customers]
        some = scene.past.take(past[customer, -1])
        ids = [str(i) for i in customer.tolist()]
        values = encode_event_batch(replace(some, customer_id=StringColumn.of(ids)))
        self._testbed.send(self._topic, [i.encode() for i in ids], values)

    def rate(self, events: int) -> float:
        """Events a second of our path up to the saved vectors."""
        settings = self._testbed.settings(batch_events(events))
        kafka = settings.kafka.model_copy(
            update={"input_topic": self._topic, "group_id": self._topic}
        )
        store = self._store()
        try:
            return fold_topic(settings.model_copy(update={"kafka": kafka}), store, events)
        finally:
            store.close()

    def _store(self) -> RedisStore:
        fingerprint = self._testbed.scene.space.fingerprint
        return RedisStore(self._testbed.client, f"bench-{self._customers}", fingerprint)
