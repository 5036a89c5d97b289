"""What keeps a client from Redis is one line with the setting, its value and the remedy; what no
waiting gets over is a mistake in the settings."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import ConfigError, StoreUnavailable, StreamScorerError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_unavailable import refused, unreached

Serve = Callable[[socket.socket], None]
Listen = Callable[..., int]


def written_certificate(folder: Path, host: str) -> ssl.SSLContext:
    """A server's side of TLS for `host`, by a certificate that signs itself, in HOST.pem."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]),
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file, keys = folder / f"{host}.pem", folder / f"{host}-key.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    keys.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, keys)
    return context


@pytest.fixture
def listen() -> Iterator[Listen]:
    """listen(serve, context=None) -> the port of a server that serves one connection."""
    with ExitStack() as stack:

        def start(serve: Serve, context: ssl.SSLContext | None = None) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(20)

            def answer() -> None:
                with suppress(OSError), listener.accept()[0] as near:
                    if context is None:
                        serve(near)
                    else:
                        with context.wrap_socket(near, server_side=True) as wrapped:
                            serve(wrapped)

            thread = threading.Thread(target=answer)
            thread.start()
            stack.callback(thread.join)
            return int(listener.getsockname()[1])

        yield start


def said_by_claim(url: str, **options: Any) -> StreamScorerError:
    """How the first call of a store ends."""
    store = RedisStore(redis.Redis.from_url(url, socket_timeout=0.5, **options), "test", 1)
    try:
        with pytest.raises(StreamScorerError) as raised:
            store.claim()
    finally:
        store.close()
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("redis.url: '")
    return raised.value


def closes(_near: socket.socket) -> None:
    """Answer nothing, and hang up."""


def reads_on(near: socket.socket) -> None:
    while near.recv(1000):
        pass


def loads(near: socket.socket) -> None:
    near.recv(1000)
    near.sendall(b"-LOADING Redis is loading the dataset in memory\r\n" * 5)


def answers_plain(near: socket.socket) -> None:
    near.recv(1000)
    near.sendall(b"-ERR unknown command, in plain words\r\n")


@pytest.mark.parametrize(
    ("url", "serve", "kind", "remedy"),
    [
        ("redis://127.0.0.1:1/0", None, StoreUnavailable, "nothing listens there"),
        ("redis://no-such-host.invalid:1/0", None, ConfigError, "host name is unknown here"),
        ("unix:///none.sock?db=0", None, StoreUnavailable, "there is no such socket"),
        ("redis://127.0.0.1:{}/0", closes, StoreUnavailable, "write rediss:// in place of redis"),
        ("redis://127.0.0.1:{}/0", reads_on, StoreUnavailable, "that a Redis server runs there"),
        ("redis://127.0.0.1:{}/0", loads, StoreUnavailable, "wait until it has"),
        ("rediss://127.0.0.1:{}/0", answers_plain, ConfigError, "does not speak TLS"),
        ("rediss://127.0.0.1:{}/0", reads_on, StoreUnavailable, "does not speak TLS, write redis:"),
    ],
    ids=["refused", "host", "socket", "closed", "silent", "loading", "plain", "silent-tls"],
)  # fmt: skip
def test_each_way_of_not_reaching_a_server_has_its_remedy(
    listen: Listen, url: str, serve: Serve | None, kind: type[StreamScorerError], remedy: str
) -> None:
    port = 0 if serve is None else listen(serve)
    error = said_by_claim(url.format(port))
    assert type(error) is kind
    assert remedy in error.remedy
    assert url.format(port) in str(error)


@pytest.mark.parametrize(
    ("host", "trusted", "remedy"),
    [
        ("localhost", False, "is not trusted: set redis.ssl_ca_file"),
        ("elsewhere", True, "is for another host: name that host in redis.url"),
    ],
)
def test_an_untrusted_certificate_and_one_for_another_host_have_their_own_remedies(
    listen: Listen, tmp_path: Path, host: str, trusted: bool, remedy: str
) -> None:
    port = listen(reads_on, written_certificate(tmp_path, host))
    options = {"ssl_ca_certs": str(tmp_path / f"{host}.pem")} if trusted else {}
    error = said_by_claim(f"rediss://localhost:{port}/0", **options)
    assert isinstance(error, ConfigError)
    assert remedy in error.remedy
    assert ("another host" in error.remedy) != ("not trusted" in error.remedy)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("certificate verify failed: unable to get local issuer certificate", "is not trusted"),
        ("certificate verify failed: IP address mismatch, certificate is not v", "another host"),
        ("certificate verify failed: certificate has expired", "valid today"),
        ("certificate verify failed: something else", "ssl_ca_file"),
        ("tlsv13 alert certificate required", "ssl_certificate_file"),
        ("[SSL] PEM lib (_ssl.c:3926)", "is not what its name says in PEM"),
        ("Error 13 connecting to /r.sock. Permission denied.", "may not use the socket"),
    ],
)
def test_what_no_waiting_gets_over_is_waited_for_once_the_server_has_answered(
    text: str, remedy: str
) -> None:
    first = unreached(text, "rediss://h:1/0", first=True)
    assert isinstance(first, ConfigError)
    assert remedy in first.remedy
    later = unreached(text, "rediss://h:1/0", first=False)
    assert isinstance(later, StoreUnavailable)
    assert remedy in later.remedy


@pytest.mark.parametrize(
    ("said", "short", "remedy"),
    [
        (
            "Error running script (call to f_97f0): @user_script:5: @user_script: 5: -OOM command "
            "not allowed when used memory > 'maxmemory'.",
            "refuses writes: OOM command not", "raise maxmemory",
        ),
        (
            "READONLY You can't write against a read only replica. script: 97f0, on "
            "@user_script:5.",
            "only replica;", "name the primary",
        ),
        ("LOADING Redis is loading the dataset in memory", "LOADING", "wait until it has"),
        ("MISCONF Redis is configured to save RDB snapshots", "MISCONF", "see its log"),
        ("MASTERDOWN Link with MASTER is down", "MASTERDOWN", "name the primary"),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", "min-replicas-to-write"),
    ],
)  # fmt: skip
def test_each_refusal_that_may_pass_has_its_remedy(said: str, short: str, remedy: str) -> None:
    error = refused(said, "redis://h:1/0")
    assert error is not None
    assert short in str(error)
    assert remedy in error.remedy
    assert "user_script" not in str(error)


def test_a_full_server_and_a_replica_are_named_with_their_remedies() -> None:
    with EmbeddedRedis("--maxmemory", "600kb") as full:
        assert "raise maxmemory" in said_by_write(full)
    with EmbeddedRedis() as replica:
        with redis.Redis(port=replica.port) as admin:
            admin.replicaof("127.0.0.1", 1)
        assert "name the primary" in said_by_write(replica)


def said_by_write(server: EmbeddedRedis) -> str:
    store = RedisStore(redis.Redis(port=server.port), "test", 1)
    with pytest.raises(StoreUnavailable) as raised:
        store.claim()
    store.close()
    assert str(raised.value).startswith(f"redis.url: 'redis://localhost:{server.port}/0': ")
    return raised.value.remedy
