"""Models and snapshots for the JVM, made by our own code: random, of every kind of network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.io.files.snapshots import SnapshotInfo, SnapshotWriter
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
# Every way in which the network can be put together: an operator that DJL can't load shows here.
NETWORKS = {
    "default": (TWO, NetworkSpec(), range(0, 40, 3)),
    "three classes": (THREE, NetworkSpec(), range(0, 40, 3)),
    "whole vocabulary": (TWO, NetworkSpec(hidden=(32, 16, 8)), range(40)),
    "no deep path": (TWO, NetworkSpec(hidden=()), range(40)),
    "own path alone": (TWO, NetworkSpec(hidden=(9,), pooled=()), range(5)),
    "deep path alone": (TWO, NetworkSpec(hidden=(64, 32), own_path=False, pooled=()), range(40)),
}


def write_model(path: Path, name: str) -> Path:
    """An artefact of random parameters with this network of `NETWORKS`."""
    from stream_scorer.model import inference_network  # noqa: PLC0415 - imports mxnet

    rule, spec, chosen = NETWORKS[name]
    index = np.array(chosen, np.int64)
    layout = Layout.of(SPACE, rule, index)
    draw = np.random.default_rng(3)
    parameters = {
        key: draw.normal(0, 0.2, shape).astype(np.float32)
        for key, shape in layout.shapes(spec).items()
    }
    parameters["calibration_scale"] += 1
    if "category_index" in parameters:
        parameters["category_index"] = index.astype(np.float32)
    symbol = inference_network.inference_symbol(layout, spec).tojson()
    trained = TrainedModel(SPACE, rule, index, spec, parameters, symbol)
    # With a golden batch, as `train` writes it; the JVM has no use for it.
    rows = sparse.random(3, SPACE.width, 0.02, "csr", np.float32, draw)
    scores = open_engine(artefact.unsaved(trained), "native").score(rows)
    artefact.save(trained, path, golden=GoldenBatch(rows, scores))
    return path


def write_snapshot(path: Path, space: FeatureSpace, rows: int = ROWS) -> Path:
    """`rows` random customers in shards of 1,500; the first 1,100 have no entries at all."""
    draw = np.random.default_rng(5)
    values = sparse.random(rows, space.width, 0.02, "csr", np.float32, draw).tolil()
    values[:1_100] = 0
    with SnapshotWriter(path, SnapshotInfo(space, "category_id", TWO), 1_500) as writer:
        writer.write(
            LabelledRows(
                [f"zoë {i}" for i in range(rows)],
                1_700_000_000_000 + np.arange(rows, dtype=np.int64),
                values.tocsr(),
                np.zeros(rows + 1, np.int64),
                np.zeros(0, np.uint32),
                np.zeros(0, np.uint8),
            )
        )
        writer.finish()
    return path
