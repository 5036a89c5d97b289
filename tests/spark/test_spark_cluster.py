"""A standalone cluster of two workers on loopback: the command, spark-submit, lost machines."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from spark_shop import SIZES, assert_same, scores_in
from standalone_cluster import Cluster

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("installed")]

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
CONF = ["--conf", "spark.executor.memory=1g", "--conf", "spark.sql.files.maxPartitionBytes=200000"]
PATIENCE_SECONDS = 240


def run(cluster: Cluster, *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=cluster.environment(), cwd=cwd, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def score_command(cluster: Cluster, model: Path, snapshot: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "stream_scorer", "score", str(model), str(snapshot), "--out",
        str(out), "--engine", "spark", "--master", cluster.url, *CONF, "--json",
    ]  # fmt: skip


def test_command_scores_on_the_cluster(
    cluster: Cluster, model: Path, snapshot: Path, expected: Any, tmp_path: Path
) -> None:
    ran = run(cluster, *score_command(cluster, model, snapshot, tmp_path / "scores"))
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    print(json.dumps(report))
    assert report["rows"] == SIZES.customers
    assert report["parallelism"] == 2
    assert report["workers"]["models_loaded"] == 2, "one for each worker"
    assert_same(scores_in(tmp_path / "scores"), expected)


def test_damaged_shard_is_one_line_and_status_2(
    cluster: Cluster, model: Path, snapshot: Path, tmp_path: Path
) -> None:
    altered = Path(shutil.copytree(snapshot, tmp_path / "altered"))
    (altered / "part-00003.parquet").write_bytes(b"PAR1PAR1")
    ran = run(cluster, *score_command(cluster, model, altered, tmp_path / "scores"))
    assert (ran.returncode, ran.stdout) == (2, "")
    ours = [line for line in ran.stderr.splitlines() if line.startswith("stream-scorer:")]
    assert len(ours) == 1
    assert re.search(r"part-00003\.parquet'?: its SHA-256", ours[0])
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "scores").exists()


def test_the_lines_of_the_how_to_work(
    cluster: Cluster, model: Path, snapshot: Path, expected: Any, tmp_path: Path
) -> None:
    """The first spark-submit of the how-to, in a folder that has what it names."""
    page = (ROOT / "docs/how-to/score-in-bulk.md").read_text(encoding="utf-8")
    lines = re.search(r"^spark-submit (?:.*\\\n)*.*$", page, re.M)[0]  # type: ignore[index]
    assert "spark://HOST:7077" in lines
    typed = lines.replace("spark://HOST:7077", cluster.url)
    shutil.copytree(model, tmp_path / "model")
    shutil.copytree(snapshot, tmp_path / "snapshot")
    shutil.copytree(ROOT / "deploy/spark", tmp_path / "deploy/spark")
    ran = run(cluster, "bash", "-c", typed, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    print(ran.stdout)
    assert_same(scores_in(tmp_path / "scores"), expected)


def test_lost_executor_leaves_no_row_twice_and_none_out(
    cluster: Cluster, model: Path, snapshot: Path, expected: Any, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    log = (tmp_path / "log").open("w+")
    with log, subprocess.Popen(
        score_command(cluster, model, snapshot, out), env=cluster.environment(), cwd=ROOT,
        stdout=log, stderr=log,
    ) as job:  # fmt: skip
        deadline = time.monotonic() + PATIENCE_SECONDS
        # Some tasks are committed, others are writing.
        while not list(out.glob("_temporary/0/task_*")):
            assert job.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cluster.kill_an_executor()
        assert not (out / "_SUCCESS").exists(), "it was over before the executor was killed"
        assert job.wait(PATIENCE_SECONDS) == 0, (tmp_path / "log").read_text()
    assert_same(scores_in(out), expected)


def test_copies_of_slow_tasks_leave_no_row_twice(
    cluster: Cluster, model: Path, snapshot: Path, expected: Any, tmp_path: Path
) -> None:
    attempts = tmp_path / "attempts"
    attempts.mkdir()
    speculation = ["spark.speculation=true", "spark.speculation.interval=100ms",
                   "spark.speculation.multiplier=1.1", "spark.speculation.quantile=0.3",
                   "spark.speculation.minTaskRuntime=100ms"]  # fmt: skip
    conf = [part for setting in speculation for part in ("--conf", setting)]
    paths = (model, snapshot, tmp_path / "scores", attempts)
    ran = run(
        cluster, "spark-submit", "--master", cluster.url, *CONF, *conf,
        str(HERE / "speculating_job.py"), *map(str, paths),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (attempts / "attempt-1").exists(), "no copy was started"
    assert (tmp_path / "scores/_SUCCESS").exists()
    assert_same(scores_in(tmp_path / "scores"), expected)


def test_replay_on_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Workers read the files and write the shards; the rows are tested in test_spark_replay.py."""
    config, events = tmp_path / "shop.toml", tmp_path / "events.jsonl"
    config.write_text(
        '[vocabularies]\ncategory_id = ["tea"]\n[labels]\nhorizon = "1d"\n'
        '[[features]]\nname = "bought"\nby = ["category_id"]\n'
    )
    with events.open("w") as file:
        for day in range(20):
            row = {
                "event_id": str(day), "customer_id": f"c{day % 7}", "event_type": "purchase",
                "category_id": "tea", "occurred_at": f"2026-09-{day + 1:02d}T12:00:00Z",
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
    ran = run(
        cluster, sys.executable, "-m", "stream_scorer", "replay", str(events), "-c", str(config),
        "--out", str(tmp_path / "out"), "--cutoffs", "2026-09-06T00:00Z,2026-09-15T00:00Z",
        "--engine", "spark", "--master", cluster.url, *CONF, "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["rows"] == 5 + 7
