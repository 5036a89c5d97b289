"""Requests to a schema registry: bounded in time, in length, and in what an answer may be.

With the standard library's client and not that of confluent_kafka, which follows an answer however
slowly it drips and however long it becomes. Here a request ends at its deadline whatever the server
does: its socket is shut down from beside. Redirects are not followed, because user and password
would go along.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import BadStatusLine, HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from stream_scorer.confidential import HIDDEN, read_address, shown_address, without_credentials
from stream_scorer.errors import BusUnavailable, ConfigError

MOST_ANSWER_BYTES = 8 * 2**20  # a schema of 1 MiB, with each character escaped
CHUNK_BYTES = 2**16
SHOWN_CHARACTERS = 300
LEAST_SECRET = 4  # characters
HTTPS = "https"


@dataclass(frozen=True, slots=True)
class Answer:
    """status: of HTTP. content: what its JSON says, None where it is not JSON. secrets: what it may
    have of the request, and `in_words` does not show."""

    status: int
    content: Any
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def error_code(self) -> int | None:
        """The registry's own code of an error; None where the answer is not the registry's."""
        code = self.content.get("error_code") if isinstance(self.content, dict) else None
        return code if isinstance(code, int) and not isinstance(code, bool) else None

    def in_words(self) -> str:
        """For messages."""
        said = self.content.get("message") if isinstance(self.content, dict) else None
        text = said if isinstance(said, str) else "no message"
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        # What JSON allows in a text and UTF-8 does not is shown as escapes.
        text = text.encode(errors="backslashreplace").decode()[:SHOWN_CHARACTERS]
        code = "" if self.error_code is None else f", error code {self.error_code}"
        return f"{text} (HTTP status {self.status}{code})"


class RegistryHttp:
    """A schema registry, at one address or at several that answer alike. Thread-safe.

    properties: "url" (addresses with commas between them), "basic.auth.user.info" (user:password)
    and "ssl.ca.location", as confluent_kafka's SchemaRegistryClient has them.
    """

    def __init__(self, properties: Mapping[str, object]) -> None:
        given = str(properties.get("url", ""))
        self.shown = shown_address(given)
        try:
            self._servers = [
                read_address(part.strip(), ("http", HTTPS)) for part in given.split(",")
            ]
        except ValueError as error:
            reason = without_credentials(str(error))
            raise ConfigError("schema_registry.url", self.shown, reason) from None
        ca_file = properties.get("ssl.ca.location")
        try:
            self._tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except (ValueError, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            remedy = f"is no file of certificates in PEM ({reason})"
            raise ConfigError("schema_registry.ssl_ca_file", ca_file, remedy) from None
        user_info = properties.get("basic.auth.user.info")
        users = [server for server in self._servers if server.username is not None]
        if user_info is None and users:
            user_info = f"{users[0].username}:{users[0].password or ''}"
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        self._secrets: tuple[str, ...] = ()
        if user_info is not None:
            token = b64encode(str(user_info).encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
            password = str(user_info).partition(":")[2]
            # A shorter one stands in any text, by chance.
            self._secrets = (token, password) if len(password) >= LEAST_SECRET else (token,)
        self._open: set[_Connection] = set()

    def request(self, method: str, path: str, body: object, seconds: float) -> Answer:
        """The answer of the first server that gives one. Raises BusUnavailable after `seconds`."""
        trouble = "no server"
        for server in self._servers:
            try:
                return self._ask(server.url.rstrip("/"), method, path, body, seconds)
            # ValueError: a header or a length that the client does not understand.
            except (OSError, HTTPException, ValueError) as error:
                words = _in_words(error, urlsplit(server.url).scheme)
                trouble = f"{shown_address(server.url)}: {words}"
        raise BusUnavailable(f"schema registry {trouble}")

    def close(self) -> None:
        """End the requests that are under way."""
        for connection in list(self._open):
            connection.shut_down()

    def _ask(self, url: str, method: str, path: str, body: object, seconds: float) -> Answer:
        connection = _Connection(url, self._tls, seconds)
        headers = dict(self._headers)
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/vnd.schemaregistry.v1+json"
        self._open.add(connection)
        watchdog = threading.Timer(seconds, connection.shut_down)
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.request(method, connection.target(path), data, headers)
            response = connection.getresponse()
            content = b""
            while chunk := response.read1(CHUNK_BYTES):
                content += chunk
                if len(content) > MOST_ANSWER_BYTES:
                    raise ValueError(f"its answer has more than {MOST_ANSWER_BYTES} bytes")
            if connection.was_shut_down:
                raise TimeoutError
            return Answer(response.status, _parsed(content), self._secrets)
        except (OSError, HTTPException, ValueError):
            if connection.was_shut_down:
                raise TimeoutError(f"no answer within {seconds:.0f} s") from None
            raise
        finally:
            watchdog.cancel()
            self._open.discard(connection)
            connection.close()


class _Connection(HTTPConnection):
    """One request's connection, through the proxy of the environment if it names one."""

    def __init__(self, url: str, tls: ssl.SSLContext, seconds: float) -> None:
        parts = urlsplit(url)
        self._is_tls = parts.scheme == HTTPS
        # The zone of an IPv6 address is written behind %25 in a URL (RFC 6874), behind % elsewhere.
        self._server_name = str(parts.hostname).replace("%25", "%")
        self._path = quote(parts.path, safe="/%")
        self._absolute = ""
        port = parts.port or (443 if self._is_tls else 80)
        proxy = None if proxy_bypass(self._server_name) else getproxies().get(parts.scheme)
        if proxy:
            through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            super().__init__(str(through.hostname), through.port or 80, timeout=seconds)
            if self._is_tls:
                self.set_tunnel(self._server_name, port)
            else:
                self._absolute = f"{parts.scheme}://{parts.netloc}"
        else:
            super().__init__(self._server_name, port, timeout=seconds)
        self._tls, self.was_shut_down = tls, False

    def target(self, path: str) -> str:
        """What the request line asks for."""
        return f"{self._absolute}{self._path}{path}"

    def connect(self) -> None:
        super().connect()
        if self._is_tls:
            # The handshake only after `sock` is set, so that it can be shut down, too.
            self.sock = self._tls.wrap_socket(
                self.sock, server_hostname=self._server_name, do_handshake_on_connect=False
            )
            self.sock.do_handshake()

    def shut_down(self) -> None:
        """Wake whoever waits for this connection."""
        self.was_shut_down = True
        if self.sock is not None:
            try:
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError:  # it is closed already
                return


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _in_words(error: Exception, scheme: str) -> str:
    """The error in one line; some of the client's have no words of their own."""
    if isinstance(error, ssl.SSLCertVerificationError):
        # Not its errno, here and below: that is a number of OpenSSL's, or of the name server's.
        return (
            f"its certificate is not accepted ({error.verify_message}); check the host's name in "
            "schema_registry.url, and schema_registry.ssl_ca_file"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason or error}); does the server speak TLS?"
    if isinstance(error, socket.gaierror):
        return f"its name is not found ({error.strerror})"
    words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    if scheme != HTTPS and isinstance(error, (ConnectionResetError, BadStatusLine)):
        words = f"{words.splitlines()[0] if words else 'no answer'}; is its address https://?"
    return without_credentials(words.splitlines()[0] if words else type(error).__name__)[:300]
