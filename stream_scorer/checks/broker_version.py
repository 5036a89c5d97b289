"""Whether the brokers are new enough for what the config asks of them.

Kafka has no request for a broker's version, so it is told by the requests that brokers take. That
bounds it from below: of releases that take the same requests, such as 4.2 and 4.3, it can't say
which it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stream_scorer.checks.finding import Finding
from stream_scorer.io.kafka.broker_requests import (
    GROUP_HEARTBEAT,
    METADATA,
    PRODUCE,
    TRANSACTION_OFFSETS,
)
from stream_scorer.io.kafka.group_protocol import CLASSIC
from stream_scorer.settings.connections import KafkaSettings

CHECK = "kafka version"
# The release that first took this version of a request, the newest first. The request of the
# protocol "consumer" was there, as a preview, from 3.7 on.
RELEASES = (
    ("4.0", GROUP_HEARTBEAT, 1), ("3.7", GROUP_HEARTBEAT, 0), ("2.8", METADATA, 10),
    ("2.5", TRANSACTION_OFFSETS, 3), ("0.11", PRODUCE, 3),
)  # fmt: skip
USE = "use Kafka 4.2, which is tested, or at least"


def version_findings(kafka: KafkaSettings, newest: Mapping[int, int]) -> Iterator[Finding]:
    """newest: the newest version that brokers take of each kind of request, by its number."""
    if not newest:
        yield Finding(CHECK, "the brokers do not say which requests they take")
        return

    def takes(kind: int, version: int) -> bool:
        return newest.get(kind, -1) >= version

    oldest = next((name for name, *request in RELEASES if takes(*request)), None)
    found = f"older than {RELEASES[-1][0]}" if oldest is None else f"{oldest} or newer"
    problems = list(_problems(kafka, newest, found))
    yield from problems
    if not problems:
        protocol = f"{kafka.group_protocol}"
        if not protocol:
            known = takes(GROUP_HEARTBEAT, 0)
            protocol = "consumer, unless a property of the classic one is set" if known else CLASSIC
        yield Finding(
            CHECK, f"{found}, by the requests that it takes; the group's protocol: {protocol}"
        )


def _problems(kafka: KafkaSettings, newest: Mapping[int, int], found: str) -> Iterator[Finding]:
    if newest.get(PRODUCE, -1) < 3:
        yield Finding(
            CHECK,
            f"{found}: it keeps no headers and knows no idempotent producer, so that `run` can't "
            "publish, and a record that is compacted may come back",
            f"{USE} 0.11",
        )
        return
    if kafka.group_protocol == "consumer" and GROUP_HEARTBEAT not in newest:
        yield Finding(
            CHECK,
            f'{found}: kafka.group_protocol is "consumer", which the brokers do not have, or which '
            "is switched off there (group.coordinator.rebalance.protocols)",
            f'set kafka.group_protocol to "classic" or "", or {USE} 4.0',
        )
    if kafka.delivery == "exactly_once" and newest.get(TRANSACTION_OFFSETS, -1) < 3:
        yield Finding(
            CHECK,
            f'{found}: kafka.delivery is "exactly_once", and offsets in a transaction are not '
            "fenced by the group there, so that two members may both publish a batch",
            f'{USE} 2.5, or set kafka.delivery to "at_least_once"',
        )
    if newest.get(METADATA, -1) < 10:
        yield Finding(
            CHECK,
            f"{found}: topics have no ids there, so that a topic which was deleted and made again "
            "is taken for the one before, and its first events for duplicates",
            f"{USE} 2.8; until then move to a new namespace whenever the input topic is made again",
            warning=True,
        )
