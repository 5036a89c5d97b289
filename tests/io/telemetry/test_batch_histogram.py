"""BatchHistogram: the same as the client library's own histogram."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from stream_scorer.io.telemetry.batch_histogram import BatchHistogram
from stream_scorer.io.telemetry.metric import histogram

FAMILY = histogram("waits_seconds", "How long", (0.1, 1.0, 10.0), "seconds")


def lines(registry: CollectorRegistry) -> list[str]:
    """Without since when it is counted, which ours does not say."""
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if "_created" not in line]


@pytest.mark.parametrize("seed", range(3))
def test_batches_count_as_single_values_do(seed: int) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batched = BatchHistogram(FAMILY, ours)
    single = Histogram(FAMILY.name, FAMILY.meaning, buckets=FAMILY.buckets, registry=theirs)
    draw = np.random.default_rng(seed)
    assert lines(ours) == lines(theirs), "empty"
    for size in (0, 1, 50):
        # Eighths, so that sums are exact; and the bounds themselves.
        values = np.append(draw.integers(0, 100, size) / 8, FAMILY.buckets[1:])
        batched.observe(values)
        for value in values.tolist():
            single.observe(value)
    assert lines(ours) == lines(theirs)


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    BatchHistogram(FAMILY, registry)
    with pytest.raises(ValueError, match="waits_seconds"):
        BatchHistogram(FAMILY, registry)
