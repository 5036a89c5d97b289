"""A customer's scores over time: those of the topic by its readers' rules, or of a replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_scorer.core.avro.propensity_encoder import PropensityEncoder
from stream_scorer.errors import InputError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.jobs import customer_history as job
from stream_scorer.jobs import replay
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings

DAY = 86_400_000
START = 1_700_006_400_000  # 2023-11-15T00:00:00Z
CATEGORIES = ("soup", "bread")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker answers no question about settings."""
    monkeypatch.setattr("stream_scorer.customers.history.SETTINGS_SECONDS", 0.05)


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.load(config, environment={})


def record(day: int, offset: int, soup: float, version: str = "m1") -> bytes:
    """Of ann, published in part, as of so many days."""
    encoder = PropensityEncoder(CATEGORIES, 2, version, "0" * 16)
    (value,) = encoder.encode_entries(
        [b"ann"], np.array([START + day * DAY]), START + day * DAY + 500, [("in", 0)],
        np.zeros(1, np.int32), np.array([offset]), np.array([0, 2]),
        np.array([0, 1], np.int32), np.array([1, 1], np.int32),
        np.array([soup, 0.125], np.float32),
    )  # fmt: skip
    return value


def publish(settings: Settings, *values: bytes | None, key: bytes = b"ann") -> None:
    producer = ConfirmedProducer(settings.kafka.sender_properties())
    producer.send(settings.kafka.output_topic, [key] * len(values), list(values))
    producer.settle()
    producer.close()


def test_scores_stand_by_moment_once_each_with_the_newest_marked(settings: Settings) -> None:
    publish(settings, record(1, 1, 0.25), record(3, 7, 0.75), record(3, 7, 0.75))
    publish(settings, record(2, 4, 0.5))  # a member that was suspended, late
    publish(settings, record(9, 9, 0.9), key=b"bob")
    found = job.published(settings, "ann")
    assert [p.propensities[0].probability for p in found.points] == [0.25, 0.5, 0.75]
    assert [p.newest for p in found.points] == [False, False, True]
    assert (found.records, found.repeats, found.tombstones) == (4, 1, 0)
    text = "\n".join(job.in_words(found))
    assert "3 scores" in text
    assert "▃▆█  0.7500 now" in text
    some = job.published(settings, "ann", from_ms=START + 2 * DAY, categories=["bread"])
    assert [[e.category_id for e in p.propensities] for p in some.points] == [["bread"]] * 2
    assert some.points[0].as_json()["propensities"][0] == {
        "category_id": "bread", "class": 1, "probability": 0.125,
    }  # fmt: skip


def test_what_was_before_a_tombstone_is_shown_as_deleted(settings: Settings) -> None:
    publish(settings, record(1, 1, 0.25), None, record(5, 8, 0.5))
    found = job.published(settings, "ann")
    assert [(p.deleted, p.newest) for p in found.points] == [(True, False), (False, True)]
    assert any(line.startswith("- ") for line in job.in_words(found))
    publish(settings, None)
    assert not any(p.newest for p in job.published(settings, "ann").points)


def test_only_the_customers_partition_is_read(settings: Settings) -> None:
    publish(settings, record(1, 1, 0.25))
    found = job.published(settings, "ann")
    assert found.source.startswith(f"{settings.kafka.output_topic}[")
    assert any("--all-partitions" in note for note in found.notes)
    everywhere = job.published(settings, "ann", all_partitions=True)
    assert everywhere.points == found.points
    nothing = job.published(settings, "nobody")
    assert nothing.points == ()
    assert job.in_words(nothing)[0].startswith("customer nobody has no score in ")


def test_full_records_have_the_names_of_a_model_that_is_known(settings: Settings) -> None:
    known = artefact.load(settings.model.path).manifest
    for version in (known.model_version, "elsewhere"):
        encoder = PropensityEncoder(known.categories, 2, version, "0" * 16)
        full = np.linspace(0.1, 0.4, len(known.categories), dtype=np.float32)[None]
        publish(settings, *encoder.encode_all(
            [b"ann"], np.array([START]), START, [("in", 0)], np.zeros(1, np.int32),
            np.zeros(1, np.int64), full,
        ))  # fmt: skip
    found = {p.model_version: p for p in job.published(settings, "ann").points}
    first = found[known.model_version].propensities[0]
    assert (first.category_id, first.probability) == (known.categories[-1], 0.4)
    assert found["elsewhere"].propensities == ()
    assert any("elsewhere" in note for note in job.published(settings, "ann").notes)


def test_a_replay_scores_after_each_event_as_live_would(settings: Settings, tmp_path: Path) -> None:
    rows = [
        {"event_id": str(i), "customer_id": ("ann", "bob")[i % 2], "event_type": "purchase",
         "category_id": ("soup", "tea")[i % 3 % 2], "occurred_at": START + i * DAY}
        for i in range(12)
    ]  # fmt: skip
    write_events(tmp_path / "events.avro", rows)
    source = str(tmp_path / "events.avro")
    found = job.replayed(settings, "ann", [source])
    assert (found.records, len(found.points)) == (6, 6)
    alone = tmp_path / "alone.avro"
    write_events(alone, [row for row in rows if row["customer_id"] == "ann"])
    assert job.replayed(settings, "ann", [str(alone)]).points == found.points
    replay.propensities(settings, [source], tmp_path / "p")
    later = job.replayed(settings, "ann", [source], from_ms=START + 5 * DAY, to_ms=START + 9 * DAY)
    assert later.points == found.points[3:5]
    with pytest.raises(InputError, match="no event that counts"):
        job.replayed(settings, "carl", [source])
    assert "6 scores from a replay of" in job.in_words(found)[0]
