"""An address of Redis that can be made to lead to another server, between any two commands.

It knows as much of Redis's protocol as is needed to see where a command and its answer end.
`keeps_connections`: a client's connection goes on to the new target, as some proxies and cloud
services have it; otherwise an open connection stays with the server that it was opened to, as
behind a service address or a name in DNS.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, BinaryIO


class RedisProxy:
    """Use as a context manager. `before(words)` is called before each command is passed on; what it
    returns is answered instead, unless it is None."""

    def __init__(self, target_port: int, *, keeps_connections: bool) -> None:
        self.target_port = target_port
        self.keeps_connections = keeps_connections
        self.before: Callable[[list[bytes]], bytes | None] = lambda _words: None
        self.opened = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisProxy:
        return self

    def __exit__(self, *_: object) -> None:
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.opened += 1
                self._sockets.append(near)
                thread = threading.Thread(target=self._serve, args=(near,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, near: socket.socket) -> None:
        backends: dict[int, tuple[socket.socket, BinaryIO]] = {}
        hello: list[bytes] = []
        with contextlib.suppress(OSError, EOFError), near, near.makefile("rb") as commands:
            first = self.target_port
            while True:
                raw, words = _command(commands)
                name = words[0].decode().upper()
                instead = self.before(words)
                if instead is not None:
                    near.sendall(instead)
                    continue
                port = self.target_port if self.keeps_connections else first
                if port not in backends:
                    far = socket.create_connection(("127.0.0.1", port))
                    self._sockets.append(far)
                    backends[port] = far, far.makefile("rb")
                    for greeting in hello:
                        far.sendall(greeting)
                        _answer(backends[port][1])
                if name in ("HELLO", "AUTH", "SELECT"):
                    hello.append(raw)
                backends[port][0].sendall(raw)
                near.sendall(_answer(backends[port][1]))
        for far, reader in backends.values():
            reader.close()
            far.close()


def _line(stream: Any) -> bytes:
    line: bytes = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    return line


def _exactly(stream: Any, size: int) -> bytes:
    found: bytes = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found


def _command(stream: Any) -> tuple[bytes, list[bytes]]:
    raw = _line(stream)
    words = []
    for _ in range(int(raw[1:])):
        head = _line(stream)
        body = _exactly(stream, int(head[1:]) + 2)
        raw += head + body
        words.append(body[:-2])
    return raw, words


def _answer(stream: Any) -> bytes:
    raw = _line(stream)
    kind, rest = raw[:1], raw[1:-2]
    if kind in b"$=!" and rest != b"-1":
        return raw + _exactly(stream, int(rest) + 2)
    if kind in b"*~>%" and rest != b"-1":
        count = int(rest) * (2 if kind == b"%" else 1)
        return raw + b"".join(_answer(stream) for _ in range(count))
    return raw
