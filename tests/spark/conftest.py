"""Spark in this process, a standalone cluster on loopback, and something to score.

What these tests need (PySpark, Java 17) is an error in CI where it is absent (CI=true) and a skip
elsewhere. `make test-spark` runs them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spark_shop import SIZES, scores_in
from standalone_cluster import Cluster

from stream_scorer.bench.bulk_workload import write_model, write_snapshot
from stream_scorer.jobs.score import score


@pytest.fixture(scope="session")
def installed() -> None:
    """PySpark and Java are there."""
    for what, found in (("pyspark", find_spec("pyspark")), ("java", shutil.which("java"))):
        if found is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{what} is not installed")
            pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def spark(installed: None) -> Iterator[Any]:
    """A session in this process: two cores, and a task is tried again."""
    from stream_scorer.spark.session import session  # noqa: PLC0415 - pyspark may be absent

    small_parts = "spark.sql.files.maxPartitionBytes=200000"
    with session("local[2,4]", [small_parts, "spark.driver.memory=1g"]) as started:
        yield started


@pytest.fixture(scope="session")
def cluster(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A master and two workers of one core."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    write_model(SIZES, path)
    return path


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve shards. Tests that alter it take a copy."""
    path = tmp_path_factory.mktemp("snapshot") / "snapshot"
    write_snapshot(SIZES, path, rows_per_shard=500)
    return path


@pytest.fixture(scope="session")
def expected(
    model: Path, snapshot: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """What `score` on one machine says, by customer."""
    out = tmp_path_factory.mktemp("expected") / "scores.parquet"
    score(model, snapshot, out)
    return scores_in(out)
