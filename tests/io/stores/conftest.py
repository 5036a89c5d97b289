"""Redis servers for the stores' tests: a plain one, and a node of a Redis Cluster."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from stream_scorer.demo.embedded import EmbeddedRedis


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedRedis]:
    """One server for all tests of a module."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def client(embedded: EmbeddedRedis) -> Iterator[Any]:
    """A client of the module's server, which is empty."""
    with redis.Redis(port=embedded.port) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def cluster_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedRedis]:
    """Without slots of its own."""
    # Cluster nodes talk to each other on a port that is 10,000 higher.
    monkeypatch.setattr("stream_scorer.demo.embedded._free_port", _free_low_port)
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
