"""Two ways to run a server for a test: a process of this machine, or a container.

Both start and stop, are killed and paused, and keep data and port from one start to the next.
Nothing here knows Kafka or Redis, nor waits until a server answers: servers.py does.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Protocol

from docker.errors import NotFound
from testcontainers.core.container import DockerContainer

STOP_SECONDS = 30


def free_port() -> int:
    """A free port of loopback below the range that the kernel gives to clients: a client that keeps
    trying a stopped server's port inside that range can end up connected to itself and hold it."""
    for _ in range(1000):
        port = random.SystemRandom().randint(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port between 20000 and 32000")


class Runner(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def running(self) -> bool: ...
    def log_tail(self) -> str: ...
    def copy_out(self, path: str) -> bytes: ...
    def copy_in(self, path: str, copy: bytes) -> None: ...
    def remove(self) -> None: ...


class ServerProcess:
    """A child process in its own session and directory; signals go to its process id alone."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self._command, self.directory = command, directory
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process.pid

    def start(self) -> None:
        if self.running():
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    def copy_out(self, path: str) -> bytes:
        """A folder as a tar archive, which `copy_in` puts back."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(path, Path(path).name)
        return archive.getvalue()

    def copy_in(self, path: str, copy: bytes) -> None:
        """Put back what `copy_out` gave of `path`, over what is there."""
        with tarfile.open(fileobj=io.BytesIO(copy)) as tar:
            tar.extractall(Path(path).parent, filter="data")

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)  # a paused one must wake up to end
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ServerContainer:
    """A container whose port `inside` is published as `port` on 127.0.0.1 of a local engine."""

    def __init__(
        self,
        image: str,
        *,
        port: int,
        inside: int,
        command: list[str] | None = None,
        environment: dict[str, str] | None = None,
        mount: tuple[Path, str] | None = None,
        user: str | None = None,
    ) -> None:
        self._container = DockerContainer(image, env=environment)
        self._container.ports[f"{inside}/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]
        if command is not None:
            self._container.with_command(command)
        if mount is not None:
            self._container.with_volume_mapping(mount[0], mount[1], "rw")
        if user is not None:
            self._container.with_kwargs(user=user)
        self._created = False

    def start(self) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._created = True
            self._container.start()

    def stop(self) -> None:
        self.resume()
        self._container.get_wrapped_container().stop(timeout=STOP_SECONDS)

    def kill(self) -> None:
        if self.running():
            self.resume()
            container = self._container.get_wrapped_container()
            container.kill("SIGKILL")
            container.wait()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        if self._status() == "paused":
            self._container.get_wrapped_container().unpause()

    def running(self) -> bool:
        return self._status() in {"running", "paused"}

    def log_tail(self) -> str:
        if not self._created:
            return ""
        return self._container.get_wrapped_container().logs(tail=40).decode(errors="replace")

    def copy_out(self, path: str) -> bytes:
        return b"".join(self._container.get_wrapped_container().get_archive(path)[0])

    def copy_in(self, path: str, copy: bytes) -> None:
        self._container.get_wrapped_container().put_archive(str(Path(path).parent), copy)

    def remove(self) -> None:
        with contextlib.suppress(NotFound):
            self._container.stop()  # testcontainers' word for removing it with its volumes

    def _status(self) -> str:
        if not self._created:
            return "absent"
        self._container.reload()
        return self._container.status
