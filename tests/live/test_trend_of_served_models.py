"""Whichever model serves, shadows or is rolled back to scores with the shop's trend of now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.canary import in_canary
from stream_scorer.core.evaluation.agreement import Agreement
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features import csr
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.core.features.space import DAY_MS, Feature
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.core.trend import TrendTable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.announcements import Announcement, ModelIdentity
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.live.challenger import Challenger
from stream_scorer.live.pipeline import Pipeline
from stream_scorer.live.scoring import Scoring
from stream_scorer.live.served_model import identity_of, open_announced
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import EngineName, open_engine
from stream_scorer.model.engines.golden import golden_batch_of
from stream_scorer.settings.tree import ChallengerSettings, Settings
from tests.jobs.random_models import random_model
from tests.live.pipeline_parts import CATEGORIES, NOW_MS, RULES, Log, batch, event

TODAY = NOW_MS // DAY_MS
CUSTOMERS = [f"customer {i}" for i in range(60)]
FEATURES = [
    Feature("bought", by=("category_id",), half_lives=("2d", "14d")),
    Feature("total", half_lives=("7d",)),
    Feature("trend", "trend", by=("category_id",), half_lives=("2d", "14d", "60d")),
]


def settings_of(engine: EngineName) -> Settings:
    overrides: dict[str, Any] = {
        "features": FEATURES, "vocabularies": {"category_id": CATEGORIES},
        "model": {"engine": engine},
    }  # fmt: skip
    return Settings(**overrides)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the models `one` and `two`, in which the trend weighs much, and `flat`, in which it has no
    weight. Each has a golden batch of other days."""
    path = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two", "flat")):
        trained = random_model(settings_of("native"), seed)
        weight = trained.parameters["trend_weight"]
        weight[:] = 0 if name == "flat" else np.sign(weight) * 2
        if name == "flat":
            trained.parameters["pooled_own_weight"][:, -2:] = 0
        for name_of_weight in ("input_weight", "linear_weight"):
            trained.parameters[name_of_weight][-1] = 0  # the day itself
        golden = golden_batch_of(trained, [rows_of(TODAY + 900)], shop(9, TODAY + 900))
        artefact.save(trained, path / name, golden=golden)
    return path


def rows_of(day: int) -> LabelledRows:
    """Made-up rows of one day."""
    space = settings_of("native").feature_space()
    matrix = sparse.random(20, space.width, 0.5, "lil", np.float32, 1)
    matrix[:, space.width - 1] = day
    nothing = np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    as_of_ms, ids = np.full(20, day * DAY_MS), [str(i) for i in range(20)]
    return LabelledRows(ids, as_of_ms, matrix.tocsr(), np.zeros(21, np.int64), *nothing)


def shop(seed: int, last_day: int = TODAY + 1) -> TrendTable:
    draw = np.random.default_rng(seed)
    return TrendTable(last_day - 8, draw.normal(0, 1, (9, 2, 4)).astype(np.float32))


class Trend:
    """In place of ShopTrend: the table that a test says."""

    def __init__(self) -> None:
        self.now = shop(1)

    def table(self, _as_of_ms: Int64, *, published: bool = True) -> TrendTable:
        return self.now


def values() -> list[bytes]:
    draw = np.random.default_rng(4)
    return list(encode_events([event(c, CATEGORIES[draw.integers(4)]) for c in CUSTOMERS]))


class Rig:
    """Scoring with one of the models, and the trend and batches that a test gives it."""

    def __init__(self, folder: Path, of: EngineName, challenger: Challenger | None = None) -> None:
        self.folder, self.of, self.trend = folder, of, Trend()
        self.settings = settings_of(of)
        self.space = self.settings.feature_space()
        trend: Any = self.trend
        self.scoring = Scoring(
            self.opened("one"), self.space, PublishPolicy("all"), lambda: NOW_MS, challenger, trend
        )
        self.store, self.batches = MemoryStore(self.space.fingerprint), 0

    def opened(self, name: str) -> Any:
        """Its engine as a member opens an announced model: after its golden batch was scored."""
        path = self.folder / name
        said = Announcement(1, identity_of(path), ModelIdentity("", "", ""), 0)
        return open_announced(self.settings, self.space, said).engine

    def published(self) -> Float32:
        """(60, 4) of a micro-batch of all customers."""
        log = Log(batch(values(), 60 * self.batches))
        self.batches += 1
        Pipeline(
            log, self.store, self.scoring, log,
            decoder=Decoder(lambda _key: None, max_record_bytes=1000),
            preparation=Preparation(RULES, self.space), clock_ms=lambda: NOW_MS,
        ).step()  # fmt: skip
        assert log.published.customer_ids == CUSTOMERS
        found = log.published.probabilities
        assert found is not None
        return found

    def expected(self, name: str) -> Float32:
        """By an engine of its own, with the trend of now."""
        engine = open_engine(artefact.load(self.folder / name), self.of)
        engine.use_trend(self.trend.now)
        states = self.store.load(CUSTOMERS)
        return engine.score(csr.build(states, self.space, states.arrays.newest_ms))[:, :, 1]


ENGINES = pytest.mark.parametrize("of", ["native", "mxnet", "onnx"])


@ENGINES
def test_a_model_that_is_switched_to_or_rolled_back_to_has_the_trend_of_now(
    folder: Path, of: EngineName
) -> None:
    rig = Rig(folder, of)
    one = rig.scoring.engine
    for number, serve in enumerate(("one", "two", "one", "flat", "two")):
        # The first model is still there, with the trend of when it was replaced.
        rig.scoring.serve(one if serve == "one" else rig.opened(serve))
        rig.trend.now = shop(number)
        np.testing.assert_allclose(rig.published(), rig.expected(serve), rtol=0, atol=1e-5)
    before = {name: rig.expected(name) for name in ("one", "two", "flat")}
    rig.trend.now = shop(1)
    moved = {name: np.abs(rig.expected(name) - scores).max() for name, scores in before.items()}
    assert moved["one"] > 0.1
    assert moved["two"] > 0.1
    assert moved["flat"] < 1e-6


@ENGINES
def test_a_switch_without_a_new_trend_gives_the_loaded_engine_the_one_that_is_known(
    folder: Path, of: EngineName
) -> None:
    rig = Rig(folder, of)
    rig.published()
    rig.scoring.serve(rig.opened("two"))
    np.testing.assert_allclose(rig.published(), rig.expected("two"), rtol=0, atol=1e-5)


def challenged(folder: Path, of: EngineName, name: str, mode: Any, **more: Any) -> Rig:
    engine = Rig(folder, of).opened(name)
    return Rig(folder, of, Challenger(engine, ChallengerSettings(mode=mode, **more), lambda: 0.0))


@ENGINES
@pytest.mark.parametrize("name", ["two", "flat"])
def test_a_canary_serves_with_the_trend_of_now_also_after_a_switch(
    folder: Path, of: EngineName, name: str
) -> None:
    rig = challenged(folder, of, name, "canary", share=0.4)
    theirs = in_canary(CUSTOMERS, 0.4, "challenger")
    assert 0 < theirs.sum() < 60
    for number, active in enumerate(("one", name, "one")):
        rig.scoring.serve(rig.opened(active))
        rig.trend.now = shop(number)
        found = rig.published()
        # The second time it is the active model itself, and so switched off.
        expected = np.where(theirs[:, None], rig.expected(name), rig.expected(active))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert rig.scoring.challenger is not None
    assert not rig.scoring.challenger.off


@ENGINES
def test_a_shadow_is_compared_with_the_trend_of_now(folder: Path, of: EngineName) -> None:
    rig = challenged(folder, of, "two", "shadow", agreement_k=2)
    shadow = rig.scoring.challenger
    assert shadow is not None
    for number in range(2):
        rig.trend.now = shop(number)
        rig.published()
        taken = shadow.take_measures().agreement
        expected = Agreement(CATEGORIES, CATEGORIES, 2)
        expected.add(
            *(np.stack([1 - p, p], axis=2) for p in (rig.expected("one"), rig.expected("two")))
        )
        assert taken is not None
        assert taken.figures().overlap == pytest.approx(expected.figures().overlap)
        assert taken.figures().mean == pytest.approx(expected.figures().mean, abs=1e-5)


def test_a_challenger_that_can_not_take_the_trend_is_switched_off_and_nobody_waits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = challenged(folder, "native", "two", "canary", share=0.4)
    challenger = rig.scoring.challenger
    assert challenger is not None

    def no_room(_table: TrendTable) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(challenger.engine, "use_trend", no_room)
    found = rig.published()
    np.testing.assert_allclose(found, rig.expected("one"), rtol=0, atol=1e-5)
    assert challenger.off == "MemoryError: no room"


@ENGINES
def test_a_refresh_scores_with_the_trend_of_its_moment(folder: Path, of: EngineName) -> None:
    rig = Rig(folder, of)
    rig.published()
    states = rig.store.load(CUSTOMERS)
    at = np.full(60, (TODAY + 1) * DAY_MS)
    log = Log()
    _, log.values = rig.scoring.records(states, at, [("events", 0)], BatchReport())
    engine = rig.opened("one")
    engine.use_trend(rig.trend.now)
    expected = engine.score(csr.build(states, rig.space, at))[:, :, 1]
    found = log.published.probabilities
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_only_moments_whose_trend_is_known_can_be_scored_again(folder: Path) -> None:
    rig = Rig(folder, "native")
    days = np.array([TODAY - 8, TODAY - 7, TODAY]) * DAY_MS
    assert rig.scoring.can_score_again(days).tolist() == [False, True, True]
    plain = Scoring(rig.opened("one"), rig.space, PublishPolicy("all"), lambda: NOW_MS)
    assert plain.can_score_again(days).all()
