"""`doctor` looks at Kafka: what is wrong is one line, and the remedy is said once."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from stream_scorer.checks.kafka import kafka_findings
from stream_scorer.settings.tree import Settings


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.load(config, environment={})


def with_kafka(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"properties": {"foo.bar": "1"}}, "no such property"),
        ({"properties": {"session.timeout.ms": "x"}}, "correct it"),
        ({"bootstrap_servers": "127.0.0.1:1"}, "nothing listens there"),
    ],
    ids=["name", "value", "refused"],
)
def test_the_remedy_of_an_error_is_said_once(
    settings: Settings, changes: dict[str, Any], remedy: str
) -> None:
    (found,) = kafka_findings(with_kafka(settings, **changes))
    assert remedy in str(found.remedy)
    assert remedy not in found.found


def test_brokers_that_accept_and_never_answer_are_one_line(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers = f"127.0.0.1:{listener.getsockname()[1]}"
        (found,) = kafka_findings(with_kafka(settings, bootstrap_servers=servers))
    assert servers in found.found
    assert not found.ok
