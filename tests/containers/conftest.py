"""Fixtures of the tests on real servers. How the servers run is launch.py's matter.

kafka, redis_server        shared by the whole session; use `unique` names in them, stop nothing
start_kafka, start_redis   factories of servers of a test's own, for faults; removed after the test
start_proxy                factory of TCP proxies before a port, for slow and unreachable servers
topic                      factory of new topics on the shared broker
make_rig                   factory of crash-harness rigs (harness/): topics, members, verdict
have                       turns launch.AbsentError into that error or skip
unique                     a name that no other test uses: topic, group, Redis namespace

A server that can't be had is an error in CI (CI=true) and a skip elsewhere.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import launch
import pytest
from harness.rig import Rig
from harness.stream import random_model
from servers import KafkaServer, RedisServer
from tcp_proxy import TcpProxy

from stream_scorer.model import artefact

Have = Callable[[Callable[[], Any]], Any]


@pytest.fixture(scope="session")
def have() -> Have:
    """have(start) -> what start() gives, where the machine can give it."""

    def have_it(start: Callable[[], Any]) -> Any:
        try:
            return start()
        except launch.AbsentError as absent:
            if os.environ.get("CI") == "true":
                pytest.fail(str(absent), pytrace=False)
            pytest.skip(str(absent))

    return have_it


@pytest.fixture(scope="session")
def kafka(have: Have) -> Iterator[KafkaServer]:
    server = have(lambda: launch.running_kafka() or launch.start_kafka())
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis_server(have: Have) -> Iterator[RedisServer]:
    server = have(lambda: launch.running_redis() or launch.start_redis())
    yield server
    server.remove()


@pytest.fixture
def start_kafka(have: Have) -> Iterator[Callable[..., KafkaServer]]:
    """start_kafka(properties=None, *, port=None, advertised_port=None) -> this test's broker."""
    with ExitStack() as stack:

        def start(*args: object, **kwargs: object) -> KafkaServer:
            server = have(lambda: launch.start_kafka(*args, **kwargs))
            stack.callback(server.remove)
            return server

        yield start


@pytest.fixture
def start_redis(have: Have) -> Iterator[Callable[..., RedisServer]]:
    """start_redis(config=None) -> a Redis of this test's own."""
    with ExitStack() as stack:

        def start(*args: object, **kwargs: object) -> RedisServer:
            server = have(lambda: launch.start_redis(*args, **kwargs))
            stack.callback(server.remove)
            return server

        yield start


@pytest.fixture
def start_proxy() -> Iterator[Callable[[int], TcpProxy]]:
    """start_proxy(target_port) -> a proxy; connect to its `.port`."""
    with ExitStack() as stack:
        yield lambda target_port: stack.enter_context(TcpProxy(target_port))


@pytest.fixture
def unique() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def topic(kafka: KafkaServer) -> Iterator[Callable[..., str]]:
    """topic(partitions=1, config=None) -> the name of a new topic, deleted after the test."""
    with ExitStack() as stack:

        def create(partitions: int = 1, config: dict[str, object] | None = None) -> str:
            name = kafka.create_topic(f"test-{uuid.uuid4().hex[:12]}", partitions, config)
            stack.callback(kafka.delete_topic, name)
            return name

        yield create


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact that every rig scores with."""
    path = tmp_path_factory.mktemp("rig-model") / "model"
    artefact.save(random_model(), path)
    return path


@pytest.fixture
def make_rig(
    request: pytest.FixtureRequest,
    model: Path,
    tmp_path: Path,
    start_kafka: object,  # asked for here so that they outlive the rigs
    start_redis: object,
    start_proxy: object,
) -> Iterator[Callable[..., Rig]]:
    """make_rig(kafka=None, redis_url=None, **kwargs) -> a rig, on the shared servers or others."""
    with ExitStack() as stack:

        def make(
            kafka: KafkaServer | None = None, redis_url: str | None = None, **kwargs: Any
        ) -> Rig:
            name = f"rig-{uuid.uuid4().hex[:10]}"
            directory = tmp_path / name
            directory.mkdir()
            rig = Rig(
                directory,
                model,
                kafka or request.getfixturevalue("kafka"),
                redis_url or request.getfixturevalue("redis_server").url,
                name,
                **kwargs,
            )
            stack.callback(rig.close)
            return rig

        yield make
