"""Events of ignored customers are left out and counted, the same by every job."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stream_scorer as ss
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.core.features.state_codec import pack
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs import export, publish, replay
from stream_scorer.jobs.verify import verify
from stream_scorer.live.consumer import clock_ms, open_store
from stream_scorer.past.replayed import in_words
from stream_scorer.settings.tree import Settings

START = 1_700_000_000_000
DAY = 86_400_000
CUSTOMERS = ("ann", "guest", "bob", "test user")


def made(count: int) -> list[dict[str, Any]]:
    return [
        {"event_id": str(i), "customer_id": CUSTOMERS[i % 4], "event_type": "purchase",
         "category_id": "soup", "occurred_at": START + i * DAY // 4}
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def everybody(config: Path) -> Settings:
    return Settings.load(config, environment={})


@pytest.fixture
def settings(config: Path) -> Settings:
    """The ids are in a file beside the config."""
    (config.parent / "ignored.txt").write_text("guest\ntest user\n")
    text = config.read_text() + '[events]\nignored_customer_ids = "ignored.txt"\n'
    config.write_text(text + "extreme_events_per_hour = 5\n")
    return Settings.load(config, environment={})


@pytest.fixture
def events(tmp_path: Path) -> list[Path]:
    write_events(tmp_path / "events.avro", made(400))
    return [tmp_path / "events.avro"]


def test_an_ignored_customers_record_is_no_dead_letter_whatever_is_in_it(
    settings: Settings,
) -> None:
    values = encode_events([*made(4), {**made(2)[1], "event_type": "sneeze"}])
    records = RecordBatch(
        list(values), [None] * 5, [("in", 0)], np.zeros(5, np.int32), np.arange(5, dtype=np.int64),
        np.full(5, START + 10 * DAY),
    )  # fmt: skip
    decoded = DecodedBatch(*Decoder(lambda _: None, max_record_bytes=9999).decode(records), records)
    preparation = Preparation(settings.event_rules(), settings.feature_space(), settings.memory())
    prepared = preparation.prepare(decoded, clock_ms())
    assert (prepared.customer_ids, prepared.ignored_events) == (["ann", "bob"], 3)
    assert (len(prepared.stream.customer), prepared.dead_letters) == (2, [])


def test_replays_count_them_and_have_no_vector_of_theirs(
    settings: Settings, events: list[Path], tmp_path: Path
) -> None:
    done = replay.replay(settings, events, tmp_path / "s", [START + 50 * DAY])
    assert (done.events, done.ignored_events, done.rows, done.dead_letters) == (200, 200, 2, {})
    rows = Snapshot.open(tmp_path / "s").shards()[0]
    assert rows.customer_ids == ["ann", "bob"]
    assert "200 events left out" in "\n".join(in_words(done))
    lacking = Snapshot.open(tmp_path / "s").info.left_out
    assert lacking.ignored_events == 200
    assert "200 events left out" in lacking.in_words()[0]
    scored = replay.propensities(settings, events, tmp_path / "p")
    assert (scored.counts.applied, scored.counts.ignored_events, scored.customers) == (200, 200, 2)
    assert ss.read_events(events, settings).num_rows == 200
    everyone = settings.model_copy(
        update={"events": settings.events.model_copy(update={"ignored_customer_ids": CUSTOMERS})}
    )
    with pytest.raises(EventFileError, match="400 are of customers in events"):
        replay.propensities(everyone, events, tmp_path / "none")


def test_what_was_stored_before_they_were_ignored_is_not_looked_at(
    everybody: Settings, settings: Settings, events: list[Path], tmp_path: Path
) -> None:
    """The topic holds their events: who reads it decides. `verify` and `export` pass them over."""
    assert publish.publish(settings, events).published == 400
    replay.rebuild(everybody, ["topic"], "live")
    update = {"store": settings.store.model_copy(update={"namespace": "live"})}
    store = open_store(settings.model_copy(update=update), settings.feature_space())
    assert pack(store.load(["guest"]), 0)[0][8:12] != b"\0\0\0\0"
    report = verify(settings.model_copy(update=update), 0, seed=1)
    assert (report.ok, report.checked, report.absent) == (True, 2, 0)
    found = export.export(settings.model_copy(update=update), tmp_path / "e", None)
    assert (found.rows, found.ignored_customers) == (2, 2)


def test_a_customer_of_extreme_rate_is_logged_with_the_remedy(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hour = [{**e, "customer_id": "bot", "occurred_at": START + i} for i, e in enumerate(made(20))]
    write_events(tmp_path / "bot.avro", [*hour, *made(40)])
    with caplog.at_level(logging.WARNING):
        replay.propensities(settings, [tmp_path / "bot.avro"], tmp_path / "p")
    (line,) = [m for m in caplog.messages if "events within the hour" in m]
    assert line.startswith("customer 'bot' has at least 20 events")
    assert "events.ignored_customer_ids" in line
