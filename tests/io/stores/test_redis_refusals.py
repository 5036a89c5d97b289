"""What a Redis server refuses is one line with the setting and the remedy, and no password."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import ConfigError, InputError, StoreUnavailable, StreamScorerError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_errors import READ_COMMANDS, RUN_COMMANDS
from stream_scorer.io.stores.redis_health import redis_health
from stream_scorer.io.stores.rehearsal import rehearse

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "run-on-your-servers.md"
SECRET = "tr0ub4dor"
TP = ("events", 0)


def rules_of_the_page() -> list[str]:
    """The words of the line that sets up the Redis user, for namespace stream-scorer."""
    (line,) = re.findall(r"^ACL SETUSER scorer (.+)$", PAGE.read_text(), re.MULTILINE)
    return str(line).split()


def as_user(client: Any, rules: list[str]) -> Any:
    client.execute_command("ACL", "SETUSER", "scorer", "reset", *rules)
    port = client.connection_pool.connection_kwargs["port"]
    password = next(r[1:] for r in rules if r.startswith(">"))
    return redis.Redis(port=port, username="scorer", password=password)


def rule_of(command: str) -> str:
    return "+" + command.lower().replace(" ", "|")


def test_the_user_of_the_page_may_do_all_that_is_done_and_nothing_else(client: Any) -> None:
    rules = rules_of_the_page()
    assert rehearse(as_user(client, rules), "stream-scorer") == []
    assert client.dbsize() == 0, "the keys of the trial are gone"
    allowed = {rule for rule in rules if rule.startswith("+")}
    # PTTL is for `customer show` alone, which says that the expiry is not known without it.
    optional = ("DEL", "CONFIG GET", "PTTL")
    assert allowed == {*map(rule_of, (*RUN_COMMANDS, *READ_COMMANDS, *optional))}
    assert redis_health(as_user(client, rules), "stream-scorer", "events").snapshots is not None


@pytest.mark.parametrize(
    "command", [c for c in (*RUN_COMMANDS, *READ_COMMANDS) if c != "INFO"], ids=str
)
def test_each_command_that_is_missing_is_named(client: Any, command: str) -> None:
    rules = [r for r in rules_of_the_page() if r != rule_of(command)]
    with pytest.raises(ConfigError) as refused:
        rehearse(as_user(client, rules), "stream-scorer")
    text = str(refused.value)
    assert text.startswith("redis.username: 'scorer': this user may not")
    assert f"'{command.partition(' ')[0].lower()}" in text.partition("; allow it")[0]
    assert command in text.partition("; allow it")[2]
    assert "\n" not in text
    assert client.dbsize() == 0


def test_keys_that_a_user_may_not_reach_are_one_line(client: Any) -> None:
    rules = [r for r in rules_of_the_page() if not r.startswith("~")]
    with pytest.raises(ConfigError, match=r"redis\.username: 'scorer'.*keys of store\.namespace"):
        rehearse(as_user(client, [*rules, "~other:*"]), "stream-scorer")


def test_without_info_and_del_it_works_and_says_what_stays(client: Any) -> None:
    rules = [r for r in rules_of_the_page() if r not in ("+info", "+del", "+config|get")]
    scorer = as_user(client, rules)
    (left,) = rehearse(scorer, "stream-scorer")
    assert left.startswith("stream-scorer:rehearsal:")
    assert {key.decode()[: len(left) - 1] for key in client.scan_iter()} == {left[:-1]}
    health = redis_health(scorer, "stream-scorer", "events")
    assert (health.product, health.snapshots) == ("", None)


@pytest.mark.parametrize(
    ("login", "field", "remedy"),
    [
        ({"password": "wrong" + SECRET}, "redis.password", "for user 'default'"),
        ({"username": "scorer", "password": SECRET + "!"}, "redis.password", "for user 'scorer'"),
        ({"username": "nobody", "password": SECRET}, "redis.password", "for user 'nobody'"),
        ({}, "redis.password", "wants one; set redis.password or redis.password_file"),
    ],
    ids=["default", "scorer", "nobody", "none"],
)
@pytest.mark.parametrize("protocol", [2, 3])
def test_who_is_not_let_in_gets_one_line_without_the_password(
    login: dict[str, str], field: str, remedy: str, protocol: int
) -> None:
    with EmbeddedRedis() as server:
        with redis.Redis(port=server.port) as admin:
            admin.execute_command("ACL", "SETUSER", "scorer", "on", f">{SECRET}", "~*", "+@all")
            admin.config_set("requirepass", SECRET)
        client = redis.Redis(port=server.port, protocol=protocol, **login)  # type: ignore[arg-type]
        store = RedisStore(client, "test", 1)
        with pytest.raises(ConfigError) as refused:
            store.claim()
        store.close()
    assert refused.value.field == field
    assert remedy in refused.value.remedy
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_database_that_the_server_does_not_have_is_one_line(embedded: EmbeddedRedis) -> None:
    store = RedisStore(redis.Redis(port=embedded.port, db=99), "test", 1)
    with pytest.raises(ConfigError, match=r"redis\.url: 'redis://.*/99': .*no database of this nu"):
        store.claim()
    store.close()


def operations(store: RedisStore) -> None:
    store.claim()
    store.begin({TP: 0, ("events", 1): 0})
    states = empty_states(["a", "b", "c"])
    store.load(["a", "b", "c"])
    store.save(states, np.arange(3))


@pytest.mark.parametrize("has", ["all", "none", "half"])
def test_a_node_of_a_cluster_is_one_line(cluster_node: EmbeddedRedis, has: str) -> None:
    """With all slots a script of two keys fails with CROSSSLOT."""
    with redis.Redis(port=cluster_node.port) as node:
        if has != "none":
            last = 16383 if has == "all" else 8191
            node.execute_command("CLUSTER", "ADDSLOTS", *range(last + 1))
        until = time.monotonic() + 60
        while has == "all" and node.cluster("INFO")["cluster_state"] != "ok":
            assert time.monotonic() < until
            time.sleep(0.05)
        expected: type[StreamScorerError] = ConfigError if has == "all" else StoreUnavailable
        store = RedisStore(redis.Redis(port=cluster_node.port), "test", 1)
        # Without an owner of all slots the cluster is down, which may pass.
        with pytest.raises(expected, match=r"Redis Cluster.*CROSSSLOT|CLUSTERDOWN"):
            operations(store)
        store.close()


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.MovedError("1234 127.0.0.1:7001"),
        redis.exceptions.ClusterCrossSlotError("Keys in request don't hash to the same slot"),
        redis.exceptions.ResponseError(
            "Error running script (call to f_1): @user_script:1: @user_script: 1: Lua script "
            "attempted to access a non local key in a cluster node"
        ),
        redis.exceptions.ResponseError("SELECT is not allowed in cluster mode"),
    ],
    ids=["moved", "crossslot", "script", "select"],
)
def test_whatever_a_node_of_a_cluster_says_the_line_is_the_same(
    embedded: EmbeddedRedis, error: Exception
) -> None:
    store = RedisStore(redis.Redis(port=embedded.port), "test", 1)

    def fail() -> None:
        raise error

    with pytest.raises(ConfigError, match=r"redis\.url: .*Redis Cluster .*cluster-enabled no"):
        store.server.ask(fail)
    store.close()


def test_data_of_another_program_in_the_namespace_is_one_line(
    client: Any, embedded: EmbeddedRedis
) -> None:
    client.hset("test:fingerprint", "field", "value")
    store = RedisStore(redis.Redis(port=embedded.port), "test", 1)
    with pytest.raises(ConfigError, match=r"store\.namespace.*another program.*new name"):
        store.claim()
    store.close()


def test_a_command_that_the_server_lacks_is_one_line() -> None:
    with EmbeddedRedis("--rename-command", "EVALSHA", "") as server:
        store = RedisStore(redis.Redis(port=server.port), "test", 1)
        with pytest.raises(ConfigError, match=r"redis\.url.*does not have.*rename-command"):
            store.claim()
        store.close()


def test_what_is_no_redis_server_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            near, _ = listener.accept()
            with near:
                near.recv(1000)
                near.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        store = RedisStore(redis.Redis(port=listener.getsockname()[1]), "test", 1)
        with pytest.raises(ConfigError, match=r"redis\.url.*no Redis server.*host and the port"):
            store.claim()
        thread.join()
        store.close()


@pytest.mark.parametrize(
    ("info", "product"),
    [
        ({"redis_version": "7.0.15"}, "Redis 7.0.15"),
        (
            {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"},
            "Valkey 9.1.2",
        ),
        ({"redis_version": "7.4.0", "dragonfly_version": "df-v1.2"}, "Dragonfly df-v1.2"),
        ({}, ""),
    ],
    ids=["redis", "valkey", "dragonfly", "refused"],
)
def test_a_server_is_shown_by_its_own_name_and_version(
    embedded: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, info: dict[str, Any], product: str
) -> None:
    monkeypatch.setattr("stream_scorer.io.stores.redis_server.RedisServer.info", lambda *_: info)
    assert redis_health(redis.Redis(port=embedded.port), "test", "events").product == product


@pytest.mark.parametrize("junk", [b"", b"junk", b"\xff\xfe"])
@pytest.mark.parametrize("call", ["watermarks", "begin", "save", "advance", "verify"])
def test_a_watermark_that_another_program_wrote_is_named_with_the_remedy(
    client: Any, call: str, junk: bytes
) -> None:
    store = RedisStore(client, "ns", 1)
    store.begin({TP: 5})
    client.set("ns:watermark:events:0", junk)
    calls: dict[str, Any] = {
        "watermarks": lambda: store.watermarks([TP]),
        "begin": lambda: store.begin({TP: 5}),
        "save": lambda: store.save(empty_states([]), np.zeros(0, np.int64)),
        "advance": lambda: store.advance({TP: 6}),
        "verify": store.verify,
    }
    wanted = r"^stored offset: 'ns:watermark:events:0': .*delete this key and start again"
    with pytest.raises(InputError, match=wanted):
        calls[call]()
