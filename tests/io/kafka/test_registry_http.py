"""What a registry that can't be reached says of the cause, on real sockets with real TLS."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stream_scorer.errors import BusUnavailable, ConfigError
from stream_scorer.io.kafka.registry_http import Answer, RegistryHttp, _Connection


class Ones(BaseHTTPRequestHandler):
    """Answers whatever is asked with 1."""

    paths: list[str] = []  # noqa: RUF012 - emptied by the fixture

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"1")

    def log_message(self, *_: object) -> None:
        pass


class QuietServer(HTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that ends the handshake is what the tests want."""


def _certificate(folder: Path, name: x509.GeneralName) -> Path:
    """A file with key and certificate of one host, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "both.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    file.write_bytes(private + certificate.public_bytes(pem))
    return file


@contextmanager
def served(address: tuple[str, int], tls: Path | None) -> Iterator[int]:
    class Server(QuietServer):
        address_family = 10 if ":" in address[0] else 2

    Ones.paths.clear()
    server = Server(address, Ones)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def with_tls(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[int, Path]]:
    """The port of a server of TLS, and the file of its certificate; its name is the parameter."""
    file = _certificate(tmp_path, request.param)
    with served(("127.0.0.1", 0), file) as port:
        yield port, file


def asked(url: str, **properties: object) -> Answer:
    return RegistryHttp({"url": url, **properties}).request("GET", "/schemas/ids/1", None, 5)


LOCAL = x509.IPAddress(ip_address("127.0.0.1"))
OTHER = x509.DNSName("other.example")


@pytest.mark.parametrize("with_tls", [LOCAL], indirect=True)
def test_a_registry_of_an_own_authority_is_read(with_tls: tuple[int, Path]) -> None:
    port, file = with_tls
    properties: dict[str, object] = {"ssl.ca.location": str(file)}
    assert asked(f"https://127.0.0.1:{port}", **properties).content == 1


@pytest.mark.parametrize(
    ("with_tls", "knows_authority", "says"),
    [
        (LOCAL, False, "its certificate is not accepted (self-signed certificate)"),
        (OTHER, True, "its certificate is not accepted (IP address mismatch"),
    ],
    indirect=["with_tls"],
)
def test_a_certificate_that_is_not_accepted_is_named_with_its_remedy(
    with_tls: tuple[int, Path], knows_authority: bool, says: str
) -> None:
    """It said "Operation not permitted": OpenSSL's number of an error is none of the system's."""
    port, file = with_tls
    properties: dict[str, object] = {"ssl.ca.location": str(file)} if knows_authority else {}
    with pytest.raises(BusUnavailable) as caught:
        asked(f"https://me:secret@127.0.0.1:{port}", **properties)
    assert says in str(caught.value)
    assert "schema_registry.ssl_ca_file" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("with_tls", [LOCAL], indirect=True)
def test_http_to_a_port_of_tls_and_the_other_way_round_are_asked_about(
    with_tls: tuple[int, Path],
) -> None:
    with pytest.raises(BusUnavailable, match=r"; is its address https://\?$"):
        asked(f"http://127.0.0.1:{with_tls[0]}")
    speaks = pytest.raises(BusUnavailable, match=r"does the server speak TLS\?$")
    with served(("127.0.0.1", 0), None) as port, speaks:
        asked(f"https://127.0.0.1:{port}")


def test_a_name_that_is_not_found_is_named() -> None:
    """It said "Unknown error -2"."""
    with pytest.raises(BusUnavailable, match=r"http://nothing\.invalid:1: its name is not found"):
        asked("http://nothing.invalid:1")


@pytest.mark.parametrize("host", ["[::1]", "[0:0:0:0:0:0:0:1]"])
def test_an_address_of_ipv6_is_asked_with_path_and_credentials(host: str) -> None:
    with served(("::1", 0), None) as port:
        answer = asked(f"http://me:p%40%2F%23s@{host}:{port}/größe/a%20b")
        assert answer.content == 1
        assert Ones.paths == ["/gr%C3%B6%C3%9Fe/a%20b/schemas/ids/1"]


def test_the_zone_of_an_ipv6_address_is_that_of_its_url() -> None:
    context = ssl.create_default_context()
    assert _Connection("http://[fe80::1%25eth0]:8081", context, 1).host == "fe80::1%eth0"


@pytest.mark.parametrize("made", ["absent", "folder", "text"])
def test_a_file_of_certificates_that_can_t_be_read_is_named_by_its_setting(
    tmp_path: Path, made: str
) -> None:
    file = tmp_path / "ca.pem"
    if made == "folder":
        file.mkdir()
    elif made == "text":
        file.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"schema_registry\.ssl_ca_file.*ca\.pem.* in PEM"):
        asked("https://127.0.0.1:1", **{"ssl.ca.location": str(file)})
