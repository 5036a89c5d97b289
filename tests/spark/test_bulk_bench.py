"""`bench bulk`: each way to score is measured as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_scorer.bench import bulk
from stream_scorer.bench.bulk_workload import BulkSizes, write_model
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.jobs.bench import bench

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("installed")]


def test_every_engine_has_a_rate_memory_and_its_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(bulk.JAR, raising=False)
    report = bench(["bulk"], Sizes(customers=2_000, runs=1))
    json.dumps(report.as_json(), allow_nan=False)
    units = {(r.case.split(", ", 1)[1], r.unit) for r in report.results}
    ways = [f"{way}, {engine}" for way in ("one process", "PySpark local[2]")
            for engine in ("native", "mxnet")]  # fmt: skip
    workers = {(f"{way}, one Python worker", "MB") for way in ways if "PySpark" in way}
    assert units == workers | {(way, unit) for way in ways for unit in ("customers/s", "MB")}
    megabytes = [r.median for r in report.results if r.unit == "MB"]
    assert all(100 < amount < 20_000 for amount in megabytes)
    shares = [v for name, v in report.ratios.items() if name.startswith("bulk_share_in_model")]
    assert len(shares) == 4
    assert all(0 < share < 1 for share in shares)
    assert report.ratios["bulk_pyspark_native_vs_native"] < 1, "Spark takes longer to start"
    assert len(report.notes) == 1


def test_the_jvm_s_commands_are_measured_where_the_jar_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(bulk.JAR, "stream-scorer-djl.jar")
    write_model(BulkSizes(customers=1), tmp_path / "model")
    findings = Findings()
    commands = {case.name: case.command for case in bulk._cases(tmp_path, findings)}
    assert findings.notes == []
    for engine in ("mxnet", "onnx"):
        for way in ("Java, one process", "Java on Spark local[2]"):
            assert list(commands[f"{way}, {engine}"][-2:]) == ["--model-engine", engine]
    assert (tmp_path / "model" / "model.onnx").is_file()
