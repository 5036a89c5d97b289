"""A TCP proxy on loopback that makes a server slow or unreachable without touching it.

Clients connect to `port`; bytes go to the target and back, at most 64 KiB at a time, so
`delay_seconds` both delays answers and bounds the rate. Two threads per connection, at most
`max_connections` connections. A KafkaProxy knows where a request begins, and can keep one back.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from runners import free_port

CHUNK_BYTES = 65536


class TcpProxy:
    """Use as a context manager or call `close`. Every method may be called from any thread."""

    def __init__(self, target_port: int, *, max_connections: int = 256) -> None:
        self.port = free_port()
        self.delay_seconds = 0.0
        self._target = ("127.0.0.1", target_port)
        self._max_connections = max_connections
        self._flowing = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self.restore()

    def cut(self) -> None:
        """Close every connection and refuse new ones, as a dead host's kernel does."""
        self._flowing.set()
        self._stop_listening()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def lead_to(self, target_port: int) -> None:
        """From now on new connections go to another server; open ones stay where they are, as
        behind a service's address or a name in DNS."""
        self._target = ("127.0.0.1", target_port)

    def hold(self) -> None:
        """Accept and keep connections but carry nothing, as a black hole does."""
        self._flowing.clear()

    def restore(self) -> None:
        """Carry traffic again. What `hold` kept back flows on."""
        self._flowing.set()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self._acceptor = threading.Thread(
                target=self._accept, args=(self._listener,), daemon=True, name=f"proxy-{self.port}"
            )
            self._acceptor.start()

    def close(self) -> None:
        """End for good: no thread and no socket is left."""
        self._closed.set()
        self.cut()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.join()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None and self._acceptor is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept
            self._acceptor.join()
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                if len(self._links) >= self._max_connections:
                    raise OSError("too many connections")
                far = socket.create_connection(self._target, timeout=10)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            link = _Link(near, far, self._carry_requests, self._carry, self._forget)
            with self._lock:
                self._links.add(link)
            link.start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(CHUNK_BYTES):
            if self.delay_seconds > 0:
                self._closed.wait(self.delay_seconds)
            self._flowing.wait()
            sink.sendall(data)

    def _carry_requests(self, source: socket.socket, sink: socket.socket) -> None:
        """From client to server."""
        self._carry(source, sink)

    def _forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


class KafkaProxy(TcpProxy):
    """A proxy before a Kafka broker that can keep back one request of a kind.

    What follows it on its connection waits as well; other connections go on. The broker gets it
    when it is let go, also if the client has given up on it and closed the connection.
    """

    def __init__(self, target_port: int, *, max_connections: int = 256) -> None:
        self._kept_kind: int | None = None
        self.kept = threading.Event()
        self._let_go = threading.Event()
        super().__init__(target_port, max_connections=max_connections)

    def keep_back(self, api_key: int) -> None:
        """Keep back the next request of this kind; `kept` is set when it came."""
        self.kept.clear()
        self._let_go.clear()
        self._kept_kind = api_key

    def let_go(self) -> None:
        """Let the broker have the request that was kept back."""
        self._let_go.set()

    def close(self) -> None:
        self._let_go.set()
        super().close()

    def _carry_requests(self, source: socket.socket, sink: socket.socket) -> None:
        waiting = b""
        while data := source.recv(CHUNK_BYTES):
            waiting += data
            # A request: its size in four bytes, then the number of its kind in two.
            while len(waiting) >= 6 and len(waiting) >= (
                size := 4 + int.from_bytes(waiting[:4], "big")
            ):
                request, waiting = waiting[:size], waiting[size:]
                if int.from_bytes(request[4:6], "big") == self._kept_kind:
                    self._kept_kind = None
                    self.kept.set()
                    self._let_go.wait()
                self._flowing.wait()
                sink.sendall(request)


class _Link:
    """One client connection and its connection to the target: a thread for each direction."""

    def __init__(
        self,
        near: socket.socket,
        far: socket.socket,
        carry_requests: Callable[[socket.socket, socket.socket], None],
        carry: Callable[[socket.socket, socket.socket], None],
        forget: Callable[[_Link], None],
    ) -> None:
        self._sockets = (near, far)
        self._forget = forget
        self._lock = threading.Lock()
        self._open_directions = 2
        self._threads = [
            threading.Thread(target=self._run, args=direction, daemon=True)
            for direction in ((carry_requests, near, far), (carry, far, near))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(
        self,
        carry: Callable[[socket.socket, socket.socket], None],
        source: socket.socket,
        sink: socket.socket,
    ) -> None:
        try:
            carry(source, sink)
            sink.shutdown(socket.SHUT_WR)  # pass the end of the stream on
        except OSError:
            self.close()
        with self._lock:
            self._open_directions -= 1
            if self._open_directions:
                return
        for end in self._sockets:
            end.close()
        self._forget(self)
