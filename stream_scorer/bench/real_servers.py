"""A real Kafka broker and a real Redis for `bench peers`: the user's, or started on loopback.

The broker is Apache Kafka's own, from a folder of its jars, on Java 17 as one KRaft node. Redis is
the server that the extra `demo` brings.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import Halt, InputError

START_SECONDS = 60.0
CALL_SECONDS = 30.0
CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"
PARTITIONS = 4
HEAP = ("-Xms512m", "-Xmx1g")
JARS_NAMED = "kafka-[0-9]*"  # in the cache folder, where tests/images/build puts them


@dataclass(frozen=True)
class ServerAddresses:
    """Servers of the user's; those that are None are started. kafka_jars: the folder of the
    broker's jars, where it is not in the cache folder."""

    bootstrap_servers: str | None = None
    redis_url: str | None = None
    kafka_jars: Path | None = None


@contextmanager
def open_broker(addresses: ServerAddresses, folder: Path) -> Iterator[str]:
    """Its bootstrap servers. folder: for its data. Raises InputError or Halt."""
    given = addresses.bootstrap_servers
    if given is not None:
        try:
            _admin(given).list_topics(timeout=CALL_SECONDS)
        except KafkaException as error:
            remedy = f"no broker answers ({error.args[0].str()}); check the address"
            raise InputError("--bootstrap-servers", given, remedy) from None
        yield given
        return
    with ExitStack() as closing:
        yield _started_broker(_jars(addresses.kafka_jars), folder, closing)


@contextmanager
def open_redis(url: str | None) -> Iterator[tuple[str, Any]]:
    """Address and client of a Redis whose database is empty, and is emptied again at the end."""
    with ExitStack() as closing:
        address = url or closing.enter_context(EmbeddedRedis()).url
        try:
            # Deleting a million keys takes longer than the usual 5 s on a busy machine.
            client = redis.Redis.from_url(address, socket_timeout=CALL_SECONDS)
            closing.callback(client.close)
            kept = client.dbsize()
        except (redis.RedisError, ValueError) as error:
            remedy = f"no Redis answers ({error}); write redis://HOST:PORT/DATABASE"
            raise InputError("--redis", address, remedy) from None
        if kept:
            remedy = (
                f"the database has {kept:,} keys, and the benchmark empties it; name an empty one"
            )
            raise InputError("--redis", address, remedy)
        closing.callback(client.flushdb, asynchronous=True)
        yield address, client


@contextmanager
def topics_of(
    bootstrap_servers: str, names: Mapping[str, Mapping[str, str]], partitions: int
) -> Iterator[None]:
    """New topics of these names and settings, deleted at the end with those whose names contain
    theirs, as Quix's changelogs do."""
    admin = _admin(bootstrap_servers)
    new = [
        NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config))
        for name, config in names.items()
    ]
    for made in admin.create_topics(new).values():
        made.result(CALL_SECONDS)
    try:
        yield
    finally:
        found = admin.list_topics(timeout=CALL_SECONDS).topics
        for gone in admin.delete_topics(
            [topic for topic in found if any(name in topic for name in names)]
        ).values():
            gone.result(CALL_SECONDS)


def _admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})


def _jars(given: Path | None) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream_scorer"
    found = [given] if given else sorted(cache.glob(JARS_NAMED))
    for folder in reversed(found):
        if list(folder.glob("kafka-clients-*.jar")):
            return folder
    raise InputError(
        "--kafka-jars", str(given or cache / JARS_NAMED),
        "no Kafka jars are here; fetch them with `tests/images/build jars`, give the libs/ folder "
        "of a Kafka distribution, or name a broker with --bootstrap-servers",
    )  # fmt: skip


def _started_broker(jars: Path, folder: Path, closing: ExitStack) -> str:
    java = shutil.which("java")
    if java is None:
        remedy = "the broker needs Java 17; install it or name a broker with --bootstrap-servers"
        raise InputError("java", "not found", remedy)
    client, controller = _free_port(), _free_port()
    properties = {
        "node.id": 1,
        "process.roles": "broker,controller",
        "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
        "log.dirs": folder / "kafka",
    }
    file, log = folder / "server.properties", folder / "kafka.log"
    file.write_text("".join(f"{k}={v}\n" for k, v in properties.items()), encoding="utf-8")
    command = [java, *HEAP, "-cp", f"{jars}/*"]
    storage = [*command, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(file)]
    formatted = subprocess.run(storage, capture_output=True, text=True, check=False)
    if formatted.returncode:
        raise Halt(f"Kafka's storage could not be formatted: {formatted.stderr[-500:]}")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "kafka.Kafka", str(file)], stdout=output, stderr=output
        )
    closing.callback(_end, process)
    address, deadline = f"127.0.0.1:{client}", time.monotonic() + START_SECONDS
    admin = _admin(address)
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if admin.list_topics(timeout=1).brokers:
                return address
        except KafkaException:
            time.sleep(0.1)
    raise Halt(f"the Kafka broker did not start; its log ends: {log.read_text()[-500:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # its data is of no more use
    process.wait()
