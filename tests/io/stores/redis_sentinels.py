"""A primary, a replica and Sentinels that watch them, as processes of the embedded Redis."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from stream_scorer.demo import embedded
from stream_scorer.demo.embedded import EmbeddedRedis

PRIMARY_NAME = "shop"
WITHIN_SECONDS = 60.0


def wait_until(holds: Callable[[], object]) -> None:
    """Until it does, for a minute at most; errors of Redis count as not yet."""
    until = time.monotonic() + WITHIN_SECONDS
    while True:
        with contextlib.suppress(redis.exceptions.RedisError):
            if holds():
                return
        assert time.monotonic() < until
        time.sleep(0.02)


class WatchedRedis:
    """`primary` and `replica`, and Sentinels on `sentinel_ports`: a context manager."""

    def __init__(self, sentinels: int = 1, password: str = "") -> None:
        self._closing = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []
        with ExitStack() as started:
            started.callback(self._end_sentinels)
            folder = tempfile.TemporaryDirectory(prefix="stream-scorer-sentinel-")
            self._folder = Path(started.enter_context(folder))
            self.primary = started.enter_context(
                EmbeddedRedis("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
            )
            follow = ("--replicaof", "127.0.0.1", str(self.primary.port))
            self.replica = started.enter_context(EmbeddedRedis(*follow))
            with redis.Redis(port=self.replica.port) as client:
                wait_until(lambda: client.info("replication")["master_link_status"] == "up")
            # Before its first answer a replica gets no writes.
            with redis.Redis(port=self.primary.port) as client:
                client.delete("nothing")
                wait_until(lambda: client.wait(1, 1000) == 1)
            self.sentinel_ports = [self._sentinel(password) for _ in range(sentinels)]
            for port in self.sentinel_ports:
                with redis.Redis(port=port, password=password or None) as asked:
                    wait_until(partial(_knows_the_replica, asked))
            self._closing = started.pop_all()

    def _sentinel(self, password: str) -> int:
        port = embedded._free_port()
        file = self._folder / f"{port}.conf"
        lines = [
            "bind 127.0.0.1", f"port {port}", f"dir {self._folder}",
            f"sentinel monitor {PRIMARY_NAME} 127.0.0.1 {self.primary.port} 1",
            f"sentinel down-after-milliseconds {PRIMARY_NAME} 300",
            f"sentinel failover-timeout {PRIMARY_NAME} 3000",
        ]  # fmt: skip
        lines += [f"requirepass {password}"] if password else []
        file.write_text("\n".join(lines) + "\n")
        with (self._folder / f"{port}.log").open("ab") as log:
            command = [str(embedded._redis_server()), str(file), "--sentinel"]
            self._processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            )
        return port

    @property
    def url(self) -> str:
        """Of the first Sentinel."""
        return f"redis://127.0.0.1:{self.sentinel_ports[0]}/0"

    def stop_sentinel(self, at: int) -> None:
        """This one answers no more."""
        self._processes[at].kill()
        self._processes[at].wait()

    def named_primary(self) -> int:
        """The port of the server that the first Sentinel names."""
        with redis.Redis(port=self.sentinel_ports[0]) as asked:
            return int(asked.sentinel_get_master_addr_by_name(PRIMARY_NAME)[1])

    def __enter__(self) -> WatchedRedis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._closing.close()

    def _end_sentinels(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def _knows_the_replica(sentinel: redis.Redis) -> bool:
    state: Any = sentinel.sentinel_master(PRIMARY_NAME)
    return bool(state["num-slaves"] == 1)
