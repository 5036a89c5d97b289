"""http://HOST:PORT/metrics for Prometheus, on threads of its own.

Whoever can reach the port can open connections, so these are bounded: a client that is silent for
`SILENT_SECONDS` is disconnected, and of more than `MAX_CONNECTIONS` the oldest one is, so that
clients that hold theirs open can't keep Prometheus out.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Lock, Semaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from stream_scorer.errors import ConfigError

log = logging.getLogger(__name__)

PATH = "/metrics"
SILENT_SECONDS = 5.0  # Prometheus sends its request at once
MAX_CONNECTIONS = 32  # each takes a thread; one Prometheus uses one or two
ROOM_SECONDS = 0.1  # before the next oldest connection is ended

StartResponse = Callable[..., Any]


class MetricsEndpoint:
    """Serves one registry until it is closed."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        """port: 0 for one that is free. Raises ConfigError where it can't listen there."""
        try:
            self._server = _Server(host, port)
        except OSError as error:
            remedy = f"can't listen on {host}: {(error.strerror or str(error)).lower()}"
            raise ConfigError("telemetry.port", port, remedy) from None
        self._server.set_app(_metrics_alone(make_wsgi_app(registry)))
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; open connections are closed."""
        self._server.shutdown()
        self._server.server_close()
        self._server.disconnect_all()
        self._thread.join()


def _metrics_alone(application: Any) -> Any:
    """`application` at `PATH`, and 404 everywhere else."""

    def serve(environment: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environment["PATH_INFO"] == PATH:
            answer: Iterable[bytes] = application(environment, start_response)
            return answer
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"metrics are at {PATH}\n".encode()]

    return serve


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # with socketserver's 5 a burst of clients keeps others waiting
    block_on_close = False  # a client that is silent must not hold up the end of the process

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._lock, self._free = Lock(), Semaphore(MAX_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Without WSGIServer's look-up of the host's own name, which may wait for DNS.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._free.acquire(blocking=False):
            with self._lock:
                oldest = next(iter(self._open), None)
            if oldest is not None:
                _disconnect(oldest)
            # Its thread reads the end of the connection and makes room.
            if self._free.acquire(timeout=ROOM_SECONDS):
                break
        with self._lock:
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)
        self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that go away are no fault of ours, and their number has no bound.
        log.debug("a client of %s went away", PATH, exc_info=True)

    def disconnect_all(self) -> None:
        """Close every connection."""
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            _disconnect(connection)


def _disconnect(connection: socket.socket) -> None:
    """End a connection that another thread reads: its read returns, and it closes the socket."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    timeout = SILENT_SECONDS

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Not logged: there is one every few seconds."""
