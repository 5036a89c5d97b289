"""Training: it learns, it repeats itself, it refuses what would spoil a model."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.labels.labels import dense_labels
from stream_scorer.errors import ConfigError, InputError
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_writer import SnapshotWriter
from stream_scorer.model import artefact, training, training_loop
from stream_scorer.model.column_statistics import ColumnStatistics
from stream_scorer.model.engines.mxnet import MxnetEngine
from stream_scorer.model.spec import Layout, NetworkSpec, TrainingOptions
from tests.model.conftest import DAY, THREE, TWO

OPTIONS = TrainingOptions(
    network=NetworkSpec(hidden=(8, 6), pooled=(6, 4)), batch_rows=64, epochs=3, min_steps=0,
    learning_rate=0.02,
)  # fmt: skip


@pytest.fixture(scope="module")
def shards(make_rows):
    return [make_rows(800, seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def validation(make_rows):
    return [make_rows(500, 3, as_of_ms=30 * DAY)]


@pytest.fixture(scope="module")
def trained(shards, validation, space):
    return training.train(shards, validation, space, TWO, OPTIONS)


def scores(model, rows, path):
    artefact.save(model, path / "m")
    return MxnetEngine(artefact.load(path / "m")).score(rows.matrix)


def test_it_learns_what_the_prior_does_not_know(trained, make_rows, tmp_path):
    test = make_rows(1000, 4)
    labels = dense_labels(test, trained.category_index) > 0
    p = scores(trained, test, tmp_path)[:, :, 1]
    prior = np.broadcast_to(labels.mean(axis=0), labels.shape)
    assert metrics.log_loss(p, labels) < 0.93 * metrics.log_loss(prior, labels)
    assert metrics.macro_auc(p, labels) > 0.7
    assert metrics.ece(p, labels) < 0.03


def test_the_same_seed_gives_the_same_bits(trained, shards, validation, space):
    again = training.train(shards, validation, space, TWO, OPTIONS)
    for name, values in trained.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], values)
    assert again.symbol_json == trained.symbol_json


def test_a_snapshot_trains_as_its_rows_in_memory(trained, shards, validation, space, tmp_path):
    info = SnapshotInfo(space, "category_id", TWO)
    read = []
    for name, parts in (("training", shards), ("validation", validation)):
        with SnapshotWriter(tmp_path / name, info, rows_per_shard=len(parts[0])) as writer:
            for part in parts:
                writer.write(part)
            read.append(writer.finish().shards())
    again = training.train(*read, space, TWO, OPTIONS)  # type: ignore[arg-type, call-arg]
    for name, values in trained.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], values)


def test_three_classes_are_learnt(make_rows, space, tmp_path):
    shards = [make_rows(800, seed, rule=THREE) for seed in (1, 2)]
    validation = [make_rows(500, 3, as_of_ms=30 * DAY, rule=THREE)]
    model = training.train(shards, validation, space, THREE, OPTIONS)
    test = make_rows(500, 4, rule=THREE)
    classes = dense_labels(test, model.category_index)
    p = scores(model, test, tmp_path)
    right = np.take_along_axis(p, classes[:, :, None].astype(np.int64), axis=2)
    shares = np.stack([(classes == k).mean(axis=0) for k in range(3)], axis=1)
    prior = np.take_along_axis(np.broadcast_to(shares, p.shape), classes[:, :, None], axis=2)
    assert -np.log(right).mean() < -0.96 * np.log(prior).mean()


def test_the_best_epoch_is_kept(shards, validation, space):
    said = []  # type: ignore[var-annotated]
    options = TrainingOptions(
        network=OPTIONS.network, average_seeds=1, batch_rows=64, epochs=12, min_steps=0,
        learning_rate=0.5, patience=1, calibrate=False,
    )  # fmt: skip
    model = training.train(shards, validation, space, TWO, options, said.append)
    losses = model.metrics["validation_log_loss_by_epoch"]
    assert len(losses) < 12
    assert losses[-1] >= min(losses) == model.metrics["validation_log_loss"]
    assert [p.validation_log_loss for p in said if p.validation_log_loss is not None] == losses
    assert all(p.step <= p.steps for p in said)


def test_after_a_worse_epoch_it_goes_on_from_the_best_at_a_lower_rate(shards, validation, space):
    """At a rate that is much too high epochs without end are worse; later ones are better still."""
    options = TrainingOptions(
        network=OPTIONS.network, average_seeds=1, batch_rows=64, epochs=40, min_steps=0,
        learning_rate=0.3, patience=4, calibrate=False,
    )  # fmt: skip
    losses = training.train(shards, validation, space, TWO, options).metrics[
        "validation_log_loss_by_epoch"
    ]
    best = np.minimum.accumulate(losses)
    worse = [i for i in range(1, len(losses)) if losses[i] >= best[i - 1]]
    assert len(worse) == 4
    assert worse[-1] == len(losses) - 1
    assert best[-1] < best[worse[0]]


def test_a_penalty_makes_the_linear_path_smaller_where_rows_are_few(shards, validation, space):
    sizes = []
    for penalty in (0.0, 1e5):
        model = training.train(
            shards, validation, space, TWO, replace(OPTIONS, linear_penalty=penalty)
        )
        sizes.append(np.abs(model.parameters["linear_weight"]).mean())
    assert sizes[1] < 0.5 * sizes[0]


def test_a_column_of_few_rows_is_pulled_as_often_as_the_others_in_all(shards, space):
    layout = Layout.of(space, TWO, np.arange(len(space.vocabularies["category_id"])))
    statistics = ColumnStatistics.of(shards, space, layout)
    options = replace(OPTIONS, linear_penalty=100.0, batch_rows=2)
    decay = training_loop.row_decay(layout, options, statistics)
    share = 1 - (1 - statistics.rows_of_column / statistics.rows) ** options.batch_rows
    seen = statistics.rows_of_column > 0
    assert np.ptp(share[seen]) > 0.01
    # How often a row changes times how strongly it is pulled each time is the same for all.
    pulled = decay["linear_weight"][seen] * share[seen]
    np.testing.assert_allclose(pulled, 100 / statistics.rows, rtol=1e-3)
    assert (decay["input_weight"] == options.weight_decay).all()


def test_without_validation_the_last_epoch_is_kept(shards, space):
    model = training.train(shards, None, space, TWO, OPTIONS)
    assert model.metrics["validation_log_loss"] is None
    assert model.calibration == {"kind": "none"}


def test_label_windows_may_not_reach_into_validation(shards, make_rows, space):
    early = [make_rows(100, 3, as_of_ms=TWO.horizon_ms - 1)]
    with pytest.raises(InputError, match=r"'customer 0' is in both: leave out the training rows"):
        training.train(shards, early, space, TWO, OPTIONS)


def test_validation_of_other_customers_may_lie_in_the_same_time(shards, make_rows, space):
    rows = make_rows(100, 3, as_of_ms=0)
    others = [replace(rows, customer_ids=[f"other {i}" for i in range(100)])]
    model = training.train(shards, others, space, TWO, OPTIONS)
    assert model.metrics["validation_log_loss"] > 0


@pytest.mark.parametrize("where", ["training", "validation"])
def test_no_rows_are_refused(where, shards, space):
    none = [shards[0].take(np.zeros(0, np.int64))]
    with pytest.raises(InputError):
        training.train(
            none if where == "training" else shards,
            none if where == "validation" else None,
            space, TWO, OPTIONS,
        )  # fmt: skip


def test_class_weights_must_match_the_classes(shards, space):
    with pytest.raises(ConfigError, match="class_weights"):
        training.train(shards, None, space, TWO, TrainingOptions(class_weights=(1.0,)))


@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
def test_class_weights_make_rare_classes_likelier(rule, make_rows, space, tmp_path):
    rows = make_rows(800, 1, rule=rule)
    shares = []
    for name, weights in (("even", ()), ("uneven", (1.0,) + (4.0,) * (rule.classes - 1))):
        options = replace(OPTIONS, class_weights=weights)
        model = training.train([rows], None, space, rule, options)
        shares.append(1 - scores(model, rows, tmp_path / name)[:, :, 0].mean())
    assert shares[1] > 1.5 * shares[0]


@pytest.mark.parametrize("epochs", [1, 8])
def test_divergence_is_an_error_not_a_model(epochs, make_rows, validation, space):
    rows = make_rows(200, 5)
    rows.matrix.data[7] = np.nan
    options = TrainingOptions(batch_rows=64, epochs=epochs, min_steps=0)
    for watched in (None, validation):
        with pytest.raises(InputError, match="diverged"):
            training.train([rows], watched, space, TWO, options)


def test_mxnet_never_falls_back_to_dense_storage_and_prints_nothing():
    """It says so once in a process, so a process of its own trains."""
    program = """
from tests.model import conftest as shop
from stream_scorer.model.spec import TrainingOptions
from stream_scorer.model import training
space = shop.space.__wrapped__()
rows = shop.shop_rows(space, 300, 1, as_of_ms=0)
later = shop.shop_rows(space, 300, 2, as_of_ms=30 * shop.DAY)
training.train([rows], [later], space, shop.TWO, TrainingOptions(epochs=1, min_steps=0))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fallback" not in done.stderr
    assert done.stdout + done.stderr == ""
