"""From when on past events were known: by occurrence, or by arrival in the topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.events import write_events
from stream_scorer.past.known_events import PastKnowledge, read_knowledge
from stream_scorer.settings.tree import Settings

HOUR_MS = 3_600_000
START_MS = 19_000 * 24 * HOUR_MS


def event(number: int) -> dict[str, Any]:
    """One each ten days, so that none arrives after the next one occurs."""
    return {
        "event_id": str(number),
        "customer_id": "c",
        "event_type": "purchase",
        "category_id": "soup",
        "occurred_at": START_MS + number * 240 * HOUR_MS,
    }


def settings(servers: str = "localhost:9092") -> Settings:
    return Settings.load(None, overrides={"kafka": {"bootstrap_servers": servers}}, environment={})


def from_topic(delays_ms: list[int], *, by_arrival: bool) -> PastKnowledge:
    """One event for each delay from its occurrence to its record's time, and one record of junk."""
    with EmbeddedKafka() as kafka:
        config = settings(kafka.bootstrap_servers)
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        for number, delay_ms in enumerate(delays_ms):
            stamp = event(number)["occurred_at"] + delay_ms
            [value] = encode_events([event(number)])
            producer.produce(config.kafka.input_topic, value, "c", timestamp=stamp)
        producer.produce(config.kafka.input_topic, b"junk", "c", timestamp=START_MS)
        assert producer.flush(30) == 0
        return read_knowledge(config, ["topic"], by_arrival=by_arrival)


@pytest.mark.parametrize("by_arrival", [False, True])
def test_late_events_are_counted_by_age_and_known_both_ways(by_arrival: bool) -> None:
    found = from_topic([0, 2 * HOUR_MS, 200 * HOUR_MS], by_arrival=by_arrival)
    assert found.late_events == {"1h": 2, "1d": 1, "7d": 1}
    assert found.refused.by_reason() == {"undecodable": 1}
    occurred = [event(n)["occurred_at"] for n in range(3)]
    arrived = [occurred[0], occurred[1] + 2 * HOUR_MS, occurred[2] + 200 * HOUR_MS]
    assert found.known_otherwise is not None
    ways = {
        found.known_by: found.known.known_at_ms.tolist(),
        found.otherwise_by: found.known_otherwise.known_at_ms.tolist(),
    }
    assert ways == {"occurred_at": occurred, "arrival": arrived}
    assert found.known_by == ("arrival" if by_arrival else "occurred_at")


def test_a_record_stamped_before_its_event_is_not_known_before_it() -> None:
    found = from_topic([-HOUR_MS // 60], by_arrival=True)
    assert found.known.known_at_ms.tolist() == [START_MS]
    assert found.known_otherwise is None


def test_events_of_files_are_never_late(tmp_path: Path) -> None:
    write_events(tmp_path / "e.avro", [event(0), event(1)])
    found = read_knowledge(settings(), [tmp_path / "e.avro"], by_arrival=True)
    assert len(found.known.known_at_ms) == 2
    assert found.known_otherwise is None
    assert set(found.late_events.values()) == {0}


def test_files_without_a_valid_event_are_refused(tmp_path: Path) -> None:
    write_events(tmp_path / "e.avro", [event(0) | {"customer_id": ""}])
    with pytest.raises(EventFileError, match="has no event that can be applied"):
        read_knowledge(settings(), [tmp_path / "e.avro"], by_arrival=False)
