"""`doctor` says how new the brokers are, and what of the config they are too old for."""

from __future__ import annotations

from typing import Any

import pytest

from stream_scorer.checks.broker_version import version_findings
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.io.kafka.broker_requests import (
    GROUP_HEARTBEAT,
    METADATA,
    PRODUCE,
    TRANSACTION_OFFSETS,
    _RequestLog,
    newest_requests,
)
from stream_scorer.settings.connections import KafkaSettings

# Of what brokers of these releases say.
KAFKA_4 = {PRODUCE: 13, METADATA: 13, TRANSACTION_OFFSETS: 5, GROUP_HEARTBEAT: 1}
KAFKA_3_6 = {PRODUCE: 9, METADATA: 12, TRANSACTION_OFFSETS: 3}
KAFKA_2_7 = {PRODUCE: 8, METADATA: 9, TRANSACTION_OFFSETS: 3}
KAFKA_2_4 = {PRODUCE: 8, METADATA: 9, TRANSACTION_OFFSETS: 2}
KAFKA_0_10 = {PRODUCE: 2, METADATA: 2}


@pytest.mark.parametrize(
    ("newest", "config", "ok", "found", "remedy"),
    [
        (KAFKA_4, {}, True, "4.0 or newer, by the requests", ""),
        (KAFKA_4, {"group_protocol": "consumer"}, True, "the group's protocol: consumer", ""),
        (KAFKA_3_6, {}, True, "2.8 or newer, by the requests that it takes; the group's protocol: "
         "classic", ""),
        (KAFKA_3_6, {"group_protocol": "consumer"}, False, "which the brokers do not have",
         'set kafka.group_protocol to "classic"'),
        ({**KAFKA_3_6, GROUP_HEARTBEAT: 0}, {"group_protocol": "consumer"}, True,
         "3.7 or newer", ""),
        (KAFKA_3_6, {"delivery": "exactly_once"}, True, "2.8 or newer", ""),
        (KAFKA_2_4, {"delivery": "exactly_once"}, False, "not fenced by the group",
         'set kafka.delivery to "at_least_once"'),
        (KAFKA_2_7, {}, True, "topics have no ids there", "at least 2.8"),
        (KAFKA_0_10, {}, False, "older than 0.11", "at least 0.11"),
        ({}, {}, True, "do not say", ""),
    ],
)  # fmt: skip
def test_brokers_that_are_too_old_for_the_config_are_named_with_the_remedy(
    newest: dict[int, int], config: dict[str, Any], ok: bool, found: str, remedy: str
) -> None:
    findings = list(version_findings(KafkaSettings(**config), newest))
    assert {f.check for f in findings} == {"kafka version"}
    (one,) = (f for f in findings if found in f.found)
    assert one.ok == ok
    assert remedy in (one.remedy or "")
    assert all("Kafka 4.2, which is tested" in f.remedy for f in findings if f.remedy)
    assert one.as_json()["remedy"] == one.remedy


def test_a_broker_of_the_mock_cluster_is_new() -> None:
    with EmbeddedKafka() as cluster:
        newest = newest_requests({"bootstrap.servers": cluster.bootstrap_servers})
    (found,) = version_findings(KafkaSettings(), newest)
    assert found.found.startswith("4.0 or newer")


def test_of_brokers_that_differ_the_oldest_counts() -> None:
    lines = _RequestLog()
    for broker, version in (("a:1", 13), ("b:2", 9)):
        where = f"APIVERSION [rdkafka#producer-1] [thrd:{broker}/bootstrap]: {broker}/bootstrap: "
        lines.log(7, f"{where}  ApiKey Produce (0) Versions 0..{version}")
    lines.log(7, "APIVERSION [x] [thrd:b:2/2]: b:2/2:   ApiKey ConsumerGroupHeartbeat (68) "
              "Versions 0..1")  # fmt: skip
    assert lines.newest == {"a:1": {0: 13}, "b:2": {0: 9, 68: 1}}
