"""A shop whose demand changes from week to week, and a model in which its trend weighs much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.model import artefact
from stream_scorer.model.engines.golden import golden_batch_of
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import Settings
from tests.model.symbol_json import symbol_json

DAY = 86_400_000
START = 17_000 * DAY
DAYS = 120
WORDS = ("soup", "bread", "milk")
CUTOFFS = [START + d * DAY for d in range(30, 86, 7)]
LATER = [START + d * DAY for d in (95, 100)]
CONFIG = """
[vocabularies]
category_id = ["soup", "bread", "milk"]
[labels]
horizon = "5d"
[model]
engine = "native"
[training]
min_customers = 1
epochs = 1
min_steps = 10
[[features]]
name = "purchases"
by = ["category_id"]
half_lives = ["2d", "30d"]
[[features]]
name = "trend"
kind = "trend"
on = ["purchase"]
by = ["category_id"]
half_lives = ["2d", "5d", "14d"]
"""


def event_rows() -> list[dict[str, Any]]:
    draw = np.random.default_rng(5)
    days = draw.integers(DAYS, size=4000)
    # What is asked for changes from month to month.
    words = (days // 15 + draw.integers(2, size=4000)) % 3
    return [
        {
            "event_id": str(i), "customer_id": f"c{draw.integers(60)}", "event_type": "purchase",
            "category_id": WORDS[words[i]],
            "occurred_at": START + int(days[i]) * DAY + int(draw.integers(DAY)),
        }
        for i in range(4000)
    ]  # fmt: skip


def save_model(settings: Settings, snapshot: Snapshot, path: Path) -> None:
    """A model of random parameters, in which the trend weighs much."""
    space, rule, spec = settings.feature_space(), settings.label_rule(), NetworkSpec((4,))
    layout, draw = Layout.of(space, rule, np.arange(3)), np.random.default_rng(2)
    parameters = {
        name: draw.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    parameters["trend_weight"] = np.full_like(parameters["trend_weight"], 3)
    # As training leaves it: the day itself reaches no other path.
    parameters["input_weight"][list(layout.trend)] = 0
    parameters["linear_weight"][list(layout.trend)] = 0
    symbol = symbol_json(layout, spec)
    trained = artefact.TrainedModel(space, rule, np.arange(3), spec, parameters, symbol)
    golden = golden_batch_of(trained, snapshot.shards(), snapshot.trend)
    artefact.save(trained, path, {"last_as_of_ms": CUTOFFS[0] - 30 * DAY}, golden)
