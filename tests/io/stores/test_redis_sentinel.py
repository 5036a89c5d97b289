"""The primary is the one that Sentinels name, and a failover that lost writes loses no event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from as_the_loop import SPACE, TP, process
from redis_sentinels import PRIMARY_NAME, WatchedRedis, wait_until

from stream_scorer.checks.redis import redis_findings
from stream_scorer.core.features.state import source_positions
from stream_scorer.errors import ConfigError, StoreRewound, StoreUnavailable, StreamScorerError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import open_store, redis_client
from stream_scorer.settings.tree import Settings

CUSTOMERS = [f"customer {i}" for i in range(7)]


def settings_of(url: str, **more: Any) -> Settings:
    wanted = {"url": url, "mode": "sentinel", "primary_name": PRIMARY_NAME, **more}
    return Settings.load(None, environment={}, overrides={"redis": wanted})


@pytest.fixture
def watched() -> Iterator[WatchedRedis]:
    with WatchedRedis() as made:
        yield made


@pytest.fixture
def store(watched: WatchedRedis) -> Iterator[RedisStore]:
    made = open_store(settings_of(watched.url, timeout_seconds=1.0), SPACE)
    made.begin({TP: 10})
    yield made
    made.close()


def newest(store: RedisStore) -> list[int]:
    return list(source_positions(store.load(CUSTOMERS), [TP])[1].tolist())


def test_a_failover_that_lost_writes_is_noticed_and_read_again(
    watched: WatchedRedis, store: RedisStore, make_events: Any
) -> None:
    process(store, make_events, CUSTOMERS, 10)
    with redis.Redis(port=watched.primary.port) as primary:
        assert primary.wait(1, 10_000) == 1
    with redis.Redis(port=watched.replica.port) as replica:
        replica.replicaof("127.0.0.1", "1")  # hears no more
    process(store, make_events, CUSTOMERS, 17)
    watched.primary.kill()
    with pytest.raises(StoreRewound) as lost:
        process(store, make_events, CUSTOMERS, 24)
    assert lost.value.offsets == {TP: 17}
    assert watched.named_primary() == watched.replica.port
    assert store.watermarks([TP]) == {TP: 17}
    store.begin({TP: 17})
    for first in (17, 24):
        process(store, make_events, CUSTOMERS, first)
    assert newest(store) == list(range(24, 31))
    assert store.watermarks([TP]) == {TP: 31}


def test_a_failover_that_is_ordered_moves_the_store_and_nothing_is_written_to_the_old_primary(
    watched: WatchedRedis, store: RedisStore, make_events: Any
) -> None:
    process(store, make_events, CUSTOMERS, 10)
    with redis.Redis(port=watched.primary.port) as primary:
        assert primary.wait(1, 10_000) == 1
    with redis.Redis(port=watched.sentinel_ports[0]) as asked:
        wait_until(lambda: asked.execute_command("SENTINEL", "FAILOVER", PRIMARY_NAME))
        wait_until(lambda: watched.named_primary() == watched.replica.port)
    with redis.Redis(port=watched.primary.port) as old:
        old.replicaof("127.0.0.1", watched.replica.port)  # as Sentinels do some seconds later
    assert process(store, make_events, CUSTOMERS, 17) > 1, (
        "the demoted primary refuses on open connections"
    )
    with redis.Redis(port=watched.replica.port) as new:
        assert new.get("stream-scorer:watermark:events:0") == b"24"
    assert newest(store) == list(range(17, 24))


def test_a_replica_that_sentinels_still_name_is_waited_for(
    watched: WatchedRedis, store: RedisStore
) -> None:
    with redis.Redis(port=watched.primary.port) as primary:
        primary.replicaof("127.0.0.1", watched.replica.port)
    store.server.drop_connections()
    with pytest.raises(StoreUnavailable, match=r"which is a replica: failover") as waits:
        store.load(CUSTOMERS)
    assert "failover is under way" in (waits.value.remedy or "")


def test_doctor_names_the_sentinels_and_the_primary_and_what_is_wrong_is_one_line() -> None:
    with WatchedRedis(sentinels=2, password="tr0ub4dor") as watched:
        first, second = watched.sentinel_ports
        others = {"sentinel_password": "tr0ub4dor", "other_addresses": f"127.0.0.1:{second}"}
        watched.stop_sentinel(0)
        found = next(redis_findings(settings_of(watched.url, **others)))
        assert f"127.0.0.1:{first}" in found.found
        assert "a primary" in found.found
        assert found.ok

        def refused(**wrong: Any) -> StreamScorerError:
            server = RedisServer(redis_client(settings_of(watched.url, **{**others, **wrong})))
            with pytest.raises((ConfigError, StoreUnavailable)) as error:
                server.info("server")
            server.close()
            assert "tr0ub" not in str(error.value)
            assert "\n" not in str(error.value)
            return error.value

        assert "redis.primary_name" in f"{refused(primary_name='other').remedy}"
        for wrong in ({"sentinel_password": "tr0ubadour"}, {"other_addresses": ""}):
            without = refused(**wrong)
            assert isinstance(without, StoreUnavailable)
            assert "redis.sentinel_password" in f"{without.remedy}"


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"url": "unix:///tmp/redis"}, r"redis\.url: .*name a Sentinel"),
        ({"other_addresses": "a:b"}, r"redis\.other_addresses: .*write host:port"),
        ({"other_addresses": "a:70000"}, r"redis\.other_addresses: .*write host:port"),
        ({"mode": "single", "other_addresses": "a:1"}, r"redis\.other_addresses: .*redis\.mode"),
        ({"mode": "clusters"}, r"redis\.mode: 'clusters'"),
    ],
    ids=["unix", "port", "range", "single", "mode"],
)
def test_settings_that_contradict_are_one_line(wrong: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        settings_of(**{"url": "redis://a:26379/0", **wrong})


def test_each_sentinel_has_its_port() -> None:
    settings = settings_of("redis://a/0", other_addresses="b:5, [::1]:7,c")
    assert settings.redis.addresses == [("a", 26379), ("b", 5), ("::1", 7), ("c", 26379)]
