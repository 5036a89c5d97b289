"""Engines and the shop's trend: scores are the reference's, and no row takes another day's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import ArtefactError, InputError
from stream_scorer.model import artefact, golden_batch
from stream_scorer.model.engines.engine import Engine, EngineName, open_engine
from stream_scorer.model.engines.golden import check_golden_batch, golden_batch_of
from stream_scorer.model.golden_batch import GoldenBatch
from stream_scorer.model.spec import NetworkSpec
from tests.model import reference_network
from tests.model.conftest import CATEGORIES, random_matrix
from tests.model.other_golden import with_other_golden

NAMES: tuple[EngineName, ...] = ("mxnet", "native", "onnx")
FIRST_DAY, DAYS, CONTRASTS = 20_000, 11, 3
SPEC = NetworkSpec(hidden=(9,), pooled=(6, 4), pairs="history", tower=3, linear_rank=4)
SPACE = FeatureSpace.compile(
    [
        Feature("total", half_lives=("2d", "inf")),
        Feature("trend", kind="trend", by=("category_id",), half_lives=("2d", "14d", "90d")),
        Feature("bought", by=("category_id",), half_lives=("2d", "90d")),
        Feature("seen", kind="trend", by=("category_id",), half_lives=("2d", "14d")),
    ],
    {"category_id": CATEGORIES},
)


def table_of(first_day: int, days: int, words: int = len(CATEGORIES)) -> TrendTable:
    """Each day has contrasts of its own, whichever table it is in."""
    contrasts = [
        np.random.default_rng(day).normal(0, 1, (CONTRASTS, words))
        for day in range(first_day, first_day + days)
    ]
    return TrendTable(first_day, np.array(contrasts, np.float32))


def rows_on(days: np.ndarray) -> sparse.csr_matrix:
    """Random rows (B, F) as of these days; -1 is a row without a day."""
    dense = random_matrix(SPACE, len(days), 4).toarray()
    for block in SPACE.blocks:
        if block.kind == "trend":
            dense[:, block.start] = np.where(days < 0, 0, days)
    return sparse.csr_matrix(dense)


@pytest.fixture
def trained(make_model: Any) -> artefact.TrainedModel:
    model: artefact.TrainedModel = make_model(spec=SPEC, space=SPACE)
    # As training leaves it: the day reaches the contrasts alone.
    for name in ("input_weight", "linear_weight"):
        for block in SPACE.blocks:
            if block.kind == "trend":
                model.parameters[name][block.start] = 0
    return model


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest, trained: artefact.TrainedModel) -> Engine:
    return open_engine(artefact.unsaved(trained), request.param)


def test_scores_are_those_of_the_reference(engine, trained):
    days = FIRST_DAY + np.random.default_rng(1).integers(0, DAYS, 40)
    table, matrix = table_of(FIRST_DAY, DAYS), rows_on(days)
    engine.use_trend(table)
    model = artefact.unsaved(trained)
    expected = reference_network.probabilities(
        model.layout, SPEC, model.parameters, matrix, table.contrasts[days - FIRST_DAY]
    )
    np.testing.assert_allclose(engine.score(matrix), expected, atol=1e-5)


def test_a_row_s_score_does_not_depend_on_the_table_s_other_days(engine):
    matrix = rows_on(np.array([FIRST_DAY + 5, FIRST_DAY + 6, FIRST_DAY + 6]))
    found = []
    for first, days in ((5, 2), (0, DAYS), (6, 1), (2, 8), (3, 8), (0, 300)):
        engine.use_trend(table_of(FIRST_DAY + first, days))
        found.append(engine.score(matrix[1:]))
    for scores in found[1:]:
        np.testing.assert_array_equal(scores, found[0])
    engine.use_trend(table_of(FIRST_DAY, DAYS))
    one = engine.score(matrix)
    other = engine.score(rows_on(np.full(3, FIRST_DAY)))
    assert np.abs(one - other).max() > 0.01


def test_a_row_without_a_day_takes_the_first(engine):
    engine.use_trend(table_of(FIRST_DAY, DAYS))
    found = engine.score(rows_on(np.array([-1, -1])))
    np.testing.assert_allclose(found, engine.score(rows_on(np.full(2, FIRST_DAY))), atol=1e-6)


def test_no_rows_have_no_scores(engine):
    engine.use_trend(table_of(FIRST_DAY, DAYS))
    assert len(engine.score(rows_on(np.array([FIRST_DAY]))[:0])) == 0


@pytest.mark.parametrize("day", [FIRST_DAY - 1, FIRST_DAY + DAYS])
def test_a_day_that_the_table_has_not_is_refused(engine, day):
    engine.use_trend(table_of(FIRST_DAY, DAYS))
    said = rf"trend: '{np.datetime64(day, 'D')}': .*only the days 2024-10-04 to 2024-10-14"
    with pytest.raises(InputError, match=said):
        engine.score(rows_on(np.array([FIRST_DAY, day, FIRST_DAY])))


def test_without_a_table_only_warming_up_works(engine):
    engine.warm_up(3)
    with pytest.raises(InputError, match="give the engine the shop's trend"):
        engine.score(rows_on(np.array([FIRST_DAY])))
    engine.use_trend(table_of(FIRST_DAY, 1))
    engine.warm_up(3)
    assert engine.score(rows_on(np.array([FIRST_DAY]))).shape == (1, 5, 2)


def test_a_table_of_other_categories_or_of_no_day_is_refused(engine):
    for table in (
        table_of(FIRST_DAY, 2, words=5),
        TrendTable(FIRST_DAY, np.zeros((0, 3, 12), np.float32)),
    ):
        with pytest.raises(InputError, match="3 contrasts of 12 categories"):
            engine.use_trend(table)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_without_a_trend_ignores_it(make_model, make_matrix, name):
    engine = open_engine(artefact.unsaved(make_model()), name)
    before = engine.score(make_matrix(3, 1))
    engine.use_trend(table_of(FIRST_DAY, 2))
    np.testing.assert_array_equal(engine.score(make_matrix(3, 1)), before)


def shard_of(days: np.ndarray) -> LabelledRows:
    none = np.zeros(0)
    return LabelledRows(
        [""] * len(days), days * DAY_MS + 5, rows_on(days), np.zeros(len(days) + 1, np.int64),
        none.astype(np.uint32), none.astype(np.uint8),
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_batch_carries_the_days_of_its_rows(trained, tmp_path, name, monkeypatch):
    monkeypatch.setattr(golden_batch, "MOST_CONTRASTS", 4 * CONTRASTS * len(CATEGORIES))
    shard = shard_of(FIRST_DAY + 3 + np.arange(30) % 7)
    golden = golden_batch_of(trained, [shard], table_of(FIRST_DAY, DAYS))
    assert golden is not None
    assert golden.trend is not None
    assert (golden.trend.first_day, golden.trend.last_day) == (FIRST_DAY + 3, FIRST_DAY + 6)
    artefact.save(trained, tmp_path / "model", golden=golden)
    loaded = artefact.load(tmp_path / "model")
    assert check_golden_batch(open_engine(loaded, name), loaded)

    def of_another_shop(batch: GoldenBatch) -> GoldenBatch:
        assert batch.trend is not None
        return GoldenBatch(batch.matrix, batch.scores, table_of(FIRST_DAY + 2, 5))

    def moved(batch: GoldenBatch) -> GoldenBatch:
        assert batch.trend is not None
        contrasts = batch.trend.contrasts[::-1].copy()
        return GoldenBatch(batch.matrix, batch.scores, TrendTable(FIRST_DAY + 3, contrasts))

    same = with_other_golden(tmp_path / "model", of_another_shop)
    assert check_golden_batch(open_engine(same, name), same)
    other = with_other_golden(tmp_path / "model", moved)
    with pytest.raises(ArtefactError, match="scores its rows differently"):
        check_golden_batch(open_engine(other, name), other)


def test_a_golden_batch_cannot_be_made_without_the_trend(trained):
    with pytest.raises(InputError, match="give the engine the shop's trend"):
        golden_batch_of(trained, [shard_of(np.full(5, FIRST_DAY))])


@pytest.mark.parametrize("table", [None, table_of(FIRST_DAY, 1, words=3)], ids=["none", "other"])
def test_a_golden_batch_without_its_trend_is_refused(trained, tmp_path, table):
    golden = golden_batch_of(trained, [shard_of(np.full(5, FIRST_DAY))], table_of(FIRST_DAY, 1))
    artefact.save(trained, tmp_path / "model", golden=golden)
    other = with_other_golden(
        tmp_path / "model", lambda batch: GoldenBatch(batch.matrix, batch.scores, table)
    )
    with pytest.raises(ArtefactError, match=r"golden-batch\.params"):
        artefact.golden_batch(other)
