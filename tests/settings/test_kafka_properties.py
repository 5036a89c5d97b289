"""Properties of librdkafka that `kafka.properties` may not set, or not to every value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer

from stream_scorer.errors import ConfigError
from stream_scorer.settings.connections import KafkaSettings
from stream_scorer.settings.kafka_properties import _RULES, CLASSIC_ONLY, OWNED, refused_properties
from stream_scorer.settings.tree import Settings

# One value that would weaken a guarantee, and one that is as good as leaving the property out.
WEAKENING = {
    "isolation.level": ("'read_uncommitted'", "'read_committed'"),
    "group.protocol": ("'consumer'", "'classic'"),
    "offset.store.method": ("'file'", "'broker'"),
    "allow.auto.create.topics": ("true", "false"),
    "api.version.request": ("false", "true"),
    "topic.metadata.refresh.interval.ms": ("-1", "1"),
}
WEAKENING_EXACTLY_ONCE = {
    "log_level": ("5", "6"),
    "log.connection.close": ("false", "true"),
    "transaction.timeout.ms": ("59999", "60000"),
}


def settings(tmp_path: Path, name: str, value: str, delivery: str) -> Settings:
    path = tmp_path / "scorer.toml"
    path.write_text(f"[kafka]\ndelivery = '{delivery}'\n[kafka.properties]\n'{name}' = {value}\n")
    return Settings.load(path, environment={})


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("name", WEAKENING)
def test_a_property_that_weakens_a_guarantee_is_refused_with_its_remedy(
    tmp_path: Path, name: str, delivery: str
) -> None:
    bad, good = WEAKENING[name]
    with pytest.raises(ConfigError, match="remove it") as caught:
        settings(tmp_path, name, bad, delivery)
    (line,) = str(caught.value).splitlines()
    shown = bad.strip("'")
    assert line.startswith(f"kafka.properties['{name}']: '{shown}': ")
    settings(tmp_path, name, good, delivery)


@pytest.mark.parametrize("name", WEAKENING_EXACTLY_ONCE)
def test_what_weakens_exactly_once_is_refused_with_exactly_once_alone(
    tmp_path: Path, name: str
) -> None:
    bad, good = WEAKENING_EXACTLY_ONCE[name]
    with pytest.raises(ConfigError, match="remove it"):
        settings(tmp_path, name, bad, "exactly_once")
    settings(tmp_path, name, good, "exactly_once")
    settings(tmp_path, name, bad, "at_least_once")


@pytest.mark.parametrize("text", ["3.0", "0x3", " 3", "three", "-1"])
def test_a_log_level_is_refused_however_it_is_written(text: str) -> None:
    (error,) = refused_properties({"log_level": text}, exactly_once=True)
    assert "set 6 or 7" in str(error)


@pytest.mark.parametrize("value", ["TRUE", "t", "1", True])
def test_a_truth_value_is_understood_however_it_is_written(value: str | bool) -> None:
    assert refused_properties({"log.connection.close": value}, exactly_once=True) == []
    assert refused_properties({"allow.auto.create.topics": value}, exactly_once=True)


@pytest.mark.parametrize("name", sorted(OWNED))
def test_what_is_not_to_be_chosen_is_refused_without_its_value(name: str) -> None:
    (error,) = refused_properties({name: "hunter2"}, exactly_once=False)
    assert "hunter2" not in str(error)
    assert OWNED[name] in str(error)


@pytest.mark.parametrize("name", CLASSIC_ONLY)
def test_what_only_the_classic_protocol_has_is_refused_with_the_other_one(name: str) -> None:
    values = {"group.protocol": "classic", "session.timeout.ms": 9000}
    properties: dict[str, Any] = {name: values.get(name, 500)}
    (error,) = KafkaSettings(properties=properties, group_protocol="consumer").problems()
    assert "remove it, or set kafka.group_protocol" in str(error)
    for protocol in ("", "classic"):
        kafka = KafkaSettings(properties=properties, group_protocol=protocol)
        assert kafka.problems() == []
        assert kafka.member_properties("classic")[name] == properties[name]


def test_a_member_of_the_protocol_consumer_has_nothing_that_librdkafka_refuses_with_it() -> None:
    kafka = KafkaSettings(client_id="pod-3", group_instance_id="scorer-{client_id}")
    properties = kafka.member_properties("consumer")
    assert properties["group.instance.id"] == "scorer-pod-3"
    Consumer(properties).close()


def test_every_rule_has_its_case_here() -> None:
    assert _RULES.keys() == WEAKENING.keys() | WEAKENING_EXACTLY_ONCE.keys()


@pytest.mark.parametrize("name", sorted({*OWNED, *_RULES}))
def test_librdkafka_knows_every_property_that_is_refused(name: str) -> None:
    """A misspelt name would refuse nothing."""
    said = []
    for client in (Consumer, Producer):
        try:
            made = client({"group.id": "g", name: "?"})
        except (KafkaException, TypeError, ValueError) as error:
            said.append(str(error))
        else:
            if isinstance(made, Consumer):
                made.close()
    assert not any("No such configuration property" in text for text in said), said
