"""What can't be used is refused: one line that names it, exit status 2, nothing written."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jvm_shop import CATEGORIES, write_snapshot

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.errors import ArtefactError
from stream_scorer.manifests import checksum
from stream_scorer.model import artefact, params_file

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


@pytest.mark.parametrize("name", ["model-0000.params", "model-symbol.json", "golden-batch.params"])
def test_an_altered_model_is_refused(name, java, model, snapshot, out):
    alter(model / name)
    line = refusal(java("score", model, snapshot, "--out", out), out)
    assert f"model: '{model / name}': its SHA-256 is not the manifest's" in line


def test_an_altered_manifest_is_refused(java, model, snapshot, out):
    file = model / "manifest.json"
    file.write_text(file.read_text().replace('"classes": 2', '"classes": 3'))
    line = refusal(java("score", model, snapshot, "--out", out), out)
    assert f"model: '{file}': was altered after it was written" in line


@pytest.mark.parametrize("engine", ["mxnet", "onnx"])
def test_a_model_that_scores_otherwise_than_in_training_is_refused(
    engine, java, model, snapshot, out
):
    """Its checksums are right: the scores that it stored are others."""
    file = model / artefact.GOLDEN_FILE
    arrays = params_file.read(file.read_bytes())
    file.write_bytes(params_file.write({**arrays, "scores": arrays["scores"] * 0.999}))
    manifest = json.loads((model / artefact.MANIFEST_FILE).read_text())
    manifest["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    write_manifest(model / artefact.MANIFEST_FILE, manifest)
    done = java("score", model, snapshot, "--out", out, "--model-engine", engine)
    line = refusal(done, out)
    assert f"model: '{file}': this machine scores its rows differently than training did" in line
    assert line.endswith("or use the other --model-engine")
    file.write_bytes(params_file.write({**arrays, "columns": arrays["columns"] + 0.5}))
    manifest["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    write_manifest(model / artefact.MANIFEST_FILE, manifest)
    done = java("score", model, snapshot, "--out", out, "--model-engine", engine)
    with pytest.raises(ArtefactError) as caught:
        artefact.golden_batch(artefact.load(model))
    assert refusal(done, out) == f"stream-scorer: {caught.value}"


def test_an_onnx_file_that_is_absent_altered_or_of_another_model_is_refused(
    java, model, models, snapshot, out
):
    command = ("score", model, snapshot, "--out", out, "--model-engine", "onnx")
    file = model / "model.onnx"
    remedy = f"write it: stream-scorer models convert {model} --to onnx --out {file}"
    alter(file)
    line = refusal(java(*command), out)
    changed = "the SHA-256 of its graph is not the one that it says"
    assert line == f"stream-scorer: model: '{file}': {changed}; delete it and {remedy}"
    shutil.copy(models("own path alone") / "model.onnx", file)
    line = refusal(java(*command), out)
    assert f"model: '{file}': it is of the model version '" in line
    assert line.endswith(f"; delete it and {remedy}")
    file.unlink()
    line = refusal(java(*command), out)
    missing = f"model: '{file}': is missing, and the engine onnx needs it"
    assert line == f"stream-scorer: {missing}; {remedy}"
    assert java("score", model, snapshot, "--out", out).returncode == 0  # MXNet does not


def test_a_graph_that_was_changed_together_with_its_checksum_is_refused(java, model, snapshot, out):
    """What it scores is not what training stored; or ONNX Runtime can't load it."""
    file = model / "model.onnx"
    written = onnx.load(file)
    written.graph.node[-2].input.reverse()  # whether a customer acts or not
    write_onnx(file, written)
    engine = ("--model-engine", "onnx")
    line = refusal(java("score", model, snapshot, "--out", out, *engine), out)
    assert "this machine scores its rows differently than training did" in line
    written.opset_import[0].version = 1_000
    write_onnx(file, written)
    line = refusal(java("score", model, snapshot, "--out", out, *engine), out)
    assert f"model: '{file}': ONNX Runtime can't load it: " in line


def write_onnx(file: Path, written: onnx.ModelProto) -> None:
    """With the right checksum of its graph."""
    graph = written.graph.SerializeToString(deterministic=True)
    for entry in written.metadata_props:
        if entry.key == "stream_scorer.graph_sha256":
            entry.value = hashlib.sha256(graph).hexdigest()
    file.write_bytes(written.SerializeToString(deterministic=True))


@pytest.mark.parametrize("engine", ["native", "MXNet"])
def test_an_engine_that_there_is_not_is_refused(engine, java, model, snapshot, out):
    done = java("score", model, snapshot, "--out", out, "--model-engine", engine)
    assert refusal(done, out) == f"stream-scorer: --model-engine: '{engine}': choose mxnet or onnx"


def test_a_directory_where_no_library_may_be_is_named(java, model, snapshot, out):
    """ONNX Runtime's libraries are unpacked where temporary files are."""
    done = java(
        "score", model, snapshot, "--out", out, "--model-engine", "onnx",
        JAVA_TOOL_OPTIONS="-Djava.io.tmpdir=/dev/null",
    )  # fmt: skip
    line = refusal(done, out)
    assert line.startswith("stream-scorer: onnxruntime: ")
    assert "-Djava.io.tmpdir" in line


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
    assert (
        "the command is score MODEL SNAPSHOT --out FILE [--model-engine mxnet or onnx]"
        in done.stderr
    )


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
    write_manifest(copy / "_manifest.json", manifest)
    line = refusal(java("score", models("trend"), copy, "--out", out), out)
    assert f"snapshot: '{file}': has not the days and contrasts of this snapshot" in line
    manifest["trend"] = None
    write_manifest(copy / "_manifest.json", manifest)
    line = refusal(java("score", models("trend"), copy, "--out", out), out)
    assert f"snapshot: '{copy}': has no table of the shop's trend" in line


def write_manifest(file: Path, manifest: dict[str, Any]) -> None:
    """With the right checksum."""
    raw = {key: value for key, value in manifest.items() if key != "checksum"}
    file.write_text(json.dumps({**raw, "checksum": checksum(raw)}, indent=1, sort_keys=True))


def test_the_spark_job_says_how_to_write_the_onnx_file(spark, model, snapshot, out):
    file = model / "model.onnx"
    file.unlink()
    line = refusal(spark(model, snapshot, "--out", out, "--model-engine", "onnx"), out)
    assert f"model: '{file}': is missing, and the engine onnx needs it; write it: " in line


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
