"""A Kafka for tests of the edges: librdkafka's own mock cluster, in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stream_scorer.demo.embedded import EmbeddedKafka


@pytest.fixture(scope="session")
def mock_kafka() -> Iterator[str]:
    """Its bootstrap address. One broker, 4 partitions a topic, about 5 MB kept in each."""
    with EmbeddedKafka() as kafka:
        yield kafka.bootstrap_servers
