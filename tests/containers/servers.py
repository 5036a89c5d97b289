"""Kafka and Redis as tests use them: start, stop, kill, pause, and the few calls every test needs.

A server waits until a real client call succeeds before `start` returns, and keeps its data and port
from one start to the next. How it runs is a `Runner`'s matter; None stands for a server that runs
already and isn't ours: it serves, but may not be stopped.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from runners import Runner

READY_SECONDS = 60
CALL_SECONDS = 30

# Clients find a server that comes back at once, and say nothing while it is away.
QUIET_CLIENT: dict[str, object] = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "logger": logging.getLogger("test-kafka-client"),
    "log_level": 0,
}


class ServerDiedError(RuntimeError):
    """A server ended or did not answer in time; the message holds the tail of its log."""


class Server:
    """What Kafka and Redis have in common: a runner, and a call that shows when it answers."""

    def __init__(self, runner: Runner | None, answers: Callable[[], bool]) -> None:
        self._runner, self._answers = runner, answers

    @property
    def runner(self) -> Runner:
        if self._runner is None:
            raise RuntimeError("this server was running before the tests: it is not ours to touch")
        return self._runner

    def start(self) -> None:
        """Start it, or start it again on the same data and port, and wait until it answers."""
        if self._runner is not None:
            self._runner.start()
        self.wait_ready()

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self._answers():
            if self._runner is not None and not self._runner.running():
                raise ServerDiedError(f"the server ended:\n{self._runner.log_tail()}")
            if time.monotonic() > deadline:
                tail = self._runner.log_tail() if self._runner else ""
                raise ServerDiedError(f"no answer within {timeout_seconds} s:\n{tail}")

    def stop(self) -> None:
        """Orderly, by SIGTERM; returns when it has ended."""
        self.runner.stop()

    def kill(self) -> None:
        """SIGKILL; returns when it has ended."""
        self.runner.kill()

    def pause(self) -> None:
        """Freeze it: connections stay, nothing answers."""
        self.runner.pause()

    def resume(self) -> None:
        self.runner.resume()

    def running(self) -> bool:
        return self._runner is None or self._runner.running()

    def remove(self) -> None:
        """End it and drop its data. A server that isn't ours is left alone."""
        if self._runner is not None:
            self._runner.remove()


class KafkaServer(Server):
    """One broker. `bootstrap` is what clients get; `port` is the broker's own on 127.0.0.1."""

    def __init__(
        self,
        bootstrap: str,
        runner: Runner | None = None,
        client: dict[str, object] | None = None,
        data: str = "",
    ) -> None:
        super().__init__(runner, self._lists_topics)
        self._data = data  # the folder of its logs, where it runs
        self.bootstrap = bootstrap
        self.port = int(bootstrap.split(",", maxsplit=1)[0].rsplit(":", 1)[1])
        # client: how this class's own admin client gets in, where the broker asks who it is.
        self.admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET_CLIENT, **(client or {})})  # type: ignore[dict-item]

    def create_topic(
        self, name: str, partitions: int = 1, config: dict[str, object] | None = None
    ) -> str:
        """Create the topic, wait until clients see all its partitions, return its name."""
        settings = {key: str(value) for key, value in (config or {}).items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
        self.admin.create_topics([new])[name].result(CALL_SECONDS)
        self._await_partitions(name, partitions)
        return name

    def delete_topic(self, name: str) -> None:
        """Delete the topic and wait until clients no longer see it."""
        self.admin.delete_topics([name])[name].result(CALL_SECONDS)
        self._await_partitions(name, 0)

    def copy_of_log(self, topic: str, partition: int) -> bytes:
        """A partition's log as it is on disk, for `restore_log`. The server must not be running."""
        return self.runner.copy_out(f"{self._data}/{topic}-{partition}")

    def restore_log(self, topic: str, partition: int, copy: bytes) -> None:
        """Put an older copy in place of the log: what came later is lost, as where a broker that
        lacks it becomes the leader. The server must not be running."""
        self.runner.copy_in(f"{self._data}/{topic}-{partition}", copy)

    def add_partitions(self, name: str, total: int) -> None:
        self.admin.create_partitions([NewPartitions(name, total)])[name].result(CALL_SECONDS)
        self._await_partitions(name, total)

    def configure_topic(self, name: str, config: dict[str, object]) -> None:
        """Change a topic while it is in use."""
        self._configure(ResourceType.TOPIC, name, config)

    def configure_group(self, name: str, config: dict[str, object]) -> None:
        """Change what the brokers ask of a group's members."""
        self._configure(ResourceType.GROUP, name, config)

    def _configure(self, kind: ResourceType, name: str, config: dict[str, object]) -> None:
        entries = [
            ConfigEntry(key, str(value), incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        resource = ConfigResource(kind, name, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(CALL_SECONDS)

    def produce(self, topic: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Produce (key, value) records, by key to partitions; returns when all are confirmed."""
        producer = Producer({"bootstrap.servers": self.bootstrap, **QUIET_CLIENT})
        refused: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                refused.append(error)

        for key, value in records:
            while True:
                try:
                    producer.produce(topic, key=key, value=value, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(1)
        if producer.flush(CALL_SECONDS) or refused:
            raise KafkaException(refused[0] if refused else KafkaError(KafkaError._TIMED_OUT))

    def end_offsets(self, topic: str) -> dict[int, int]:
        with self._reader() as consumer:
            return {part: high for part, (_, high) in self._bounds(consumer, topic).items()}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Committed next offsets of a consumer group; a partition without one is absent."""
        parts = [TopicPartition(topic, part) for part in self.end_offsets(topic)]
        with self._reader(group=group) as consumer:
            found = consumer.committed(parts, timeout=CALL_SECONDS)
        return {part.partition: part.offset for part in found if part.offset >= 0}

    def read_topic(
        self, topic: str, *, committed_only: bool = True, settled: bool = False
    ) -> list[Message]:
        """Every record from the oldest kept up to now, partition by partition in offset order.
        `committed_only` hides records of aborted and open transactions; `settled` waits first until
        none is open."""
        records: list[Message] = []
        with self._reader("read_committed" if committed_only else "read_uncommitted") as consumer:
            if settled:
                self._await_transactions(consumer, topic)
            open_parts = {
                p: high for p, (low, high) in self._bounds(consumer, topic).items() if high > low
            }
            consumer.assign([TopicPartition(topic, part, 0) for part in open_parts])
            deadline = time.monotonic() + READY_SECONDS
            while open_parts:
                for message in consumer.consume(10_000, timeout=0.1):
                    error = message.error()
                    if error is None:
                        records.append(message)
                    elif error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    elif message.offset() >= open_parts.get(message.partition(), 0):  # type: ignore[operator, arg-type]
                        open_parts.pop(message.partition(), None)  # type: ignore[arg-type]
                if time.monotonic() > deadline:
                    raise ServerDiedError(f"{topic}: partitions {sorted(open_parts)} did not end")
        return sorted(records, key=lambda record: (record.partition(), record.offset()))

    def _await_transactions(self, consumer: Consumer, topic: str) -> None:
        """A commit is confirmed before its markers are written, later still after a restart."""
        with self._reader("read_uncommitted") as everything:
            ends = self._bounds(everything, topic)
        started = time.monotonic()
        while hidden := {
            part: (high, ends[part][1])
            for part, (_, high) in self._bounds(consumer, topic).items()
            if high < ends[part][1]
        }:
            if time.monotonic() > started + READY_SECONDS:
                raise ServerDiedError(f"{topic}: transactions stay open: {hidden}")
            time.sleep(0.1)
        waited = time.monotonic() - started
        if waited > 1:
            print(f"{topic}: transactions ended only after {waited:.1f} s")

    @contextlib.contextmanager
    def _reader(
        self, isolation: str = "read_committed", group: str = "test-reader"
    ) -> Iterator[Consumer]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "isolation.level": isolation,
                "fetch.message.max.bytes": 64 << 20,
                **QUIET_CLIENT,
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def _bounds(self, consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
        """Low and high offsets; high ends before the oldest open transaction if only committed."""
        found = consumer.list_topics(topic, timeout=CALL_SECONDS).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return {
            part: self._range(consumer, TopicPartition(topic, part)) for part in found.partitions
        }

    @staticmethod
    def _range(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
        """A broker that was frozen leads nothing until the controller has heard of it again, and
        the client has several errors for that."""
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                low, high = consumer.get_watermark_offsets(partition, timeout=CALL_SECONDS)
            except KafkaException:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.1)
            else:
                return low, high

    def _await_partitions(self, topic: str, total: int) -> None:
        deadline = time.monotonic() + CALL_SECONDS
        while (
            len(self.admin.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions)
            != total
        ):
            if time.monotonic() > deadline:
                raise ServerDiedError(f"{topic} did not come to {total} partitions")

    def _lists_topics(self) -> bool:
        try:
            return bool(self.admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False


class RedisServer(Server):
    """One Redis. `data_dir` is where its files are, while it is ours."""

    def __init__(
        self, url: str, runner: Runner | None = None, data_dir: Path | None = None
    ) -> None:
        super().__init__(runner, self._pings)
        self.url = url
        # A refused connection is tried again for a second, so that a start is seen when it happens.
        retry = Retry(ConstantBackoff(0.02), 50)
        self.client = redis.Redis.from_url(url, retry=retry, socket_timeout=CALL_SECONDS)
        self.port = int(self.client.connection_pool.connection_kwargs.get("port", 6379))
        self._data_dir = data_dir

    @property
    def data_dir(self) -> Path:
        if self._data_dir is None:
            raise RuntimeError("this Redis was running before the tests: its files are not ours")
        return self._data_dir

    def backup(self, to: Path) -> Path:
        """Copy the data directory as it is now, while it runs, into the new directory `to`."""
        self.client.config_set("auto-aof-rewrite-percentage", 0)  # no file may be swapped meanwhile
        return Path(shutil.copytree(self.data_dir, to))

    def restore(self, backup: Path) -> None:
        """Put a backup's files in place of today's. The server must not be running."""
        if self.running():
            raise RuntimeError("stop Redis before its files are replaced")
        for entry in self.data_dir.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        shutil.copytree(backup, self.data_dir, dirs_exist_ok=True)

    def lose_tail(self, lost_bytes: int) -> int:
        """Cut the end off the append-only file of a killed server, as a loss of power between two
        fsyncs does; returns the bytes cut. Redis drops a half-written command when it starts."""
        if self.running():
            raise RuntimeError("kill Redis before its file is cut")
        files = [
            *self.data_dir.glob("appendonlydir/*.incr.aof"),
            *self.data_dir.glob("appendonly.aof"),
        ]
        newest = max(files, key=lambda file: file.stat().st_mtime)
        size = newest.stat().st_size
        with newest.open("r+b") as file:
            file.truncate(max(0, size - lost_bytes))
        return min(size, lost_bytes)

    def remove(self) -> None:
        self.client.close()
        super().remove()
        if self._data_dir is not None:
            shutil.rmtree(self._data_dir, ignore_errors=True)

    def _pings(self) -> bool:
        try:
            return bool(self.client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False  # ConnectionError includes Redis still loading its file
