"""Namespaces of one database: found with what they hold, and one deleted without the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import redis

from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import FingerprintMismatch, StoreUnavailable
from stream_scorer.io.stores import namespaces
from stream_scorer.io.stores.namespaces import drop_namespace, stored_namespaces
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer

# Names of which one is a prefix or, as a pattern, a match of another.
NAMES = ("shop", "shop-2", "shop.2", "sho", "s", "shop2")


@pytest.fixture
def server(client: Any) -> Iterator[RedisServer]:
    client.flushall()
    server = RedisServer(client)
    yield server
    server.drop_connections()


@pytest.fixture
def build(client: Any) -> Callable[..., RedisStore]:
    """build(name, customers): a namespace with a record for each."""

    def built(name: str, customers: int = 30) -> RedisStore:
        store = RedisStore(client, name, 0xABC, time_to_live_seconds=600)
        store.claim("{}")
        store.keep_identity()
        store.group_of("events", f"{name}-group")
        store.recognise("events", "id")
        store.begin({("events", 0): 5, ("events", 1): 0})
        states = store.load([f"c{i}" for i in range(customers)])
        store.save(states, np.arange(customers))
        store.advance({("events", 0): 17})
        return store

    return built


def keys(client: Any, name: str) -> set[bytes]:
    return {key for key in client.scan_iter() if key.startswith(f"{name}:".encode())}


def test_every_namespace_is_found_with_what_it_holds(
    server: RedisServer, client: Any, build: Callable[..., RedisStore]
) -> None:
    identity = build("shop", 30).stored_identity()
    build("shop-2", 7)
    client.set("session:c:17", "of another program")
    client.set("no-colon", "of another program")
    client.set("b\u00f6se:fingerprint", "of another program")
    seen: list[int] = []
    found = stored_namespaces(server, seen.append)
    assert list(found) == ["shop", "shop-2"]
    shop = found["shop"]
    assert (shop.customers, shop.identity) == (30, identity)
    assert shop.fingerprint == f"{0xABC:016x}"
    assert shop.groups == {"events": "shop-group"}
    assert shop.watermarks == {("events", 0): 17, ("events", 1): 0}
    assert shop.keys == len(keys(client, "shop"))
    exact = sum(client.memory_usage(k) for k in keys(client, "shop") if b":c:" in k)
    assert shop.bytes_estimate == exact
    assert found["shop-2"].customers == 7
    assert sum(seen) == client.dbsize()


def test_the_memory_of_a_large_namespace_is_estimated_from_a_sample(
    server: RedisServer, build: Callable[..., RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "SAMPLED_RECORDS", 10)
    build("shop", 500)
    few = stored_namespaces(server)["shop"].bytes_estimate
    monkeypatch.setattr(namespaces, "SAMPLED_RECORDS", 500)
    exact = stored_namespaces(server)["shop"].bytes_estimate
    assert few is not None
    assert exact is not None
    assert few == pytest.approx(exact, rel=0.3)


def test_without_the_right_to_ask_the_memory_is_not_known(
    client: Any, build: Callable[..., RedisStore], embedded: EmbeddedRedis
) -> None:
    build("shop")
    client.execute_command("ACL", "SETUSER", "lister", "on", ">pw", "~*", "+@all", "-memory")
    own = RedisServer(redis.Redis(port=embedded.port, username="lister", password="pw"))
    found = stored_namespaces(own)["shop"]
    own.close()
    assert (found.customers, found.bytes_estimate) == (30, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_dropped_namespace_is_gone_and_no_other_is_touched(
    server: RedisServer, client: Any, build: Callable[..., RedisStore], name: str
) -> None:
    for other in NAMES:
        build(other)
    rest = {other: keys(client, other) for other in NAMES if other != name}
    size = len(keys(client, name))
    assert drop_namespace(server, name) == size
    assert keys(client, name) == set()
    assert {other: keys(client, other) for other in rest} == rest


def test_a_drop_that_broke_off_is_listed_refused_to_readers_and_gone_on_with(
    server: RedisServer, client: Any, build: Callable[..., RedisStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(namespaces, "UNLINKED_AT_ONCE", 10)
    build("shop")
    before = len(keys(client, "shop"))
    batches = 0
    unlink = server.client.unlink

    def breaks(*names: bytes) -> int:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise StoreUnavailable("gone")
        return int(unlink(*names))

    monkeypatch.setattr(server.client, "unlink", breaks)
    with pytest.raises(StoreUnavailable, match="gone"):
        drop_namespace(server, "shop")
    assert 0 < len(keys(client, "shop")) < before
    assert stored_namespaces(server)["shop"].being_dropped
    with pytest.raises(FingerprintMismatch, match="is being deleted by `namespaces drop`"):
        RedisStore(client, "shop", 0xABC).claim()
    monkeypatch.setattr(server.client, "unlink", unlink)
    drop_namespace(server, "shop")
    assert keys(client, "shop") == set()
    RedisStore(client, "shop", 0xDEF).claim()  # the name is free again


def test_what_is_written_while_it_is_dropped_goes_as_well(
    server: RedisServer, client: Any, build: Callable[..., RedisStore]
) -> None:
    build("shop")
    late = iter(["shop:c:late", "shop:watermark:events:0"])

    def advance(_keys: int) -> None:
        if (key := next(late, None)) is not None:
            client.set(key, "1")

    drop_namespace(server, "shop", advance)
    assert keys(client, "shop") == set()
