"""What is asked of a consumer group while its coordinator is still loading the groups."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation

from stream_scorer.errors import BusUnavailable
from stream_scorer.io.kafka import group_questions
from stream_scorer.io.kafka.admin import KafkaAdmin

TRANSIENT = [
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
]


class Loading:
    """A client whose coordinator refuses with each of `refusals` before it answers."""

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.asked = 0

    def describe_consumer_groups(self, names: list[str], **_options: Any) -> dict[str, Any]:
        self.asked += 1
        future: Future[Any] = Future()
        if self.refusals:
            refusal = KafkaError(self.refusals.pop(0), "ConsumerGroupDescribe: ")
            future.set_exception(KafkaException(refusal))
        else:
            operations = {AclOperation.READ}
            found = SimpleNamespace(members=["a", "b"], authorized_operations=operations)
            future.set_result(found)
        return {names[0]: future}

    def committed(self, partitions: list[Any], _seconds: float) -> list[Any]:
        self.asked += 1
        if self.refusals:
            raise KafkaException(KafkaError(self.refusals.pop(0)))
        return partitions

    def commit(self, offsets: list[Any], **_options: Any) -> None:
        self.committed(offsets, 0)

    def close(self) -> None:
        pass


@pytest.fixture
def admin_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Loading], KafkaAdmin]:
    monkeypatch.setattr(group_questions, "FIRST_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(group_questions, "MOST_DELAY_SECONDS", 0.0)

    def admin(client: Loading) -> KafkaAdmin:
        asking = KafkaAdmin({"bootstrap.servers": "127.0.0.1:1"})
        asking._client = client  # type: ignore[assignment]
        return asking

    return admin


def test_who_is_in_a_group_is_asked_again_until_the_coordinator_has_loaded_it(
    admin_of: Callable[[Loading], KafkaAdmin],
) -> None:
    assert admin_of(client := Loading(*TRANSIENT)).members("group") == 2
    assert client.asked == 4
    assert admin_of(client := Loading(*TRANSIENT)).group_operations("group") == frozenset({"READ"})
    assert client.asked == 4


def test_offsets_are_read_and_committed_once_the_coordinator_has_loaded_them(
    admin_of: Callable[[Loading], KafkaAdmin], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Loading(*TRANSIENT)
    made = SimpleNamespace(client=client)
    monkeypatch.setattr(group_questions, "Connected", lambda *_: made)
    assert group_questions.committed_offsets({}, "group", []) == []
    client.refusals = list(TRANSIENT)
    group_questions.commit_offsets({}, "group", [])
    assert client.asked == 8


def test_a_coordinator_that_is_not_ready_in_time_is_reported_by_the_codes_name(
    admin_of: Callable[[Loading], KafkaAdmin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_questions, "REQUEST_SECONDS", 0.0)
    admin = admin_of(Loading(*[KafkaError.COORDINATOR_LOAD_IN_PROGRESS] * 1000))
    with pytest.raises(
        BusUnavailable,
        match="who is in group g: ConsumerGroupDescribe: COORDINATOR_LOAD_IN_PROGRESS",
    ):
        admin.members("g")


def test_another_refusal_is_not_asked_again(admin_of: Callable[[Loading], KafkaAdmin]) -> None:
    # That nobody listens on the port is said after it, where the client has noticed it by then.
    noticed = r"(: 127\.0\.0\.1:1/bootstrap: .* nothing listens there; .*)?"
    with pytest.raises(BusUnavailable, match=rf"ConsumerGroupDescribe: INVALID_REQUEST{noticed}$"):
        admin_of(client := Loading(KafkaError.INVALID_REQUEST)).members("g")
    assert client.asked == 1
