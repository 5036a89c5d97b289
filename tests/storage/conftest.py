"""Buckets on servers of this machine: `s3` and `gs` are their addresses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from pyarrow import fs

from tests.storage.object_servers import serving

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    with serving("s3") as port:
        yield port


@pytest.fixture(scope="session")
def gs_port() -> Iterator[int]:
    with serving("gs") as port:
        yield port


@pytest.fixture
def s3(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, and the environment in which it is found."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    name = f"shop-{next(_NUMBERS)}"
    fs.S3FileSystem(
        endpoint_override=f"http://127.0.0.1:{s3_port}", allow_bucket_creation=True
    ).create_dir(name)
    return f"s3://{name}"


@pytest.fixture
def gs(gs_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bucket that the server makes at its start."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{gs_port}")
    return "gs://shop"
