"""A small shop in a real Redis, with a model of random parameters, for those who look at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.io.files.events import write_events
from stream_scorer.jobs.replay import rebuild
from stream_scorer.model import artefact
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import Settings
from tests.model.symbol_json import symbol_json

DAY_MS = 86_400_000
START_MS = 19_000 * DAY_MS
NOW_MS = START_MS + 100 * DAY_MS
CONFIG = """
[redis]
url = "{redis}"
[store]
namespace = "shop"
[model]
path = "{model}"
engine = "native"
[events]
event_types = ["view", "purchase"]
[vocabularies]
category_id = ["soup", "bread", "milk", "tea"]
[labels]
horizon = "7d"
[[features]]
name = "bought"
on = ["purchase"]
by = ["category_id"]
half_lives = ["2d", "14d"]
transform = "log1p"
scale = 0.5
[[features]]
name = "total"
half_lives = ["inf"]
[[features]]
name = "since"
kind = "recency"
by = ["category_id"]
half_lives = ["14d", "inf"]
[[features]]
name = "first"
kind = "first"
on = ["purchase"]
[[features]]
name = "gap"
kind = "gap"
on = ["purchase"]
[[features]]
name = "store"
kind = "latest"
by = ["attributes.store"]
buckets = 8
[[features]]
name = "weekday"
kind = "calendar"
by = ["day_of_week"]
[[features]]
name = "trend"
kind = "trend"
by = ["category_id"]
half_lives = ["2d", "14d"]
"""


class Shop(NamedTuple):
    """config: a file that names this Redis and the model."""

    config: Path
    redis: EmbeddedRedis

    @property
    def settings(self) -> Settings:
        return Settings.load(self.config, environment={})


def random_model(settings: Settings, seed: int, spec: NetworkSpec) -> artefact.TrainedModel:
    """Of all four categories; every path and the calibration matter, the day's number does not."""
    space, rule, index = settings.feature_space(), settings.label_rule(), np.arange(4)
    layout, draw = Layout.of(space, rule, index), np.random.default_rng(seed)
    parameters = {
        name: draw.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    parameters["calibration_scale"] += 1
    for name in ("input_weight", "linear_weight"):
        parameters[name][list(layout.trend)] = 0
    symbol = symbol_json(layout, spec)
    return artefact.TrainedModel(
        space, rule, index, spec, parameters, symbol, {"kind": "per_category"}
    )


def purchase(customer: str, day: float, category: str | None, kind: str = "purchase") -> dict:
    return {
        "event_id": f"{customer} {day}", "customer_id": customer, "event_type": kind,
        "category_id": category, "value": 2.0, "occurred_at": START_MS + round(day * DAY_MS),
        "attributes": {"store": "12"},
    }  # fmt: skip


EVENTS = [
    purchase("anna", 80, "soup"), purchase("anna", 90, "soup"), purchase("anna", 98, "bread"),
    purchase("anna", 99, "tea", "view"), purchase("ben", 99.5, None, "view"),
    purchase("old", 1, "milk"), *(purchase(f"c{i}", 90 + i / 10, "milk") for i in range(50)),
]  # fmt: skip


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """As `made_shop`."""
    with made_shop(tmp_path_factory.mktemp("shop")) as made:
        yield made


@contextmanager
def made_shop(folder: Path) -> Iterator[Shop]:
    """As of NOW_MS anna bought and looked, ben only looked; "old" is forgotten later."""
    with EmbeddedRedis() as server:
        made = Shop(folder / "shop.toml", server)
        text = CONFIG.format(redis=server.url, model=folder / "model")
        made.config.write_text(text, encoding="utf-8")
        write_events(folder / "events.avro", sorted(EVENTS, key=lambda e: e["occurred_at"]))
        artefact.save(random_model(made.settings, 1, NetworkSpec((4,))), folder / "model")
        live = made.settings.store.model_copy(update={"namespace": "live"})
        other = made.settings.model_copy(update={"store": live})
        rebuild(other, [folder / "events.avro"], "shop")
        yield made
