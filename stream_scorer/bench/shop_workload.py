"""The customers of a shop with thousands of categories: random, of a given shape.

Each row has the customer's totals, the own columns of the categories in which it is active, in
seven blocks, and hashed columns of products. So a row is as wide as what the customer did, whatever
the number of categories is. The network is the one that is trained by default.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from stream_scorer.bench.workload import distinct
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_writer import SnapshotWriter
from stream_scorer.model.spec import NetworkSpec

DAY_MS = 86_400_000
AS_OF_MS = 1_795_478_400_000  # 2026-11-24T00:00Z
RULE = LabelRule("category_id", (("purchase",),), 14 * DAY_MS)
NETWORK = NetworkSpec(pairs="history", tower=16, linear_rank=16)
TOTALS = 2
PAGE_ROWS = 8_192


@dataclass(frozen=True)
class Shop:
    """columns: F; categories: N; active: categories of a row in whose own columns it has values;
    seen: hashed entries of a row; positives: labels of a row."""

    columns: int = 300_000
    categories: int = 5_000
    active: int = 30
    seen: int = 55
    positives: int = 20

    @property
    def entries(self) -> int:
        """Of a row that are not 0."""
        return TOTALS + OWN_BLOCKS * self.active + self.seen

    def in_words(self) -> str:
        """As the name of a case has it."""
        return f"F={self.columns:,} N={self.categories:,} active {self.active}"


def _own_features() -> list[Feature]:
    """Features by category, with one column for each category in each of seven blocks."""
    bought, seen, by = ("purchase",), ("view",), ("category_id",)
    return [
        Feature("bought", on=bought, by=by, half_lives=("2d", "14d", "90d"), transform="log1p"),
        Feature("last_bought", "recency", on=bought, by=by, half_lives=("14d",)),
        Feature("first_bought", "first", on=bought, by=by, half_lives=("90d",)),
        Feature("looked_at", on=seen, by=by, half_lives=("2d",), transform="log1p"),
        Feature("last_looked_at", "recency", on=seen, by=by, half_lives=("14d",)),
    ]


OWN_BLOCKS = sum(len(f.half_lives) for f in _own_features())


def features_of(shop: Shop) -> list[Feature]:
    """F columns: totals, seven own columns of each category, hashed products."""
    hashed = shop.columns - TOTALS - OWN_BLOCKS * shop.categories
    return [
        Feature("total", half_lives=("14d", "90d"), transform="log1p"),
        *_own_features(),
        Feature("product", by=("product_id",), buckets=hashed),
    ]


def space_of(shop: Shop) -> FeatureSpace:
    """Of those features."""
    return FeatureSpace.compile(features_of(shop), {"category_id": _words(shop)})


def _words(shop: Shop) -> tuple[str, ...]:
    return tuple(f"category-{i:05d}" for i in range(shop.categories))


def rows_of(shop: Shop, rows: int, *, seed: int, as_of_ms: int = AS_OF_MS) -> LabelledRows:
    """`rows` random customers with labels."""
    draw = np.random.default_rng(seed)
    active = distinct(draw, rows, shop.categories, shop.active)
    first = TOTALS + OWN_BLOCKS * shop.categories
    parts: list[Int64] = [np.broadcast_to(np.arange(TOTALS), (rows, TOTALS))]
    parts += [TOTALS + k * shop.categories + active for k in range(OWN_BLOCKS)]
    parts.append(first + distinct(draw, rows, shop.columns - first, shop.seen))
    columns = np.concatenate(parts, axis=1)
    matrix = sparse.csr_matrix(
        (
            draw.exponential(1.0, columns.size).astype(np.float32),
            columns.reshape(-1).astype(np.int32),
            (np.arange(rows + 1) * shop.entries).astype(np.int32),
        ),
        shape=(rows, shop.columns),
    )
    positives = min(shop.positives, shop.categories)
    labels = distinct(draw, rows, shop.categories, positives)
    return LabelledRows(
        [f"customer-{seed}-{i:07d}" for i in range(rows)],
        np.full(rows, as_of_ms, np.int64),
        matrix,
        np.arange(rows + 1, dtype=np.int64) * positives,
        labels.reshape(-1).astype(np.uint32),
        np.ones(labels.size, np.uint8),
    )


def write_snapshot(shop: Shop, path: Path, rows: int, *, seed: int, as_of_ms: int) -> None:
    """The new snapshot `path` of labelled rows. Raises SnapshotError."""
    with SnapshotWriter(path, SnapshotInfo(space_of(shop), RULE.by, RULE)) as writer:
        for page in _pages(shop, rows, seed, as_of_ms):
            writer.write(page)
        writer.finish()


def _pages(shop: Shop, rows: int, seed: int, as_of_ms: int) -> Iterator[LabelledRows]:
    for start in range(0, rows, PAGE_ROWS):
        some = min(PAGE_ROWS, rows - start)
        yield rows_of(shop, some, seed=seed + start, as_of_ms=as_of_ms)


def config_of(shop: Shop, epochs: int) -> str:
    """A config file by which `train` makes the shop's model in so many epochs, without stopping
    earlier: in random data there is nothing to find."""
    lines = ["[vocabularies]", f"category_id = {json.dumps(_words(shop))}"]
    lines += ["[labels]", 'by = "category_id"', 'actions = [["purchase"]]', 'horizon = "14d"']
    lines += ["[training]", f"epochs = {epochs}", f"patience = {epochs}"]
    # One network: of the smaller shops of a table the default would be the mean of several.
    lines += ["min_steps = 0", "min_customers = 1", "average_seeds = 1", "[training.network]"]
    # What JSON has of texts, numbers and lists, TOML has in the same form.
    lines += [f"{name} = {json.dumps(value)}" for name, value in asdict(NETWORK).items()]
    for feature in features_of(shop):
        lines.append("[[features]]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in asdict(feature).items()]
    return "\n".join(lines) + "\n"
