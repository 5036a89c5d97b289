"""`score`: a snapshot's rows in order, by either engine, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.bench.bulk_workload import BulkSizes, write_model, write_snapshot
from stream_scorer.errors import FingerprintMismatch, InputError, SnapshotError
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.score import in_words, score
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import ENGINES, open_engine

SIZES = BulkSizes(customers=1_000, columns=2_000, categories=40, bought=5, seen=9)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    write_model(SIZES, path)
    return path


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    write_snapshot(SIZES, tmp_path / "snapshot", rows_per_shard=300)
    return tmp_path / "snapshot"


@pytest.mark.parametrize("engine", ENGINES)
def test_every_row_is_scored_in_order(
    model: Path, snapshot: Path, tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "new" / "scores.parquet"
    report = score(model, snapshot, out, engine)
    json.dumps(report.as_json(), allow_nan=False)
    shards = list(Snapshot.open(snapshot).shards())
    assert report.rows == 1_000
    assert len(shards) == 4
    table = pq.read_table(out)
    assert table["customer_id"].to_pylist() == [c for s in shards for c in s.customer_ids]
    moments = {moment.isoformat() for moment in table["as_of"].to_pylist()}
    assert moments == {"2026-11-24T00:00:00+00:00"}
    direct = open_engine(artefact.load(model), "native")
    expected = np.concatenate([direct.score(s.matrix)[:, :, 1] for s in shards])
    found = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(1_000, 40)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.ptp(found, axis=0).min() > 0.01, "the rows should matter"
    said = table.schema.metadata
    assert said[b"model_version"].decode() == report.model_version == direct.model_version
    assert json.loads(said[b"categories"]) == list(direct.categories)
    assert "1,000 rows" in in_words(report)[0]


def test_snapshot_without_rows_makes_a_file_without_rows(model: Path, tmp_path: Path) -> None:
    write_snapshot(BulkSizes(0, 2_000, 40, 5, 9), tmp_path / "empty")
    assert score(model, tmp_path / "empty", tmp_path / "scores").rows == 0
    assert pq.read_table(tmp_path / "scores").num_rows == 0


def test_altered_shard_is_named_and_leaves_nothing(
    model: Path, snapshot: Path, tmp_path: Path
) -> None:
    shard = snapshot / "part-00002.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(SnapshotError, match=r"part-00002.parquet.*SHA-256"):
        score(model, snapshot, tmp_path / "scores.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {"snapshot"}


def test_shard_that_breaks_while_it_is_read_leaves_nothing(
    model: Path, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Snapshot.open(snapshot)
    monkeypatch.setattr(Snapshot, "open", lambda *_: opened)
    (snapshot / "part-00003.parquet").write_bytes(b"PAR1")
    with pytest.raises(SnapshotError, match=r"part-00003.parquet"):
        score(model, snapshot, tmp_path / "scores.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {"snapshot"}


def test_snapshot_of_other_features_is_refused(model: Path, tmp_path: Path) -> None:
    write_snapshot(BulkSizes(10, 2_001, 40, 5, 9), tmp_path / "other")
    with pytest.raises(FingerprintMismatch):
        score(model, tmp_path / "other", tmp_path / "scores.parquet")


def test_existing_file_and_unknown_engine_are_refused(
    model: Path, snapshot: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    out.write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        score(model, snapshot, out)
    assert out.read_text() == "mine"
    with pytest.raises(InputError, match="choose mxnet, native or onnx"):
        score(model, snapshot, tmp_path / "new", "torch")


def test_bad_input_is_one_line_and_status_2(model: Path, tmp_path: Path) -> None:
    arguments = ["score", str(model), str(tmp_path / "none"), "--out", str(tmp_path / "scores")]
    ran = CliRunner().invoke(cli.app, arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "there is no such folder; name a folder that" in ran.stderr


def test_json_is_one_object_on_stdout(model: Path, snapshot: Path, tmp_path: Path) -> None:
    arguments = [str(model), str(snapshot), "--out", str(tmp_path / "scores"), "--json"]
    ran = CliRunner().invoke(cli.app, ["score", *arguments])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["rows"] == 1_000
