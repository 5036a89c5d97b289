"""What a client is given wrongly is one line; why it reaches no broker is said with the remedy."""

from __future__ import annotations

import datetime
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from stream_scorer.errors import BusUnavailable, ConfigError, StreamScorerError
from stream_scorer.io.kafka import admin, topic_reader
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.settings.tree import Settings

Properties = dict[str, Any]
AWAY = {"bootstrap.servers": "127.0.0.1:1"}
KEY_PASSWORD = "hunter2"


def the_source(properties: Properties) -> KafkaSource:
    store = MemoryStore(1)
    return KafkaSource({**properties, "group.id": "g"}, "t", store, max_events=1, max_age_ms=1)


def the_reader(properties: Properties) -> TopicReader:
    return TopicReader({**properties, "group.id": "g"}, "t", batch_records=1)


CLIENTS: list[Callable[[Properties], object]] = [
    KafkaAdmin, ConfirmedProducer, the_source, the_reader,
]  # fmt: skip


def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def certificate(key: rsa.RSAPrivateKey, name: str) -> bytes:
    """One that signs itself, for the host `name`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def pem(key: rsa.RSAPrivateKey, password: str | None = None) -> bytes:
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        locked = serialization.BestAvailableEncryption(password.encode())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, locked)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    key = private_key()
    (folder / "key.pem").write_bytes(pem(key))
    (folder / "locked.pem").write_bytes(pem(key, KEY_PASSWORD))
    (folder / "other-key.pem").write_bytes(pem(private_key()))
    (folder / "localhost.pem").write_bytes(certificate(key, "localhost"))
    (folder / "elsewhere.pem").write_bytes(certificate(key, "elsewhere"))
    (folder / "junk.pem").write_text("junk")
    return folder


@pytest.mark.parametrize("make", CLIENTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("properties", "field", "remedy"),
    [
        ({"foo.bar": "1"}, "kafka.properties['foo.bar']", "no such property"),
        ({"session.timeout.ms": "x"}, "kafka.properties['session.timeout.ms']: 'x'", "Invalid"),
        ({"socket.timeout.ms": -1}, "kafka.properties['socket.timeout.ms']: '-1'", "range"),
        ({"compression.type": "brot"}, "kafka.properties['compression.type']: 'brot'", "Invalid"),
        ({"oauth_cb": "x"}, "kafka.properties['oauth_cb']: 'x'", "callable"),
        (
            {"security.protocol": "sasl_plaintext", "sasl.mechanism": "FOO"},
            "kafka.sasl_mechanism: 'FOO'", "SCRAM-SHA-512",
        ),
        (
            {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"},
            "kafka.username", "set kafka.username and kafka.password",
        ),
        (
            {"security.protocol": "ssl", "ssl.ca.location": "{}/none.pem"},
            "kafka.ssl_ca_file: '{}/none.pem'", "can't be read",
        ),
        (
            {"security.protocol": "ssl", "ssl.ca.location": "{}/junk.pem"},
            "kafka.ssl_ca_file: '{}/junk.pem'", "no certificate in PEM",
        ),
        (
            {"security.protocol": "ssl", "ssl.certificate.location": "{}/junk.pem"},
            "kafka.ssl_certificate_file: '{}/junk.pem'", "no certificate in PEM",
        ),
        (
            {"security.protocol": "ssl", "ssl.key.location": "{}/locked.pem",
             "ssl.key.password": "wrong-hunter2"},
            "kafka.ssl_key_file: '{}/locked.pem'", "kafka.ssl_key_password is not its password",
        ),
        (
            {"security.protocol": "ssl", "ssl.key.location": "{}/locked.pem"},
            "kafka.ssl_key_file: '{}/locked.pem'", "kafka.ssl_key_password is not its password",
        ),
        (
            {"security.protocol": "ssl", "ssl.certificate.location": "{}/localhost.pem",
             "ssl.key.location": "{}/other-key.pem"},
            "kafka.ssl_key_file: '{}/other-key.pem'", "not the key of the certificate",
        ),
        ({"ssl.key.pasword": "hunter2"}, "kafka.properties['ssl.key.pasword']", "no such"),
        ({"sasl.pasword": "hunter2"}, "kafka.properties['sasl.pasword']", "no such"),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_client_is_given_wrongly_is_one_line_that_names_it(
    files: Path,
    make: Callable[[Properties], object],
    properties: Properties,
    field: str,
    remedy: str,
) -> None:
    given = {
        name: value.format(files) if isinstance(value, str) else value
        for name, value in properties.items()
    }
    with pytest.raises(ConfigError) as caught:
        make({**AWAY, **given})
    text = str(caught.value)
    assert text.startswith(field.format(files)), text
    assert remedy in text
    assert "\n" not in text
    assert "hunter2" not in text
    assert caught.value.__suppress_context__


@pytest.fixture
def listen() -> Iterator[Callable[..., int]]:
    """listen(context=None, answers=True) -> a port that speaks TLS, or hangs up, or is silent."""
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(server: socket.socket, context: ssl.SSLContext | None) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            client.settimeout(2)
            try:
                if context is None:
                    client.recv(100)
                else:
                    with context.wrap_socket(client, server_side=True) as spoken:
                        spoken.recv(100)
            except OSError:
                pass
            finally:
                client.close()

    def open_port(context: ssl.SSLContext | None = None, *, answers: bool = True) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)
        if answers:
            thread = threading.Thread(target=serve, args=(server, context))
            thread.start()
            threads.append(thread)
        return int(server.getsockname()[1])

    yield open_port
    for server in sockets:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join()


def with_tls(folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / "key.pem")
    return context


def failure_of(call: Callable[[], object]) -> str:
    with pytest.raises(StreamScorerError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ways_to_fail(properties: Properties) -> Iterator[str]:
    """What each kind of client says that can't reach its broker; they wait at the same time."""

    def producing() -> None:
        producer = ConfirmedProducer({**properties, "delivery.timeout.ms": 2000, "linger.ms": 5})
        producer.send("t", [b"k"], [b"v"])
        producer.settle()

    calls: list[Callable[[], object]] = [
        lambda: KafkaAdmin(properties).topics(["t"]), lambda: the_reader(properties), producing,
    ]  # fmt: skip
    with ThreadPoolExecutor(len(calls)) as threads:
        yield from list(threads.map(failure_of, calls))


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "ANSWER_SECONDS", 1.5)
    monkeypatch.setattr(topic_reader, "REQUEST_SECONDS", 1.5)


def test_a_refused_connection_and_an_unknown_host_are_named() -> None:
    for text in ways_to_fail(AWAY):
        assert "127.0.0.1:1" in text
        assert "Connection refused" in text
        assert "nothing listens there; check host and port in kafka.bootstrap_servers" in text
    for text in ways_to_fail({"bootstrap.servers": "no-such-host.invalid:9092"}):
        assert "no-such-host.invalid:9092" in text
        assert "this host name is unknown here" in text


def test_a_plain_client_on_a_port_that_speaks_tls_is_told_so(
    files: Path, listen: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    port = listen(with_tls(files, "localhost"))
    with caplog.at_level(logging.WARNING, "librdkafka"):
        for text in ways_to_fail({"bootstrap.servers": f"127.0.0.1:{port}"}):
            assert "most likely it speaks TLS; set kafka.security_protocol" in text
        # As `run` has it, whose clients do not stop.
        source = the_source({"bootstrap.servers": f"127.0.0.1:{port}"})
        caplog.clear()
        for _ in range(20):
            source.poll()
            source.wait(0.1)
        source.close()
    told = [r for r in caplog.records if "most likely it speaks TLS" in r.getMessage()]
    assert len(told) == 1


def test_failures_of_tls_are_named_with_the_setting(
    files: Path, listen: Callable[..., int]
) -> None:
    tls: Properties = {"security.protocol": "ssl"}
    trusted = {**tls, "ssl.ca.location": str(files / "localhost.pem")}
    right, other = listen(with_tls(files, "localhost")), listen(with_tls(files, "elsewhere"))
    for text in ways_to_fail({**tls, "bootstrap.servers": f"127.0.0.1:{right}"}):
        assert "kafka.ssl_ca_file does not hold the authority" in text
    trusts_other = {**tls, "ssl.ca.location": str(files / "elsewhere.pem")}
    for text in ways_to_fail({**trusts_other, "bootstrap.servers": f"127.0.0.1:{other}"}):
        assert "the certificate was made for another host name" in text
    for text in ways_to_fail({**trusted, "bootstrap.servers": f"127.0.0.1:{listen()}"}):
        assert "this port does not speak TLS" in text


def test_a_broker_that_wants_a_certificate_of_the_client_is_named(
    files: Path, listen: Callable[..., int]
) -> None:
    context = with_tls(files, "localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files / "localhost.pem")
    port = listen(context)
    properties = {
        "bootstrap.servers": f"localhost:{port}", "broker.address.family": "v4",
        "security.protocol": "ssl", "ssl.ca.location": str(files / "localhost.pem"),
    }  # fmt: skip
    for text in ways_to_fail(properties):
        assert "set kafka.ssl_certificate_file" in text


def test_a_port_that_says_nothing_is_no_answer(listen: Callable[..., int]) -> None:
    port = listen(answers=False)
    with pytest.raises(BusUnavailable, match="asking for topics"):
        KafkaAdmin({"bootstrap.servers": f"127.0.0.1:{port}"}).topics(["t"])


@pytest.mark.parametrize("servers", ["a:b:c", "host:99999", "host:", "", "a,,b", "u:p@h:9092"])
def test_addresses_that_are_none_are_refused_with_the_settings(servers: str) -> None:
    with pytest.raises(ConfigError, match=r"kafka\.bootstrap_servers"):
        Settings.load(None, overrides={"kafka": {"bootstrap_servers": servers}}, environment={})
