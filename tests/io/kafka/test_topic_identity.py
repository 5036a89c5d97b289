"""KafkaAdmin.identity: by which a topic that was created again is noticed, also by a slow Kafka."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import libversion

from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import BusUnavailable
from stream_scorer.io.kafka.admin import IDENTITY_SECONDS, NO_IDENTITY, KafkaAdmin


@dataclass
class Slow:
    """An admin client whose questions are answered by the test."""

    asked: list[Future[Any]] = field(default_factory=list)

    def describe_topics(self, _request: Any, **_options: Any) -> dict[str, Future[Any]]:
        self.asked.append(Future())
        return {"events": self.asked[-1]}

    def answer(self, identity: str) -> None:
        self.asked[-1].set_result(SimpleNamespace(topic_id=identity))


def admin_of(client: Slow) -> KafkaAdmin:
    admin = KafkaAdmin({"bootstrap.servers": "127.0.0.1:1"})
    admin._client = client  # type: ignore[assignment]
    admin._identity_seconds = 0.01
    return admin


def test_an_answer_that_comes_late_is_taken_by_the_next_call_without_another_question() -> None:
    admin = admin_of(client := Slow())
    for _ in range(3):
        with pytest.raises(BusUnavailable, match="asking for the id of events: no answer in"):
            admin.identity("events")
    assert len(client.asked) == 1
    assert admin._identity_seconds == 0.0, "every check would stop the consumer for so long"
    client.answer("an id")
    assert admin.identity("events") == "an id"
    assert admin._identity_seconds == IDENTITY_SECONDS


def test_brokers_without_ids_give_an_empty_one() -> None:
    admin = admin_of(client := Slow())
    with pytest.raises(BusUnavailable):
        admin.identity("events")
    client.answer(NO_IDENTITY)
    assert admin.identity("events") == ""


@pytest.mark.skipif(libversion()[1] < 0x02_10_00_00, reason="its mock cluster has no controller")
def test_the_embedded_server_answers_with_an_id_of_each_topic() -> None:
    with EmbeddedKafka() as kafka:
        kafka.create("one", "other")
        admin = KafkaAdmin({"bootstrap.servers": kafka.bootstrap_servers})
        assert admin.identity("one") == admin.identity("one") != ""
        assert admin.identity("one") != admin.identity("other")
