"""Several seeds averaged: one model whose logits are the mean of those of each seed's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.errors import ConfigError
from stream_scorer.model import artefact, training, training_loop
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.engines.engine import Engine
from stream_scorer.model.engines.mxnet import MxnetEngine
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.engines.onnx import OnnxEngine
from stream_scorer.model.spec import NetworkSpec, TrainingOptions
from tests.model.conftest import DAY, TWO

Train = Callable[..., TrainedModel]
NETWORK = NetworkSpec(
    hidden=(8, 6), pooled=(6, 4), pairs="history", tower=3, linear_rank=2
)  # every path
OPTIONS = TrainingOptions(
    network=NETWORK, seed=7, average_seeds=2, batch_rows=64, epochs=2, min_steps=0,
    learning_rate=0.02,
)  # fmt: skip
STEPS = 2 * 10


@pytest.fixture(scope="module")
def validation(make_rows: Callable[..., LabelledRows]) -> LabelledRows:
    return make_rows(400, 3, as_of_ms=30 * DAY)


@pytest.fixture(scope="module")
def train(
    make_rows: Callable[..., LabelledRows], validation: LabelledRows, space: FeatureSpace
) -> Train:
    shards = [make_rows(640, 1)]

    def run(
        progress: Callable[[training_loop.Progress], None] = lambda _: None, *, stop: bool = True,
        **said: object,
    ) -> TrainedModel:  # fmt: skip
        options = replace(OPTIONS, **said)  # type: ignore[arg-type]
        return training.train(shards, [validation] if stop else None, space, TWO, options, progress)

    return run


@pytest.fixture(scope="module")
def of_each_seed(train: Train) -> list[TrainedModel]:
    return [train(seed=seed, average_seeds=1, calibrate=False) for seed in (7, 8)]


@pytest.fixture(scope="module")
def uncalibrated(train: Train) -> TrainedModel:
    return train(calibrate=False)


@pytest.fixture(scope="module")
def said() -> list[training_loop.Progress]:
    """What the training of `mean` reported."""
    return []


@pytest.fixture(scope="module")
def mean(train: Train, said: list[training_loop.Progress]) -> TrainedModel:
    return train(said.append)


def purchases(model: TrainedModel, matrix: sparse.csr_matrix, path: Path, engine: type) -> Float32:
    """(B, N) probabilities by the saved artefact."""
    artefact.save(model, path)
    scoring: Engine = engine(artefact.load(path))
    return scoring.score(matrix)[:, :, 1]


@pytest.mark.parametrize("engine", [MxnetEngine, NativeEngine, OnnxEngine])
def test_the_logits_of_averaged_seeds_are_the_mean_of_those_of_each(
    engine: type, of_each_seed: list[TrainedModel], uncalibrated: TrainedModel,
    validation: LabelledRows, tmp_path: Path,
) -> None:  # fmt: skip
    logits = []
    for i, model in enumerate([uncalibrated, *of_each_seed]):
        p = purchases(model, validation.matrix, tmp_path / str(i), engine).astype(np.float64)
        logits.append(np.log(p) - np.log1p(-p))
    assert np.abs(logits[1] - logits[2]).max() > 0.05
    np.testing.assert_allclose(logits[0], (logits[1] + logits[2]) / 2, rtol=0, atol=1e-4)


def test_the_mean_is_what_is_measured_on_validation(
    of_each_seed: list[TrainedModel], mean: TrainedModel, uncalibrated: TrainedModel,
    validation: LabelledRows, tmp_path: Path,
) -> None:  # fmt: skip
    # A log loss is convex in the logits.
    loss = mean.metrics["validation_log_loss"]
    assert loss < np.mean([model.metrics["validation_log_loss"] for model in of_each_seed])
    assert mean.metrics["validation_log_loss_by_epoch"] == [
        loss for model in of_each_seed for loss in model.metrics["validation_log_loss_by_epoch"]
    ]
    assert mean.training["averaged_seeds"] == 2
    labels = dense_labels(validation, mean.category_index) > 0
    p = purchases(uncalibrated, validation.matrix, tmp_path / "m", NativeEngine)
    assert metrics.log_loss(p, labels) == pytest.approx(loss, abs=1e-5)


def test_the_mean_is_what_is_calibrated(
    mean: TrainedModel, uncalibrated: TrainedModel, validation: LabelledRows, tmp_path: Path
) -> None:
    assert mean.calibration["kind"] != "none"
    for name, values in uncalibrated.parameters.items():
        if not name.startswith("calibration"):
            np.testing.assert_array_equal(mean.parameters[name], values)
    labels = dense_labels(validation, mean.category_index) > 0
    before, after = (
        metrics.log_loss(purchases(m, validation.matrix, tmp_path / name, NativeEngine), labels)
        for name, m in (("before", uncalibrated), ("after", mean))
    )
    assert after < before


def test_the_same_call_gives_the_same_version(
    train: Train, mean: TrainedModel, tmp_path: Path
) -> None:
    versions = [
        artefact.save(model, tmp_path / str(i)).model_version
        for i, model in enumerate([mean, train()])
    ]
    assert versions[0] == versions[1]


def test_progress_counts_the_steps_of_all_seeds(
    mean: TrainedModel, said: list[training_loop.Progress]
) -> None:
    assert mean.network.hidden == (16, 12)
    assert [(p.epoch, p.step) for p in said if p.validation_log_loss is not None] == [
        (epoch, 10 * epoch) for epoch in (1, 2, 3, 4)
    ]
    assert {(p.epochs, p.steps) for p in said} == {(4, 2 * STEPS)}


def test_seeds_are_averaged_without_validation(train: Train) -> None:
    model = train(stop=False)
    assert model.metrics == {"validation_log_loss": None, "validation_log_loss_by_epoch": []}
    assert model.network.hidden == (16, 12)


def test_more_units_than_a_network_may_have_are_refused_before_training(train: Train) -> None:
    said: list[training_loop.Progress] = []
    with pytest.raises(ConfigError, match="average_seeds"):
        train(said.append, network=replace(NETWORK, tower=3_000))
    assert said == []


def test_of_few_rows_several_seeds_are_averaged_unless_a_number_is_given(train: Train) -> None:
    few = train(average_seeds=0, epochs=1)
    assert few.training["averaged_seeds"] == 5
    assert few.network.hidden == (40, 30)
    assert train(average_seeds=1, epochs=1).network == NETWORK


def test_a_number_of_seeds_below_0_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.average_seeds.*-1.*0 or more"):
        TrainingOptions(average_seeds=-1)
