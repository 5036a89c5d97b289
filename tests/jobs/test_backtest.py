"""`backtest`: honest scores of the past, the same each time, and what they were worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import MetricDifference
from stream_scorer.core.evaluation.scoring_times import ScoringTimes
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import InputError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.jobs.backtest import backtest, in_words
from stream_scorer.jobs.replay import replay
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import random_model
from tests.jobs.result_keys import BACKTEST, keys_of

DAY = 86_400_000
START = 17_000 * DAY
WORDS = ("soup", "bread", "milk", "tea")
CONFIG = """
[vocabularies]
category_id = ["soup", "bread", "milk", "tea"]
[labels]
horizon = "7d"
[[features]]
name = "bought"
by = ["category_id"]
half_lives = ["{half_life}"]
"""


def shopping(count: int = 1500, days: int = 60, customers: int = 40) -> list[dict[str, Any]]:
    draw = np.random.default_rng(8)
    return [
        {
            "event_id": str(i), "customer_id": f"c{draw.integers(customers)}",
            "event_type": "purchase", "category_id": WORDS[min(draw.geometric(0.5), 4) - 1],
            "occurred_at": START + int(draw.integers(days * DAY)),
        }
        for i in range(count)
    ]  # fmt: skip


def saved_model(tmp_path: Path, name: str, half_life: str, seed: int) -> Path:
    config = tmp_path / f"{name}.toml"
    config.write_text(CONFIG.format(half_life=half_life))
    settings = Settings.load(config, environment={})
    artefact.save(random_model(settings, seed), tmp_path / name)
    return tmp_path / name


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Two, of different feature declarations."""
    return [saved_model(tmp_path, "one", "14d", 1), saved_model(tmp_path, "two", "2d", 2)]


@pytest.fixture
def settings(tmp_path: Path, models: list[Path]) -> Settings:
    return Settings.load(tmp_path / "one.toml", environment={})


def written(path: Path, rows: list[dict[str, Any]]) -> list[Path]:
    write_events(path, rows)
    return [path]


WEEKLY = ScoringTimes(START + 20 * DAY, START + 58 * DAY, "7d")


def test_events_of_ignored_customers_are_counted_in_result_and_report(
    settings: Settings, models: list[Path], tmp_path: Path
) -> None:
    rows = shopping()
    guests = sum(row["customer_id"] in ("c1", "c2") for row in rows)
    ignoring = settings.model_copy(
        update={"events": settings.events.model_copy(update={"ignored_customer_ids": ("c1", "c2")})}
    )
    events = written(tmp_path / "e.avro", rows)
    found = backtest(ignoring, events, models[:1], WEEKLY, tmp_path / "out")
    assert (found.customers, found.events) == (38, len(rows) - guests)
    assert found.as_json()["ignored_events"] == guests
    said = f"{guests} events left out: their customers are in events.ignored_customer_ids"
    assert said in in_words(found)
    assert said in (tmp_path / "out" / "report.html").read_text()


def test_report_holds_what_happened(settings: Settings, models: list[Path], tmp_path: Path) -> None:
    events = written(tmp_path / "e.avro", shopping())
    found = backtest(settings, events, models, WEEKLY, tmp_path / "out")
    assert (found.rows, found.judged, found.pending) == (240, 200, 40)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "metrics.json", "report.html", "scores-1.parquet", "scores-2.parquet",
    ]  # fmt: skip
    table = pq.read_table(tmp_path / "out" / "scores-1.parquet")
    scores = np.array(table["probabilities"].to_pylist(), np.float32)
    as_of = [round(t.timestamp() * 1000) for t in table["as_of"].to_pylist()]
    ids = table["customer_id"].to_pylist()
    assert sorted(zip(as_of, ids, strict=True)) == sorted(
        (START + (20 + 7 * k) * DAY, f"c{i}") for k in range(6) for i in range(40)
    )
    acted = np.zeros((240, 4), np.bool_)
    for r, (moment, customer) in enumerate(zip(as_of, ids, strict=True)):
        for e in shopping():
            if e["customer_id"] == customer and 0 <= e["occurred_at"] - moment < 7 * DAY:
                acted[r, WORDS.index(e["category_id"])] = True
    judged = np.array(as_of) < START + 54 * DAY
    expected = metrics.summary(scores[judged], acted[judged])
    assert found.metrics["model"].as_json() == pytest.approx(expected.as_json())
    assert [p.rows for p in found.over_time] == [40] * 5
    best = np.argsort(-scores[judged].reshape(-1), kind="stable")
    for point in found.gain["model"]:
        top = best[: round(point.share * len(best))]
        share = acted[judged].reshape(-1)[top].sum() / acted[judged].sum()
        assert point.found == pytest.approx(share, abs=0.01)
    assert set(found.freshness["model"]) == {"1h", "1d", "7d"}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"] == 240
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    assert any("one minus two" in line for line in in_words(found))
    assert in_words(found)[0].startswith(
        ("one is better than two", "two is", "one is worse than two", "No difference between one")
    )


@pytest.mark.parametrize("every", ["event", "7d"])
def test_two_runs_are_the_same_bytes(
    settings: Settings, models: list[Path], tmp_path: Path, every: str
) -> None:
    events = written(tmp_path / "e.avro", shopping())
    times = ScoringTimes(WEEKLY.from_ms, WEEKLY.to_ms, every)
    for name in ("a", "b"):
        backtest(settings, events, models[:1], times, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("every", ["event", "7d"])
def test_no_score_sees_what_came_later(
    settings: Settings, models: list[Path], tmp_path: Path, every: str
) -> None:
    """Deleting and changing all that came at or after a moment leaves its scores bit-identical."""
    rows, at = shopping(), START + 41 * DAY
    before = [e for e in rows if e["occurred_at"] < at]
    later = [
        {**e, "category_id": "tea", "customer_id": f"new{i % 50}"}
        for i, e in enumerate(rows)
        if e["occurred_at"] >= at
    ]
    seen = []
    for number, log in enumerate((rows, before, before + later)):
        out = tmp_path / f"out{number}"
        events = written(tmp_path / f"{number}.avro", log)
        # An event in the last ms before `at` is scored at `at`.
        times = ScoringTimes(START + 20 * DAY, at if every == "event" else at + 1, every)
        backtest(settings, events, models[:1], times, out)
        table = pq.read_table(out / "scores-1.parquet")
        seen.append(table.to_pylist())
    assert len(seen[0]) > 100
    assert seen[0] == seen[1] == seen[2]


def test_a_model_beside_itself_does_not_differ(
    settings: Settings, models: list[Path], tmp_path: Path
) -> None:
    events = written(tmp_path / "e.avro", shopping())
    found = backtest(settings, events, [models[0], models[0]], WEEKLY, tmp_path / "out")
    assert found.intervals is not None
    assert set(found.intervals.by_metric().values()) == {MetricDifference(0.0, 0.0, 0.0)}
    assert found.metrics["model"] == found.metrics["model 2"]


def test_late_events_are_known_both_ways_in_one_run(
    settings: Settings,
    models: list[Path],
    tmp_path: Path,
    kafka: EmbeddedKafka,
) -> None:
    """A third of the events reach the topic ten days after they occurred."""
    servers = settings.kafka.model_copy(
        update={"bootstrap_servers": kafka.bootstrap_servers, "input_topic": "late-events"}
    )
    settings = settings.model_copy(update={"kafka": servers})
    late = [(e, e["occurred_at"] + (i % 3 == 0) * 10 * DAY) for i, e in enumerate(shopping())]
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for event, arrived in sorted(late, key=lambda pair: pair[1]):
        [value] = encode_events([event])
        producer.produce("late-events", value, event["customer_id"], timestamp=arrived)
    producer.produce("late-events", b"junk", "c1", timestamp=START + 59 * DAY)
    assert producer.flush(30) == 0
    both = {}
    for by_arrival in (False, True):
        out = tmp_path / f"{by_arrival}"
        found = backtest(settings, ["topic"], models, WEEKLY, out, by_arrival=by_arrival)
        both[by_arrival] = found
        assert found.late_events == {"1h": 500, "1d": 500, "7d": 500}
        assert any("late events: had they been" in line for line in in_words(found))
        assert "known by" in (out / "report.html").read_text()
    occurred, arrival = both[False], both[True]
    # As text: in the same order.
    assert json.dumps(keys_of(occurred.as_json())) == json.dumps(BACKTEST)
    kept = json.loads((tmp_path / "False" / "metrics.json").read_text())
    of_run = {name: BACKTEST[name] for name in BACKTEST if name not in ("report", "seconds")}
    assert json.dumps(keys_of(kept)) == json.dumps(of_run)
    by_occurrence, by_arriving = arrival.known_otherwise, occurred.known_otherwise
    assert by_occurrence is not None
    assert by_arriving is not None
    assert by_arriving.known_by == "arrival"
    assert occurred.judged == arrival.judged  # so the same rows: each way is the other's
    assert by_arriving.rows_that_differ > 100
    assert occurred.metrics == by_occurrence.metrics
    assert arrival.metrics == by_arriving.metrics
    for name in ("model", "model 2"):
        difference = by_arriving.intervals[name].log_loss.difference
        after, before = arrival.metrics[name].log_loss, occurred.metrics[name].log_loss
        assert after is not None
        assert before is not None
        assert difference == pytest.approx(after - before, abs=1e-6)


def test_files_have_no_late_events(settings: Settings, models: list[Path], tmp_path: Path) -> None:
    events = written(tmp_path / "e.avro", shopping())
    found = backtest(settings, events, models[:1], WEEKLY, tmp_path / "out")
    assert found.known_otherwise is None


def test_what_can_not_be_judged_is_refused(
    settings: Settings, models: list[Path], tmp_path: Path
) -> None:
    events = written(tmp_path / "e.avro", shopping())
    late = ScoringTimes(START + 57 * DAY, START + 59 * DAY, "7d")
    with pytest.raises(InputError, match="no horizon is over"):
        backtest(settings, events, models[:1], late, tmp_path / "out")
    with pytest.raises(InputError, match="once, or twice"):
        backtest(settings, events, [], WEEKLY, tmp_path / "out")
    early = ScoringTimes(START - 9 * DAY, START - 2 * DAY, "7d")
    with pytest.raises(InputError, match="no customer"):
        backtest(settings, events, models[:1], early, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_topic_gives_what_files_give(
    settings: Settings, models: list[Path], tmp_path: Path, kafka: EmbeddedKafka
) -> None:
    servers = settings.kafka.model_copy(update={"bootstrap_servers": kafka.bootstrap_servers})
    settings = settings.model_copy(update={"kafka": servers})
    rows = sorted(shopping(), key=lambda e: e["occurred_at"])
    producer = ConfirmedProducer({"bootstrap.servers": kafka.bootstrap_servers})
    keys = [e["customer_id"].encode() for e in rows]
    producer.send(servers.input_topic, [*keys, None], [*encode_events(rows), b"junk"])
    assert producer.settle() == []
    producer.close()
    events = written(tmp_path / "e.avro", rows)
    for name, sources in (("files", events), ("topic", ["topic"])):
        done = backtest(settings, sources, models[:1], WEEKLY, tmp_path / name)
        replay(settings, sources, tmp_path / f"snapshot-{name}", [START + 40 * DAY])
    assert done.dead_letters == {"undecodable": 1}
    assert done.refused[0].source == servers.input_topic
    scores = [(tmp_path / n / "scores-1.parquet").read_bytes() for n in ("files", "topic")]
    assert scores[0] == scores[1]
    found = []
    for name in ("files", "topic"):
        (part,) = Snapshot.open(tmp_path / f"snapshot-{name}").shards()
        part = part.take(np.argsort(np.array(part.customer_ids)))
        labels = part.label_indptr.tolist(), part.label_category.tolist()
        found.append((part.customer_ids, part.matrix.data.tobytes(), labels))
    assert found[0] == found[1]
