"""What is scored in these tests, and how scores are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from stream_scorer.bench.bulk_workload import BulkSizes

SIZES = BulkSizes(customers=6_000, columns=2_000, categories=40, bought=5, seen=9)


def scores_in(path: Path) -> dict[str, np.ndarray]:
    """Probabilities by customer; none may be there twice."""
    table = pq.read_table(path)
    rows = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    found = dict(zip(table["customer_id"].to_pylist(), rows, strict=True))
    assert len(found) == len(table), "a customer was scored twice"
    return found


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """The same customers, and each probability to 1e-6."""
    assert set(found) == set(expected)
    customers = sorted(expected)
    np.testing.assert_allclose(
        np.stack([found[c] for c in customers]), np.stack([expected[c] for c in customers]),
        rtol=0, atol=1e-6,
    )  # fmt: skip
