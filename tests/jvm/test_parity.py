"""The JVM says what Python says: probabilities, customers, moments, and the file's metadata."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jvm_shop import NETWORKS, OF_TREND_SPACE

TOLERANCE = 1e-5
pytestmark = [pytest.mark.jvm, pytest.mark.timeout(600)]


def probabilities(table: pa.Table) -> np.ndarray:
    lists = table["probabilities"].combine_chunks()
    return lists.flatten().to_numpy().reshape(len(table), -1)


def assert_same_scores(found: pa.Table, expected: pa.Table, what: str) -> None:
    assert found["customer_id"].equals(expected["customer_id"])
    assert found["as_of"].equals(expected["as_of"])
    difference = np.abs(probabilities(found) - probabilities(expected)).max()
    print(f"\n{what}: largest absolute difference {difference:.1e} over {len(found):,} customers")
    assert difference <= TOLERANCE


# Without an argument it is MXNet.
ENGINES = {"mxnet": (), "onnx": ("--model-engine", "onnx")}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [*NETWORKS, *OF_TREND_SPACE])
def test_the_command_scores_as_python_does(
    name, engine, java, models, snapshot_of, python_scores, tmp_path
):
    out = tmp_path / "deep" / "scores.parquet"
    done = java("score", models(name), snapshot_of(name), "--out", out, *ENGINES[engine])
    assert done.returncode == 0, done.stderr
    assert "4,000 customers" in done.stdout
    expected, found = pq.read_table(python_scores(name)), pq.read_table(out)
    assert found.schema.equals(expected.schema, check_metadata=False)
    for key in (b"classes", b"model_version"):
        assert found.schema.metadata[key] == expected.schema.metadata[key]
    categories = [json.loads(t.schema.metadata[b"categories"]) for t in (found, expected)]
    assert categories[0] == categories[1]
    assert ("loading symbol" in done.stderr) == (engine == "mxnet")  # a line of MXNet's own
    assert_same_scores(found, expected, f"java command, {engine}, and Python's mxnet, {name}")
    assert [p.name for p in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_spark_job_scores_as_python_does(
    engine, spark, models, trend_snapshot, python_scores, tmp_path
):
    out = tmp_path / "scores"
    done = spark(models("trend"), trend_snapshot, "--out", out, *ENGINES[engine])
    assert done.returncode == 0, done.stderr
    expected, found = pq.read_table(python_scores("trend")), pq.read_table(out)
    assert len(list(out.glob("part-*.parquet"))) > 1
    assert found.schema.field("as_of").type == pa.timestamp("ms", tz="UTC")
    fields = json.loads(found.schema.metadata[b"org.apache.spark.sql.parquet.row.metadata"])
    about = fields["fields"][2]["metadata"]
    assert about["model_version"] == expected.schema.metadata[b"model_version"].decode()
    assert json.loads(about["categories"]) == json.loads(expected.schema.metadata[b"categories"])
    assert_same_scores(
        found.sort_by("customer_id"), expected.sort_by("customer_id"),
        f"java spark job, {engine}, and Python's mxnet",
    )  # fmt: skip


def test_a_cluster_s_executors_load_the_model_once_each(
    spark, cluster, models, snapshot, python_scores, tmp_path
):
    """Two workers; small parts, so that each has several tasks."""
    out = tmp_path / "scores"
    settings = ("spark.executor.memory=512m", "spark.sql.files.maxPartitionBytes=50000")
    model = models("default")
    done = spark(model, snapshot, "--out", out, master=cluster.url, settings=settings)
    assert done.returncode == 0, done.stderr
    parts = len(list(out.glob("part-*.parquet")))
    loads = [
        log.read_text().count("loading symbol")
        for log in (tmp_path / "cluster").glob("work-*/app-*/*/stderr")
    ]
    print(f"\n{parts} parts; models loaded by the executors: {loads}")
    assert parts > 2
    assert sum(loads) >= 1
    assert max(loads) == 1
    assert_same_scores(
        pq.read_table(out).sort_by("customer_id"),
        pq.read_table(python_scores("default")).sort_by("customer_id"),
        "java spark job on two workers and Python's mxnet",
    )


def test_a_snapshot_with_spark_s_types_is_read(java, models, snapshot, python_scores, tmp_path):
    """Signed and wide integers, microseconds, and nothing nullable."""
    copy = tmp_path / "snapshot"
    shutil.copytree(snapshot, copy)
    kinds = {
        "customer_id": pa.string(), "as_of": pa.timestamp("us", tz="UTC"),
        "columns": pa.list_(pa.field("element", pa.int64(), nullable=False)),
        "values": pa.list_(pa.field("element", pa.float32(), nullable=False)),
    }  # fmt: skip
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])
    manifest = json.loads((copy / "_manifest.json").read_text())
    for shard in manifest["shards"]:
        file = copy / shard["name"]
        pq.write_table(pq.read_table(file).select(list(kinds)).cast(schema), file)
        content = file.read_bytes()
        shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    del manifest["checksum"]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (copy / "_manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
    out = tmp_path / "scores.parquet"
    done = java("score", models("default"), copy, "--out", out)
    assert done.returncode == 0, done.stderr
    assert_same_scores(
        pq.read_table(out), pq.read_table(python_scores("default")), "java command, Spark's types"
    )
