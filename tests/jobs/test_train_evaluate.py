"""Past events into snapshots, a model, and its quality: the jobs one after another."""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.errors import ArtefactError, InputError, SnapshotError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.evaluate import evaluate
from stream_scorer.jobs.evaluate import in_words as evaluation_in_words
from stream_scorer.jobs.replay import replay
from stream_scorer.jobs.train import in_words as training_in_words
from stream_scorer.jobs.train import train
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.model.engines.golden import check_golden_batch
from stream_scorer.model.spec import TrainingOptions
from stream_scorer.settings.tree import Settings
from tests.jobs.result_keys import EVALUATION, keys_of

DAY_MS = 86_400_000
START_MS = 19_000 * DAY_MS
CATEGORIES = ["bread", "milk", "soup", "tea"]
OVERRIDES: dict[str, Any] = {
    "events": {"event_types": ["purchase"]},
    "vocabularies": {"category_id": CATEGORIES},
    "features": [
        {"name": "bought", "by": ["category_id"], "half_lives": ["14d"]},
        {"name": "total", "half_lives": ["14d"]},
    ],
    "training": {"min_customers": 1, "epochs": 2, "min_steps": 100, "batch_rows": 64},
}
CONFIG = """
[events]
event_types = ["purchase"]
[vocabularies]
category_id = ["bread", "milk", "soup", "tea"]
[labels]
horizon = "7d"
[[features]]
name = "bought"
by = ["category_id"]
half_lives = ["14d"]
[[features]]
name = "total"
half_lives = ["14d"]
"""


def settings(horizon: str = "7d") -> Settings:
    return Settings.load(
        None, overrides=OVERRIDES | {"labels": {"horizon": horizon}}, environment={}
    )


def shop(path: Path) -> Path:
    """Twelve weeks in which each customer buys from the same two categories again and again."""
    draw = random.Random(3)
    rows = []
    for customer in range(80):
        liked = draw.sample(CATEGORIES, 2)
        for day in range(84):
            if draw.random() < 0.15:
                at = START_MS + day * DAY_MS + draw.randrange(DAY_MS)
                rows.append(
                    {"event_id": f"{customer}-{day}", "customer_id": f"c{customer}",
                     "event_type": "purchase", "category_id": draw.choice(liked),
                     "occurred_at": at}
                )  # fmt: skip
    write_events(path, sorted(rows, key=lambda r: r["occurred_at"]))
    return path


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("snapshots")
    events = shop(folder / "events.avro")
    weeks = {"train": range(3, 8), "validation": [8], "test": [9, 10]}
    for name, cutoffs in weeks.items():
        moments = [START_MS + 7 * DAY_MS * week for week in cutoffs]
        replay(settings(), [events], folder / name, moments)
    return {name: folder / name for name in weeks}


@pytest.fixture(scope="module")
def model(snapshots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "m"
    report = train(settings(), [snapshots["train"]], out, validation=[snapshots["validation"]])
    assert report.categories == 4
    assert report.rows > 300
    assert str(out) in training_in_words(report)[0]
    json.dumps(report.as_json(), allow_nan=False)
    return out


def defined(metric: float | None) -> float:
    assert metric is not None
    return metric


def test_model_of_past_events_beats_the_prior(model: Path, snapshots: dict[str, Path]) -> None:
    found = evaluate(model, [snapshots["test"]])
    json.dumps(found.as_json(), allow_nan=False)
    assert found.rows > 100
    assert found.categories == found.categories_scored == 4
    ours, prior = found.metrics, found.baselines["prior"]
    assert defined(ours.log_loss) < defined(prior.log_loss)
    assert defined(ours.macro_auc) > 0.6
    assert prior.macro_auc == 0.5
    assert defined(found.intervals["prior"].log_loss.high) < 0
    assert any(line.startswith("log_loss") for line in evaluation_in_words(found))


def test_trained_model_has_rows_of_validation_with_their_scores(
    model: Path, snapshots: dict[str, Path]
) -> None:
    loaded = artefact.load(model)
    batch = artefact.golden_batch(loaded)
    assert batch is not None
    validation = Snapshot.open(snapshots["validation"]).shards()[0].matrix.toarray().tolist()
    rows = batch.matrix.toarray().tolist()
    assert len(rows) > 10
    assert all(row in validation for row in rows)
    assert check_golden_batch(open_engine(loaded, "native"), loaded)


def test_evaluation_prints_the_keys_that_others_read(
    model: Path, snapshots: dict[str, Path]
) -> None:
    ran = CliRunner().invoke(cli.app, ["evaluate", str(model), str(snapshots["test"]), "--json"])
    printed = json.loads(ran.stdout)
    assert json.dumps(keys_of(printed)) == json.dumps(EVALUATION)  # as text: in the same order
    assert printed["metrics"]["log_loss"] == evaluate(model, [snapshots["test"]]).metrics.log_loss


def test_the_bar_reaches_its_end_where_training_stops_early(
    snapshots: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a bar is drawn on terminals only
    hasty = {"min_customers": 1, "epochs": 50, "learning_rate": 0.5, "patience": 1}
    overrides = OVERRIDES | {"labels": {"horizon": "7d"}, "training": hasty}
    changed = Settings.load(None, overrides=overrides, environment={})
    train(changed, [snapshots["train"]], tmp_path / "m", validation=[snapshots["validation"]])
    losses = artefact.load(tmp_path / "m").manifest.metrics["validation_log_loss_by_epoch"]
    assert len(losses) < 50
    done, total = re.findall(r"(\d+)/(\d+)", capsys.readouterr().err)[-1]
    assert done == total
    assert int(total) > 0


def test_existing_model_is_not_written_over(model: Path, snapshots: dict[str, Path]) -> None:
    with pytest.raises(ArtefactError, match="already exists"):
        train(settings(), [snapshots["train"]], model)


def test_snapshots_of_another_label_rule_are_refused(
    snapshots: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(SnapshotError, match=r"another rule than \[labels\]"):
        train(settings("14d"), [snapshots["train"]], tmp_path / "m")


def test_missing_snapshot_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="there is no such folder"):
        train(settings(), [tmp_path / "none"], tmp_path / "m")


def test_logistic_baseline_is_fitted_on_the_recorded_training_snapshots(
    model: Path, snapshots: dict[str, Path], tmp_path: Path
) -> None:
    found = evaluate(model, [snapshots["test"]])
    assert set(found.baselines) == set(found.intervals) == {"prior", "logistic"}
    losses = {name: defined(metrics.log_loss) for name, metrics in found.baselines.items()}
    assert losses["logistic"] < losses["prior"]
    assert found.intervals["logistic"].log_loss.difference is not None
    assert found.notes == ()
    assert [c.category_id for c in found.per_category] == CATEGORIES
    again = evaluate(model, [snapshots["test"]], baseline=[snapshots["train"]])
    assert again == found
    gone = tmp_path / "train"
    snapshots["train"].rename(gone)
    try:
        without = evaluate(model, [snapshots["test"]])
    finally:
        gone.rename(snapshots["train"])
    assert set(without.baselines) == {"prior"}
    assert "--baseline" in without.notes[0]


def test_baseline_that_has_seen_the_evaluated_days_is_refused(
    model: Path, snapshots: dict[str, Path]
) -> None:
    with pytest.raises(SnapshotError, match=r"--baseline.*labels reach to"):
        evaluate(model, [snapshots["test"]], baseline=[snapshots["test"]])


def test_evaluation_on_training_rows_says_that_they_were_seen(
    model: Path, snapshots: dict[str, Path]
) -> None:
    notes = evaluate(model, [snapshots["train"]]).notes
    assert any("not held back" in note for note in notes)


def test_scores_file_has_every_row(model: Path, snapshots: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    found = evaluate(model, [snapshots["test"]], scores_file=file)
    table = pq.read_table(file)
    assert table.num_rows == found.rows
    assert table.column_names == ["customer_id", "as_of", "probabilities"]
    assert table.schema.field("probabilities").type.list_size == 4
    assert json.loads(table.schema.metadata[b"categories"]) == CATEGORIES
    (rows,) = Snapshot.open(snapshots["test"]).shards()
    loaded = artefact.load(model)
    expected = open_engine(loaded, "native").score(rows.matrix)[:, :, 1]
    assert table["customer_id"].to_pylist() == rows.customer_ids
    assert table["probabilities"].to_pylist() == expected.tolist()
    with pytest.raises(InputError, match="already exists"):
        evaluate(model, [snapshots["test"]], scores_file=file)


def test_report_is_one_page_that_loads_nothing(
    model: Path, snapshots: dict[str, Path], tmp_path: Path
) -> None:
    evaluate(model, [snapshots["test"]], report_file=tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == page.count('<svg role="img"') == 4
    for title in ("Calibration", "Gain", "AUC by category", "Scores", *CATEGORIES):
        assert title in page
    assert not re.search(r'\b(src|href)="(?!#)', page)
    assert "<script" not in page


def test_missing_matplotlib_is_one_line(
    model: Path, snapshots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"stream-scorer\[reports\]"):
        evaluate(model, [snapshots["test"]], report_file=tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_train_refuses_labels_that_reach_into_validation(
    snapshots: dict[str, Path], tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(CONFIG)
    ran = CliRunner().invoke(
        cli.app,
        ["train", str(snapshots["train"]), "--validation", str(snapshots["train"]),
         "-c", str(config), "--out", str(tmp_path / "m")],
    )  # fmt: skip
    assert ran.exit_code == 2
    assert re.search(r"^stream-scorer: validation.*training labels reach to", ran.output, re.M)
    assert not (tmp_path / "m").exists()


def test_categories_are_chosen_on_training_rows_alone(tmp_path: Path) -> None:
    """Tea is bought in validation only: the model does not know it; asking for more is refused."""
    rows = [
        {"event_id": f"{c}-{d}", "customer_id": f"c{c}", "event_type": "purchase",
         "category_id": "tea" if d >= 30 else CATEGORIES[(c + d) % 3],
         "occurred_at": START_MS + d * DAY_MS}
        for d in range(50) for c in range(20) if (c * 5 + d) % 4
    ]  # fmt: skip
    write_events(tmp_path / "events.avro", rows)
    for name, day in (("train", 15), ("validation", 30)):
        moments = [START_MS + day * DAY_MS]
        replay(settings(), [tmp_path / "events.avro"], tmp_path / name, moments)
    train(settings(), [tmp_path / "train"], tmp_path / "m", validation=[tmp_path / "validation"])
    assert artefact.load(tmp_path / "m").manifest.categories == ("bread", "milk", "soup")
    picky = settings().model_copy(update={"training": TrainingOptions(min_customers=1000)})
    with pytest.raises(InputError, match=r"training\.min_customers.*training data"):
        train(picky, [tmp_path / "train"], tmp_path / "n")
