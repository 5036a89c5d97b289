"""Customers who were forgotten on request are left out and counted, the same by every job."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.events.erased_customers import erased_line
from stream_scorer.core.events.moments import moment_text
from stream_scorer.errors import EventFileError, InputError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.labelled_snapshots import erased_rows_in_words, open_labelled
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.jobs import publish, replay
from stream_scorer.jobs.score import in_words as scores_in_words
from stream_scorer.jobs.score import score
from stream_scorer.jobs.verify import verify
from stream_scorer.live.consumer import open_store
from stream_scorer.past.forgotten_customers import forgotten_customers, leaving_out
from stream_scorer.past.replayed import in_words
from stream_scorer.settings.tree import Settings

START = 1_700_000_000_000
DAY = 86_400_000
MIDDLE = START + 49 * DAY  # of the hundred days
CUSTOMERS = ("ann", "eve", "bob", "joe")


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.load(config, environment={})


@pytest.fixture
def events(tmp_path: Path) -> list[Path]:
    """One event a day of each of the four, a quarter of a day apart."""
    rows: list[dict[str, Any]] = [
        {"event_id": str(i), "customer_id": CUSTOMERS[i % 4], "event_type": "purchase",
         "category_id": "soup", "occurred_at": START + i * DAY // 4}
        for i in range(400)
    ]  # fmt: skip
    write_events(tmp_path / "events.avro", rows)
    return [tmp_path / "events.avro"]


def list_of(tmp_path: Path, **moments_ms: int) -> Path:
    path = tmp_path / "forgotten.jsonl"
    path.write_text("".join(f"{erased_line(i, moment_text(ms))}\n" for i, ms in moments_ms.items()))
    return path


def test_a_replay_leaves_out_what_was_up_to_the_moment(
    settings: Settings, events: list[Path], tmp_path: Path
) -> None:
    some = settings.leaving_out({"ann": MIDDLE, "eve": START + 200 * DAY})
    done = replay.replay(some, events, tmp_path / "s", [START + 20 * DAY, START + 80 * DAY])
    assert (done.events, done.erased_events) == (400 - 100 - 50, 150)
    assert "150 events left out" in "\n".join(in_words(done))
    rows = Snapshot.open(tmp_path / "s").shards()[0]
    first = rows.as_of_ms == START + 20 * DAY
    ids = np.array(rows.customer_ids)
    assert (sorted(ids[first]), sorted(ids[~first])) == (["bob", "joe"], ["ann", "bob", "joe"])
    scored = replay.propensities(some, events, tmp_path / "p")
    assert (scored.counts.applied, scored.counts.erased_events, scored.customers) == (250, 150, 3)
    everyone = settings.leaving_out(dict.fromkeys(CUSTOMERS, START + 200 * DAY))
    with pytest.raises(EventFileError, match="400 are of customers who were forgotten"):
        replay.propensities(everyone, events, tmp_path / "none")


def test_older_snapshots_are_read_without_them(
    settings: Settings, events: list[Path], config: Path, tmp_path: Path
) -> None:
    replay.replay(settings, events, tmp_path / "s", [START + 20 * DAY, START + 80 * DAY])
    erased = {"ann": MIDDLE, "eve": START + 200 * DAY}
    rule, fingerprint = settings.label_rule(), settings.feature_space().fingerprint
    shards = open_labelled([tmp_path / "s"], fingerprint, rule, "", erased)
    for _ in range(2):  # reading again counts nothing twice
        (rows,) = shards
        assert sorted(rows.customer_ids) == ["ann", "bob", "bob", "joe", "joe"]
        assert erased_rows_in_words(shards)[0].startswith("3 rows left out")
    done = score(config.parent / "model", tmp_path / "s", tmp_path / "f.parquet", "native", erased)
    assert (done.rows, done.erased_rows) == (5, 3)
    assert "3 rows left out" in "\n".join(scores_in_words(done))


def test_the_list_of_the_namespace_is_read_where_no_file_is_given(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(settings, settings.feature_space())
    erasures = Erasures(
        store.server, settings.store.namespace, settings.feature_space().fingerprint
    )
    erasures.erase({"ann": MIDDLE})
    assert leaving_out(settings, None).erased_customers == {"ann": MIDDLE}
    given = list_of(tmp_path, bob=START)
    assert leaving_out(settings, given).erased_customers == {"bob": START}
    assert forgotten_customers(None, None) == {}
    assert forgotten_customers(Settings(), None) == {}  # names no Redis
    store.close()
    away = settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    with caplog.at_level(logging.WARNING):
        assert not forgotten_customers(settings.model_copy(update={"redis": away}), None)
    assert "--forgotten FILE" in caplog.text


def test_a_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        forgotten_customers(None, tmp_path / "absent")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        forgotten_customers(None, tmp_path / "bytes")
    (tmp_path / "ids").write_text("ann\n")
    with pytest.raises(InputError, match="line 1 is not such as"):
        forgotten_customers(None, tmp_path / "ids")
    (tmp_path / "json").write_text(json.dumps({"customers": [{"customer_id": "ann"}]}))
    with pytest.raises(InputError, match="customer 1 of the receipt"):
        forgotten_customers(None, tmp_path / "json")


def test_a_new_namespace_takes_the_moments_over_and_verify_finds_who_came_back(
    settings: Settings, events: list[Path]
) -> None:
    assert publish.publish(settings, events).published == 400
    some = settings.leaving_out({"ann": MIDDLE, "nobody": MIDDLE})
    done = replay.rebuild(some, ["topic"], "live")
    assert (done.counts.applied, done.counts.erased_events) == (350, 50)
    update = {"store": settings.store.model_copy(update={"namespace": "live"})}
    live = settings.model_copy(update=update)
    assert forgotten_customers(live, None) == {"ann": MIDDLE, "nobody": MIDDLE}
    report = verify(live, 0, seed=1)
    assert (report.ok, report.checked, report.forgotten_on_request) == (True, 5, 2)
    # A record of before is put back behind the program's back.
    replay.rebuild(settings, ["topic"], "other")
    store = open_store(live, live.feature_space())
    client = store.server.client
    client.set("live:c:ann", client.get("other:c:ann"))
    report = verify(live, 0, seed=1)
    assert not report.ok
    assert [(d.customer_id, d.what) for d in report.differences] == [
        ("ann", "forgotten on request")
    ]
    client.delete("live:c:nobody")
    assert verify(live, 0, seed=1).different == 2
