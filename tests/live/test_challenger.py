"""A second model beside the active one: what is published, what is measured, what goes wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.canary import in_canary
from stream_scorer.core.evaluation.agreement import Agreement
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.errors import BusUnavailable, ConfigError
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.challenger import Challenger, open_challenger
from stream_scorer.live.challenger_report import ChallengerReport
from stream_scorer.live.pipeline import Pipeline
from stream_scorer.live.scoring import Scoring
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, EngineName, open_engine
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import ChallengerSettings, Settings
from tests.live.pipeline_parts import CATEGORIES, NOW_MS, RULES, SPACE, Log, batch, event
from tests.model.symbol_json import symbol_json

RULE = LabelRule("category_id", (("purchase",),), 1)
CUSTOMERS = [f"customer {i}" for i in range(60)]


def saved(
    path: Path, seed: int, index: Any = (0, 1, 2, 3), space: FeatureSpace = SPACE,
    rule: LabelRule = RULE,
) -> artefact.Artefact:  # fmt: skip
    """A model of random parameters."""
    spec, chosen = NetworkSpec((4,), 0.0, True, (3,)), np.array(index, np.int64)
    layout, draw = Layout.of(space, rule, chosen), np.random.default_rng(seed)
    parameters = {
        name: draw.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    if "category_index" in parameters:
        parameters["category_index"] = chosen.astype(np.float32)
    symbol = symbol_json(layout, spec)
    artefact.save(artefact.TrainedModel(space, rule, chosen, spec, parameters, symbol), path)
    return artefact.load(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the models active, other and fewer, which has three of the four categories."""
    path = tmp_path_factory.mktemp("models")
    saved(path / "active", 1)
    saved(path / "other", 2)
    saved(path / "fewer", 3, (0, 2, 3))
    return path


def engine(folder: Path, name: str, of: EngineName = "native") -> Engine:
    return open_engine(artefact.load(folder / name), of)


def beside(challenger: Engine, mode: Any, clock: Any = lambda: 0.0, **settings: Any) -> Challenger:
    return Challenger(challenger, ChallengerSettings(mode=mode, **settings), clock)


def scoring_with(active: Engine, challenger: Challenger | None, mode: Any = "all") -> Scoring:
    policy = PublishPolicy(mode, top_k=2)
    return Scoring(active, SPACE, policy, lambda: NOW_MS, challenger)


def pipeline_of(log: Log, scoring: Scoring, store: MemoryStore | None = None) -> Pipeline:
    return Pipeline(
        log, store or MemoryStore(SPACE.fingerprint), scoring, log,
        decoder=Decoder(lambda _key: None, max_record_bytes=1000),
        preparation=Preparation(RULES, SPACE), clock_ms=lambda: NOW_MS,
    )  # fmt: skip


def pipeline(
    log: Log, active: Engine, challenger: Challenger | None, mode: Any = "all"
) -> Pipeline:
    return pipeline_of(log, scoring_with(active, challenger, mode))


def events(customers: list[str] = CUSTOMERS) -> list[bytes]:
    draw = np.random.default_rng(4)
    return list(encode_events([event(c, CATEGORIES[draw.integers(4)]) for c in customers]))


def published(active: Engine, challenger: Challenger | None, mode: Any = "all") -> list[bytes]:
    log = Log(batch(events()))
    pipeline(log, active, challenger, mode).step()
    assert log.story == ["deliver 60", "commit 60"]
    return log.values


@pytest.mark.parametrize("of", ["native", "mxnet"])
def test_a_shadow_publishes_nothing_and_its_differences_are_measured(
    folder: Path, of: EngineName
) -> None:
    active, other = engine(folder, "active", of), engine(folder, "other", of)
    shadow = beside(other, "shadow", agreement_k=2)
    assert published(active, shadow) == published(active, None)
    taken = shadow.take_measures()
    expected = Agreement(CATEGORIES, CATEGORIES, 2)
    values = [Log(batch(events())) for _ in range(2)]
    for log, scored_by in zip(values, (active, other), strict=True):
        pipeline(log, scored_by, None).step()
    theirs = [log.published.probabilities for log in values]
    expected.add(*(np.stack([1 - p, p], axis=2) for p in theirs if p is not None))
    assert taken.agreement is not None
    assert taken.agreement.figures() == expected.figures()
    assert (taken.active.customers, taken.challenger.customers) == (60, 60)
    assert shadow.take_measures().challenger.customers == 0


@pytest.mark.parametrize("of", ["native", "mxnet"])
@pytest.mark.parametrize("mode", ["all", "top_k"])
def test_a_canary_serves_its_share_under_its_own_version(
    folder: Path, of: EngineName, mode: str
) -> None:
    active, other = engine(folder, "active", of), engine(folder, "other", of)
    log = Log(batch(events()))
    pipeline(log, active, beside(other, "canary", share=0.3), mode).step()
    served = in_canary(CUSTOMERS, 0.3, "challenger")
    assert 0 < served.sum() < 60
    assert log.published.customer_ids == CUSTOMERS
    versions = [(active, other)[s].model_version for s in served.tolist()]
    assert log.published.model_versions == versions
    alone = [Log(batch(events())) for _ in range(2)]
    for one, scored_by in zip(alone, (active, other), strict=True):
        pipeline(one, scored_by, None, mode).step()
    if mode == "all":
        both = [one.published.probabilities for one in alone]
        found = log.published.probabilities
        assert found is not None
        expected = np.where(served[:, None], both[1], both[0])  # type: ignore[arg-type]
        # A product of another shape may round differently.
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    else:
        for row, is_theirs in enumerate(served.tolist()):
            expected_entries = alone[is_theirs].published.entries[row]
            chosen = [entry[:2] for entry in log.published.entries[row]]
            assert chosen == [entry[:2] for entry in expected_entries]


def test_a_canary_of_all_customers_and_of_none_of_a_batch(folder: Path) -> None:
    active, other = engine(folder, "active"), engine(folder, "other")
    assert published(active, beside(other, "canary", share=1.0)) == published(other, None)
    assert published(active, beside(other, "canary", share=1e-9)) == published(active, None)


def test_models_with_other_categories_publish_each_its_own(folder: Path) -> None:
    active, fewer = engine(folder, "active"), engine(folder, "fewer")
    log = Log(batch(events()))
    pipeline(log, active, beside(fewer, "canary", share=0.3), "all").step()
    assert log.published.probabilities is None  # of two lengths
    shadow = beside(fewer, "shadow")
    published(active, shadow)
    agreement = shadow.take_measures().agreement
    assert agreement is not None
    figures = agreement.figures()
    assert (figures.rows, figures.categories, figures.only_active) == (60, 3, 1)


class Failing:
    """As an engine that fails from its second call on."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.calls = engine, 0
        self.categories, self.classes = engine.categories, engine.classes
        self.model_version, self.fingerprint = "failing", engine.fingerprint

    def use_trend(self, table: Any) -> None:
        self._engine.use_trend(table)

    def score(self, matrix: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise MemoryError("no room")
        return self._engine.score(matrix)

    def warm_up(self, batch_rows: int) -> None:
        """Nothing to compile."""


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_challenger_that_fails_is_switched_off_and_every_customer_gets_a_score(
    folder: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    active, failing = engine(folder, "active"), Failing(engine(folder, "other"))
    challenger, metrics = beside(failing, mode, share=0.5), Metrics()
    report = ChallengerReport(challenger, metrics)
    log = Log(*(batch(events(), 60 * i) for i in range(3)))
    line = pipeline(log, active, challenger)
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            line.step()
            report()
    assert log.story[-1] == "commit 180"
    assert failing.calls == 2
    versions = np.array(log.published.model_versions).reshape(3, 60)
    assert (versions[1:] == active.model_version).all()
    assert (versions[0] == "failing").any() == (mode == "canary")
    (said,) = caplog.messages
    assert said == (
        "challenger failing failed and is switched off until the next start; the active model "
        "serves all customers: MemoryError: no room"
    )
    value = metrics.registry.get_sample_value
    labels = {"model_version": "failing", "mode": mode}
    assert value("stream_scorer_challenger_on", labels) == 0
    assert value("stream_scorer_challenger_failures_total") == 1


def test_a_shadow_is_scored_after_the_commit_and_once_though_a_batch_is_tried_again(
    folder: Path,
) -> None:
    log = Log(batch(events()))
    log.failures = [BusUnavailable("no broker")]
    told: list[str] = []

    class Noted(Failing):
        def score(self, matrix: Any) -> Any:
            told.extend(log.story)
            return self._engine.score(matrix)

    shadow = beside(Noted(engine(folder, "other")), "shadow")
    line = pipeline(log, engine(folder, "active"), shadow)
    with pytest.raises(BusUnavailable):
        line.step()
    assert told == []
    report = line.step()
    assert told == ["deliver 60", "commit 60"]
    assert "challenger" in report.seconds
    agreement = shadow.take_measures().agreement
    assert agreement is not None
    assert agreement.rows == 60


def test_a_shadow_rests_for_as_long_as_it_took(folder: Path) -> None:
    now = [0.0]

    class Slow(Failing):
        def score(self, matrix: Any) -> Any:
            now[0] += 5.0
            return self._engine.score(matrix)

    shadow = beside(Slow(engine(folder, "other")), "shadow", lambda: now[0])
    line = pipeline(
        Log(*(batch(events(), 60 * i) for i in range(4))), engine(folder, "active"), shadow
    )
    for at in (0.0, 9.9, 10.0, 16.0):  # the first takes until 5, the third until 15
        now[0] = at
        line.step()
    taken = shadow.take_measures()
    assert taken.agreement is not None
    assert (taken.agreement.rows, taken.skipped) == (120, 120)
    assert taken.challenger.seconds_per_customer == pytest.approx(10 / 120)


def test_the_model_that_becomes_the_active_one_is_switched_off_as_challenger_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    active, other = engine(folder, "active"), engine(folder, "other")
    challenger = beside(other, "canary", share=0.5)
    scoring = scoring_with(active, challenger)
    with caplog.at_level(logging.WARNING):
        scoring.serve(engine(folder, "other"))
        assert challenger.off == "it is the active model now"
        assert len(challenger.canary_rows(CUSTOMERS)) == 0
        scoring.serve(active)
    assert not challenger.off
    assert len(challenger.canary_rows(CUSTOMERS)) > 0
    assert caplog.messages == [
        f"challenger {other.model_version} is switched off: it is the active model now",
        f"challenger {other.model_version} works again, beside {active.model_version}",
    ]


def test_a_new_active_model_is_compared_anew(folder: Path) -> None:
    shadow = beside(engine(folder, "other"), "shadow")
    log = Log(batch(events()), batch(events(), 60))
    scoring = scoring_with(engine(folder, "active"), shadow)
    line = pipeline_of(log, scoring)
    line.step()
    scoring.serve(engine(folder, "fewer"))
    line.step()
    agreement = shadow.take_measures().agreement
    assert agreement is not None
    figures = agreement.figures()
    assert (figures.rows, figures.categories, figures.only_challenger) == (60, 3, 1)


def test_a_report_has_the_figures_since_the_last_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shadow, metrics, now = beside(engine(folder, "fewer"), "shadow"), Metrics(), [0.0]
    report = ChallengerReport(shadow, metrics, lambda: now[0])
    log = Log(batch(events()), batch(events(), 60))
    line = pipeline(log, engine(folder, "active"), shadow)
    value = metrics.registry.get_sample_value
    compared = {"outcome": "compared"}
    caplog.clear()
    with caplog.at_level(logging.INFO):
        line.step()
        report()
        assert value("stream_scorer_challenger_customers_total", compared) == 0
        now[0] = 60.0
        report()
    assert value("stream_scorer_challenger_customers_total", compared) == 60
    overlap = value("stream_scorer_challenger_agreement", {"measure": "overlap"})
    assert overlap == 1.0  # all three that both have are the top 10
    assert value("stream_scorer_challenger_difference", {"measure": "p99"}) > 0  # type: ignore[operator]
    seconds = value("stream_scorer_challenger_seconds_per_customer", {"model": "active"})
    assert seconds is not None
    assert seconds > 0
    (said,) = caplog.messages
    assert "60 customers compared; 100.0% of the top 3 are the same" in said
    assert "in 3 categories (1 of the active model and 0 of its own are not compared)" in said
    report.finish()  # nothing since
    assert np.isnan(value("stream_scorer_challenger_agreement", {"measure": "overlap"}))  # type: ignore[arg-type]
    assert len(caplog.messages) == 1


def challenged(folder: Path, path: Path | None) -> Challenger | None:
    overrides = {"challenger": {"path": path}, "model": {"engine": "native"}}
    settings = Settings.load(None, overrides=overrides, environment={})
    return open_challenger(settings, SPACE, artefact.load(folder / "active"))


def test_a_challenger_of_another_declaration_is_refused_in_one_line(
    folder: Path, tmp_path: Path
) -> None:
    found = challenged(folder, folder / "other")
    assert found is not None
    assert found.engine.model_version == engine(folder, "other").model_version
    assert challenged(folder, None) is None
    space = FeatureSpace.compile(
        [Feature("bought", by=("category_id",))], {"category_id": CATEGORIES}
    )
    saved(tmp_path / "features", 1, space=space)
    saved(tmp_path / "labels", 1, rule=LabelRule("category_id", (("purchase",),), 2))
    for name, words in (("features", "fingerprint"), ("labels", "it learnt other labels")):
        with pytest.raises(ConfigError, match=rf"challenger\.path: .*{name}.*{words}") as error:
            challenged(folder, tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_refresh_is_served_by_the_same_canary(folder: Path) -> None:
    """It calls `records` too; who is in the canary depends on the id alone."""
    active, other = engine(folder, "active"), engine(folder, "other")
    log, store = Log(batch(events())), MemoryStore(SPACE.fingerprint)
    scoring = scoring_with(active, beside(other, "canary", share=0.3))
    pipeline_of(log, scoring, store).step()
    states = store.load(CUSTOMERS[::-1])
    later = np.full(60, NOW_MS + 86_400_000)
    _, values = scoring.records(states, later, [("events", 0)], BatchReport())
    again = Log()
    again.values = values
    assert again.published.model_versions == log.published.model_versions[::-1]
