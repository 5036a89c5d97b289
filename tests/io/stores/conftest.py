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
    monkeypatch.setattr("stream_scorer.demo.embedded._free_port", _free_cluster_port)
    with EmbeddedRedis("--cluster-enabled", "yes") as node:
        yield node


def _free_cluster_port() -> int:
    """A free port; so is the one that is 10,000 higher, where nodes talk to each other."""
    while True:
        # Both below the ports that Linux gives to outgoing connections, 32768 to 60999.
        port = random.SystemRandom().randint(11_000, 22_000)
        if _is_free(port) and _is_free(port + 10_000):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
