"""`models`: an artefact's faults are one line each; the active one changes at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from scipy import sparse
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.model import artefact
from stream_scorer.model.engines.golden import TOLERANCE, golden_batch_of
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.engines.onnx import padded
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.jobs.random_models import flip
from tests.model.other_golden import with_other_golden
from tests.model.symbol_json import symbol_json

CONFIG = """
[vocabularies]
category_id = ["soup", "bread"]
[labels]
horizon = "7d"
[[features]]
name = "bought"
by = ["category_id"]
half_lives = ["14d"]
[[features]]
name = "total"
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with the models a and b, and c, which has no golden batch."""
    features = [Feature("bought", by=("category_id",), half_lives=("14d",)), Feature("total")]
    space = FeatureSpace.compile(features, {"category_id": ("soup", "bread")})
    rule = LabelRule("category_id", (("purchase",),), 7 * 86_400_000)
    spec, index = NetworkSpec((3,)), np.arange(2)
    layout = Layout.of(space, rule, index)
    symbol = symbol_json(layout, spec)
    none = np.zeros(0)
    rows = LabelledRows(
        ["1", "2"], np.zeros(2, np.int64),
        sparse.csr_matrix(np.arange(6, dtype=np.float32).reshape(2, 3)), np.zeros(3, np.int64),
        none.astype(np.uint32), none.astype(np.uint8),
    )  # fmt: skip
    for seed, name in enumerate("abc"):
        draw = np.random.default_rng(seed)
        parameters = {
            key: draw.normal(0, 0.5, shape).astype(np.float32)
            for key, shape in layout.shapes(spec).items()
        }
        trained = artefact.TrainedModel(space, rule, index, spec, parameters, symbol)
        golden = golden_batch_of(trained, [rows]) if name != "c" else None
        artefact.save(trained, tmp_path / "models" / name, golden=golden)
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path / "models"


def call(*arguments: str | Path) -> tuple[int, str]:
    ran = CliRunner().invoke(cli.app, ["models", *map(str, arguments)])
    return ran.exit_code, ran.output


def test_whole_model_is_described(models: Path) -> None:
    status, said = call("verify", models / "a", "-c", models.parent / "c.toml", "--json")
    assert status == 0
    report = json.loads(said)
    assert report["categories"] == 2
    assert report["model_version"] == artefact.load(models / "a").manifest.model_version
    assert call("verify", models / "a")[0] == 0


def from_the_future(model: Path) -> None:
    file = model / artefact.MANIFEST_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m: flip(m / artefact.PARAMS_FILE), "SHA-256"),
        (lambda m: flip(m / artefact.SYMBOL_FILE), "SHA-256"),
        (lambda m: flip(m / artefact.GOLDEN_FILE), "SHA-256"),
        (lambda m: (m / artefact.GOLDEN_FILE).unlink(), "is missing"),
        (lambda m: (m / artefact.PARAMS_FILE).unlink(), "is missing"),
        (lambda m: (m / artefact.SYMBOL_FILE).unlink(), "is missing"),
        (lambda m: (m / artefact.MANIFEST_FILE).unlink(), "it has no manifest.json"),
        (lambda m: (m / artefact.MANIFEST_FILE).write_text("{"), "not JSON"),
        (from_the_future, "upgrade"),
    ],
)
def test_each_fault_is_one_line_and_exit_2(
    models: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(models / "a")
    status, said = call("verify", models / "a")
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("stream-scorer: ")
    assert reason in line


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [('"14d"', '"15d"', "fingerprint"), ('"7d"', '"8d"', "other labels")],
)
def test_model_of_another_config_is_refused(models: Path, old: str, new: str, reason: str) -> None:
    (models.parent / "other.toml").write_text(CONFIG.replace(old, new))
    status, said = call("verify", models / "a", "-c", models.parent / "other.toml")
    assert status == 2
    assert reason in said
    assert len(said.splitlines()) == 1


def test_activate_and_rollback_move_one_link(models: Path) -> None:
    assert call("rollback", models)[0] == 2
    for name in "abb":
        assert call("activate", models / name)[0] == 0
        assert artefact.load(models / "active").manifest == artefact.load(models / name).manifest
    assert call("rollback", models) == (0, "active: a, before: b\n")
    assert call("rollback", models) == (0, "active: b, before: a\n")
    assert sorted(p.name for p in models.iterdir()) == ["a", "active", "b", "c", "previous"]


def test_spoilt_model_is_listed_and_never_activated(models: Path) -> None:
    call("activate", models / "a")
    flip(models / "b" / artefact.PARAMS_FILE)
    assert call("activate", models / "b")[0] == 2
    status, said = call("list", models)
    assert status == 1
    assert [line[:4] for line in said.splitlines()] == ["* a:", "  b:", "  c:"]
    assert "SHA-256" in said.splitlines()[1]
    assert call("list", models.parent / "nowhere")[0] == 2


def test_a_model_without_golden_batch_is_activated_and_this_is_said_once(models: Path) -> None:
    status, said = call("activate", models / "c")
    assert status == 0
    assert [line for line in said.splitlines() if "golden" in line] == [
        "c: it has no golden batch, since an earlier release or a program of your own made it: "
        "whether it is scored here as where it was trained was not checked; `train` stores one"
    ]
    assert "golden" not in call("activate", models / "a")[1]


def test_a_model_is_converted_to_a_file_that_scores_as_training_did(models: Path) -> None:
    out = models.parent / "new" / "a.onnx"
    status, said = call("convert", models / "a", "--to", "onnx", "--out", out, "--json")
    assert status == 0
    report, content = json.loads(said), out.read_bytes()
    assert report["sha256"] == hashlib.sha256(content).hexdigest()
    assert report["bytes"] == len(content)
    assert report["golden_batch"] is True
    loaded = artefact.load(models / "a")
    assert report["model_version"] == loaded.manifest.model_version
    batch = artefact.golden_batch(loaded)
    assert batch is not None
    columns, values = padded(batch.matrix)
    session = onnxruntime.InferenceSession(content)
    (scores,) = session.run(["probabilities"], {"columns": columns, "values": values})
    np.testing.assert_allclose(scores, batch.scores, rtol=0, atol=TOLERANCE)


def test_a_conversion_that_scores_differently_is_not_written(models: Path) -> None:
    out = models.parent / "a.onnx"
    with_other_golden(models / "a", lambda batch: replace(batch, scores=batch.scores / 2))
    status, said = call("convert", models / "a", "--out", out)
    assert status == 2
    assert "scores its rows differently than training did" in said
    assert not out.exists()


def test_a_model_without_golden_batch_is_compared_with_the_native_engine(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = call("convert", models / "c", "--out", models.parent / "c.onnx")
    assert status == 0
    assert "as the native engine does" in said
    assert "no golden batch" in said
    score = NativeEngine.score
    monkeypatch.setattr(NativeEngine, "score", lambda *given: score(*given) + np.float32(0.1))
    status, said = call("convert", models / "c", "--out", models.parent / "other.onnx")
    assert status == 2
    assert "differ by up to 0.1" in said
    assert not (models.parent / "other.onnx").exists()


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        ("a", ("--to", "torch", "--out", "new.onnx"), "--to"),
        ("a", ("--out", "c.toml"), "--out"),
        ("a", ("--out", "c.toml/new.onnx"), "--out"),
        ("none", ("--out", "new.onnx"), "none"),
    ],
)
def test_a_wrong_conversion_is_one_line(
    models: Path, model: str, options: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models.parent)
    status, said = call("convert", models / model, *options)
    assert status == 2
    (line,) = said.splitlines()
    assert named in line
    assert not Path("new.onnx").exists()
