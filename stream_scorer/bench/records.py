"""`bench records`: what records take, and how fast they are, packed and as words, in turns.

The customers are those of the public data. As words their records are what releases wrote before
records were packed (core/features/state_codec.py).
"""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import redis

from stream_scorer.bench.testbed import open_testbed
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.events.batch import EventBatch
from stream_scorer.core.features import csr
from stream_scorer.core.features.fold import fold_events
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.features.state_codec import in_words, pack, put_words, unpack
from stream_scorer.demo.scenario import past_states
from stream_scorer.io.stores.redis import RedisStore

STAGE = "records"
BATCH = 1_000  # events of a micro-batch
FORMS = "packed", "as words"


class _StoreOfWords(RedisStore):
    """Saves records as they were before they were packed."""

    def _packed(self, states: CustomerStates) -> list[bytes]:
        return as_words(states, self._fingerprint)


def as_words(states: CustomerStates, fingerprint: int) -> list[bytes]:
    """One record for each customer, in the form of words."""
    words = np.empty(in_words(states), np.uint32)
    cuts = (put_words(words, states, fingerprint) * 4).tolist()
    data = words.tobytes()
    return [data[a:b] for a, b in pairwise(cuts)]


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    with open_testbed(sizes, findings, STAGE) as testbed:
        if testbed is None:
            return
        space, states = testbed.scene.space, past_states(testbed.scene)
        _measure_codec(states, space, sizes, findings)
        testbed.client.flushdb()
        _measure_redis(testbed.client, testbed.scene.stream, states, space, sizes, findings)


def _measure_codec(
    states: CustomerStates, space: FeatureSpace, sizes: Sizes, findings: Findings
) -> None:
    writers = pack, as_words
    values = csr.build(states, space, states.arrays.newest_ms).getnnz() / len(states)
    seconds: dict[tuple[str, str], list[float]] = {
        (form, work): [] for form in FORMS for work in ("write", "read")
    }
    for run in range(sizes.runs + 1):
        for form, writer in zip(FORMS, writers, strict=True):
            began = time.perf_counter()
            records = writer(states, space.fingerprint)
            written = time.perf_counter()
            unpack(states.customer_ids, records, space.fingerprint)
            read = time.perf_counter()
            if run:  # the first compiles kernels
                seconds[form, "write"].append((written - began) / len(states))
                seconds[form, "read"].append((read - written) / len(states))
            else:
                each = sum(map(len, records)) / len(states)
                case = f"a record of {values:,.0f} values that are not 0, {form}"
                findings.add(STAGE, case, "bytes", [each])
                case = f"for each value that is not 0, {form}"
                findings.add(STAGE, case, "bytes", [each / values])
    for (form, work), found in seconds.items():
        findings.add(STAGE, f"{work} a record, {form}", "us", [1e6 * s for s in found])


def _measure_redis(
    client: redis.Redis, stream: EventBatch, states: CustomerStates, space: FeatureSpace,
    sizes: Sizes, findings: Findings,
) -> None:  # fmt: skip
    """Micro-batches of the stream, each loaded, applied and saved into both namespaces."""
    stores = (
        RedisStore(client, "packed", space.fingerprint),
        _StoreOfWords(client, "words", space.fingerprint),
    )
    for store in stores:
        store.save(states, np.arange(len(states)))
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for turn in range(2 * sizes.runs + 1):
        events = stream.take(slice(turn * BATCH, (turn + 1) * BATCH))
        if not len(events):
            break
        customer, ids = events.customer_id.intern()
        order = (0, 1) if turn % 2 else (1, 0)
        for which in order:
            began = time.perf_counter()
            loaded = stores[which].load(ids)
            applied = fold_events(loaded, events, customer, space)
            stores[which].save(applied.states, np.flatnonzero(applied.changed), loaded)
            if turn:  # the first compiles kernels
                seconds[FORMS[which]].append((time.perf_counter() - began) / len(ids))
    for form, found in seconds.items():
        case = f"load, apply and save a customer, Redis, {form}"
        findings.add(STAGE, case, "us", [1e6 * s for s in found])
    findings.compare("packed_records_vs_words_time", *(seconds[form] for form in FORMS))
