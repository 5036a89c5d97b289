"""`train` writes the model's card and says what it did not use; `models` keeps watch over it."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.core.evaluation.training_data import LeftOutCategory
from stream_scorer.errors import ArtefactError
from stream_scorer.io.files.events import write_events
from stream_scorer.jobs.evaluate import evaluate
from stream_scorer.jobs.models import activate, listing, verify
from stream_scorer.jobs.models import in_words as summary_in_words
from stream_scorer.jobs.replay import replay
from stream_scorer.jobs.train import Trained, in_words, train
from stream_scorer.live.served_model import check_for_members
from stream_scorer.model import artefact
from stream_scorer.model.stored_reference import stored_reference
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import flip

DAY_MS = 86_400_000
START_MS = 19_000 * DAY_MS
BOUGHT = ["bread", "milk", "soup", "tea"]
RARE, NEVER = ["rice", "salt"], ["wine"]
SETTINGS: dict[str, Any] = {
    "events": {"event_types": ["purchase", "return"]},
    "vocabularies": {"category_id": [*BOUGHT, *RARE, *NEVER]},
    "labels": {"horizon": "7d"},
    "features": [
        {"name": "bought", "on": ["purchase"], "by": ["category_id"], "half_lives": ["14d"]},
        {"name": "returned", "on": ["return"], "by": ["category_id"]},
        {"name": "total", "half_lives": ["14d"]},
        {"name": "day", "kind": "calendar", "by": ["day_of_week"]},
    ],
    "training": {
        "min_customers": 5, "epochs": 1, "min_steps": 30, "batch_rows": 64,
        "network": {"hidden": [4]},
    },
}  # fmt: skip


def settings() -> Settings:
    return Settings.load(None, overrides=SETTINGS, environment={})


def shop(path: Path) -> Path:
    """Ten weeks of 70 customers, two of whom once bought rice and one of whom bought salt."""
    draw = random.Random(5)
    rows = []
    for customer in range(70):
        liked = draw.sample(BOUGHT, 2)
        for day in range(70):
            if draw.random() < 0.15:
                rows.append((day, customer, draw.choice(liked)))
    rows += [(20, 3, "rice"), (22, 4, "rice"), (24, 5, "salt")]
    write_events(
        path,
        [
            {"event_id": f"{number}", "customer_id": f"customer-{customer}",
             "event_type": "purchase", "category_id": category,
             "occurred_at": START_MS + day * DAY_MS + number}
            for number, (day, customer, category) in enumerate(sorted(rows))
        ],
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rows of every kind; validation begins a horizon after the last training row."""
    folder = tmp_path_factory.mktemp("snapshots")
    events = shop(folder / "events.avro")
    for name, days in (("train", (14, 40)), ("validation", (48, 60))):
        start, end = (START_MS + day * DAY_MS for day in days)
        asked = RowsAsked(
            (start, start + 5 * DAY_MS), True, Fraction(1), Fraction(1, 4), period_ms=(start, end),
            every_ms=DAY_MS,
        )  # fmt: skip
        replay(settings(), [events], folder / name, asked)
    return {"train": folder / "train", "validation": folder / "validation"}


@pytest.fixture(scope="module")
def trained(snapshots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = tmp_path_factory.mktemp("model") / "m"
    return train(settings(), [snapshots["train"]], out, validation=[snapshots["validation"]])


@pytest.fixture
def model(snapshots: dict[str, Path], tmp_path: Path) -> Path:
    """One of its own, to be spoilt."""
    (tmp_path / "models").mkdir()
    train(settings(), [snapshots["train"]], tmp_path / "models" / "m")
    return tmp_path / "models" / "m"


def card_in(path: str | Path) -> dict[str, Any]:
    found = artefact.card(artefact.load(Path(path)))
    assert found is not None
    return found


def test_the_card_has_the_rows_of_every_kind_with_their_weights(
    trained: Trained, snapshots: dict[str, Path]
) -> None:
    card = card_in(trained.model)
    assert card["model_version"] == trained.model_version
    for name in ("training", "validation"):
        rows = card[name]
        assert [m["kind"] for m in rows["moments"]] == ["cutoff", "event", "quiet"]
        assert sum(m["rows"] for m in rows["moments"]) == rows["rows"]
        assert sum(m["weight"] for m in rows["moments"]) == pytest.approx(rows["weight"])
        assert len(rows["cutoffs"]) == 2
    said = card["training"]
    assert [m["rows"] for m in said["moments"][1:]] == [trained.event_rows, trained.quiet_rows]
    assert said["sources"][0]["path"] == str(snapshots["train"])
    assert (said["rows"], said["customers"]) == (trained.rows, trained.customers)
    assert trained.customers == 70


def test_the_reference_is_of_rows_after_events_and_of_held_out_scores(trained: Trained) -> None:
    loaded = artefact.load(Path(trained.model))
    stored = stored_reference(loaded)
    assert stored is not None
    card = card_in(trained.model)
    # Too few rows stand just after events for these alone.
    assert (stored.rows_of, stored.rows) == ("all", trained.rows)
    assert (stored.scores_of, stored.scored_rows) == ("validation", card["validation"]["rows"])
    assert [block.name for block in stored.blocks] == ["bought", "returned", "total", "day"]
    returned = stored.blocks[1]
    assert (returned.shares, returned.mean, returned.entries) == ((1.0, 0.0), 0.0, 0)
    assert stored.blocks[3].column_shares[:7] == pytest.approx([1 / 7] * 7, abs=0.08)
    assert [s.category for s in stored.scores] == [-1, 0, 1, 2, 3]
    acted = [category["share"] for category in card["categories"]]
    assert stored.scores[0].mean == pytest.approx(np.mean(acted), rel=0.3)


def test_an_artefact_without_a_reference_loads_and_one_that_was_altered_is_refused(
    model: Path,
) -> None:
    assert stored_reference(artefact.load(model)) is not None
    file = model / artefact.REFERENCE_FILE
    flip(file)
    with pytest.raises(ArtefactError, match=r"reference\.json.*SHA-256"):
        stored_reference(artefact.load(model))
    file.unlink()
    loaded = artefact.load(model)
    with pytest.raises(ArtefactError, match=r"reference\.json.*is missing"):
        stored_reference(loaded)
    without = dataclasses.replace(loaded, manifest=dataclasses.replace(loaded.manifest, files={}))
    assert stored_reference(without) is None


def test_quality_is_what_evaluate_finds_with_intervals_and_by_kind_of_moment(
    trained: Trained, snapshots: dict[str, Path]
) -> None:
    quality = card_in(trained.model)["quality"]
    overall = quality["overall"]
    assert overall["log_loss"]["low"] < overall["log_loss"]["value"] < overall["log_loss"]["high"]
    assert overall["log_loss_minus_prior"]["high"] < 0
    assert [part["part"] for part in quality["by_moment"]] == ["cutoff", "event", "quiet"]
    assert sum(part["rows"] for part in quality["by_history"]) == overall["rows"]
    assert all(0 < part["predicted_over_seen"]["value"] < 3 for part in quality["by_moment"])
    found = evaluate(Path(trained.model), [snapshots["validation"]])
    for name in ("log_loss", "macro_auc", "recall_at_10"):
        assert overall[name]["value"] == pytest.approx(found.metrics.by_metric()[name])
    difference = found.intervals["prior"].log_loss
    assert overall["log_loss_minus_prior"]["value"] == pytest.approx(difference.difference)
    assert overall["log_loss_minus_prior"]["low"] == pytest.approx(difference.low)


def test_train_says_what_it_left_out_in_the_result_and_in_words(trained: Trained) -> None:
    left_out = {c.category_id: (c.customers, c.reason) for c in trained.categories_left_out}
    assert left_out == {
        "rice": (2, "too_few_customers"), "salt": (1, "too_few_customers"),
        "wine": (0, "no_customer"),
    }  # fmt: skip
    assert trained.labels_left_out > 0
    assert trained.features_without_value == ("returned",)
    assert (trained.columns, trained.min_customers) == (22, 5)
    # Of `returned` all seven, and of `bought` wine.
    assert trained.columns_without_value == 8
    lines = in_words(trained)
    assert (
        "left out 2 of 7 categories, on which fewer than 5 training customers acted "
        f"(training.min_customers), with {trained.labels_left_out} labels: rice (2), salt (1)"
    ) in lines
    assert "left out 1 of 7 categories, on which no training customer acted: wine" in lines
    assert "no training row has a value of these features: returned" in lines
    assert any(line.startswith("no training row has a value in 8 of 22 columns,") for line in lines)
    assert not any("weigh 0" in line for line in lines)
    card = card_in(trained.model)
    assert [c["category_id"] for c in card["left_out"]] == ["rice", "salt", "wine"]
    assert card["min_customers"] == 5


def test_many_that_are_left_out_are_counted_and_the_first_are_named() -> None:
    many = tuple(LeftOutCategory(f"c{i}", 1, "too_few_customers") for i in range(13))
    lines = in_words(Trained("m", "v", 9, 3, None, 1.5, categories_left_out=many, columns=3,
                             rows_without_weight=4))  # fmt: skip
    (line,) = [line for line in lines if line.startswith("left out")]
    assert line.endswith("c9 (1) and 3 more (the model's card.json has all)")
    assert "4 training rows weigh 0 and teach nothing" in lines


def test_a_mean_of_several_networks_is_said_to_be_one() -> None:
    (line,) = in_words(Trained("m", "v", 9, 3, 0.1, 1.5, averaged_seeds=5))
    assert line.endswith("rows in 2 s, the mean of 5 networks, validation log loss 0.1000")
    assert "mean" not in in_words(Trained("m", "v", 9, 3, 0.1, 1.5))[0]


def test_the_same_training_gives_the_same_model_version(
    trained: Trained, snapshots: dict[str, Path], tmp_path: Path
) -> None:
    """What scoring costs is measured, so the cards differ."""
    again = train(
        settings(), [snapshots["train"]], tmp_path / "m", validation=[snapshots["validation"]]
    )
    assert again.model_version == trained.model_version
    ours, theirs = card_in(trained.model), card_in(again.model)
    for name in ("scoring", "written"):
        assert name in ours
        ours.pop(name)
        theirs.pop(name)
    assert ours == theirs


def test_the_card_holds_no_customer(trained: Trained) -> None:
    for name in (artefact.CARD_JSON, artefact.CARD_HTML):
        assert "customer-" not in (Path(trained.model) / name).read_text(encoding="utf-8")


def test_without_validation_no_quality_is_made_up(model: Path) -> None:
    card = card_in(model)
    assert card["quality"] is None
    assert card["validation"] is None
    assert "There were no validation rows" in card["notes"][0]
    assert "Its quality was not measured." in (model / artefact.CARD_HTML).read_text("utf-8")


def test_training_needs_no_matplotlib(
    snapshots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    train(settings(), [snapshots["train"]], tmp_path / "m", validation=[snapshots["validation"]])
    page = (tmp_path / "m" / artefact.CARD_HTML).read_text(encoding="utf-8")
    assert "stream-scorer[reports]" in page
    assert "<svg" not in page


def test_verify_names_the_page_and_a_model_without_a_card_is_whole(
    model: Path, tmp_path: Path
) -> None:
    found = verify(model, settings())
    assert found.card
    assert f"its card: {model / 'card.html'}" in summary_in_words(found)
    assert [listed.summary.card for listed in listing(model.parent).models if listed.summary] == [
        True
    ]
    loaded = artefact.load(model)
    bare = artefact.TrainedModel(
        loaded.feature_space(), loaded.manifest.labels, np.array(loaded.manifest.category_index),
        loaded.manifest.network, loaded.parameters, loaded.symbol_json,
    )  # fmt: skip
    artefact.save(bare, tmp_path / "old")
    old = verify(tmp_path / "old", settings())
    assert not old.card
    assert old.model_version == found.model_version


@pytest.mark.parametrize("name", [artefact.CARD_JSON, artefact.CARD_HTML])
def test_a_model_with_a_spoilt_card_is_neither_whole_nor_activated_nor_announced(
    model: Path, name: str
) -> None:
    flip(model / name)
    said = rf"{name}.*SHA-256 is not the manifest's"
    with pytest.raises(ArtefactError, match=said):
        verify(model, settings())
    with pytest.raises(ArtefactError, match=said):
        activate(model)
    with pytest.raises(ArtefactError, match=said):
        check_for_members(settings(), settings().feature_space(), model)
    ran = CliRunner().invoke(cli.app, ["models", "verify", str(model)])
    assert ran.exit_code == 2
    assert len(ran.output.splitlines()) == 1


def test_the_result_is_json(trained: Trained) -> None:
    said = json.loads(json.dumps(trained.as_json(), allow_nan=False))
    assert said["categories_left_out"][0] == {
        "category_id": "rice", "customers": 2, "reason": "too_few_customers",
    }  # fmt: skip
