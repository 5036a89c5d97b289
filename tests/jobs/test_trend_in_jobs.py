"""A declared trend from the log to the scores: replay, training, evaluation, scoring, backtest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import InputError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.replay import replay
from stream_scorer.settings.tree import Settings

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


def _rows() -> list[dict[str, Any]]:
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


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and the events of a shop."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "stream_scorer.toml").write_text(CONFIG)
    write_events(folder / "events.avro", _rows())
    return folder


@pytest.fixture(scope="module")
def settings(shop: Path) -> Settings:
    return Settings.load(shop / "stream_scorer.toml", environment={})


@pytest.fixture(scope="module")
def train_snapshot(shop: Path, settings: Settings) -> Path:
    replay(settings, [shop / "events.avro"], shop / "train", CUTOFFS, rows_at="both")
    return shop / "train"


def _table(path: Path) -> TrendTable:
    found = Snapshot.open(path).trend
    assert found is not None
    return found


def test_a_replay_writes_the_table_of_the_days_of_its_rows(train_snapshot: Path) -> None:
    table = _table(train_snapshot)
    assert (table.first_day, table.last_day) == (17_030, 17_079)
    # Half of all events are of one category, which changes every 15 days.
    assert np.abs(table.contrasts).max() > 0.3


def test_what_happens_from_a_cut_off_on_changes_neither_its_rows_nor_its_trend(
    shop: Path, settings: Settings, tmp_path: Path
) -> None:
    cutoff = CUTOFFS[-1]
    before = [row for row in _rows() if row["occurred_at"] < cutoff]
    # So that the horizon is over.
    after = {**before[0], "event_id": "x", "occurred_at": cutoff + 6 * DAY, "category_id": "milk"}
    write_events(tmp_path / "cut.avro", [*before, *[after] * 50])
    tables, matrices = [], []
    for name, events in (("whole", shop / "events.avro"), ("cut", tmp_path / "cut.avro")):
        replay(settings, [events], tmp_path / name, [cutoff])
        tables.append(_table(tmp_path / name))
        matrices.append(Snapshot.open(tmp_path / name).shards()[0].matrix)
    assert tables[0].first_day == tables[1].first_day == tables[0].last_day
    assert np.array_equal(tables[0].contrasts, tables[1].contrasts)
    assert (matrices[0] != matrices[1]).nnz == 0


def test_a_time_too_long_for_the_table_is_refused_before_any_event_is_read(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_scorer.core.trend.MOST_TABLE_BYTES", 4 * 50 * 2 * 3)
    cutoffs = [START + d * DAY for d in (30, 80)]
    with pytest.raises(InputError, match="rows lie 51 days apart"):
        replay(settings, [tmp_path / "no-such-file"], tmp_path / "out", cutoffs)
