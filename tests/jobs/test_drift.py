"""What a consumer samples of what it scores, and what `drift` says of it: from Kafka to a page."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.drift.stability import LEAST_ROWS
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.io.files.events import write_events
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.jobs.drift import drift, in_words
from stream_scorer.jobs.replay import replay
from stream_scorer.jobs.train import train
from stream_scorer.live.consumer import Consumer
from stream_scorer.live.drift_watch import DriftWatch
from stream_scorer.live.live_drift import LiveDrift
from stream_scorer.model import artefact
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import random_model
from tests.jobs.result_keys import keys_of

DAY_MS = 86_400_000
BOUGHT = ["bread", "milk", "soup", "tea"]
CONFIG = """
[kafka]
bootstrap_servers = "{kafka}"
delivery_timeout_ms = 5000
[redis]
url = "{redis}"
[batch]
max_events = 20
max_age_ms = 50
[refresh]
every = ""
[drift]
one_in = 1
[labels]
horizon = "7d"
[model]
engine = "native"
[events]
event_types = ["view", "purchase"]
[vocabularies]
category_id = ["bread", "milk", "soup", "tea"]
[[features]]
name = "bought"
on = ["purchase"]
by = ["category_id"]
half_lives = ["14d"]
[[features]]
name = "total"
half_lives = ["14d"]
[training]
min_customers = 5
epochs = 1
min_steps = 30
batch_rows = 64
[training.network]
hidden = [4]
"""

COLUMN = dict.fromkeys(["column", "share", "training_share"])
KEYS: dict[str, Any] = {
    "namespace": None, "model": None, "report": None,
    "drift": {
        "model_version": None, "verdict": None, "reasons": [None], "from_ms": None, "to_ms": None,
        "members": None, "rows": None, "passed_over": None, "training_rows": None,
        "training_rows_of": None,
        "blocks": [
            {
                "block": None, "kind": None, "psi": None, "psi_amount": None, "psi_columns": None,
                "mean_shift": None, "state": None, "note": None, "edges": [None], "shares": [None],
                "training_shares": [None], "moved_columns": [COLUMN], "psi_by_chance": None,
                "psi_limit": None, "mean_shift_by_chance": None,
            }
        ],
        "scores": [
            dict.fromkeys(
                ["category_id", "psi", "mean", "training_mean", "state", "psi_by_chance",
                 "psi_limit"]
            )
        ],
        "events": {
            "events": None, "shares": {"purchase": None},
            "training_shares": {"purchase": None, "view": None}, "psi": None,
            "state": None, "unknown_words": {}, "training_unknown_words": {"category_id": None},
            "psi_by_chance": None, "psi_limit": None,
        },
        "quality": [{"model_version": None, "followed": None, "delays": []}],
        "notes": [], "customers": None,
    },
}  # fmt: skip


def shop(seed: int, days: int = 13, *, changed: bool = False) -> list[dict[str, Any]]:
    """The first days of 150 customers. changed: they buy milk alone, three times as often."""
    draw = random.Random(seed)
    start = 20_000 * DAY_MS
    rows = []
    for day in range(days):
        for customer in range(150):
            for visit in range(3 if changed else 1):
                if draw.random() < (1.0 if changed else 0.7):
                    kind = "purchase" if changed or draw.random() < 0.5 else "view"
                    words = ["milk"] if changed else [*BOUGHT, "wine"]
                    at = start + day * DAY_MS + 1_000 * customer + 100 * visit
                    rows.append((at, f"customer-{customer}", kind, draw.choice(words)))
    return [
        {"event_id": f"{seed}-{n}", "customer_id": who, "event_type": kind, "category_id": word,
         "occurred_at": at}
        for n, (at, who, kind, word) in enumerate(sorted(rows))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[EmbeddedKafka, EmbeddedRedis]]:
    with EmbeddedKafka() as kafka, EmbeddedRedis() as redis_server:
        yield kafka, redis_server


@pytest.fixture(scope="module")
def config(
    servers: tuple[EmbeddedKafka, EmbeddedRedis], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The config file of a shop whose model was trained on rows just after events."""
    folder = tmp_path_factory.mktemp("shop")
    path = folder / "scorer.toml"
    path.write_text(CONFIG.format(kafka=servers[0].bootstrap_servers, redis=servers[1].url))
    settings = Settings.load(path, environment={})
    write_events(folder / "events.avro", shop(1, 20))
    start = 20_000 * DAY_MS
    asked = RowsAsked((), False, Fraction(1), period_ms=(start, start + 13 * DAY_MS))
    replay(settings, [folder / "events.avro"], folder / "rows", asked)
    train(settings, [folder / "rows"], settings.model.path)
    return path


def consumed(config: Path, topic: str, rows: list[dict[str, Any]]) -> Settings:
    """The settings of a namespace into which a consumer read these events."""
    overrides = {
        "kafka": {"input_topic": topic, "output_topic": f"{topic}-out", "group_id": topic,
                  "dead_letter_topic": f"{topic}-dead"},
        "store": {"namespace": topic},
    }  # fmt: skip
    settings = Settings.load(config, overrides=overrides, environment={})
    producer = ConfirmedProducer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    keys = [row["customer_id"].encode() for row in rows]
    producer.send(topic, keys, encode_events(rows))
    assert producer.settle() == []
    producer.close()
    read = 0
    with Consumer(settings) as parts:
        assert parts.sampler is not None
        parts.sampler._most = 10**9  # as if it took hours
        parts.join()
        watched = LiveDrift(parts, Metrics())
        for _ in range(4_000):
            report = parts.pipeline.step()
            read += report.records
            if report.records:
                watched.done(report)
            watched.check()
            if read == len(rows):
                break
        else:
            pytest.fail(f"{read:,} of {len(rows):,} events were read within 4,000 steps")
        watched.close()
    return settings


@pytest.fixture(scope="module")
def unchanged(config: Path) -> Settings:
    return consumed(config, "unchanged", shop(2))


@pytest.fixture(scope="module")
def changed(config: Path) -> Settings:
    return consumed(config, "changed", shop(3, changed=True))


def test_the_same_shop_has_not_drifted(unchanged: Settings) -> None:
    done = drift(unchanged)
    found = done.drift
    assert (found.verdict, found.training_rows_of) in {("stable", "event"), ("watch", "event")}
    assert found.rows >= LEAST_ROWS
    assert {b.block for b in found.blocks} == {"bought", "total"}
    assert found.events is not None
    assert found.events.shares["view"] == pytest.approx(0.5, abs=0.05)
    assert found.events.unknown_words["category_id"] == pytest.approx(0.1, abs=0.03)
    assert found.events.training_unknown_words is not None
    assert found.events.training_unknown_words["category_id"] == pytest.approx(0.1, abs=0.03)
    assert found.events.state == "stable"
    (quality,) = found.quality
    assert quality.followed > 0
    assert quality.delays == (), "no time has passed since they were scored"


def test_a_shop_that_buys_one_thing_often_has_drifted_and_the_exit_status_says_so(
    config: Path, changed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = drift(changed)
    assert done.drift.verdict == "drifted"
    bought = next(b for b in done.drift.blocks if b.block == "bought")
    assert bought.state == "drifted"
    assert done.drift.events is not None
    assert done.drift.events.state == "drifted"
    moved = {one.column: one for one in bought.moved_columns}["bought[category_id=milk]"]
    assert moved.share > 0.9 > moved.training_share
    lines = in_words(done)
    assert lines[0].startswith("drifted: ")
    assert any(line.startswith("  feature bought: index ") for line in lines)
    monkeypatch.setenv("STREAM_SCORER__STORE__NAMESPACE", "changed")
    page = tmp_path / "drift.html"
    arguments = ["drift", "-c", str(config), "--json", "--report", str(page)]
    shown = CliRunner().invoke(cli.app, arguments)
    assert shown.exit_code == 1, shown.output
    said = json.loads(shown.stdout)
    assert keys_of(said) == KEYS
    assert (said["drift"]["verdict"], said["report"]) == ("drifted", str(page))
    text = page.read_text(encoding="utf-8")
    first = text.index('class="verdict"')
    assert first < text.index("<h2>") < text.index("Amounts of bought")
    assert "Drifted: look at what moved" in text[first : text.index("<h2>")]
    assert "<script" not in text
    assert "src=" not in text
    lenient = CliRunner().invoke(cli.app, ["drift", "-c", str(config), "--max-psi", "99"])
    assert lenient.exit_code == 0, lenient.output
    assert lenient.stdout.startswith("watch: ")


def test_a_sample_that_fails_stops_no_event_and_is_told_once(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(DriftWatch, "add", broken)
    settings = consumed(config, "broken", shop(4, 2))
    assert caplog.text.count("drift is not measured any more, until the next start") == 1
    assert "ValueError: broken" in caplog.text
    assert drift(settings).drift.rows == 0


def test_without_samples_or_a_reference_it_says_what_to_do(config: Path, tmp_path: Path) -> None:
    settings = Settings.load(config, overrides={"store": {"namespace": "nobody"}}, environment={})
    nobody = drift(settings).drift
    assert (nobody.verdict, nobody.rows, nobody.passed) == ("unknown", 0, True)
    assert "drift.one_in" in nobody.notes[0]
    artefact.save(random_model(settings, 3), tmp_path / "m")
    settings = Settings.load(
        config, overrides={"model": {"path": str(tmp_path / "m")}}, environment={}
    )
    words = in_words(drift(settings))
    assert any("it has no reference.json" in line and "`train`" in line for line in words)
