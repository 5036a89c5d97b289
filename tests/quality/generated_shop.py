"""`make quality`: the default settings on data of another kind, a generated web shop.

Unlike the public purchases of complete_journey.py: views, clicks, carts and purchases; three
classes (nothing, view, purchase); 240 categories of uneven popularity; 4,800 products and 300
brands as hashed features; customers who come and go all the time, some known for a few days only.
What decides: lasting favourites, what was looked at lately, repeat purchases of consumables, a rest
after a durable, accessories after a main product, and a way of life that shows in the products
chosen, not in the category's own columns.

It is made up: it shows that the network finds such structure without being shown it, no more.

Usage: python tests/quality/generated_shop.py [--json] [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_scorer.core.evaluation import logistic_baseline as own_logistic
from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import bootstrap_difference
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.evaluate import evaluate
from stream_scorer.jobs.replay import replay
from stream_scorer.jobs.train import train
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.settings.tree import Settings

DAY = 86_400_000
START = 20_000 * DAY
DAYS = 120
CUSTOMERS = 4_000
GROUPS, PER_GROUP, PRODUCTS, BRANDS, LIVES = 24, 10, 20, 300, 12
CATEGORIES = GROUPS * PER_GROUP
CUTOFF_DAYS = {"train": range(40, 77, 7), "validation": (84, 91), "test": (98, 105, 112)}
NEW_DAYS = 14
COLUMNS = ("log_loss", "macro_auc", "recall_at_10", "ece")
CONFIG = """
[events]
event_types = ["view", "click", "cart", "purchase"]
[vocabularies]
category_id = "categories.txt"
[labels]
by = "category_id"
actions = [["view"], ["purchase"]]
horizon = "7d"
[[features]]
name = "views"
on = ["view"]
by = ["category_id"]
half_lives = ["1d", "7d", "30d"]
transform = "log1p"
[[features]]
name = "intent"
on = ["click", "cart"]
by = ["category_id"]
half_lives = ["3d"]
transform = "log1p"
[[features]]
name = "purchases"
on = ["purchase"]
by = ["category_id"]
half_lives = ["7d", "30d", "inf"]
transform = "log1p"
[[features]]
name = "bought_lately"
kind = "recency"
on = ["purchase"]
by = ["category_id"]
half_lives = ["14d"]
[[features]]
name = "products"
by = ["product_id"]
half_lives = ["30d"]
buckets = 4096
transform = "log1p"
[[features]]
name = "brands"
by = ["attributes.brand"]
half_lives = ["30d"]
buckets = 512
transform = "log1p"
[[features]]
name = "activity"
by = ["event_type"]
half_lives = ["3d", "30d"]
buckets = 16
transform = "log1p"
[[features]]
name = "total"
half_lives = ["3d", "30d", "inf"]
transform = "log1p"
[[features]]
name = "weekday"
kind = "calendar"
by = ["day_of_week"]
"""


class Shop:
    """Who its customers are and what they do; all of it follows from one seed."""

    def __init__(self, seed: int = 1) -> None:
        self._draw = draw = np.random.default_rng(seed)
        popularity = np.exp(draw.normal(0, 1.2, CATEGORIES))
        lives = np.repeat(draw.dirichlet(np.full(GROUPS, 0.15), LIVES), PER_GROUP, axis=1)
        self._lives = lives * popularity
        self._lives /= self._lives.sum(axis=1, keepdims=True)
        self._durable = draw.random(CATEGORIES) < 0.5
        self._accessory = draw.integers(CATEGORIES, size=CATEGORIES)
        self._converts = draw.beta(2, 6, CATEGORIES)
        # Which of a category's products somebody of a way of life prefers.
        liking = draw.dirichlet(np.full(PRODUCTS, 0.2), (CATEGORIES, LIVES))
        self._liking = np.cumsum(liking, axis=2)
        self._brand = draw.integers(BRANDS, size=(CATEGORIES, PRODUCTS))
        self._price = np.exp(draw.normal(2.5, 1, (CATEGORIES, PRODUCTS)))

    def events(self) -> pa.Table:
        """All events, in order of time."""
        rows = [row for number in range(CUSTOMERS) for row in self._customer(number)]
        rows.sort(key=lambda row: row[0])
        at, customer, kind, category, product = zip(*rows, strict=True)
        c, p = np.array(category), np.array(product)
        brands = [f"brand-{b}" for b in self._brand[c, p].tolist()]
        return pa.table(
            {
                "event_id": [str(i) for i in range(len(rows))],
                "customer_id": [f"customer-{i}" for i in customer],
                "event_type": list(kind),
                "category_id": [f"category-{i:03d}" for i in category],
                "product_id": [f"product-{a}-{b}" for a, b in zip(category, product, strict=True)],
                "value": pa.array(self._price[c, p]),
                "occurred_at": pa.array(at, pa.int64()).cast(pa.timestamp("ms", "UTC")),
                "attributes": pa.StructArray.from_arrays([pa.array(brands)], ["brand"]),
            }
        )

    def _customer(self, number: int) -> Iterator[tuple[int, int, str, int, int]]:
        draw = self._draw
        life = int(draw.integers(LIVES))
        joined = 0.0 if draw.random() < 0.4 else draw.random() * DAYS
        left = DAYS if draw.random() < 0.6 else joined + draw.exponential(40)
        visits = draw.poisson(draw.gamma(0.8, 0.3) * max(min(left, DAYS) - joined, 0))
        liked = draw.choice(CATEGORIES, 4, p=self._lives[life])
        tastes = np.cumsum(self._lives[life])
        bought: dict[int, float] = {}
        wanted: dict[int, float] = {}  # accessories, until when
        for day in np.sort(draw.uniform(joined, min(left, DAYS), visits)).tolist():
            at, category = START + int(day * DAY), -1
            for _ in range(int(draw.geometric(0.3))):
                if category < 0 or draw.random() > 0.4:
                    category = self._next(draw.random(), tastes, liked, wanted, day)
                if self._durable[category] and day - bought.get(category, -99) < 40:
                    continue
                pick = np.searchsorted(self._liking[category, life], draw.random())
                product = min(int(pick), PRODUCTS - 1)
                at += int(draw.exponential(60_000)) + 1
                yield at, number, "view", category, product
                if draw.random() < 0.45:
                    yield at + 1, number, "click", category, product
                    due = not self._durable[category] and 7 < day - bought.get(category, -99) < 30
                    if draw.random() < min(self._converts[category] * (3 if due else 1.3), 0.9):
                        yield at + 2, number, "cart", category, product
                        if draw.random() < 0.6:
                            yield at + 3, number, "purchase", category, product
                            bought[category] = day
                            if self._durable[category]:
                                wanted[int(self._accessory[category])] = day + 20

    def _next(
        self, chance: float, tastes: np.ndarray, liked: np.ndarray, wanted: dict[int, float],
        day: float,
    ) -> int:  # fmt: skip
        now = [c for c, until in wanted.items() if until > day]
        if now and chance < 0.15:
            return int(self._draw.choice(now))
        if chance < 0.5:
            return int(self._draw.choice(liked))
        return min(int(np.searchsorted(tastes, self._draw.random())), CATEGORIES - 1)


def prepare(folder: Path) -> Settings:
    """Event file, vocabulary, config and snapshots in `folder`."""
    events = Shop().events()
    words = "\n".join(f"category-{i:03d}" for i in range(CATEGORIES))
    (folder / "categories.txt").write_text(words + "\n", encoding="utf-8")
    (folder / "stream_scorer.toml").write_text(CONFIG, encoding="utf-8")
    pq.write_table(events, folder / "events.parquet")
    settings = Settings.load(folder / "stream_scorer.toml", environment={})
    for name, days in CUTOFF_DAYS.items():
        moments = [START + day * DAY for day in days]
        report = replay(settings, [folder / "events.parquet"], folder / name, moments)
        say(f"{name}: {report.rows:,} rows of {report.events:,} events")
    return settings


def buyers(rows: LabelledRows) -> LabelledRows:
    """The same rows with purchases as their only labels, as class 1."""
    bought = rows.label_class == 2
    indptr = np.concatenate([[0], np.cumsum(bought)])[rows.label_indptr]
    return replace(
        rows,
        label_indptr=indptr.astype(np.int64),
        label_category=rows.label_category[bought],
        label_class=np.ones(int(bought.sum()), np.uint8),
    )


def main_metrics(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """The metrics of `COLUMNS`."""
    found = metrics.summary(probabilities, truth).by_metric()
    return {metric: found[metric] for metric in COLUMNS}


def compared(folder: Path, model: Path) -> dict[str, Any]:
    """Of each question (act at all, buy): metrics of network, prior and logistic, on all test rows
    and on those of new customers, and the differences with 95 % intervals."""
    loaded = artefact.load(model)
    engine, index = open_engine(loaded, "native"), np.array(loaded.manifest.category_index)
    training = list(Snapshot.open(folder / "train").shards())
    test = list(Snapshot.open(folder / "test").shards())
    first_seen = pq.read_table(folder / "events.parquet", columns=["customer_id", "occurred_at"])
    first_seen = first_seen.group_by("customer_id").aggregate([("occurred_at", "min")])
    since = dict(
        zip(
            first_seen["customer_id"].to_pylist(),
            first_seen["occurred_at_min"].cast(pa.int64()).to_pylist(),
            strict=True,
        )
    )
    scores = np.concatenate([engine.score(rows.matrix) for rows in test])
    ids = [c for rows in test for c in rows.customer_ids]
    age = np.concatenate([rows.as_of_ms for rows in test]) - np.array([since[c] for c in ids])
    owner = np.unique(np.array(ids), return_inverse=True)[1]
    found: dict[str, Any] = {}
    for question, ours, kept in (
        ("act", 1 - scores[:, :, 0], lambda rows: rows),
        ("buy", scores[:, :, 2], buyers),
    ):
        shards = [kept(rows) for rows in training]
        truth = np.concatenate([dense_labels(kept(rows), index) > 0 for rows in test])
        share = np.concatenate([dense_labels(rows, index) > 0 for rows in shards]).mean(axis=0)
        fitted = own_logistic.fit(shards, loaded.layout)
        by_model = {
            "network": ours,
            "prior": np.broadcast_to(np.maximum(share, 1e-6), ours.shape).astype(np.float32),
            "logistic": np.concatenate(
                [own_logistic.probabilities(fitted, rows, loaded.layout) for rows in test]
            ),
        }
        for who, mask in (("all", age >= 0), ("new", age < NEW_DAYS * DAY)):
            found[f"{question}, {who} customers"] = {
                "rows": int(mask.sum()),
                "table": {name: main_metrics(p[mask], truth[mask]) for name, p in by_model.items()},
                "differences": {
                    name: bootstrap_difference(
                        metrics.row_log_loss(ours[mask], truth[mask]),
                        metrics.row_log_loss(p[mask], truth[mask]),
                        owner[mask],
                    )
                    for name, p in by_model.items()
                    if name != "network"
                },
            }
    return found


def measure(folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    settings = prepare(folder)
    model = folder / "model"
    report = train(settings, [folder / "train"], model, validation=[folder / "validation"])
    say(f"trained in {report.seconds:.0f} s, validation {report.validation_log_loss:.5f}")
    judged = evaluate(model, [folder / "test"])
    questions = compared(folder, model)
    return {
        "columns": settings.feature_space().width,
        "categories": judged.categories,
        "questions": questions,
        # A network that does not earn its keep is one whose log loss may be no lower.
        "better": all(
            high < 0 for q in questions.values() for _, _, high in q["differences"].values()
        ),
        "seconds": time.monotonic() - started,
    }


def show(report: dict[str, Any]) -> None:
    print(f"\ngenerated shop: {report['columns']:,} columns, {report['categories']} categories")
    for question, found in report["questions"].items():
        print(
            f"\n{question} ({found['rows']:,} rows){'':10}" + "".join(f"{c:>14}" for c in COLUMNS)
        )
        for name, values in found["table"].items():
            print(f"{name:44}" + "".join(f"{values[c]:14.4f}" for c in COLUMNS))
        for name, (difference, low, high) in found["differences"].items():
            print(f"log loss, network minus {name}: {difference:+.4f} ({low:+.4f} to {high:+.4f})")
    print(f"\nbetter than prior and logistic everywhere: {'yes' if report['better'] else 'NO'}; "
          f"{report['seconds']:.0f} s")  # fmt: skip


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--keep", type=Path, help="keep snapshots and the model in this new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stream-scorer-quality-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=folder == Path(temporary))
        report = measure(folder)
    print(json.dumps(report)) if options.json else show(report)
    return 0 if report["better"] else 1


if __name__ == "__main__":
    sys.exit(main())
