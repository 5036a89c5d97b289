"""Requests to a real server, as programs and browsers send them."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple

from stream_scorer.web.server import WebServer


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]  # names in small letters
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def ask(
    server: WebServer, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> Answered:
    """headers: with underscores for dashes. Redirects are not followed."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, found, answer.read().decode())
    finally:
        connection.close()
