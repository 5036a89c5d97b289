"""Two tasks of `make quality` on data of another kind: a generated web shop, and one that is new.

Unlike the public purchases of complete_journey.py: views, clicks, carts and purchases; three
classes (nothing, view, purchase); 240 categories of uneven popularity; 4,800 products and 300
brands as hashed features; customers who come and go all the time, some known for a few days only.
What decides: lasting favourites, what was looked at lately, repeat purchases of consumables, a rest
after a durable, accessories after a main product, and a way of life that shows in the products
chosen, not in the category's own columns.

It is made up: it shows that the network finds such structure without being shown it, no more. The
newcomer's shop is the same with fewer customers and six weeks of events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tasks import CONFIG_FILE, Question, RowsKind, Task, say

from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.jobs.replay import replay
from stream_scorer.settings.tree import Settings

DAY = 86_400_000
START = 20_000 * DAY
GROUPS, PER_GROUP, PRODUCTS, BRANDS, LIVES = 24, 10, 20, 300, 12
CATEGORIES = GROUPS * PER_GROUP
NEW_DAYS = 14
QUESTIONS = (Question("acts"), Question("buys", least_class=2))
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

    def __init__(self, customers: int, days: int, seed: int = 1) -> None:
        self._customers, self._days = customers, days
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
        rows = [row for number in range(self._customers) for row in self._customer(number)]
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
        joined = 0.0 if draw.random() < 0.4 else draw.random() * self._days
        left = self._days if draw.random() < 0.6 else joined + draw.exponential(40)
        visits = draw.poisson(draw.gamma(0.8, 0.3) * max(min(left, self._days) - joined, 0))
        liked = draw.choice(CATEGORIES, 4, p=self._lives[life])
        tastes = np.cumsum(self._lives[life])
        bought: dict[int, float] = {}
        wanted: dict[int, float] = {}  # accessories, until when
        for day in np.sort(draw.uniform(joined, min(left, self._days), visits)).tolist():
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


@dataclass(frozen=True)
class Period:
    """How large a shop is, and at which days its rows stand."""

    customers: int
    days: int
    cutoff_days: Mapping[str, Sequence[int]]

    def events(self, folder: Path) -> None:
        """Event file, vocabulary and config."""
        words = "\n".join(f"category-{i:03d}" for i in range(CATEGORIES))
        (folder / "categories.txt").write_text(words + "\n", encoding="utf-8")
        pq.write_table(Shop(self.customers, self.days).events(), folder / "events.parquet")
        (folder / CONFIG_FILE).write_text(CONFIG, encoding="utf-8")

    def snapshots(self, settings: Settings, folder: Path, out: Path, _rows: RowsKind) -> None:
        """Rows at the cut-offs."""
        for name, days in self.cutoff_days.items():
            moments = [START + day * DAY for day in days]
            report = replay(settings, [folder / "events.parquet"], out / name, moments)
            say(f"{out.parent.name}, {name}: {report.rows:,} rows of {report.events:,} events")


def new_customers(folder: Path, rows: LabelledRows) -> dict[str, np.ndarray]:
    """Those whose first event is less than `NEW_DAYS` before their row."""
    events = pq.read_table(folder / "events.parquet", columns=["customer_id", "occurred_at"])
    first = events.group_by("customer_id").aggregate([("occurred_at", "min")])
    at_ms = first["occurred_at_min"].cast(pa.int64()).to_pylist()
    since = dict(zip(first["customer_id"].to_pylist(), at_ms, strict=True))
    age = rows.as_of_ms - np.array([since[customer] for customer in rows.customer_ids])
    return {"new customers": age < NEW_DAYS * DAY}


SHOP = Period(
    4_000, 120, {"train": range(40, 77, 7), "validation": (84, 91), "test": (98, 105, 112)}
)
# The same shop with four times as many customers, of whom the first ones are those of the other.
LARGE_SHOP = replace(SHOP, customers=16_000)
NEWCOMER = Period(1_000, 42, {"train": (10, 13, 16), "validation": (23, 24), "test": (31, 33, 35)})
TASKS = (
    Task(
        name="shop",
        title="a generated shop",
        events=SHOP.events,
        snapshots=SHOP.snapshots,
        questions=QUESTIONS,
        groups=new_customers,
        target={"log_loss": 0.0330},
        floor={"log_loss": 0.0335, "macro_auc": 0.902, "recall_at_10": 0.600},
    ),
    Task(
        name="newcomer",
        title="a generated shop with six weeks of data",
        events=NEWCOMER.events,
        snapshots=NEWCOMER.snapshots,
        questions=QUESTIONS,
        floor={"log_loss": 0.0980, "macro_auc": 0.805, "recall_at_10": 0.670},
    ),
)
# For the learning curve; too many rows for every `make quality`.
LARGE_TASK = Task(
    name="large_shop",
    title="a generated shop, four times as large",
    events=LARGE_SHOP.events,
    snapshots=LARGE_SHOP.snapshots,
    questions=QUESTIONS,
    groups=new_customers,
)
