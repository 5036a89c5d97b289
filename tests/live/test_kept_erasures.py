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


def test_of_a_list_that_grew_only_what_was_added_is_read(
    erasures: Erasures, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, read = KeptErasures(erasures), list[bytes]()
    real = erasures.text
    erasures.erase({f"customer-{i}": 5000 for i in range(100)})
    kept.keep()

    def text(first: int = 0) -> bytes:
        read.append(real(first))
        return read[-1]

    monkeypatch.setattr(erasures, "text", text)
    erasures.erase({"ann": 6000, "customer-7": 7000})
    kept.keep()
    assert [len(part) < 600 for part in read] == [True]
    assert [kept.boundary_of(i) for i in ("ann", "customer-7", "customer-8")] == [6000, 7000, 5000]
    assert kept.list_bytes == erasures.list_bytes()
    kept.keep()
    assert len(read) == 1


def test_a_list_that_is_another_one_of_more_bytes_is_read_as_a_whole(
    client: Any, erasures: Erasures
) -> None:
    kept = KeptErasures(erasures)
    erasures.erase({"ann": 5000})
    kept.keep()
    client.flushall()
    erasures.erase({"bob": 6000, "a-long-name": 7000})
    kept.keep()
    kept.keep()
    assert erasures.listed() == {"ann": 5000, "bob": 6000, "a-long-name": 7000}
    assert kept.list_bytes == erasures.list_bytes()


def test_a_redis_that_goes_back_twice_to_the_same_moment_is_noticed_twice(
    client: Any, erasures: Erasures
) -> None:
    kept = KeptErasures(erasures)
    erasures.erase({"ann": 5000})
    kept.keep()
    for _ in range(2):
        client.flushall()
        kept.keep()
        assert erasures.listed() == {"ann": 5000}


def test_a_member_that_knows_nothing_changes_nothing(client: Any, erasures: Erasures) -> None:
    KeptErasures(erasures).keep()
    assert client.keys() == []
