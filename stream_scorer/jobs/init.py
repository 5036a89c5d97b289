"""`stream-scorer init`: a folder to start from, with settings, a vocabulary and sample events.

The settings are the annotated example that the package carries (deploy/stream_scorer.toml in the
sources), with its list of categories replaced by the file that lies beside it. The events are made
up from a fixed seed, so every starter is the same: customers who each prefer a few categories, look
at goods, and buy some of them. The moments in the printed commands follow from the dates of these
events: training's label windows end before validation begins, and validation's before the test.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from stream_scorer.atomic import NewFolder, write_file
from stream_scorer.errors import InputError, cannot_write
from stream_scorer.result import Result

CONFIG_FILE = "stream_scorer.toml"
VOCABULARY_FILE = "categories.txt"
EVENTS_FILE = "events/sample.jsonl"

CATEGORIES = (
    "bread", "cheese", "coffee", "dairy", "flowers", "fruit", "meat", "pasta", "snacks", "soap",
    "tea", "wine",
)  # fmt: skip
CUSTOMERS = 150
SEED = 11
START = datetime(2026, 6, 15, tzinfo=timezone.utc)  # a Monday
WEEKS = 14
# Weeks after the start. The example's horizon is two weeks.
CUTOFF_WEEKS = {"train": (5, 6, 7, 8), "validation": (10,), "test": (12,)}

# In the example: the list that the starter replaces by its file.
LISTED_CATEGORIES = 'category_id = ["bread", "dairy", "fruit", "wine"]\n# category_id = '
CATEGORIES_OF_FILE = "category_id = "


@dataclass(frozen=True)
class Starter(Result):
    """What was written; files and commands are relative to `directory`."""

    directory: str
    files: tuple[str, ...]
    events: int
    customers: int
    categories: int
    commands: tuple[str, ...]


def init(directory: Path) -> Starter:
    """Write a starter into `directory`, which is made where it does not exist.

    All of it is written or nothing is. Raises InputError where the directory holds anything, is
    a file, or can't be written.
    """
    lines = [json.dumps(event) for event in sample_events()]
    contents = {
        CONFIG_FILE: starter_config(),
        VOCABULARY_FILE: "".join(f"{category}\n" for category in CATEGORIES),
        EVENTS_FILE: "".join(f"{line}\n" for line in lines),
    }
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            remedy = "is not an empty directory; name a new one, so that nothing is overwritten"
            raise InputError("DIR", directory, remedy)
        _write(directory, contents)
    except OSError as error:
        raise InputError("DIR", directory, cannot_write(error)) from None
    return Starter(
        str(directory), tuple(contents), len(lines), CUSTOMERS, len(CATEGORIES), tuple(commands())
    )


def _write(directory: Path, contents: Mapping[str, str]) -> None:
    """The files of a directory that is empty or does not exist."""
    if directory.exists():
        # It stays the same directory: a shell may stand in it, and its owner and rights are chosen.
        _fill(directory, contents)
        return
    with NewFolder(directory) as folder:
        _fill(folder.work, contents)
        folder.publish()


def _fill(directory: Path, contents: Mapping[str, str]) -> None:
    """Write the files into an empty directory; where one can't be written it is empty again."""
    try:
        for name, content in contents.items():
            write_file(directory / name, content.encode())
    except BaseException:  # an interrupt from the keyboard, too
        for entry in {Path(name).parts[0] for name in contents}:
            if (directory / entry).is_dir():
                shutil.rmtree(directory / entry)
            else:
                (directory / entry).unlink(missing_ok=True)
        raise


def in_words(starter: Starter) -> list[str]:
    """The result for people: what is there, and what to run next."""
    return [
        f"{starter.directory}: {', '.join(starter.files)} ({starter.events:,} made-up events of "
        f"{starter.customers} customers in {starter.categories} categories)",
        "Train a model on them:",
        f"  cd {starter.directory}",
        *(f"  {command}" for command in starter.commands),
        f"Then put your own servers, features and event files into {CONFIG_FILE}, and ask "
        f"`stream-scorer doctor -c {CONFIG_FILE}` what is missing.",
    ]


def example_config() -> str:
    """The annotated example: every setting with its default."""
    return (files("stream_scorer.deploy") / CONFIG_FILE).read_text(encoding="utf-8")


def starter_config() -> str:
    """The annotated example, with the vocabulary in a file of its own."""
    before, listed, after = example_config().partition(LISTED_CATEGORIES)
    if not listed:
        raise ValueError(f"the example config lacks {LISTED_CATEGORIES!r}")
    return before + CATEGORIES_OF_FILE + after


def commands() -> Iterator[str]:
    """What to run in the starter's directory: snapshots, a model, and how good it is."""
    for name, weeks in CUTOFF_WEEKS.items():
        moments = ",".join(f"{START + timedelta(weeks=w):%Y-%m-%dT%H:%MZ}" for w in weeks)
        yield (
            f"stream-scorer replay events -c {CONFIG_FILE} --out snapshots/{name} "
            f"--cutoffs {moments}"
        )
    yield (
        f"stream-scorer train snapshots/train -c {CONFIG_FILE} "
        "--validation snapshots/validation --out model"
    )
    yield "stream-scorer evaluate model snapshots/test"


def sample_events() -> list[dict[str, Any]]:
    """Events in order of time, in the fields of schemas/customer_event.avsc."""
    draw = random.Random(SEED)
    visits = []
    for number in range(CUSTOMERS):
        preferred = draw.sample(CATEGORIES, 3)
        weekly_visits = draw.uniform(0.3, 2.0)
        for week in range(WEEKS):
            for _ in range(round(weekly_visits + draw.uniform(-0.5, 0.5))):
                at = START + timedelta(weeks=week, seconds=draw.randrange(7 * 86_400))
                visits.append((at, f"customer-{number:03d}", preferred))
    events: list[dict[str, Any]] = []
    for at, customer, preferred in sorted(visits):
        category = draw.choice(preferred if draw.random() < 0.8 else CATEGORIES)
        kinds = ["view", "purchase"] if draw.random() < 0.6 else ["view"]
        for kind in kinds:
            events.append(
                {
                    "event_id": f"sample-{len(events):05d}",
                    "customer_id": customer,
                    "event_type": kind,
                    "category_id": category,
                    "value": round(draw.uniform(1, 40), 2) if kind == "purchase" else None,
                    "occurred_at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                    "attributes": {"channel": draw.choice(["web", "app", "shop"])},
                }
            )
    return events
