"""A small shop for the API: settings, event files, and snapshots that `replay` made of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import stream_scorer as ss
from stream_scorer.io.files.events import write_events
from stream_scorer.jobs.replay import replay

DAY_MS = 86_400_000
START_MS = 19_000 * DAY_MS
CUTOFF_MS = START_MS + 42 * DAY_MS
CATEGORIES = ["bread", "milk", "soup", "tea"]
CONFIG = """
[events]
event_types = ["view", "purchase"]
[vocabularies]
category_id = ["bread", "milk", "soup", "tea"]
[labels]
horizon = "7d"
[training]
min_customers = 1
epochs = 1
min_steps = 40
batch_rows = 64
[training.network]
hidden = [4]
[[features]]
name = "bought"
on = ["purchase"]
by = ["category_id"]
half_lives = ["2d", "14d"]
transform = "log1p"
[[features]]
name = "channel"
by = ["attributes.channel"]
buckets = 16
[[features]]
name = "last"
kind = "recency"
half_lives = ["14d"]
[[features]]
name = "spent"
value = "value"
half_lives = ["14d"]
[[features]]
name = "weekday"
kind = "calendar"
by = ["day_of_week"]
"""


class Shop(NamedTuple):
    """Paths of what a person would have."""

    config: Path
    events: Path
    train: Path
    test: Path

    @property
    def settings(self) -> ss.Settings:
        return ss.Settings.load(self.config, environment={})


def made_up_events() -> list[dict[str, Any]]:
    """Twelve weeks in which each customer likes two categories; some events share a moment."""
    draw = random.Random(3)
    rows = []
    for customer in range(60):
        liked = draw.sample(CATEGORIES, 2)
        for day in range(84):
            if draw.random() < 0.2:
                at = START_MS + day * DAY_MS + draw.randrange(24) * 3_600_000
                rows.append(
                    {
                        "event_id": f"{customer}-{day}", "customer_id": f"c{customer}",
                        "event_type": draw.choice(["view", "purchase"]),
                        "category_id": draw.choice([*liked, None]),
                        "value": draw.choice([None, 1.5, 20.0]), "occurred_at": at,
                        "attributes": draw.choice([{}, {"channel": "web"}, {"channel": "shöp"}]),
                    }
                )  # fmt: skip
    draw.shuffle(rows)
    return rows


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    made = Shop(folder / "shop.toml", folder / "events.avro", folder / "train", folder / "test")
    made.config.write_text(CONFIG)
    write_events(made.events, made_up_events())
    weeks = [START_MS + 7 * DAY_MS * week for week in (3, 4, 5)]
    replay(made.settings, [made.events], made.train, weeks)
    replay(made.settings, [made.events], made.test, [START_MS + 63 * DAY_MS])
    return made
