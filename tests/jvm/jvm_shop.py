"""Models and snapshots for the JVM, made by our own code: random, of every kind of network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.core.trend import DailyCounts, TrendTable, trend_features
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_writer import SnapshotWriter
from stream_scorer.jobs.convert import convert
from stream_scorer.model import artefact
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.model.golden_batch import GoldenBatch
from stream_scorer.model.spec import Layout, NetworkSpec

ROWS = 4_000
DAY = 86_400_000
CATEGORIES = tuple(f"c{i:02d}" for i in range(40))
TWO = LabelRule("category_id", (("purchase",),), 7 * DAY)
THREE = LabelRule("category_id", (("view",), ("purchase",)), 7 * DAY)
SPACE = FeatureSpace.compile(
    [
        Feature("total", on=("purchase",), half_lives=("2d", "inf"), transform="log1p"),
        Feature("bought", on=("purchase",), by=("category_id",), half_lives=("2d", "90d")),
        Feature("day", kind="calendar", by=("day_of_week",)),
        Feature("products", by=("product_id",), buckets=2_000),
        Feature("seen", on=("view",), by=("category_id",)),
    ],
    {"category_id": CATEGORIES},
)
# With a trend in the middle of the other columns, which are so many that the linear path is whole
# for some categories and of low rank for all.
TREND_SPACE = FeatureSpace.compile(
    [
        Feature("total", on=("purchase",), half_lives=("2d", "inf"), transform="log1p"),
        Feature("trend", kind="trend", by=("category_id",), half_lives=("2d", "14d", "90d")),
        Feature("bought", on=("purchase",), by=("category_id",), half_lives=("2d", "90d")),
        Feature("first", kind="first", by=("category_id",)),
        Feature("products", by=("product_id",), buckets=105_000),
        Feature("seen", kind="trend", on=("view",), by=("category_id",), half_lives=("1d", "9d")),
    ],
    {"category_id": CATEGORIES},
)
HISTORY = NetworkSpec(pairs="history", tower=4, linear_rank=5)
# Every way in which the network can be put together: an operator that DJL can't load shows here.
NETWORKS = {
    "default": (TWO, NetworkSpec(), range(0, 40, 3)),
    "three classes": (THREE, NetworkSpec(), range(0, 40, 3)),
    "whole vocabulary": (TWO, NetworkSpec(hidden=(32, 16, 8)), range(40)),
    "no deep path": (TWO, NetworkSpec(hidden=()), range(40)),
    "own path alone": (TWO, NetworkSpec(hidden=(9,), pooled=()), range(5)),
    "deep path alone": (TWO, NetworkSpec(hidden=(64, 32), own_path=False, pooled=()), range(40)),
    "history": (THREE, HISTORY, range(40)),
}
OF_TREND_SPACE = {
    "trend": (TWO, HISTORY, range(0, 40, 3)),
    "trend, three classes, low rank": (THREE, HISTORY, range(40)),
}


def space_of(name: str) -> FeatureSpace:
    """The features of this network of `NETWORKS` or `OF_TREND_SPACE`."""
    return SPACE if name in NETWORKS else TREND_SPACE


def write_model(path: Path, name: str) -> Path:
    """An artefact of random parameters with this network of `NETWORKS` or `OF_TREND_SPACE`, and its
    ONNX file.
    """
    from stream_scorer.model import inference_network  # noqa: PLC0415 - imports mxnet

    rule, spec, chosen = {**NETWORKS, **OF_TREND_SPACE}[name]
    space = space_of(name)
    index = np.array(chosen, np.int64)
    layout = Layout.of(space, rule, index)
    draw = np.random.default_rng(3)
    parameters = {
        key: draw.normal(0, 0.2, shape).astype(np.float32)
        for key, shape in layout.shapes(spec).items()
    }
    parameters["calibration_scale"] += 1
    if "category_index" in parameters:
        parameters["category_index"] = index.astype(np.float32)
    for weight in ("input_weight", "linear_weight"):
        if weight in parameters:  # as training leaves it: the day reaches the contrasts alone
            parameters[weight][list(layout.trend)] = 0
    symbol = inference_network.inference_symbol(layout, spec).tojson()
    trained = TrainedModel(space, rule, index, spec, parameters, symbol)
    # With a golden batch, as `train` writes it.
    rows = sparse.random(3, space.width, 0.02, "csr", np.float32, draw)
    rows.sort_indices()
    table = None
    engine = open_engine(artefact.unsaved(trained), "mxnet")
    if layout.contrasts:
        rows = without_days(space, rows)
        table = TrendTable(0, np.ones((1, layout.contrasts, layout.vocabulary), np.float32))
        engine.use_trend(table)
    artefact.save(trained, path, golden=GoldenBatch(rows, engine.score(rows), table))
    convert(path, "onnx", path / "model.onnx")
    return path


def without_days(space: FeatureSpace, rows: sparse.csr_matrix) -> sparse.csr_matrix:
    """Without entries in the columns of trends."""
    kept = np.ones(space.width, np.float32)
    kept[[block.start for block in space.blocks if block.kind == "trend"]] = 0
    found = sparse.csr_matrix(rows @ sparse.diags(kept))
    found.eliminate_zeros()
    found.sort_indices()
    return found


def daily_counts(space: FeatureSpace, first_day: int, last_day: int) -> DailyCounts:
    """Random counts of each trend on these days."""
    draw = np.random.default_rng(6)
    trends, days = len(trend_features(space)), np.arange(first_day, last_day + 1, dtype=np.int32)
    feature, day, category = (
        grid.ravel().astype(np.int32)
        for grid in np.meshgrid(np.arange(trends), days, np.arange(len(CATEGORIES)), indexing="ij")
    )
    count = draw.integers(1, 200, len(day))
    return DailyCounts(feature, day, category, count, np.full(trends, first_day))


def write_snapshot(path: Path, space: FeatureSpace, rows: int = ROWS) -> Path:
    """`rows` random customers in shards of 1,500; the first 1,100 have no entries at all.

    Where a trend is declared, each is as of an hour after the one before, and its day is its entry.
    """
    draw = np.random.default_rng(5)
    density = min(0.02, 40 / space.width)
    values = sparse.random(rows, space.width, density, "csr", np.float32, draw).tolil()
    values[:1_100] = 0
    as_of_ms = 1_700_000_000_000 + np.arange(rows, dtype=np.int64)
    counts = None
    if trend_features(space):
        as_of_ms += np.arange(rows, dtype=np.int64) * (DAY // 24)
        days = as_of_ms // DAY
        for block in space.blocks:
            if block.kind == "trend":
                values[:, block.start] = days.astype(np.float32)[:, None]
        counts = daily_counts(space, int(days[0]) - 100, int(days[-1]))
    with SnapshotWriter(path, SnapshotInfo(space, "category_id", TWO), 1_500) as writer:
        writer.write(
            LabelledRows(
                [f"zoë {i}" for i in range(rows)],
                as_of_ms,
                values.tocsr(),
                np.zeros(rows + 1, np.int64),
                np.zeros(0, np.uint32),
                np.zeros(0, np.uint8),
            )
        )
        writer.finish(counts=counts)
    return path
