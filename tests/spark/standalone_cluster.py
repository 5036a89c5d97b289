"""Spark's standalone cluster on loopback: a master and two workers, each a process of its own.

The workers have different loopback addresses, since Spark runs the copy of a slow task on another
host only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType

HOSTS = ("127.0.0.1", "127.0.0.2")
START_SECONDS = 90


class Cluster:
    """A context manager. `url` is the master's."""

    def __init__(self, folder: Path) -> None:
        import pyspark  # noqa: PLC0415 - may be absent

        self._folder = folder
        self._home = Path(pyspark.__file__).parent
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port, self._web_port = _free_port(), _free_port()
        self.url = f"spark://127.0.0.1:{self._port}"

    def __enter__(self) -> Cluster:
        master = "org.apache.spark.deploy.master.Master"
        ports = ["--port", str(self._port), "--webui-port", str(self._web_port)]
        try:
            self._start("master", "127.0.0.1", master, "--host", "127.0.0.1", *ports)
            for number, host in enumerate(HOSTS):
                self._start(
                    f"worker-{number}", host, "org.apache.spark.deploy.worker.Worker",
                    "--host", host, "--cores", "1", "--memory", "2g", "--webui-port", "0",
                    "--work-dir", str(self._folder / f"work-{number}"), self.url,
                )  # fmt: skip
            self._wait_for_workers()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the processes that were started here."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def environment(self) -> dict[str, str]:
        """For a driver of this cluster."""
        return os.environ | {
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def executors(self) -> list[int]:
        """Process ids of the executors that run now."""
        workers = {process.pid for process in self._processes[1:]}
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                if _parent(pid) in workers]  # fmt: skip

    def kill_an_executor(self) -> None:
        """As a machine that is lost would."""
        os.kill(self.executors()[0], signal.SIGKILL)

    def _start(self, name: str, host: str, *arguments: str) -> None:
        environment = os.environ | {
            "SPARK_HOME": str(self._home), "SPARK_LOCAL_IP": host, "SPARK_DAEMON_MEMORY": "512m",
            "SPARK_LOG_DIR": str(self._folder),
        }  # fmt: skip
        command = [str(self._home / "bin/spark-class"), *arguments]
        with (self._folder / f"{name}.log").open("wb") as log:
            started = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._processes.append(started)

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._web_port}/json/") as page:
                    if json.load(page)["aliveworkers"] == len(HOSTS):
                        return
            except (OSError, ValueError):
                pass  # it does not answer yet, or with a page that is not JSON while it starts
            assert all(process.poll() is None for process in self._processes), self._logs()
            time.sleep(0.2)
        raise AssertionError(f"the cluster did not come up: {self._logs()}")

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self._folder.glob("*.log"))


def _parent(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
