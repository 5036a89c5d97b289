"""Events that are refused, or nearly: what a replay says of them, and that they skew nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_scorer.errors import EventFileError, InputError
from stream_scorer.jobs.replay import replay
from stream_scorer.settings.tree import Settings

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000  # 2026-01-01
CONFIG = """
[vocabularies]
category_id = ["bread", "dairy", "fruit", "wine"]
[[features]]
name = "n"
on = ["purchase"]
by = ["category_id"]
half_lives = ["2d", "inf"]
[labels]
horizon = "7d"
[training]
min_customers = 1
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "scorer.toml"
    path.write_text(CONFIG)
    return Settings.load(path, environment={})


def purchase(number: int, **other: Any) -> dict[str, Any]:
    return {
        "event_id": str(number), "customer_id": f"c{number % 7}", "event_type": "purchase",
        "category_id": "bread", "occurred_at": START_MS + number * DAY_MS // 4, **other,
    }  # fmt: skip


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_one_stray_year_does_not_turn_the_guard_of_unfinished_horizons_off(
    settings: Settings, tmp_path: Path
) -> None:
    rows = [purchase(n) for n in range(40)]  # ten days
    good = lines(tmp_path / "good.jsonl", rows)
    rows.insert(20, purchase(99, occurred_at="9999-12-31T00:00:00Z"))
    stray = lines(tmp_path / "stray.jsonl", rows)
    for file in (good, stray):
        with pytest.raises(InputError, match="its horizon is not over: the events end at 2026-01-"):
            replay(settings, [file], tmp_path / "s", [START_MS + 9 * DAY_MS])
    found = replay(settings, [stray], tmp_path / "s", [START_MS + 2 * DAY_MS])
    assert found.dead_letters == {"time_in_future": 1}
    assert found.refused[0].position == 20
    assert "9999-12-31" in found.refused[0].detail


@pytest.mark.parametrize("unit", ["seconds", "microseconds", "nanoseconds"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_times_in_another_unit_are_refused_and_not_a_customer_of_1970(
    settings: Settings, tmp_path: Path, unit: str, kind: str
) -> None:
    def other(ms: int) -> int:
        return {"seconds": ms // 1000, "microseconds": ms * 1000, "nanoseconds": ms * 10**6}[unit]

    rows = [purchase(n) for n in range(40)]
    wrong = [row | {"occurred_at": other(row["occurred_at"])} for row in rows[:5]]
    file = tmp_path / f"e.{kind}"
    if kind == "jsonl":
        lines(file, wrong + rows[5:])
    else:
        pq.write_table(pa.Table.from_pylist(wrong + rows[5:]), file)
    found = replay(settings, [file], tmp_path / "s", [START_MS + 2 * DAY_MS])
    assert sum(found.dead_letters.values()) == 5
    assert all(f"{unit}?" in refused.detail for refused in found.refused)
    # Also where --to would have left such times out without a word.
    lines(tmp_path / "all.jsonl", wrong)
    with pytest.raises(EventFileError, match="no event that can be applied"):
        replay(settings, [tmp_path / "all.jsonl"], tmp_path / "t", [START_MS])
