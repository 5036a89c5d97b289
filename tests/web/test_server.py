"""The server stays available whatever its other clients do."""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stream_scorer.errors import ConfigError
from stream_scorer.io.exposition import exposition
from stream_scorer.web import server as module
from stream_scorer.web.server import MAX_CONNECTIONS, WebServer, listen

MOST_LOOKS = 300  # of 10 ms


def serve(registry: CollectorRegistry) -> WebServer:
    """The smallest application: the metrics of one registry, and 404 elsewhere."""

    async def metrics(request: Request) -> Response:
        names = request.query_params.getlist("name[]")
        kind, text = exposition(registry, request.headers.get("accept", ""), names)
        return Response(text, media_type=kind)

    served = Starlette(routes=[Route("/metrics", metrics)])
    return WebServer(listen("127.0.0.1", 0, "port"), served)


@pytest.fixture
def server() -> Iterator[WebServer]:
    registry = CollectorRegistry()
    Counter("things", "Things", registry=registry).inc(3)
    with serve(registry) as server:
        yield server


def get(server: WebServer, path: str = "/metrics", **headers: str) -> str:
    url = f"http://127.0.0.1:{server.port}{path}"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def web_threads() -> int:
    return sum(thread.name == "web" for thread in threading.enumerate())


def connect(server: WebServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 10)


def ends(client: socket.socket) -> bool:
    """Whether the server has closed the connection, once it has sent all."""
    try:
        while client.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_metrics_are_served(server: WebServer) -> None:
    assert "things_total 3.0" in get(server)
    assert "things_total 3.0" in get(server, "/metrics?name[]=things_total")
    assert "things_total" not in get(server, "/metrics?name[]=other")
    assert get(server, accept="application/openmetrics-text; version=1.0.0").endswith("# EOF\n")


def test_hundreds_of_silent_clients_hold_few_connections_and_keep_nobody_out(
    server: WebServer,
) -> None:
    with ExitStack() as clients:
        for number in range(300):
            client = clients.enter_context(connect(server))
            if number % 2:
                client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        # Its own connection comes after all of theirs, so by then they have been accepted.
        assert "things_total 3.0" in get(server)
        assert len(server._server.server_state.connections) <= MAX_CONNECTIONS
        assert web_threads() == 1


@pytest.mark.parametrize(
    "sent", [b"", b"GET /metrics HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1"]
)
def test_a_client_that_does_not_send_its_whole_request_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.1)
    with serve(CollectorRegistry()) as server, connect(server) as client:
        client.sendall(sent)
        assert ends(client)


def test_a_client_that_sends_a_byte_now_and_then_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
    with serve(CollectorRegistry()) as server, connect(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        client.settimeout(0.01)
        received = None
        for _ in range(MOST_LOOKS):
            with suppress(TimeoutError):
                received = client.recv(1)
                break
            client.sendall(b"a")
        assert received == b""


def test_a_connection_is_kept_for_the_next_request(server: WebServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for _ in range(3):
        connection.request("GET", "/metrics")
        assert b"things_total" in connection.getresponse().read()
    connection.close()


def test_an_answer_that_is_on_its_way_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the time for requests, nor to make room for others."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 3)
    began, may_end = threading.Event(), threading.Event()

    async def slow(scope, receive, send) -> None:
        if scope["path"] == "/slow":
            began.set()
            while not may_end.is_set():
                await asyncio.sleep(0.01)
        await PlainTextResponse("whole")(scope, receive, send)

    with WebServer(listen("127.0.0.1", 0, "port"), slow) as server, ExitStack() as clients:
        asked = clients.enter_context(connect(server))
        asked.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert began.wait(60)
        for _ in range(10):
            clients.enter_context(connect(server))
        idle = clients.enter_context(connect(server))
        assert ends(idle), "which takes longer than the time for requests"
        may_end.set()
        assert asked.recv(65_536).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_does_not_take_its_answer_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)

    async def large(scope, receive, send) -> None:
        await Response(b"x" * 50_000_000)(scope, receive, send)

    with WebServer(listen("127.0.0.1", 0, "port"), large) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connections = server._server.server_state.connections
        assert client.recv(1) == b"H"
        for _ in range(MOST_LOOKS):
            if not connections:
                break
            time.sleep(0.01)
        assert not connections


def test_headers_are_bounded(server: WebServer) -> None:
    with connect(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 2 * module.MAX_HEADER_BYTES)
        assert client.recv(65_536).startswith(b"HTTP/1.1 400")


def test_what_is_no_http_is_refused(server: WebServer) -> None:
    for sent in (b"\x16\x03\x01\x02\x00", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
                 "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode()):  # fmt: skip
        with connect(server) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(65_536)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404"), sent


def test_requests_that_come_before_the_answers_to_those_before_are_few(server: WebServer) -> None:
    """A client could send thousands in one packet, and each would be kept."""
    one = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(server) as client:
        client.sendall(3 * one)
        received = b""
        while received.count(b"HTTP/1.1 200") < 3:
            received += client.recv(65_536)
    with connect(server) as client:
        client.sendall(5000 * one)
        assert ends(client)


def test_an_answer_is_one_packet(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    send = module._Gathering._send

    def watched(self) -> None:
        written.append(b"".join(self._written))
        send(self)

    monkeypatch.setattr(module._Gathering, "_send", watched)
    get(server)
    (answer,) = [piece for piece in written if piece]
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"things_total 3.0" in answer


def test_signals_stay_with_those_who_had_them(server: WebServer) -> None:
    """uvicorn sets handlers of its own where it runs on the main thread."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert "things_total" in get(server)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_server_that_is_closed_leaves_no_connection_and_no_thread() -> None:
    other = serve(CollectorRegistry())
    with connect(other) as client:
        assert "python" not in get(other)  # both connections are accepted now
        other.close()
        assert client.recv(1) == b""
    assert web_threads() == 0


def test_port_in_use_is_a_wrong_setting(server: WebServer) -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.port.*can't listen"):
        listen("127.0.0.1", server.port, "telemetry.port")


def test_a_host_that_is_no_address_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.port.*can't listen on no such host"):
        listen("no such host", 0, "telemetry.port")


def test_ipv6_is_served() -> None:
    async def here(scope, receive, send) -> None:
        await PlainTextResponse("here")(scope, receive, send)

    with WebServer(listen("::1", 0, "port"), here) as server:
        url = f"http://[::1]:{server.port}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.read() == b"here"
