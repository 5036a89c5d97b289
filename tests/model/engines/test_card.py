"""Cards of models of random parameters: counted, scored, and kept beside the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.model_card import (
    CHOSEN_ON_VALIDATION,
    KINDS_NOT_KNOWN,
    MEAN_OF_SEEDS,
    NO_VALIDATION,
    ModelCard,
)
from stream_scorer.core.evaluation.training_data import KindedRows
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.engines import card as cards
from stream_scorer.model.engines.card import RowsOfCard, card_of, in_memory
from stream_scorer.model.engines.engine import open_engine

MakeRows = Callable[..., LabelledRows]
DAY = 86_400_000


def files_of(card: ModelCard, version: str) -> tuple[bytes, bytes]:
    """Without the page's own room, which this room does not know."""
    raw = card.as_json() | {"model_version": version}
    return json.dumps(raw, allow_nan=False).encode(), b"<p>a page</p>"


@pytest.fixture(scope="module")
def trained(make_model: Callable[..., TrainedModel]) -> TrainedModel:
    return make_model(calibration={"kind": "platt"})


@pytest.fixture(scope="module")
def card(trained: TrainedModel, make_rows: MakeRows) -> ModelCard:
    training, later = make_rows(400, 1), make_rows(300, 2, as_of_ms=30 * DAY)
    kinds = np.repeat(np.array([0, 1, 2], np.uint8), 100)
    validation = RowsOfCard(
        lambda: [
            KindedRows(later.take(np.arange(150)), kinds[:150]),
            KindedRows(later.take(np.arange(150, 300)), kinds[150:]),
        ]
    )
    found, _ = card_of(trained, in_memory([training]), validation, 20)
    return found


@pytest.fixture
def saved(trained: TrainedModel, card: ModelCard, tmp_path: Path) -> Path:
    artefact.save(trained, tmp_path / "m", card=lambda version: files_of(card, version))
    return tmp_path / "m"


def test_a_mean_of_several_networks_is_said_to_be_one(
    trained: TrainedModel, make_rows: MakeRows
) -> None:
    mean = replace(trained, training={**trained.training, "averaged_seeds": 3})
    found, _ = card_of(mean, in_memory([make_rows(40, 1)]), None, 20)
    assert found.notes == (NO_VALIDATION, MEAN_OF_SEEDS.format(seeds=3))
    assert "mean of the logits of 3 networks" in found.notes[1]


def test_quality_is_that_of_the_engines_scores_of_all_validation_rows(
    trained: TrainedModel, card: ModelCard, make_rows: MakeRows
) -> None:
    later = make_rows(300, 2, as_of_ms=30 * DAY)
    p = 1 - open_engine(artefact.unsaved(trained), "native").score(later.matrix)[:, :, 0]
    acted = dense_labels(later, trained.category_index) > 0
    assert card.quality is not None
    assert card.quality.overall.log_loss.value == pytest.approx(metrics.log_loss(p, acted))
    assert card.quality.overall.macro_auc.value == pytest.approx(metrics.macro_auc(p, acted))
    assert [part.rows for part in card.quality.by_moment] == [100, 100, 100]
    assert card.notes == (CHOSEN_ON_VALIDATION,)
    assert card.calibration == "platt"


def test_the_card_says_which_rows_there_were_and_what_was_left_out(
    trained: TrainedModel, card: ModelCard
) -> None:
    assert (card.training.rows, card.training.customers) == (400, 300)
    assert card.training.moments == ()
    assert card.validation is not None
    assert card.validation.first_as_of == "1970-01-31T00:00:00Z"
    assert [m.rows for m in card.validation.moments] == [100, 100, 100]
    names = [c.category_id for c in card.categories]
    assert names == ["c00", "c02", "c03", "c07", "c11"]
    assert {c.category_id for c in card.left_out} == {
        word for word in trained.space.vocabularies["category_id"] if word not in names
    }
    assert card.columns == trained.space.width


def test_scoring_is_measured_on_the_validation_rows(card: ModelCard) -> None:
    assert card.scoring is not None
    assert (card.scoring.engine, card.scoring.rows, card.scoring.rows_of) == (
        "native", 300, "validation",
    )  # fmt: skip
    assert card.scoring.customers_per_second > 0
    assert "cores" in card.scoring.machine


def test_without_validation_there_is_no_quality_and_the_card_says_so(
    trained: TrainedModel, make_rows: MakeRows
) -> None:
    found, _ = card_of(trained, in_memory([make_rows(50, 1)]), None, 1)
    assert found.quality is None
    assert found.validation is None
    assert found.notes == (NO_VALIDATION,)
    assert found.scoring is not None
    assert found.scoring.rows_of == "training"


def test_kinds_that_are_not_known_are_said_to_be_so(
    trained: TrainedModel, make_rows: MakeRows
) -> None:
    found, _ = card_of(trained, in_memory([make_rows(50, 1)]), in_memory([make_rows(40, 2)]), 1)
    assert found.notes == (CHOSEN_ON_VALIDATION, KINDS_NOT_KNOWN)
    assert found.quality is not None
    assert found.quality.by_moment == ()


def test_of_many_rows_as_many_are_measured_as_memory_holds(
    trained: TrainedModel, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn over all shards, and the same ones again."""
    monkeypatch.setattr(cards, "MOST_PAIRS", 60 * 5)
    shards = [make_rows(100, seed) for seed in (2, 3, 4)]
    found, _ = card_of(trained, in_memory(shards[:1]), in_memory(shards), 1)
    again, _ = card_of(trained, in_memory(shards[:1]), in_memory(shards), 1)
    assert found.quality is not None
    assert (found.quality.rows, found.quality.overall.rows) == (300, 60)
    assert found.quality == again.quality
    taken = [rows for rows, _ in cards.drawn_rows(in_memory(shards).shards(), 300, 60)]
    assert [len(rows) > 10 for rows in taken] == [True] * 3


def test_rows_that_weigh_nothing_are_not_measured(
    trained: TrainedModel, make_rows: MakeRows
) -> None:
    rows = make_rows(80, 2)
    rows.weight[::4] = 0
    found, _ = card_of(trained, in_memory([rows]), in_memory([rows]), 1)
    assert found.quality is not None
    assert found.quality.overall.rows == 60
    assert found.training.without_weight == 20
    rows.weight[:] = 0
    nothing, _ = card_of(trained, in_memory([rows]), in_memory([rows]), 1)
    assert nothing.quality is None
    assert nothing.scoring is None


def test_history_counts_columns_that_come_of_events(
    trained: TrainedModel, make_rows: MakeRows
) -> None:
    matrix = make_rows(30, 5).matrix
    space = trained.space
    day = next(b for b in space.blocks if b.kind == "calendar")
    columns = [c for c in range(space.width) if not day.start <= c < day.stop]
    expected = (matrix[:, columns].toarray() != 0).sum(axis=1)
    assert cards._history(matrix, space).tolist() == expected.tolist()


def test_the_model_has_the_same_version_with_a_card_and_without(
    saved: Path, trained: TrainedModel, tmp_path: Path
) -> None:
    without = artefact.save(trained, tmp_path / "without")
    loaded = artefact.load(saved)
    assert loaded.manifest.model_version == without.model_version
    said = artefact.card(loaded)
    assert said is not None
    assert said["model_version"] == without.model_version
    assert artefact.card(artefact.load(tmp_path / "without")) is None


@pytest.mark.parametrize("name", [artefact.CARD_JSON, artefact.CARD_HTML])
def test_a_card_that_was_altered_or_taken_away_is_one_clear_line(saved: Path, name: str) -> None:
    loaded, file = artefact.load(saved), saved / name
    file.write_bytes(file.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(ArtefactError, match=rf"{name}.*SHA-256 is not the manifest's"):
        artefact.card(loaded)
    file.unlink()
    with pytest.raises(ArtefactError, match=rf"{name}.*is missing"):
        artefact.card(loaded)


def test_what_scores_alone_loads_the_artefact_without_its_card(saved: Path) -> None:
    for name in (artefact.CARD_JSON, artefact.CARD_HTML):
        (saved / name).unlink()
    assert artefact.load(saved).manifest.files.keys() >= {artefact.CARD_JSON, artefact.CARD_HTML}


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"model_version": "0123456789abcdef"}', b"x"])
def test_what_is_no_card_of_the_model_is_refused(
    trained: TrainedModel, content: bytes, tmp_path: Path
) -> None:
    artefact.save(trained, tmp_path / "m", card=lambda _: (content, b""))
    with pytest.raises(ArtefactError, match=r"card\.json.*train the model again"):
        artefact.card(artefact.load(tmp_path / "m"))
