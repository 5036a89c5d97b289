"""Task A of `make quality`: the public 84.51° Complete Journey data, where purchases repeat.

Which of the categories that at least 100 households bought will a household buy from within 14
days? Cut-offs are Mondays at midnight of the shop's clock: training weekly from 3 April to 25
September 2017, validation on 9, 16 and 23 October, test on 6 and 20 November, 4 and 18 December;
every household seen before a cut-off is a row. Training and validation rows stand in the same
periods, but as households are scored: after events and at a daily refresh, a sample of each. The
features are the demo's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.compute as pc
import pyarrow.parquet as pq
from tasks import CONFIG_FILE, RowsKind, Task, say

from stream_scorer.core.labels.labels import DAY_MS
from stream_scorer.demo.complete_journey import load_events
from stream_scorer.jobs.replay import replay
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.settings.tree import Settings

CLOCK = ZoneInfo("America/New_York")
MIN_CUSTOMERS = 100
VALIDATION_FROM = date(2017, 10, 9)
EVENT_RATE, QUIET_RATE = 0.5, 0.1  # of the test's moments of the kind: about 10,000 rows


def midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=CLOCK).timestamp() * 1000)


def cutoffs() -> dict[str, list[int]]:
    weeks = [date(2017, 4, 3) + timedelta(weeks=i) for i in range(26)]
    later = [VALIDATION_FROM + timedelta(weeks=i) for i in range(3)]
    test = [date(2017, 11, 6) + timedelta(weeks=2 * i) for i in range(4)]
    days = {"train": weeks, "validation": later, "test": test}
    return {name: [midnight_ms(day) for day in found] for name, found in days.items()}


def events(folder: Path) -> None:
    """Event file, vocabulary and config in `folder`; the vocabulary is of training's time."""
    found = load_events()
    past = found.filter(pc.less(found["occurred_at"], midnight_ms(VALIDATION_FROM)))
    words = sorted(pc.unique(past["category_id"]).to_pylist())
    (folder / "categories.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    attributes = pc.make_struct(
        found["department"], found["store"], field_names=["department", "store"]
    )
    kept = [c for c in found.column_names if c not in ("department", "store")]
    pq.write_table(
        found.select(kept).append_column("attributes", attributes), folder / "events.parquet"
    )
    demo = files("stream_scorer.demo").joinpath("demo.toml")
    (folder / CONFIG_FILE).write_bytes(demo.read_bytes())


def snapshots(settings: Settings, folder: Path, out: Path, rows: RowsKind) -> None:
    """Rows at the cut-offs, or in the same periods as they are served; of the test as many as are
    needed of each kind."""
    times = cutoffs()
    first, last = times["test"][0], times["test"][-1]
    asked: dict[str, Sequence[int] | RowsAsked] = {
        "train": times["train"],
        "validation": times["validation"],
        "test": times["test"],
        "event": served(settings, f"event:{EVENT_RATE},{first}..{last}"),
        "quiet": served(settings, f"quiet:{QUIET_RATE},{first}..{last}"),
    }
    if rows == "served":
        for name in ("train", "validation"):
            asked[name] = served(settings, f"{times[name][0]}..{times[name][-1]}")
    for name, moments in asked.items():
        report = replay(settings, [folder / "events.parquet"], out / name, moments)
        say(f"{out.parent.name}, {name}: {report.rows:,} rows")


def served(settings: Settings, text: str) -> RowsAsked:
    """What `replay --cutoffs` makes of it with a refresh each day."""
    horizon_ms = settings.label_rule().horizon_ms
    return RowsAsked.parse(
        text, "cutoffs", 0, every_ms=DAY_MS, horizon_ms=horizon_ms, moment_ms=int
    )


TASK = Task(
    name="complete_journey",
    title="A: Complete Journey, categories bought within 14 days",
    events=events,
    snapshots=snapshots,
    training={"min_customers": MIN_CUSTOMERS},
    moments=("event", "quiet"),
    target={
        "log_loss": 0.1539, "macro_auc": 0.821, "recall_at_10": 0.305,
        "uncalibrated_log_loss": 0.1545, "ece": 0.002,
    },
    floor={"log_loss": 0.1550, "macro_auc": 0.821, "recall_at_10": 0.301, "ece": 0.004},
)  # fmt: skip
