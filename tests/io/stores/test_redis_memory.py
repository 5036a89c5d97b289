"""A Redis that deletes vectors by itself is refused, or watched where the settings allow it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import ConfigError, Halt
from stream_scorer.io.stores.redis_memory import EvictionWatch
from stream_scorer.io.stores.redis_server import RedisServer

POLICIES = [
    "allkeys-lru", "allkeys-lfu", "allkeys-random",
    "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
]  # fmt: skip


@pytest.fixture
def client(client: Any) -> Any:
    """Of a server that has no limit and has evicted nothing."""
    client.config_set("maxmemory", 0)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_resetstat()
    return client


@pytest.fixture
def server(client: Any, embedded: EmbeddedRedis) -> Iterator[RedisServer]:
    made = RedisServer(redis.Redis(port=embedded.port))
    yield made
    made.close()


def evict_some(client: Any) -> int:
    """Fill the server until it evicts; how many keys it has evicted since it started."""
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 300_000)
    client.config_set("maxmemory-policy", "allkeys-random")
    for i in range(2000):
        client.set(f"filler {i}", "x" * 1000)
    client.config_set("maxmemory", 0)
    evicted = int(client.info("stats")["evicted_keys"])
    assert evicted > 0
    return evicted


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_that_evicts_is_refused_with_the_remedy(
    client: Any, server: RedisServer, policy: str
) -> None:
    client.config_set("maxmemory-policy", policy)
    with pytest.raises(ConfigError) as refused:
        EvictionWatch(server, allowed=False).refuse()
    assert refused.value.field == "redis.allow_eviction"
    assert f"is {policy}:" in refused.value.remedy
    assert "CONFIG SET maxmemory-policy noeviction" in refused.value.remedy
    assert "redis.allow_eviction = true" in refused.value.remedy


def test_the_setting_allows_it_with_a_warning_and_evictions_are_counted(
    client: Any, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client.config_set("maxmemory-policy", "allkeys-random")
    watch = EvictionWatch(server, allowed=True)
    watch.refuse()
    assert "maxmemory-policy" in caplog.text
    assert "redis.allow_eviction allows it" in caplog.text
    assert watch.evicted() == 0
    evicted = evict_some(client)
    assert watch.evicted() == evicted
    assert f"Redis evicted {evicted:,} keys" in caplog.text
    assert watch.evicted() == 0


def test_a_policy_that_is_changed_while_it_runs_stops_it(client: Any, server: RedisServer) -> None:
    watch = EvictionWatch(server, allowed=False)
    watch.refuse()
    assert watch.evicted() == 0
    client.config_set("maxmemory-policy", "volatile-ttl")
    with pytest.raises(Halt, match=r"changed to volatile-ttl.*CONFIG SET maxmemory-policy noev"):
        watch.evicted()


def test_what_was_evicted_in_between_stops_it_though_the_policy_is_right_again(
    client: Any, server: RedisServer
) -> None:
    watch = EvictionWatch(server, allowed=False)
    watch.refuse()
    evicted = evict_some(client)
    client.config_set("maxmemory-policy", "noeviction")
    with pytest.raises(Halt, match=rf"evicted {evicted:,} keys.*verify --sample 0"):
        watch.evicted()


def test_what_was_evicted_before_the_start_is_said(
    client: Any, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    evicted = evict_some(client)
    client.config_set("maxmemory-policy", "noeviction")
    watch = EvictionWatch(server, allowed=False)
    watch.refuse()
    assert f"evicted {evicted:,} keys since it started" in caplog.text
    assert "verify --sample 0" in caplog.text
    assert watch.evicted() == 0
    client.config_resetstat()  # as a restart would
    assert watch.evicted() == 0


def test_where_info_is_refused_a_warning_says_what_can_not_be_seen(
    client: Any, embedded: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    client.execute_command("ACL", "SETUSER", "quiet", "on", ">pw", "~*", "+@all", "-info")
    server = RedisServer(redis.Redis(port=embedded.port, username="quiet", password="pw"))
    caplog.set_level(logging.WARNING)
    watch = EvictionWatch(server, allowed=False)
    watch.refuse()
    assert "may not run INFO" in caplog.text
    assert "see to it that maxmemory-policy is noeviction" in caplog.text
    assert watch.evicted() == 0
    server.close()


def test_a_node_of_a_cluster_is_refused(cluster_node: EmbeddedRedis) -> None:
    server = RedisServer(redis.Redis(port=cluster_node.port))
    with pytest.raises(ConfigError, match=r"redis\.url: .*Redis Cluster.*cluster-enabled no"):
        EvictionWatch(server, allowed=True).refuse()
    server.close()
