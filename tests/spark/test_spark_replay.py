"""Replay on Spark gives the rows of `replay` on one machine, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.customer_sample import CustomerSample
from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.errors import EventFileError, InputError, TooManyDeadLetters
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.replay import replay
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.settings.tree import Settings

# ruff: noqa: PLC0415 - pyspark may be absent where these are collected

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("installed")]

DAY = 86_400_000
START = 17_000 * DAY
CONFIG = """
[vocabularies]
category_id = ["soup", "bread", "milk"]
[labels]
actions = [["view"], ["purchase"]]
horizon = "7d"
[[features]]
name = "purchases"
on = ["purchase"]
by = ["category_id"]
half_lives = ["2d", "30d", "inf"]
[[features]]
name = "money"
value = "value"
half_lives = ["5d"]
[[features]]
name = "trend"
kind = "trend"
by = ["category_id"]
half_lives = ["2d", "9d"]
[[features]]
name = "last"
kind = "latest"
by = ["category_id"]
[[features]]
name = "first"
kind = "first"
by = ["category_id"]
half_lives = ["5d", "inf"]
[[features]]
name = "overdue"
kind = "overdue"
[[features]]
name = "channels"
by = ["attributes.channel", "product_id"]
buckets = 64
"""
CUTOFFS = [START + d * DAY for d in (10, 11, 25, 40)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "shop.toml").write_text(CONFIG)
    return Settings.load(tmp_path / "shop.toml", environment={})


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Files of three formats, out of order within and across each other, with many equal times, and
    a few broken records."""
    draw = np.random.default_rng(11)
    folder = tmp_path / "events"
    folder.mkdir()
    rows = [
        {
            "event_id": str(i), "customer_id": f"c{draw.integers(60)}",
            "event_type": ("view", "purchase")[draw.integers(2)],
            "category_id": ("soup", "bread", "milk", None)[draw.integers(4)],
            "product_id": f"p{draw.integers(20)}", "value": float(draw.normal(0, 1e3)),
            "attributes": {"channel": ("web", "shop")[draw.integers(2)]},
            "occurred_at": START + int(draw.integers(150)) * (DAY // 3),
        }
        for i in range(3000)
    ]  # fmt: skip
    write_events(folder / "2.avro", rows[:1000])
    write_events(folder / "1.avro", rows[1000:2000])
    with (folder / "3.jsonl").open("w") as file:
        for number, row in enumerate(rows[2000:]):
            file.write(json.dumps(row) + "\n")
            if number % 300 == 7:
                file.write('{"event_id": "broken"}\n')
    return folder


def rows_of(path: Path) -> dict[tuple[str, int], tuple[bytes, ...]]:
    """The bytes of every row; Snapshot.open checks the checksums."""
    found = {}
    for shard in Snapshot.open(path).shards():
        at, labels = shard.matrix.indptr, shard.label_indptr
        for i, customer in enumerate(shard.customer_ids):
            key = (customer, int(shard.as_of_ms[i]))
            assert key not in found
            row, said = slice(at[i], at[i + 1]), slice(labels[i], labels[i + 1])
            found[key] = (
                shard.matrix.indices[row].tobytes(), shard.matrix.data[row].tobytes(),
                shard.label_category[said].tobytes(), shard.label_class[said].tobytes(),
                shard.weight[i].tobytes(),
            )  # fmt: skip
    return found  # type: ignore[return-value]


MIXED = "2016-07-20T00:00Z..2016-08-20T00:00Z,event:1/2,quiet:1/9,2016-07-28T00:00Z"


def asked_for(words: str) -> RowsAsked:
    return RowsAsked.parse(
        words, "cutoffs", 3, every_ms=DAY, horizon_ms=7 * DAY,
        moment_ms=lambda text: nearest_ms(parse_iso_8601(text)),
    )  # fmt: skip


@pytest.mark.parametrize(("window", "asked", "share"), [
    ((None, None), RowsAsked.of(CUTOFFS, "both", 3), None),
    ((START + 5 * DAY, START + 49 * DAY), RowsAsked.of(CUTOFFS), None),
    ((None, None), asked_for(MIXED), None),
    ((None, None), asked_for("event:0.2"), "2/3"),
])  # fmt: skip
def test_rows_are_those_of_one_machine_bit_for_bit(
    spark: Any, settings: Settings, events: Path, tmp_path: Path, window: tuple[Any, Any],
    asked: RowsAsked, share: str | None,
) -> None:  # fmt: skip
    from stream_scorer.jobs.replay import Window
    from stream_scorer.spark import replay as on_spark

    settings = settings.sampling(CustomerSample.asked(share))
    ours, theirs = tmp_path / "spark", tmp_path / "local"
    report = on_spark.replay(spark, settings, [str(events)], str(ours), asked, window)
    expected = replay(settings, [events], theirs, asked, Window(*window))
    rows = rows_of(ours)
    assert len(rows) == report.rows > 200
    assert rows == rows_of(theirs)
    assert any(labels for *_, labels, _ in rows.values())
    assert replace(report, out="", seconds=0) == replace(expected, out="", seconds=0)
    assert sum(report.dead_letters.values()) == 4
    said, meant = (Snapshot.open(path).manifest for path in (ours, theirs))
    for name in (
        "fingerprint", "features", "categories", "labels", "as_of_ms", "row_moments", "rows",
        "trend",  # with the SHA-256 of its file
        "sample_customers",
    ):  # fmt: skip
        assert said[name] == meant[name], name
    assert (report.event_rows > 50) == asked.samples
    assert (report.quiet_rows > 50) == bool(asked.quiet_share)


def test_sql_finds_the_customers_of_a_sample(spark: Any) -> None:
    """As docs/explanation/how-many-rows.md says it."""
    ids = [f"zoë {i}" for i in range(2000)]
    frame = spark.createDataFrame([(i,) for i in ids], "customer_id string")
    words = "shiftrightunsigned(xxhash64('sample-customers', customer_id), 58) = 0"
    there = CustomerSample.parse("1/64").contains(ids)
    assert [row[0] for row in frame.filter(words).orderBy("customer_id").collect()] == sorted(
        i for i, taken in zip(ids, there, strict=True) if taken
    )


def test_many_partitions_and_shards_change_nothing(
    spark: Any, settings: Settings, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream_scorer.spark import replay as on_spark

    monkeypatch.setattr(on_spark, "EVENTS_PER_TASK", 200)
    monkeypatch.setattr(on_spark, "ROWS_PER_SHARD", 5)
    on_spark.replay(spark, settings, [str(events)], str(tmp_path / "spark"), CUTOFFS)
    replay(settings, [events], tmp_path / "local", CUTOFFS)
    assert len(Snapshot.open(tmp_path / "spark").shards()) > 40
    assert rows_of(tmp_path / "spark") == rows_of(tmp_path / "local")


def test_horizon_that_is_not_over_is_refused_and_nothing_is_left(
    spark: Any, settings: Settings, events: Path, tmp_path: Path
) -> None:
    from stream_scorer.spark import replay as on_spark

    late = [START + 49 * DAY]
    with pytest.raises(InputError, match=r"--cutoffs.*horizon is not over"):
        on_spark.replay(spark, settings, [str(events)], str(tmp_path / "out"), late)
    assert not (tmp_path / "out").exists()


def test_file_that_breaks_off_is_named_and_nothing_is_left(
    spark: Any, settings: Settings, events: Path, tmp_path: Path
) -> None:
    from stream_scorer.spark import replay as on_spark

    whole = (events / "2.avro").read_bytes()
    (events / "2.avro").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"2\.avro.*copy it again") as raised:
        on_spark.replay(spark, settings, [str(events)], str(tmp_path / "out"), CUTOFFS)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_topic_and_files_without_events_are_refused(
    spark: Any, settings: Settings, tmp_path: Path
) -> None:
    from stream_scorer.spark import replay as on_spark

    with pytest.raises(InputError, match="Spark reads event files"):
        on_spark.replay(spark, settings, ["topic"], str(tmp_path / "out"), CUTOFFS)
    (tmp_path / "none.jsonl").write_text('{"event_id": "broken"}\n')
    with pytest.raises(EventFileError, match="no event that can be applied"):
        on_spark.replay(
            spark, settings, [str(tmp_path / "none.jsonl")], str(tmp_path / "out"), CUTOFFS
        )


def test_too_many_refused_records_stop_it_as_on_one_machine(spark: Any, tmp_path: Path) -> None:
    """The records of one window lie in two files, which two tasks read."""
    from stream_scorer.spark import replay as on_spark

    limits = "[dead_letters]\nmax_share = 0.4\nwindow_records = 100\n"
    (tmp_path / "shop.toml").write_text(limits + CONFIG)
    settings = Settings.load(tmp_path / "shop.toml", environment={})
    right: dict[str, object] = {
        "event_id": "e", "customer_id": "c", "event_type": "view", "category_id": "soup",
        "product_id": None, "value": None, "attributes": {}, "occurred_at": START + 90 * DAY,
    }  # fmt: skip
    events = tmp_path / "events"
    events.mkdir()
    for number, refused in enumerate((30, 20)):
        rows = [json.dumps({**right, "event_id": f"{number}-{i}"}) for i in range(50 - refused)]
        bad = ['{"event_id": "broken"}'] * refused
        (events / f"{number}.jsonl").write_text("\n".join(rows + bad) + "\n")
    said = "50 of the last 100 records are refused"
    out = tmp_path / "new" / "out"
    with pytest.raises(TooManyDeadLetters, match=said) as here:
        replay(settings, [events], out, CUTOFFS)
    assert not out.parent.exists()
    with pytest.raises(TooManyDeadLetters, match=said) as there:
        on_spark.replay(spark, settings, [str(events)], str(out), CUTOFFS)
    assert not out.parent.exists()
    assert str(there.value) == str(here.value)
