"""The HTTP server: uvicorn on a thread of its own, with bounds on what clients may hold.

The thread is not the main one, so uvicorn leaves signals alone, and the loop that consumes events
never waits for it. Whoever can reach the port can open connections, so these are bounded: a client
that has not sent its whole request `SILENT_SECONDS` after it connected, or after its last answer,
is disconnected, and so is one that does not take its answer within `ANSWER_SECONDS`. Of more than
`MAX_CONNECTIONS` one that is not being answered, the oldest, is ended, so that clients that hold
theirs open can't keep Prometheus out. Headers and bodies of requests are bounded, too.

Requests are parsed by httptools, in C: of a look-up of a customer h11, in Python, would take a
third of the time of this thread.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stream_scorer.errors import ConfigError

log = logging.getLogger(__name__)

SILENT_SECONDS = 5.0  # Prometheus, browsers and probes send their request at once
ANSWER_SECONDS = 30.0
MAX_CONNECTIONS = 64
MAX_HEADER_BYTES = 16_384
MAX_PIPELINED = 8  # requests that a client sends before it has the answers to those before
BACKLOG = 128  # with fewer a burst of clients keeps others waiting
CLOSE_SECONDS = 1  # for requests that are being answered when the server is closed


class WebServer:
    """Serves one ASGI application until it is closed; a context manager."""

    def __init__(self, listening: socket.socket, application: Any) -> None:
        """listening: as `listen` returns it; it is closed with the server."""
        self.port = int(listening.getsockname()[1])
        # What uvicorn says at level info is of no use beside our own lines, and its warnings are of
        # requests that are no HTTP, of which clients can send any number.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = uvicorn.Server(
            uvicorn.Config(
                application, http=_Connection, loop="asyncio", ws="none", lifespan="off",
                interface="asgi3", log_config=None, access_log=False, server_header=False,
                proxy_headers=False, backlog=BACKLOG, timeout_keep_alive=int(SILENT_SECONDS),
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
        )  # fmt: skip
        # A daemon: a client must not hold up the end of the process.
        self._thread = threading.Thread(
            target=self._server.run, args=([listening],), name="web", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; open connections are closed."""
        # Requests that are cut off now are no errors.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A socket that clients can connect to at once. port: 0 for one that is free.

    setting: the name of the port's setting. Raises ConfigError where it can't listen there.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        remedy = f"can't listen on {host}: {(error.strerror or str(error)).lower()}"
        raise ConfigError(setting, port, remedy) from None
    return listening


class _Connection(HttpToolsProtocol):
    """One client's connection, which ends where the client takes too long.

    httptools bounds nothing, so what is no body is counted here: of one request, or of the last
    that came with others in one piece.
    """

    _timer: asyncio.TimerHandle | None = None
    _is_answering = False
    _overhead_bytes = 0
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.since = self.loop.time()
        gathering: Any = _Gathering(cast(asyncio.Transport, transport), self.loop)
        super().connection_made(gathering)
        if len(self.connections) > MAX_CONNECTIONS:
            _end_oldest(self.connections)
        self._allow(SILENT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._overhead_bytes += len(data)
        super().data_received(data)
        if self._overhead_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers of the request are too long.")
        self._watch()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")  # the client gets 400
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        # It may begin the next request, where that came already.
        super().on_response_complete()
        self._is_answering = False
        # What the client has not taken yet is still part of the answer.
        untaken = self.transport.get_write_buffer_size() > 0
        self._allow(ANSWER_SECONDS if untaken else SILENT_SECONDS)
        self._watch()

    @property
    def is_answering(self) -> bool:
        """Whether a whole request has come that is not answered yet."""
        return self._is_answering

    def _watch(self) -> None:
        cycle = self.cycle
        received = cycle is not None and not cycle.more_body and not cycle.response_complete
        if received and not self._is_answering:
            self._is_answering = True
            self._allow(ANSWER_SECONDS)

    def _allow(self, seconds: float) -> None:
        self._forget_timer()
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Gathering:
    """A transport that sends what is written in one step of the loop as one piece.

    uvicorn writes headers and body of an answer one after the other. Sent as two packets they cost
    both sides a system call and a wake-up more, and the sender the interpreter's lock.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send it when this step of the loop is done."""
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not taken."""
        return sum(map(len, self._written)) + self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Close it when all is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        written, self._written = self._written, []
        if written:
            self._transport.write(b"".join(written))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _end_oldest(connections: Any) -> None:
    """End the oldest connection that is not being answered; where all are, the oldest."""
    oldest = min(connections, key=lambda c: (c.is_answering, c.since))
    connections.discard(oldest)  # which it does itself a moment later, and others come meanwhile
    oldest.transport.abort()
