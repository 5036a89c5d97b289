"""`bench limits`: the native engine beside the least that any engine must do on this machine.

The least is to fetch each entry's row of the first layer (1 kB each, from memory,
since they are random and few are fetched twice) and to multiply the dense layers. Both are timed
with the same entries and sizes, in as many threads as the engine has: rows by a loop that only adds
them up, products by BLAS. What the engine does beside, relu, bias, sigmoid and writing (B, N, 2)
probabilities, is in its time and not in the limit's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from stream_scorer.bench.limits_kernel import add_rows
from stream_scorer.bench.random_model import random_model
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import HIDDEN, PLAIN, Sizes, rows_of, space_of
from stream_scorer.core.features.state import Float32
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.runtime import usable_cores

STAGE = "limits"
PIECES = 8  # for each thread, so that none waits long for the last


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and the ratio to `findings`."""
    matrix = rows_of(sizes, sizes.batch_rows, seed=2).matrix
    engine = open_engine(random_model(space_of(sizes), PLAIN, sizes.entries), "native")
    draw = np.random.default_rng(0)
    weight = draw.random((sizes.columns, HIDDEN[0]), np.float32)
    dense = [draw.random(shape, np.float32) for shape in
             ((HIDDEN[0], HIDDEN[1]), (HIDDEN[1], sizes.categories))]  # fmt: skip
    hidden = np.zeros((sizes.batch_rows, HIDDEN[0]), np.float32)
    rows = np.linspace(0, sizes.batch_rows, PIECES * usable_cores() + 1).astype(int).tolist()
    indptr, indices = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32)
    with ThreadPoolExecutor(usable_cores()) as pool:

        def fetch() -> None:
            add = partial(add_rows, indptr, indices, weight, hidden)
            list(pool.map(add, rows[:-1], rows[1:]))

        def multiply() -> Float32:
            product: Float32 = (hidden @ dense[0]) @ dense[1]
            return product

        times: dict[str, list[float]] = {"fetch": [], "multiply": [], "score": []}
        work: dict[str, Callable[[], object]] = {
            "fetch": fetch, "multiply": multiply, "score": partial(engine.score, matrix),
        }  # fmt: skip
        for run in range(sizes.runs + 1):
            for name, once in work.items():
                started = time.perf_counter()
                once()
                if run:
                    times[name].append(time.perf_counter() - started)
    case = f"F={sizes.columns:,} N={sizes.categories:,} hidden 256-128 batch {sizes.batch_rows:,}"
    rate = partial(_rates, sizes.batch_rows)
    findings.add(STAGE, f"{case}, rows of the first layer alone", "customers/s",
                 rate(times["fetch"]))  # fmt: skip
    findings.add(STAGE, f"{case}, dense products alone", "customers/s", rate(times["multiply"]))
    limit = [a + b for a, b in zip(times["fetch"], times["multiply"], strict=True)]
    findings.add(STAGE, f"{case}, both", "customers/s", rate(limit))
    findings.add(STAGE, f"{case}, native engine", "customers/s", rate(times["score"]))
    findings.ratios["score_native_vs_limit"] = statistics.median(
        least / ours for least, ours in zip(limit, times["score"], strict=True)
    )


def _rates(rows: int, seconds: list[float]) -> list[float]:
    return [rows / s for s in seconds]
