"""Events that are refused, or nearly: what a replay says of them, and that they skew nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import stream_scorer as ss
from stream_scorer import cli
from stream_scorer.core.events.refused import Refusal, RefusedRecord
from stream_scorer.core.features.ignored_values import IgnoredValue
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import EventFileError, InputError, TooManyDeadLetters
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshot_info import LeftOut
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.jobs.publish import BATCH_RECORDS, in_words, publish
from stream_scorer.jobs.replay import Window, replay
from stream_scorer.jobs.train import Trained
from stream_scorer.jobs.train import in_words as train_in_words
from stream_scorer.past.replayed import in_words as replay_in_words
from stream_scorer.past.sources import open_past
from stream_scorer.past.vectors import PastFold
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


def test_cut_offs_before_the_first_event_make_no_empty_snapshot(
    settings: Settings, tmp_path: Path
) -> None:
    file = lines(tmp_path / "e.jsonl", [purchase(n) for n in range(40)])
    with pytest.raises(InputError, match="no customer is known by then: the events begin at 2026"):
        replay(settings, [file], tmp_path / "s", [START_MS - DAY_MS, START_MS])
    assert not (tmp_path / "s").exists()


def test_newest_events_that_are_refused_are_named_where_the_horizon_is_not_over(
    settings: Settings, tmp_path: Path
) -> None:
    """Else the error would say "choose an earlier one", and hide why the events end so early."""
    rows = [purchase(n) for n in range(40)]
    for row in rows[20:]:
        row["event_type"] = "Purchase"
    file = lines(tmp_path / "e.jsonl", rows)
    with pytest.raises(InputError) as caught:
        replay(settings, [file], tmp_path / "s", [START_MS + 2 * DAY_MS])
    assert str(caught.value) == (
        "--cutoffs: '2026-01-03T00:00:00Z': its horizon is not over: the events end at "
        "2026-01-05T18:00:00Z; choose an earlier one; 20 of 40 records are refused, such as "
        f"{file}[0] at 20: event_type 'Purchase' is not in events.event_types; is 'purchase' meant?"
    )


SAMPLES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown_event_type": (
        {"event_type": "PURCHASE"}, "'PURCHASE' is not in events.event_types; is 'purchase' meant?"
    ),
    "missing_customer_id": ({"customer_id": ""}, "customer_id is empty"),
    "value_not_finite": ({"value": float("inf")}, "inf"),
    "value_too_large": ({"value": 1e300}, "value 1e+300 is beyond 1e+15"),
    "time_too_early": ({"occurred_at": START_MS // 1000}, "seconds?"),
    "undecodable": ({"occurred_at": "yesterday"}, "yesterday"),
}  # fmt: skip


def topic_size(settings: Settings) -> int:
    with open_past(settings, ["topic"], batch_records=100) as past:
        return sum(end - first for first, end in past.ranges.values())


@pytest.fixture
def with_kafka(tmp_path: Path) -> Iterator[Settings]:
    with EmbeddedKafka() as kafka:
        path = tmp_path / "with_kafka.toml"
        path.write_text(f'[kafka]\nbootstrap_servers = "{kafka.bootstrap_servers}"\n{CONFIG}')
        kafka.create("customer-events")
        yield Settings.load(path, environment={})


@pytest.mark.parametrize("reason", SAMPLES)
def test_where_nothing_can_be_applied_every_reader_says_why_and_what_to_do(
    settings: Settings, tmp_path: Path, reason: str, with_kafka: Settings
) -> None:
    change, detail = SAMPLES[reason]
    file = lines(tmp_path / "e.jsonl", [purchase(n, **change) for n in range(3)])
    said = set()
    for read in (
        lambda: replay(settings, [file], tmp_path / "s", [START_MS]),
        lambda: folded(settings, file, 2),
        lambda: publish(with_kafka, [file]),
        lambda: ss.read_events(file, settings, strict=False),
    ):
        with pytest.raises(EventFileError) as caught:
            read()
        said.add(str(caught.value))
    (line,) = said
    assert "\n" not in line
    assert f"no event that can be applied: 3 of 3 records are refused: {reason}: 3, such as" in line
    assert f"{file}[0] at 0: " in line
    assert detail in line
    assert "(remedy: " in line
    assert topic_size(with_kafka) == 0


def test_publish_and_replay_report_the_same_reasons_at_the_same_positions(
    settings: Settings, tmp_path: Path, with_kafka: Settings
) -> None:
    rows = [purchase(n) for n in range(40)]
    for position, reason in enumerate(SAMPLES, start=4):
        rows[position * 2] |= SAMPLES[reason][0]
    folder = tmp_path / "events"
    folder.mkdir()
    lines(folder / "a.jsonl", rows[:13])
    lines(folder / "b.jsonl", rows[13:])
    replayed = replay(settings, [folder], tmp_path / "s", [START_MS + 2 * DAY_MS])
    published = publish(with_kafka, [folder])
    assert published.refused_records == replayed.refused
    assert published.refusals == replayed.refusals
    assert published.dead_letters == replayed.dead_letters == dict.fromkeys(sorted(SAMPLES), 1)
    assert [(r.source[-7:], r.position) for r in replayed.refused] == [
        ("a.jsonl", 8), ("a.jsonl", 10), ("a.jsonl", 12), ("b.jsonl", 1), ("b.jsonl", 3),
        ("b.jsonl", 5),
    ]  # fmt: skip
    assert (published.published, published.refused) == (34, 6)
    assert topic_size(with_kafka) == 34
    assert all(any(r.remedy in line for line in in_words(published)) for r in published.refusals)


def test_publish_and_replay_exit_alike_where_a_record_is_refused(
    tmp_path: Path, with_kafka: Settings
) -> None:
    """As `run`, which goes on after a dead letter; `[dead_letters]` says when all of them stop."""
    rows = [purchase(n) for n in range(40)]
    rows[7]["event_type"] = "Purchase"
    file = str(lines(tmp_path / "e.jsonl", rows))
    config = ["-c", str(tmp_path / "with_kafka.toml"), "--json"]
    cutoff = ["--cutoffs", "2026-01-03T00:00Z", "--out", str(tmp_path / "s")]
    ran = [
        CliRunner().invoke(cli.app, words)
        for words in (["publish", file, *config], ["replay", file, *cutoff, *config])
    ]
    assert [one.exit_code for one in ran] == [0, 0]
    published, replayed = (json.loads(one.stdout) for one in ran)
    assert published["dead_letters"] == replayed["dead_letters"] == {"unknown_event_type": 1}
    assert published["too_large"] == 0


def test_publish_says_how_much_is_in_the_topic_where_a_file_breaks_off(
    tmp_path: Path, with_kafka: Settings
) -> None:
    """Who starts it again would publish the first files twice."""
    write_events(tmp_path / "a.avro", [purchase(n % 40) for n in range(BATCH_RECORDS)])
    write_events(tmp_path / "b.avro", [purchase(n) for n in range(10)])
    whole = (tmp_path / "b.avro").read_bytes()
    (tmp_path / "b.avro").write_bytes(whole[:-20])
    with pytest.raises(EventFileError) as caught:
        publish(with_kafka, [tmp_path / "a.avro", tmp_path / "b.avro"])
    assert "b.avro': corrupt or cut short after 0 records" in str(caught.value)
    said = f"; {BATCH_RECORDS:,} events were published before, which another run would repeat"
    assert str(caught.value).endswith(said)
    assert topic_size(with_kafka) == BATCH_RECORDS


@pytest.mark.parametrize("batch_records", [7, 50, 100_000])
def test_a_stretch_of_bad_records_stops_a_replay_as_it_would_stop_run(
    settings: Settings, tmp_path: Path, batch_records: int, with_kafka: Settings
) -> None:
    """Half of a window is refused, though of the whole file it is a small share."""
    rows = [purchase(n % 40) for n in range(2000)]
    for row in rows[1000:1070]:
        row["event_type"] = "Purchase"
    file = lines(tmp_path / "e.jsonl", rows)
    limits = settings.dead_letters.model_copy(update={"window_records": 100})
    cuts, out = [START_MS + 2 * DAY_MS], tmp_path / "s"
    assert replay(settings, [file], out, cuts).dead_letters == {"unknown_event_type": 70}
    strict = settings.model_copy(update={"dead_letters": limits})
    with pytest.raises(TooManyDeadLetters, match=r"of the last 10\d records are refused"):
        replay(strict, [file], tmp_path / "t", cuts)
    assert not (tmp_path / "t").exists()
    with pytest.raises(TooManyDeadLetters, match="refused"):
        folded(strict, file, batch_records)
    with pytest.raises(TooManyDeadLetters, match=r"0 events are published; \d\d of the last"):
        publish(with_kafka.model_copy(update={"dead_letters": limits}), [file])


def folded(settings: Settings, file: Path, batch_records: int) -> PastFold:
    with open_past(settings, [str(file)], batch_records=batch_records) as past:
        store = MemoryStore(settings.feature_space().fingerprint)
        fold = PastFold(settings, past, store, 1, quiet=True)
        fold.run()
    return fold


def test_a_notebook_that_leaves_events_out_logs_the_reasons(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [purchase(0), purchase(1, event_type="purchases")]
    assert ss.read_events(lines(tmp_path / "e.jsonl", rows), settings).num_rows == 1
    assert "1 records left out: unknown_event_type" in caplog.text
    assert "is 'purchase' meant?" in caplog.text


def test_values_that_features_can_not_use_are_reported_by_replay(
    settings: Settings, tmp_path: Path
) -> None:
    rows = [purchase(n) for n in range(40)]
    for row in rows[:6]:
        row["category_id"] = "Bread"
    rows[30]["event_type"] = "Purchase"
    file = lines(tmp_path / "e.jsonl", rows)
    found = replay(settings, [file], tmp_path / "s", [START_MS + 2 * DAY_MS])
    (value,) = found.ignored_values
    assert (value.field, value.problem, value.events) == ("category_id", "unknown_word", 6)
    (line,) = [line for line in replay_in_words(found) if "vocabulary" in line]
    assert line.startswith("6 events have a value of category_id that its vocabulary lacks")
    assert line.endswith("add it to vocabularies.category_id; is 'bread' meant?")
    lacking = Snapshot.open(tmp_path / "s").info.left_out
    assert lacking == LeftOut(found.refusals, found.ignored_values)
    fold = folded(settings, file, 7)
    assert fold.ignored.found(settings.vocabularies) == found.ignored_values


def test_training_says_what_its_snapshots_lack() -> None:
    record = RefusedRecord("e.jsonl", 0, 7, "undecodable", "no JSON")
    lacking = LeftOut(
        (Refusal("undecodable", 4, record, "correct it"),),
        (IgnoredValue("attributes.price", "not_a_number", 9, "n/a", "write a number"),),
        ignored_events=1200,
        outside_window=7,
    )
    assert LeftOut.of(json.loads(json.dumps(lacking.as_json()))) == lacking
    said = train_in_words(Trained("m", "v", 9, 3, None, 1.5, {"snapshots/1": lacking}))[1:]
    assert said == [
        "snapshots/1: 4 records left out: undecodable; correct it",
        "snapshots/1: e.jsonl[0] at 7: undecodable: no JSON",
        "snapshots/1: 1,200 events left out: their customers are in events.ignored_customer_ids",
        "snapshots/1: 7 left out: they are outside --from and --to",
        "snapshots/1: 9 events have a value of attributes.price that is not a number, such as "
        "'n/a', and do not count for features by it: write a number",
    ]


def test_what_older_manifests_say_is_left_out_is_read() -> None:
    assert LeftOut.of({"refusals": [], "ignored_values": []}) == LeftOut()


def test_events_outside_the_window_are_counted_and_said(settings: Settings, tmp_path: Path) -> None:
    days = [5 * n for n in range(10)]  # of which --from and --to leave three
    rows = [purchase(n, occurred_at=START_MS + day * DAY_MS) for n, day in enumerate(days)]
    file = lines(tmp_path / "e.jsonl", rows)
    window = Window(START_MS + 10 * DAY_MS, START_MS + 25 * DAY_MS)
    found = replay(settings, [file], tmp_path / "s", [START_MS + 11 * DAY_MS], window)
    assert (found.events, found.outside_window) == (3, 7)
    said = "7 left out: they are outside --from and --to"
    assert said in replay_in_words(found)
    lacking = Snapshot.open(tmp_path / "s").info.left_out
    assert lacking.outside_window == 7
    assert said in lacking.in_words()
    with open_past(
        settings, [str(file)], batch_records=4, from_ms=window.from_ms, to_ms=window.to_ms
    ) as past:
        fold = PastFold(settings, past, MemoryStore(settings.feature_space().fingerprint), 1)
        fold.run()
    assert (fold.counts().events, fold.counts().outside_window) == (3, 7)
    nothing = Window(START_MS + 60 * DAY_MS, None)
    with pytest.raises(EventFileError, match="no event that can be applied: 10 are outside --from"):
        replay(settings, [file], tmp_path / "n", [START_MS + 11 * DAY_MS], nothing)


@pytest.mark.parametrize(
    "spoilt",
    [
        {}, [], "x", {"refusals": 3, "ignored_values": []},
        {"refusals": [], "ignored_values": [{}]},
        {"refusals": [{"reason": "undecodable"}], "ignored_values": []},
        {"refusals": [], "ignored_values": [
            {"field": "f", "problem": "p", "events": "9", "example": "e", "remedy": "r"}]},
        {"refusals": [], "ignored_values": [
            {"field": "f", "problem": "p", "events": 9, "example": 4, "remedy": "r"}]},
        {"refusals": [], "ignored_values": [], "more": 1},
        {"refusals": [], "ignored_values": [], "ignored_events": "9"},
    ],
)  # fmt: skip
def test_what_a_manifest_says_is_left_out_is_checked(spoilt: Any) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        LeftOut.of(spoilt)
