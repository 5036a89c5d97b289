"""`export` and `replay`: the same customers, the same vectors, from the store and from files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features import fold
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import EventFileError, InputError, SnapshotError
from stream_scorer.io.files.events import open_events, write_events
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.export import export
from stream_scorer.jobs.replay import replay
from stream_scorer.live.consumer import open_store
from stream_scorer.settings.tree import Settings

DAY = 86_400_000
START = 17_000 * DAY
CONFIG = """
[vocabularies]
category_id = ["soup", "bread", "milk"]
[labels]
horizon = "7d"
[[features]]
name = "purchases"
by = ["category_id"]
half_lives = ["2d", "30d"]
[[features]]
name = "money"
value = "value"
half_lives = ["inf"]
"""


def shopping(days: int = 60, seed: int = 5) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    return [
        {
            "event_id": str(i), "customer_id": f"c{draw.integers(40)}", "event_type": "purchase",
            "category_id": ("soup", "bread", "milk")[draw.integers(3)],
            "value": float(draw.integers(1, 9)),
            "occurred_at": START + int(draw.integers(days * DAY)),
        }
        for i in range(2000)
    ]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    config = tmp_path / "stream_scorer.toml"
    config.write_text(CONFIG)
    return Settings.load(config)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    write_events(tmp_path / "events.avro", shopping())
    return tmp_path / "events.avro"


def test_replay_writes_what_was_known_at_each_cutoff(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    cutoffs = [START + 20 * DAY, START + 40 * DAY]
    report = replay(settings, [events], tmp_path / "out", cutoffs)
    (rows,) = Snapshot.open(tmp_path / "out", settings.feature_space().fingerprint).shards()
    assert report.events == 2000
    assert report.rows == len(rows) == 80
    assert np.unique(rows.as_of_ms).tolist() == cutoffs
    money = settings.feature_space().width - 1
    for i in range(len(rows)):
        before = [e["value"] for e in shopping() if e["customer_id"] == rows.customer_ids[i]
                  and e["occurred_at"] < rows.as_of_ms[i]]  # fmt: skip
        assert rows.matrix[i, money] == pytest.approx(sum(before))
        after = {e["category_id"] for e in shopping() if e["customer_id"] == rows.customer_ids[i]
                 and 0 <= e["occurred_at"] - rows.as_of_ms[i] < 7 * DAY}  # fmt: skip
        found = rows.label_category[rows.label_indptr[i] : rows.label_indptr[i + 1]].tolist()
        assert {("soup", "bread", "milk")[c] for c in found} == after


def test_replay_twice_is_byte_identical(settings: Settings, events: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        replay(settings, [events], tmp_path / name, [START + 30 * DAY])
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_replay_counts_what_it_leaves_out(settings: Settings, tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in shopping()]
    lines[3] = "{not json"
    lines[9] = json.dumps({**shopping()[9], "event_type": "sneeze"})
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    report = replay(settings, [tmp_path / "events.jsonl"], tmp_path / "o", [START + 30 * DAY])
    assert report.events == 1998
    assert report.dead_letters == {"undecodable": 1, "unknown_event_type": 1}


def test_replay_refuses_a_cutoff_whose_horizon_is_not_over(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="horizon is not over"):
        replay(settings, [events], tmp_path / "o", [START + 55 * DAY])
    assert not (tmp_path / "o").exists()


def test_replay_of_nothing_says_so(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("junk\n")
    with pytest.raises(EventFileError, match=r"none\.jsonl.*no event"):
        replay(settings, [tmp_path / "none.jsonl"], tmp_path / "o", [START])


def test_export_equals_replay(settings: Settings, events: Path, tmp_path: Path) -> None:
    """A live store that saw the events before a cut-off has the vectors that replay has there."""
    cutoff = START + 40 * DAY
    replay(settings, [events], tmp_path / "replayed", [cutoff])
    (expected,) = Snapshot.open(tmp_path / "replayed").shards()
    space = settings.feature_space()
    (decoded,) = open_events([events], max_record_bytes=10_000)
    by_time = np.argsort(decoded.events.occurred_at_ms, kind="stable")
    batch = dataclasses.replace(
        decoded.events.take(by_time), offsets=decoded.events.offsets
    )  # a topic in order of time
    batch = batch.take(batch.occurred_at_ms < cutoff)
    customer, ids = batch.customer_id.intern()
    with EmbeddedRedis() as server:
        redis = settings.redis.model_copy(update={"url": server.url})
        live = settings.model_copy(update={"redis": redis})
        store = open_store(live, space)
        store.claim()
        states = fold.fold_events(empty_states(ids), batch, customer, space).states
        store.save(states, np.arange(len(states)))
        store.begin({("customer-events", 2): 17})
        report = export(live, tmp_path / "exported", cutoff)
        assert (report.rows, report.later) == (40, 0)
        assert export(live, tmp_path / "early", START + 39 * DAY).later > 0
        assert export(live, tmp_path / "newest", None).rows == 40
        with pytest.raises(SnapshotError, match="already exists"):
            export(live, tmp_path / "newest", None)
    snapshot = Snapshot.open(tmp_path / "exported", space.fingerprint)
    assert snapshot.manifest["source_offsets"] == {"customer-events": {"2": 17}}
    assert snapshot.manifest["labels"] is None
    (rows,) = snapshot.shards()
    order = np.array([rows.customer_ids.index(c) for c in expected.customer_ids])
    found = rows.take(order)
    assert found.customer_ids == expected.customer_ids
    assert found.matrix.data.tobytes() == expected.matrix.data.tobytes()
    assert found.matrix.indices.tobytes() == expected.matrix.indices.tobytes()
