"""A topic that no longer holds its oldest events is not taken for the whole history unasked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import HistoryGone, InputError
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.past import missing_history
from stream_scorer.past.known_events import read_knowledge
from stream_scorer.past.sources import open_past
from stream_scorer.settings.tree import Settings

LARGE_BYTES = 100_000  # the embedded cluster deletes a partition's oldest records beyond 5 MB
CONFIG = """
[vocabularies]
category_id = ["soup"]
[[features]]
name = "bought"
by = ["category_id"]
half_lives = ["2d"]
"""


@pytest.fixture(autouse=True)
def _a_quick_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing_history, "CONFIG_SECONDS", 0.1)


@pytest.fixture
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as server:
        yield server


def settings_for(kafka: EmbeddedKafka, tmp_path: Path) -> Settings:
    path = tmp_path / "scorer.toml"
    path.write_text(CONFIG)
    overrides = {"kafka": {"bootstrap_servers": kafka.bootstrap_servers}}
    return Settings.load(path, overrides=overrides, environment={})


@pytest.fixture
def half_gone(kafka: EmbeddedKafka, tmp_path: Path) -> Settings:
    """Settings of a topic one of whose partitions has lost its oldest events."""
    settings = settings_for(kafka, tmp_path)
    producer = ConfirmedProducer(
        {"bootstrap.servers": kafka.bootstrap_servers, "compression.type": "none"}
    )
    event = {"customer_id": "c1", "event_type": "purchase", "occurred_at": 1_700_000_000_000}
    for start in range(0, 100, 10):
        values = encode_events(
            [
                {**event, "event_id": str(start + i), "attributes": {"note": "x" * LARGE_BYTES}}
                for i in range(10)
            ]
        )
        producer.send(settings.kafka.input_topic, [b"c1"] * 10, values)
        assert producer.settle() == []
    producer.close()
    return settings


def reader_of(settings: Settings) -> TopicReader:
    properties = {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "g"}
    return TopicReader(properties, settings.kafka.input_topic, batch_records=10)


def first_record_ms(settings: Settings) -> int:
    with reader_of(settings) as reader:
        (late,) = [tp for tp, (first, _) in reader.log.items() if first > 0]
        moment = reader.first_record_ms(late)
    assert moment is not None
    return moment


def test_half_a_history_is_refused_with_what_is_missing_and_the_ways_on(
    half_gone: Settings,
) -> None:
    with reader_of(half_gone) as reader:
        (first,) = [low for low, _ in reader.log.values() if low > 0]
    with (
        pytest.raises(InputError, match="its oldest events were deleted") as refusal,
        open_past(half_gone, ["topic"], batch_records=10),
    ):
        pass
    text = str(refusal.value)
    assert f"begins at offset {first} (" in text
    assert "--to TIME --into NAMESPACE" in text
    assert "--accept-missing-history" in text
    with pytest.raises(InputError, match="its oldest events were deleted"):
        read_knowledge(half_gone, ["topic"], by_arrival=False)


def test_a_window_that_every_partition_reaches_back_to_is_whole(half_gone: Settings) -> None:
    moment = first_record_ms(half_gone)
    with open_past(half_gone, ["topic"], batch_records=10, from_ms=moment):
        pass  # what it then reads is seen on Apache Kafka: this cluster finds no offsets by time
    with (
        pytest.raises(InputError, match="--from TIME, at the earliest 20"),
        open_past(half_gone, ["topic"], batch_records=10, from_ms=moment - 1),
    ):
        pass


def test_what_is_left_is_taken_where_that_was_accepted_and_a_warning_says_so(
    half_gone: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        open_past(half_gone, ["topic"], batch_records=10, missing_history="accept") as past,
    ):
        assert 0 < sum(map(len, past.batches)) < 100
    assert "its oldest events were deleted" in caplog.text
    assert "what is left is taken as all" in caplog.text


def test_a_whole_topic_is_taken_unasked(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = settings_for(kafka, tmp_path)
    kafka.create(settings.kafka.input_topic)
    with open_past(settings, ["topic"], batch_records=10) as past:
        assert past.most_records == 0


def test_records_deleted_while_they_are_read_are_not_skipped_in_silence(
    half_gone: Settings,
) -> None:
    with reader_of(half_gone) as reader:
        (late,) = [tp for tp, (first, _) in reader.log.items() if first > 0]
        reader.ranges = {late: (0, reader.log[late][1])}  # as if the log had begun at 0 just now
        with pytest.raises(HistoryGone, match="deleted records while they were read"):
            list(reader)
