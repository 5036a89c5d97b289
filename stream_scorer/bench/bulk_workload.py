"""The customers and the model that bulk scoring is measured on: random, of a given shape.

Each row has the customer's two totals, the own columns of a few categories at three half-lives, and
many hashed columns. The model is the default network with random parameters, none of them zero, so
every path contributes to every score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from stream_scorer.bench.workload import RULE, distinct
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_writer import ROWS_PER_SHARD, SnapshotWriter
from stream_scorer.model import artefact
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.spec import Layout, NetworkSpec

AS_OF_MS = 1_795_478_400_000  # 2026-11-24T00:00Z
HALF_LIVES = ("2d", "14d", "90d")
PAGE_ROWS = 32_768


@dataclass(frozen=True)
class BulkSizes:
    """columns: F; categories: N; bought: categories with entries of a row, each at three
    half-lives; seen: hashed entries of a row. In all 2 + 3 * bought + seen entries."""

    customers: int = 100_000
    columns: int = 300_000
    categories: int = 500
    bought: int = 20
    seen: int = 55


def space_of(sizes: BulkSizes) -> FeatureSpace:
    """F columns: totals, own columns of each category, hashed products."""
    words = tuple(f"category-{i:04d}" for i in range(sizes.categories))
    own = len(HALF_LIVES) * sizes.categories
    return FeatureSpace.compile(
        [
            Feature("total", half_lives=("14d", "90d"), transform="log1p"),
            Feature("bought", on=("purchase",), by=("category_id",), half_lives=HALF_LIVES),
            Feature("seen", by=("product_id",), buckets=sizes.columns - own - 2),
        ],
        {"category_id": words},
    )


def write_snapshot(sizes: BulkSizes, path: Path, rows_per_shard: int = ROWS_PER_SHARD) -> None:
    """The new snapshot `path`, without labels, as `export` writes it. Raises SnapshotError."""
    space = space_of(sizes)
    with SnapshotWriter(path, SnapshotInfo(space, RULE.by, None), rows_per_shard) as writer:
        for rows in _pages(sizes, space.width):
            writer.write(rows)
        writer.finish()


def write_model(sizes: BulkSizes, path: Path) -> None:
    """The new artefact `path`. Raises ArtefactError."""
    from stream_scorer.model import inference_network, network_parameters  # noqa: PLC0415 - imports MXNet

    space, spec, index = space_of(sizes), NetworkSpec(), np.arange(sizes.categories)
    layout = Layout.of(space, RULE, index)
    draw = np.random.default_rng(5)
    parameters = network_parameters.initial_parameters(
        layout, spec, head_bias=draw.normal(-3, 1, sizes.categories).astype(np.float32),
        entries_per_row=2 + len(HALF_LIVES) * sizes.bought + sizes.seen, seed=0,
    )  # fmt: skip
    for name, array in parameters.items():
        if not array.any():
            parameters[name] = draw.normal(0, 0.1, array.shape).astype(np.float32)
    symbol = inference_network.inference_symbol(layout, spec).tojson()
    artefact.save(TrainedModel(space, RULE, index, spec, parameters, symbol), path)


def _pages(sizes: BulkSizes, width: int) -> Iterator[LabelledRows]:
    for start in range(0, sizes.customers, PAGE_ROWS):
        yield _page(sizes, width, start, min(PAGE_ROWS, sizes.customers - start))


def _page(sizes: BulkSizes, width: int, start: int, rows: int) -> LabelledRows:
    draw = np.random.default_rng([7, start])
    bought = distinct(draw, rows, sizes.categories, sizes.bought)
    first = 2 + len(HALF_LIVES) * sizes.categories
    parts: list[Int64] = [np.broadcast_to(np.arange(2), (rows, 2))]
    parts += [2 + k * sizes.categories + bought for k in range(len(HALF_LIVES))]
    parts.append(first + distinct(draw, rows, width - first, sizes.seen))
    columns = np.concatenate(parts, axis=1)
    matrix = sparse.csr_matrix(
        (
            draw.exponential(1.0, columns.size).astype(np.float32),
            columns.reshape(-1).astype(np.int32),
            (np.arange(rows + 1) * columns.shape[1]).astype(np.int32),
        ),
        shape=(rows, width),
    )
    nothing = np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    ids = [f"customer-{i:09d}" for i in range(start, start + rows)]
    as_of = np.full(rows, AS_OF_MS, np.int64)
    return LabelledRows(ids, as_of, matrix, np.zeros(rows + 1, np.int64), *nothing)
