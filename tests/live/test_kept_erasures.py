"""A member puts back the erasures that Redis lost, at the boundaries of before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.kept_erasures import KeptErasures

PRINT = 7


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as started:
        yield started


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[Any]:
    with redis.Redis(port=server.port) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def erasures(client: Any) -> Erasures:
    return Erasures(RedisServer(client), "test", PRINT)


def test_what_redis_lost_is_erased_again(
    client: Any, erasures: Erasures, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptErasures(erasures)
    erasures.erase({"ann": 5000})
    kept.keep()
    backup = {key: client.get(key) for key in client.scan_iter()}
    erasures.erase({"bob": 6000, "eve": 7000})
    kept.keep()
    client.flushall()
    for key, value in backup.items():
        client.set(key, value)
    with caplog.at_level(logging.WARNING):
        kept.keep()
    assert erasures.listed() == {"ann": 5000, "bob": 6000, "eve": 7000}
    assert client.get("test:c:eve")[0] == 3
    assert "2 customers" in caplog.text
    assert "customer forget" in caplog.text
    caplog.clear()
    kept.keep()
    assert not caplog.text


def test_a_member_that_knows_nothing_changes_nothing(client: Any, erasures: Erasures) -> None:
    KeptErasures(erasures).keep()
    assert client.keys() == []
