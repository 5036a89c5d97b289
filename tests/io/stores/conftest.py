"""A node of a Redis Cluster, for the stores' tests."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest

from stream_scorer.demo import embedded
from stream_scorer.demo.embedded import EmbeddedRedis


@pytest.fixture
def cluster_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedRedis]:
    """Without slots of its own."""
    # Cluster nodes talk to each other on a port that is 10,000 higher.
    monkeypatch.setattr(embedded, "_free_port", _free_low_port)
    with EmbeddedRedis("--cluster-enabled", "yes") as node:
        yield node


def _free_low_port() -> int:
    while True:
        port = random.SystemRandom().randint(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
