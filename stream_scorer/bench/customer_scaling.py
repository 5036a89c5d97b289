"""What an event costs where Redis holds few customers, and where it holds many.

Every customer has a record of the same kind before the clock starts, made of a few random events of
the public data. The events that are timed are spread evenly over all customers, which is the worst
case: nearly every event of a micro-batch has a record of its own to load and save.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stream_scorer.bench.consumers import batch_events, fold_topic
from stream_scorer.bench.testbed import Testbed
from stream_scorer.core.avro.event_encoder import encode_event_batch
from stream_scorer.core.events.batch import StringColumn
from stream_scorer.core.features.fold import fold_events
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.io.stores.redis import RedisStore

EVENTS_BEFORE = 5  # of each customer
CUSTOMERS_PER_SAVE = 20_000


class ManyCustomers:
    """customers: so many, in a namespace and a topic of their own. `fill` comes first; then every
    call of `rate` goes on where the last one ended."""

    def __init__(self, testbed: Testbed, topic: str, customers: int) -> None:
        self._testbed, self._topic, self._customers = testbed, topic, customers

    def fill(self, events: int) -> None:
        """Save everybody's record, and put so many events into the topic."""
        scene, store = self._testbed.scene, self._store()
        draw = np.random.default_rng(1)
        for first in range(0, self._customers, CUSTOMERS_PER_SAVE):
            ids = [str(i) for i in range(first, min(first + CUSTOMERS_PER_SAVE, self._customers))]
            rows = draw.integers(0, len(scene.past), len(ids) * EVENTS_BEFORE)
            customer = np.repeat(np.arange(len(ids), dtype=np.int32), EVENTS_BEFORE)
            states = fold_events(
                empty_states(ids), scene.past.take(rows), customer, scene.space
            ).states
            store.save(states, np.arange(len(ids)))
        store.close()
        some = scene.stream.take(np.resize(np.arange(len(scene.stream)), events))
        ids = [str(i) for i in draw.integers(0, self._customers, events).tolist()]
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
