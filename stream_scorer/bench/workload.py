"""The customers that training and scoring are measured on: random, of a given size.

Each row has entries in a few own-category columns, in the customer's totals where asked for, and in
many hashed columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.model.spec import NetworkSpec

RULE = LabelRule("category_id", (("purchase",),), 14 * 86_400_000)
# Without paths of its own: the network that any framework has.
HIDDEN = (256, 128)
PLAIN = NetworkSpec(HIDDEN, 0.0, own_path=False, pooled=(), pairs="all", tower=0, linear_rank=0)


@dataclass(frozen=True)
class Sizes:
    """columns: F; categories: N; entries: of a row; positives: labels of a row; rows: of training;
    events: to decode; runs: of each case; peer_runs, peer_seconds: the most runs of the stage
    peers, and how long it takes at most, as far as one run of each case fits; households: of the
    public data, all if None; topic_events: in a topic that is read; customers: of a snapshot that
    is scored in bulk; peer_customers: numbers of customers in Redis for the stage peers.

    Of the large shop: its columns, categories and categories in which a customer is active, rows
    that are trained on, and runs; capacity_: customers in Redis and events of a micro-batch of the
    stage capacity; table_: the same of the table of sizes, one number of which
    differs from the shop's in each case."""

    columns: int = 300_000
    categories: int = 2_000
    batch_rows: int = 1_024
    entries: int = 117
    positives: int = 20
    rows: int = 20_480
    events: int = 100_000
    runs: int = 5
    peer_runs: int = 3
    peer_seconds: float = 480.0
    households: int | None = None
    topic_events: int = 100_000
    customers: int = 100_000
    peer_customers: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    shop_columns: int = 300_000
    shop_categories: int = 5_000
    shop_active: int = 30
    shop_rows: int = 100_000
    shop_runs: int = 1
    table_rows: int = 60_000
    table_categories: tuple[int, ...] = (300, 1_000, 2_000, 5_000, 10_000)
    table_columns: tuple[int, ...] = (100_000, 1_000_000)
    table_active: tuple[int, ...] = (10, 100)
    capacity_customers: int = 12_000
    capacity_batch: int = 5_000


def space_of(sizes: Sizes) -> FeatureSpace:
    """F columns, of which N are the categories' own."""
    words = tuple(f"c{i}" for i in range(sizes.categories))
    return FeatureSpace.compile(
        [
            Feature("bought", on=("purchase",), by=("category_id",), half_lives=("14d",)),
            Feature("seen", by=("product_id",), buckets=sizes.columns - sizes.categories),
        ],
        {"category_id": words},
    )


def rows_of(sizes: Sizes, rows: int, seed: int) -> LabelledRows:
    """`rows` random customers with labels."""
    draw = np.random.default_rng(seed)
    columns = distinct(draw, rows, sizes.columns, sizes.entries)
    labels = distinct(draw, rows, sizes.categories, sizes.positives)
    starts = np.arange(rows + 1)
    matrix = sparse.csr_matrix(
        (
            draw.random(columns.size, dtype=np.float32),
            columns.reshape(-1).astype(np.int32),
            (starts * sizes.entries).astype(np.int32),
        ),
        shape=(rows, sizes.columns),
    )
    return LabelledRows(
        [str(i) for i in range(rows)],
        np.zeros(rows, np.int64),
        matrix,
        (starts * sizes.positives).astype(np.int64),
        labels.reshape(-1).astype(np.uint32),
        np.ones(labels.size, np.uint8),
    )


def distinct(draw: np.random.Generator, rows: int, width: int, count: int) -> Int64:
    """(rows, count) ascending numbers below width, one from each of `count` equal ranges."""
    edges = np.linspace(0, width, count + 1).astype(np.int64)
    drawn = draw.random((rows, count)) * np.diff(edges)
    found: Int64 = edges[:-1] + drawn.astype(np.int64)
    return found
