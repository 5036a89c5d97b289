"""/metrics stays available whatever its other clients do."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Counter

from stream_scorer.errors import ConfigError
from stream_scorer.io import metrics_endpoint
from stream_scorer.io.metrics_endpoint import MAX_CONNECTIONS, MetricsEndpoint


@pytest.fixture
def endpoint() -> Iterator[MetricsEndpoint]:
    registry = CollectorRegistry()
    Counter("things", "Things", registry=registry).inc(3)
    endpoint = MetricsEndpoint(registry, "127.0.0.1", 0)
    yield endpoint
    endpoint.close()


def get(endpoint: MetricsEndpoint, path: str = "/metrics") -> str:
    url = f"http://127.0.0.1:{endpoint.port}{path}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_metrics_are_served(endpoint: MetricsEndpoint) -> None:
    assert "things_total 3.0" in get(endpoint)
    assert "things_total 3.0" in get(endpoint, "/metrics?name[]=things_total")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/favicon.ico", "/metrics/../x"])
def test_an_unknown_path_is_not_found(endpoint: MetricsEndpoint, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(endpoint, path)
    assert caught.value.code == 404
    assert caught.value.read() == b"metrics are at /metrics\n"


def test_hundreds_of_silent_clients_hold_few_threads_and_keep_nobody_out(
    endpoint: MetricsEndpoint,
) -> None:
    before = threading.active_count()
    with ExitStack() as clients:
        for number in range(300):
            client = socket.create_connection(("127.0.0.1", endpoint.port), 10)
            clients.enter_context(client)
            if number % 2:
                client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        # Its own connection comes after all of theirs, so by then they have been accepted.
        assert "things_total 3.0" in get(endpoint)
        # A thread ends a moment after its connection has made room.
        assert threading.active_count() - before <= 2 * MAX_CONNECTIONS


def test_a_silent_client_is_disconnected(
    endpoint: MetricsEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_endpoint._Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", endpoint.port), 10) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert client.recv(1) == b""


def test_an_endpoint_that_is_closed_leaves_no_connection(endpoint: MetricsEndpoint) -> None:
    other = MetricsEndpoint(CollectorRegistry(), "127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", other.port), 10) as client:
        assert "python" not in get(other)  # both connections are accepted now
        other.close()
        assert client.recv(1) == b""


def test_port_in_use_is_a_wrong_setting(endpoint: MetricsEndpoint) -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.port.*can't listen"):
        MetricsEndpoint(CollectorRegistry(), "127.0.0.1", endpoint.port)


def test_a_host_that_is_no_address_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.port.*can't listen on no such host"):
        MetricsEndpoint(CollectorRegistry(), "no such host", 0)
