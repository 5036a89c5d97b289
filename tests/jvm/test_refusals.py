"""What can't be used is refused: one line that names it, exit status 2, nothing written."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jvm_shop import CATEGORIES, write_snapshot

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.manifests import checksum

pytestmark = [pytest.mark.jvm, pytest.mark.timeout(600)]


def alter(file: Path) -> None:
    """Another byte in its middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def refusal(done, out: Path) -> str:
    """Its one line; MXNet and Spark may have said things of their own."""
    assert done.returncode == 2, done.stderr
    (line,) = [s for s in done.stderr.splitlines() if s.startswith("stream-scorer: ")]
    assert "Exception" not in line
    assert not out.exists()
    assert list(out.parent.glob(f".{out.name}*")) == []
    return line


@pytest.fixture
def model(models, tmp_path) -> Path:
    return Path(shutil.copytree(models("default"), tmp_path / "model"))


@pytest.fixture
def rows(snapshot, tmp_path) -> Path:
    return Path(shutil.copytree(snapshot, tmp_path / "snapshot"))


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "scores.parquet"


@pytest.mark.parametrize("name", ["model-0000.params", "model-symbol.json"])
def test_an_altered_model_is_refused(name, java, model, snapshot, out):
    alter(model / name)
    line = refusal(java("score", model, snapshot, "--out", out), out)
    assert f"model: '{model / name}': its SHA-256 is not the manifest's" in line


def test_an_altered_manifest_is_refused(java, model, snapshot, out):
    file = model / "manifest.json"
    file.write_text(file.read_text().replace('"classes": 2', '"classes": 3'))
    line = refusal(java("score", model, snapshot, "--out", out), out)
    assert f"model: '{file}': was altered after it was written" in line


def test_a_snapshot_of_other_features_is_refused(java, model, out, tmp_path):
    other = FeatureSpace.compile(
        [Feature("seen", by=("category_id",), half_lives=("3d",))], {"category_id": CATEGORIES}
    )
    line = refusal(
        java("score", model, write_snapshot(tmp_path / "other", other), "--out", out), out
    )
    assert f"fingerprint: '{other.fingerprint_hex}': the model's or configuration's" in line


def test_a_corrupt_shard_is_named(java, model, rows, out):
    alter(rows / "part-00001.parquet")
    line = refusal(java("score", model, rows, "--out", out), out)
    assert f"snapshot: '{rows / 'part-00001.parquet'}': its SHA-256 is not the manifest's" in line


def test_a_missing_shard_is_named(java, model, rows, out):
    (rows / "part-00002.parquet").unlink()
    line = refusal(java("score", model, rows, "--out", out), out)
    assert f"snapshot: '{rows / 'part-00002.parquet'}': is missing" in line


def test_a_missing_model_is_named(java, rows, out, tmp_path):
    line = refusal(java("score", tmp_path / "none", rows, "--out", out), out)
    assert f"model: '{tmp_path / 'none' / 'manifest.json'}': is missing" in line


def test_scores_are_never_overwritten(java, model, snapshot, out):
    out.write_bytes(b"mine")
    done = java("score", model, snapshot, "--out", out)
    assert done.returncode == 2
    assert "already exists; choose another path or delete it" in done.stderr
    assert out.read_bytes() == b"mine"


def test_a_directory_that_can_t_be_written_is_named(java, model, snapshot, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    done = java("score", model, snapshot, "--out", tmp_path / "file" / "scores.parquet")
    assert done.returncode == 2
    assert "can't be written" in done.stderr


def test_a_wrong_command_is_answered_with_the_right_one(java):
    done = java("score", "model")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the command is score MODEL SNAPSHOT --out FILE" in done.stderr


def test_a_library_that_is_absent_is_not_downloaded(java, model, snapshot, out, tmp_path):
    """MXNET_VERSION makes DJL look beyond the jar, as if the jar had no library for the system."""
    environment = {"MXNET_VERSION": "1.9.1", "DJL_CACHE_DIR": str(tmp_path / "cache")}
    line = refusal(java("score", model, snapshot, "--out", out, **environment), out)
    assert line.startswith("stream-scorer: mxnet: 'Offline mode is enabled.'")
    assert "MXNET_LIBRARY_PATH" in line


def test_a_trend_that_is_altered_or_of_other_days_is_named(
    java, models, trend_snapshot, out, tmp_path
):
    copy = Path(shutil.copytree(trend_snapshot, tmp_path / "trend"))
    file = copy / "_trend.parquet"
    alter(file)
    line = refusal(java("score", models("trend"), copy, "--out", out), out)
    assert f"snapshot: '{file}': its SHA-256 is not the manifest's" in line
    table = pq.read_table(trend_snapshot / file.name)
    days = pa.array([day + 1 for day in table["day"].to_pylist()], pa.int32())
    pq.write_table(table.set_column(0, "day", days), file)
    manifest = json.loads((copy / "_manifest.json").read_text())
    content = file.read_bytes()
    manifest["trend"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_manifest(copy, manifest)
    line = refusal(java("score", models("trend"), copy, "--out", out), out)
    assert f"snapshot: '{file}': has not the days and contrasts of this snapshot" in line
    manifest["trend"] = None
    write_manifest(copy, manifest)
    line = refusal(java("score", models("trend"), copy, "--out", out), out)
    assert f"snapshot: '{copy}': has no table of the shop's trend" in line


def write_manifest(snapshot: Path, manifest: dict[str, Any]) -> None:
    """With the right checksum."""
    raw = {key: value for key, value in manifest.items() if key != "checksum"}
    text = json.dumps({**raw, "checksum": checksum(raw)}, indent=1, sort_keys=True)
    (snapshot / "_manifest.json").write_text(text)


@pytest.mark.parametrize("what", ["shard", "model"])
def test_the_spark_job_names_what_is_corrupt(what, spark, model, rows, out):
    file = rows / "part-00001.parquet" if what == "shard" else model / "model-0000.params"
    alter(file)
    line = refusal(spark(model, rows, "--out", out), out)
    assert f": '{file}': its SHA-256 is not the manifest's" in line


def test_the_spark_job_never_overwrites(spark, models, snapshot, python_scores, out):
    shutil.copy(python_scores("default"), out)
    done = spark(models("default"), snapshot, "--out", out)
    assert done.returncode == 2
    assert "already exists" in done.stderr
    assert pq.read_metadata(out).num_rows == 4_000
