"""Which protocol a group is joined with where the settings leave it open."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from stream_scorer.errors import BusUnavailable, ClientLost, Halt
from stream_scorer.io.kafka import broker_requests, group_protocol
from stream_scorer.io.kafka.consumer_errors import ConsumerErrors
from stream_scorer.io.kafka.errors import translate_error
from stream_scorer.io.kafka.group_protocol import brokers_have_consumer_protocol, chosen_protocol


@pytest.mark.parametrize(("known", "protocol"), [(True, "consumer"), (False, "classic")])
def test_the_brokers_decide_where_nothing_of_the_classic_protocol_is_set(
    known: bool, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_protocol, "brokers_have_consumer_protocol", lambda _: known)
    assert chosen_protocol([], {}) == protocol
    assert chosen_protocol(["session.timeout.ms"], {}) == "classic"


def test_a_broker_is_asked_for_its_requests(mock_kafka: str) -> None:
    """The mock cluster has them all."""
    assert brokers_have_consumer_protocol({"bootstrap.servers": mock_kafka})


def test_brokers_that_do_not_answer_have_not_said_which_protocols_they_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker_requests, "REQUEST_SECONDS", 0.2)
    with pytest.raises(BusUnavailable, match="Connection refused"):
        brokers_have_consumer_protocol({"bootstrap.servers": "127.0.0.1:1"})


@pytest.mark.parametrize("code", [KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID])
def test_a_second_process_of_one_instance_id_stops_with_the_remedy(code: int) -> None:
    """librdkafka hides the cause in the text of a fatal error."""
    cause = KafkaError(code).str()
    for error in (KafkaError(code), KafkaError(KafkaError._FATAL, f"Fatal error: {cause}: x")):
        failure = translate_error(error, "consuming")
        assert isinstance(failure, Halt)
        assert "same kafka.group_instance_id" in str(failure)


def test_another_fatal_error_costs_the_client() -> None:
    assert isinstance(translate_error(KafkaError(KafkaError._FATAL, "x"), "consuming"), ClientLost)


def test_brokers_without_the_protocol_stop_the_consumer_with_the_remedy() -> None:
    errors = ConsumerErrors(lambda _name: None)
    errors.on_client_error(KafkaError(KafkaError._UNSUPPORTED_FEATURE))
    with pytest.raises(Halt, match=r'set kafka\.group_protocol to "classic"'):
        errors.raise_failure()


def test_group_that_still_has_classic_members_is_named_as_the_cause() -> None:
    """librdkafka passes the coordinator's answer on in the text of a fatal error."""
    errors = ConsumerErrors(lambda _name: None)
    cause = KafkaError(KafkaError.GROUP_ID_NOT_FOUND).str()
    text = f"Fatal error: {cause}: ConsumerGroupHeartbeat fatal error: {cause}"
    errors.on_client_error(KafkaError(KafkaError._FATAL, text))
    with pytest.raises(ClientLost, match="when the last of those has stopped"):
        errors.raise_failure()


def test_a_transient_error_is_counted_by_its_name() -> None:
    """As stream_scorer_kafka_errors_total has it: of the client's names, which are few."""
    names: list[str] = []
    errors = ConsumerErrors(names.append)
    for _ in range(3):
        errors.on_client_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    errors.raise_failure()
    assert names == ["_ALL_BROKERS_DOWN"] * 3
