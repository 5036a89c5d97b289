"""The building blocks of the container tests do what their users rely on, in each way a server can
run: as a container, and as a process from Kafka's jars or a redis-server of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import launch
import pytest
import redis
from confluent_kafka import KafkaException, Producer
from runners import free_port
from servers import QUIET_CLIENT, KafkaServer, RedisServer
from tcp_proxy import TcpProxy

pytestmark = pytest.mark.containers

Have = Callable[[Callable[[], Any]], Any]
WAYS = [launch.CONTAINERS, launch.PROCESSES]


@pytest.fixture(scope="module", params=WAYS)
def broker(request: pytest.FixtureRequest, have: Have) -> Iterator[KafkaServer]:
    """A broker of this module's own: its tests stop it and start it again."""
    server = have(lambda: launch.start_kafka({"message.max.bytes": 5000}, how=request.param))
    yield server
    server.remove()


@pytest.fixture(scope="module", params=WAYS)
def store(request: pytest.FixtureRequest, have: Have) -> Iterator[RedisServer]:
    """A Redis of this module's own, that has on disk what it confirmed: with `everysec` SIGKILL
    alone may lose two seconds, since Redis puts writes off while an fsync runs."""
    config = {"maxmemory": "20mb", "appendfsync": "always"}
    server = have(lambda: launch.start_redis(config, how=request.param))
    yield server
    server.remove()


def keys_and_values(server: KafkaServer, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key(), record.value()) for record in server.read_topic(topic)]


def test_records_of_the_shared_broker_are_read_back(
    kafka: KafkaServer, topic: Callable[..., str]
) -> None:
    name = topic(partitions=3)
    records = [(str(i).encode(), b"value-%d" % i) for i in range(100)]
    kafka.produce(name, records)
    assert sorted(keys_and_values(kafka, name)) == sorted(records)
    assert sum(kafka.end_offsets(name).values()) == 100
    assert kafka.committed("a-group-that-never-was", name) == {}


def test_a_script_runs_on_the_shared_redis(redis_server: RedisServer, unique: str) -> None:
    client = redis_server.client
    client.set(unique, 41)
    increment = client.register_script("return redis.call('INCR', KEYS[1])")
    assert increment(keys=[unique]) == 42
    assert client.get(unique) == b"42"
    client.delete(unique)


@pytest.mark.parametrize("end", [KafkaServer.kill, KafkaServer.stop])
def test_a_broker_started_again_has_its_records(
    broker: KafkaServer, unique: str, end: Callable[[KafkaServer], None]
) -> None:
    broker.create_topic(unique)
    broker.produce(unique, [(b"customer", b"before")])
    bootstrap = broker.bootstrap
    end(broker)
    assert not broker.running()
    broker.start()
    broker.produce(unique, [(b"customer", b"after")])
    assert keys_and_values(broker, unique) == [(b"customer", b"before"), (b"customer", b"after")]
    assert broker.bootstrap == bootstrap


def test_a_paused_broker_answers_only_when_resumed(broker: KafkaServer) -> None:
    broker.pause()
    try:
        with pytest.raises(KafkaException):
            broker.admin.list_topics(timeout=0.5)
        assert broker.running()
    finally:
        broker.resume()
    broker.wait_ready()


def test_settings_of_broker_and_topic_hold(broker: KafkaServer, unique: str) -> None:
    broker.create_topic(unique)
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        broker.produce(unique, [(b"k", bytes(10_000))])
    broker.configure_topic(unique, {"max.message.bytes": 20_000})
    broker.produce(unique, [(b"k", bytes(10_000))])


def test_a_topic_grows_and_is_created_again(broker: KafkaServer, unique: str) -> None:
    broker.create_topic(unique)
    broker.produce(unique, [(b"k", b"old")])
    broker.add_partitions(unique, 3)
    assert broker.end_offsets(unique) == {0: 1, 1: 0, 2: 0}
    broker.delete_topic(unique)
    broker.create_topic(unique)
    assert broker.end_offsets(unique) == {0: 0}


def test_a_committed_reader_skips_aborted_and_open_transactions(
    broker: KafkaServer, unique: str
) -> None:
    broker.create_topic(unique)
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "transactional.id": unique, **QUIET_CLIENT}
    )
    producer.init_transactions(30)
    for value, end in (
        (b"aborted", producer.abort_transaction),
        (b"committed", producer.commit_transaction),
        (b"open", producer.flush),
    ):
        producer.begin_transaction()
        producer.produce(unique, value)
        producer.flush(30)
        end(30)
    assert keys_and_values(broker, unique) == [(None, b"committed")]
    everything = broker.read_topic(unique, committed_only=False)
    assert [record.value() for record in everything] == [b"aborted", b"committed", b"open"]
    producer.abort_transaction(30)


@pytest.mark.parametrize("end", [RedisServer.kill, RedisServer.stop])
def test_a_redis_started_again_has_its_keys(
    store: RedisServer, unique: str, end: Callable[[RedisServer], None]
) -> None:
    store.client.set(unique, "kept")
    end(store)
    assert not store.running()
    store.start()
    assert store.client.get(unique) == b"kept"


def test_a_paused_redis_answers_only_when_resumed(store: RedisServer) -> None:
    impatient = redis.Redis(port=store.port, socket_timeout=0.2, retry=None)  # type: ignore[arg-type]
    store.pause()
    try:
        with pytest.raises(redis.TimeoutError):
            impatient.ping()
    finally:
        store.resume()
        impatient.close()
    store.wait_ready()


def test_a_full_redis_refuses_to_grow(store: RedisServer, unique: str) -> None:
    def grow() -> None:
        for i in range(50):
            store.client.set(f"{unique}-{i}", bytes(1_000_000))

    try:
        with pytest.raises(redis.OutOfMemoryError):
            grow()
    finally:
        store.client.flushall()


def test_a_lost_tail_takes_the_newest_keys(store: RedisServer, unique: str) -> None:
    store.client.set(f"{unique}-old", "kept")
    store.client.set(f"{unique}-new", "lost")
    store.kill()
    assert store.lose_tail(10) == 10
    store.start()
    assert store.client.mget(f"{unique}-old", f"{unique}-new") == [b"kept", None]


def test_a_restored_backup_has_the_keys_of_then(
    store: RedisServer, unique: str, tmp_path: Path
) -> None:
    store.client.set(unique, "then")
    backup = store.backup(tmp_path / "backup")
    store.client.set(unique, "now")
    store.stop()
    store.restore(backup)
    store.start()
    assert store.client.get(unique) == b"then"


def test_a_proxy_delays_holds_and_cuts(
    redis_server: RedisServer, start_proxy: Callable[[int], TcpProxy]
) -> None:
    proxy = start_proxy(redis_server.port)
    client = redis.Redis(port=proxy.port, socket_timeout=0.3, retry=None)  # type: ignore[arg-type]
    assert client.ping()
    proxy.delay_seconds = 1.0
    with pytest.raises(redis.TimeoutError):
        client.ping()
    proxy.delay_seconds = 0.0
    assert client.ping()
    proxy.hold()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    proxy.restore()
    assert client.ping()
    proxy.cut()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    proxy.restore()
    assert client.ping()
    client.close()


def test_clients_of_a_proxied_broker_go_through_the_proxy(
    start_kafka: Callable[..., KafkaServer],
    start_proxy: Callable[[int], TcpProxy],
    unique: str,
) -> None:
    port = free_port()
    proxy = start_proxy(port)
    broker = start_kafka(port=port, advertised_port=proxy.port)
    broker.create_topic(unique)
    broker.produce(unique, [(b"k", b"v")])
    proxy.cut()
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 300, **QUIET_CLIENT}
    )
    delivered: list[bool] = []
    producer.produce(
        unique, b"unreachable", on_delivery=lambda error, _: delivered.append(error is None)
    )
    producer.flush(10)
    assert delivered == [False]
    proxy.restore()
    broker.produce(unique, [(b"k", b"w")])
    assert keys_and_values(broker, unique) == [(b"k", b"v"), (b"k", b"w")]
