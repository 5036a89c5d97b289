"""deploy/djl built by Maven, and models and a snapshot for it, made by our own code.

What these tests need (Java 17, Maven, PySpark for its spark-submit) is an error in CI where it is
absent (CI=true) and a skip elsewhere. `make test-jvm` runs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jvm_shop import NETWORKS, SPACE, TREND_SPACE, write_model, write_snapshot

from stream_scorer.jobs.score import score

TESTS = Path(__file__).parent.parent
PROJECT = TESTS.parent / "deploy" / "djl"
sys.path.append(str(TESTS / "spark"))  # for standalone_cluster


def absent(what: str) -> None:
    """An error in CI, a skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def jar() -> Path:
    """The program, built anew, its own tests passed."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            absent(tool)
    built = subprocess.run(
        ["mvn", "-q", "-B", "install"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return PROJECT / "target" / "stream-scorer-djl.jar"


@pytest.fixture(scope="session")
def java(jar) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command with these arguments."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["java", "-jar", str(jar), *map(str, arguments)],
            env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def spark(jar) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Submits the Spark job with these arguments to a master, with Spark's settings."""
    try:
        import pyspark  # noqa: PLC0415 - absent on most laptops
    except ImportError:
        absent("pyspark")
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"

    def run(
        *arguments: object, master: str = "local[2]", settings: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        options = [part for setting in settings for part in ("--conf", setting)]
        return subprocess.run(
            [
                str(submit), "--master", master, "--conf", "spark.ui.enabled=false", *options,
                "--class", "streamscorer.djl.SparkScore", str(jar), *map(str, arguments),
            ],
            env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"},
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def cluster(spark, tmp_path) -> Iterator[Any]:
    """A master and two workers of one core; `.url`. Their logs are in tmp_path / "cluster"."""
    from standalone_cluster import Cluster  # noqa: PLC0415 - of the tests of PySpark

    folder = tmp_path / "cluster"
    folder.mkdir()
    with Cluster(folder) as started:
        yield started


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Callable[[str], Path]:
    """An artefact of random parameters with this network of `NETWORKS`."""
    folder = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        path = folder / name.replace(" ", "-")
        return path if path.exists() else write_model(path, name)

    return make


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory) -> Path:
    """`write_snapshot` of `SPACE`."""
    return write_snapshot(tmp_path_factory.mktemp("snapshots") / "snapshot", SPACE)


@pytest.fixture(scope="session")
def trend_snapshot(tmp_path_factory) -> Path:
    """`write_snapshot` of `TREND_SPACE`."""
    return write_snapshot(tmp_path_factory.mktemp("trends") / "snapshot", TREND_SPACE)


@pytest.fixture(scope="session")
def snapshot_of(snapshot, trend_snapshot) -> Callable[[str], Path]:
    """The snapshot that this network of `NETWORKS` or `OF_TREND_SPACE` scores."""
    return lambda name: snapshot if name in NETWORKS else trend_snapshot


@pytest.fixture(scope="session")
def python_scores(models, snapshot_of, tmp_path_factory) -> Callable[[str], Path]:
    """What `stream-scorer score` says with MXNet, of a network of either table."""
    folder = tmp_path_factory.mktemp("scores")

    def make(name: str) -> Path:
        out = folder / f"{name}.parquet"
        if not out.exists():
            score(models(name), snapshot_of(name), out, "mxnet")
        return out

    return make
