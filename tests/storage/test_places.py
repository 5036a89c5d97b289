"""Which place an address or a path is, and what a server's refusal becomes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from stream_scorer.errors import InputError, Unavailable
from stream_scorer.settings.tree import Settings
from stream_scorer.storage import servers
from stream_scorer.storage.places import ObjectPath, place
from stream_scorer.storage.uploads import put


def test_what_is_no_address_is_a_path_as_it_was() -> None:
    for text in ("model", "./a b", "/x/../y", "s3:bucket", "C:/x", "topic"):
        assert place(text) == Path(text)
    assert place("file:///a/b%20c") == Path("/a/b c")


def test_an_address_has_the_names_of_a_path() -> None:
    at = place("s3://shop/snapshots/train/")
    assert isinstance(at, ObjectPath)
    assert str(at) == "s3://shop/snapshots/train"
    assert (at / "a.parquet").name == "a.parquet"
    assert (at / "a.parquet").parent == at
    assert str(at.parent.parent) == "s3://shop"
    assert at.parts == ("s3://shop", "snapshots", "train")
    azure = place("abfs://box@account.dfs.core.windows.net/a")
    assert isinstance(azure, ObjectPath)
    assert azure.where == "box/a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3a://shop/x", "write s3://"),
        ("http://shop/x", "http is not known; use a path, s3://"),
        ("s3:///x", "names no bucket"),
        ("file://host/x", "three slashes"),
        ("s3://key:hidden@shop/x", "may hold neither credentials"),
        ("abfs://box@account/x?sig=hidden", "may hold neither credentials"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_clear_error(text: str, said: str) -> None:
    with pytest.raises(InputError, match=r"^--out: ") as refused:
        place(text, "--out")
    assert said in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_the_path_of_the_model_may_be_an_address(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[model]\npath = "s3://shop/models/a"\n[challenger]\npath = "gs://shop/b"\n')
    found = Settings.load(config, environment={})
    assert str(found.model.path) == "s3://shop/models/a"
    assert str(found.challenger.path) == "gs://shop/b"
    changed = Settings.load(config, environment={"STREAM_SCORER__MODEL__PATH": "s3://other/c"})
    assert str(changed.model.path) == "s3://other/c"


class _Refusing(BaseHTTPRequestHandler):
    status, code = 403, "AccessDenied"

    def _answer(self) -> None:
        text = f"<Error><Code>{self.code}</Code><Message>not-to-be-shown</Message></Error>"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    do_GET = do_HEAD = do_PUT = do_POST = _answer  # noqa: N815 - named so by http.server

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def refusing(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Refusing]]:
    """A server in place of S3 that refuses everything as its class says."""
    handler = type("Handler", (_Refusing,), {})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(servers, "ATTEMPTS", 1)
        yield handler
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (403, "AccessDenied", InputError, "give credentials that may write and delete it (AWS_"),
        (403, "InvalidAccessKeyId", InputError, "the credentials are not accepted; check AWS_"),
        (403, "SignatureDoesNotMatch", InputError, "the credentials are not accepted; check AWS_"),
        (400, "ExpiredToken", InputError, "the credentials are not accepted; check AWS_"),
        (301, "PermanentRedirect", InputError, "in another region; set AWS_REGION"),
        (404, "NoSuchBucket", InputError, "there is no bucket shop; make it"),
        (503, "SlowDown", Unavailable, "does not answer"),
    ],
)
def test_a_refusal_of_the_server_is_one_clear_error(
    refusing: type[_Refusing], status: int, code: str, kind: type[Exception], said: str
) -> None:
    refusing.status, refusing.code = status, code
    target = place("s3://shop/x", "--out")
    assert isinstance(target, ObjectPath)
    with pytest.raises(kind, match=r"^--out: .*s3://shop/x") as refused:
        put(b"1", target)
    assert said in str(refused.value)
    assert "not-to-be-shown" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_reading_without_the_right_names_that_right(refusing: type[_Refusing]) -> None:
    with pytest.raises(InputError, match="may read and list it"):
        place("s3://shop/x").exists()


def test_a_server_that_is_not_there_is_reported_with_its_address(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"the object storage at 127.0.0.1:9 does not answer"):
        place(f"{s3}/x").exists()


def test_a_bucket_that_is_not_there_is_told_from_an_object(s3: str) -> None:
    assert not place(f"{s3}/x").exists()
    with pytest.raises(InputError, match="there is no bucket nowhere"):
        place("s3://nowhere/x").exists()
