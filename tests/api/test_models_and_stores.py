"""Training, scoring and the live store through the public names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

import stream_scorer as ss
from stream_scorer.core.labels.labels import dense_labels
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.jobs.replay import rebuild
from stream_scorer.jobs.score import score
from tests.api.conftest import DAY_MS, START_MS, Shop

LATE = START_MS + 100 * DAY_MS


@pytest.fixture(scope="module")
def model(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> ss.Model:
    out = tmp_path_factory.mktemp("models") / "m"
    return ss.train(shop.settings, [shop.train], out, validation=shop.test)


def test_scores_are_those_of_the_command_line(model: ss.Model, shop: Shop, tmp_path: Path) -> None:
    score(model.path, shop.test, tmp_path / "scores.parquet")
    written = pq.read_table(tmp_path / "scores.parquet")
    (rows,) = ss.open_snapshot(shop.test).shards()
    scores = model.score(rows.matrix)
    assert scores.shape == (len(rows), 4, 2)
    assert scores.dtype == np.float32
    expected = np.array(written["probabilities"].to_pylist(), np.float32)
    assert scores[:, :, 1].tobytes() == expected.tobytes()


def test_propensities_are_the_best_categories_of_each_row(model: ss.Model, shop: Shop) -> None:
    (rows,) = ss.open_snapshot(shop.test).shards()
    table = model.propensities(rows.matrix, top_k=2)
    scores = model.score(rows.matrix)[:, :, 1]
    assert table["row"].to_pylist() == np.repeat(np.arange(len(rows)), 2).tolist()
    best = np.argsort(-scores, axis=1, kind="stable")[:, :2]
    expected = [model.categories[n] for n in best.ravel().tolist()]
    assert table["category_id"].to_pylist() == expected
    assert np.array_equal(table["probability"], np.take_along_axis(scores, best, 1).ravel())
    assert set(table["class"].to_pylist()) == {1}


def test_a_model_says_what_it_is(model: ss.Model, shop: Shop) -> None:
    assert model.categories == ("bread", "milk", "soup", "tea")
    assert model.feature_space.fingerprint == shop.settings.feature_space().fingerprint
    assert model.model_version in repr(model)


def test_evaluation_takes_a_model_or_its_path(model: ss.Model, shop: Shop) -> None:
    found = ss.evaluate(model, shop.test)
    assert isinstance(found, ss.Evaluation)
    assert found.metrics.macro_auc is not None
    assert found.baselines["prior"].macro_auc == 0.5
    assert found == ss.evaluate(str(model.path), [shop.test])


def test_rows_of_ones_own_train_the_model_of_their_snapshot(shop: Shop, tmp_path: Path) -> None:
    """The same rows, in memory or as files, give the same parameters."""
    (rows,) = ss.open_snapshot(shop.train).shards()
    labels = dense_labels(rows, np.arange(4))
    assert labels.any()
    own = ss.labelled_rows(rows.matrix, labels, rows.customer_ids, rows.as_of_ms.tolist())
    from_rows = ss.train(shop.settings, own, tmp_path / "rows")
    from_files = ss.train(shop.settings, shop.train, tmp_path / "files")
    assert from_rows.model_version == from_files.model_version


def test_a_model_has_the_card_that_its_training_wrote(
    model: ss.Model, shop: Shop, tmp_path: Path
) -> None:
    """Of rows in memory nobody knows of which kind their moments are."""
    card = model.card
    assert card is not None
    assert card["model_version"] == model.model_version
    assert [part["part"] for part in card["quality"]["by_moment"]] == ["cutoff"]
    (rows,) = ss.open_snapshot(shop.train).shards()
    (later,) = ss.open_snapshot(shop.test).shards()
    own = ss.train(shop.settings, rows, tmp_path / "m", validation=later).card
    assert own is not None
    assert own["quality"]["overall"] == card["quality"]["overall"]
    assert own["quality"]["by_moment"] == own["training"]["moments"] == []
    assert own["training"]["rows"] == card["training"]["rows"] == len(rows)


@pytest.mark.mxnet
def test_wrong_rows_are_refused_in_words(shop: Shop, tmp_path: Path) -> None:
    width = shop.settings.feature_space().width
    matrix = sparse.random(3, width, 0.5, "csr", np.float32, random_state=0)
    ids = ["a", "b", "c"]
    with pytest.raises(ss.InputError, match="one for each of the 3"):
        ss.labelled_rows(matrix, np.zeros((3, 4), np.uint8), ids[:2], LATE)
    with pytest.raises(ss.InputError, match="whole class numbers"):
        ss.labelled_rows(matrix, np.full((3, 4), -1), ids, LATE)
    for labels, columns, said in (
        (np.full((3, 4), 2), width, "classes up to 1"),
        (np.ones((3, 5)), width, "has 4 entries"),
        (np.ones((3, 4)), width - 1, f"features have {width}"),
    ):
        rows = ss.labelled_rows(matrix[:, :columns], labels, ids, LATE)
        with pytest.raises(ss.InputError, match=said):
            ss.train(shop.settings, rows, tmp_path / "m")


def test_wrong_matrices_and_engines_are_refused(model: ss.Model) -> None:
    with pytest.raises(ss.InputError, match=r"make rows of model\.feature_space"):
        model.score(sparse.csr_matrix((1, 3), dtype=np.float32))
    with pytest.raises(ss.InputError, match="choose mxnet, native or onnx"):
        ss.load_model(model.path, engine="torch")
    with pytest.raises(ss.ArtefactError, match=r"no-such-model.*there is no model"):
        ss.load_model("no-such-model")


def test_vectors_of_the_store_are_the_features_of_the_same_events(shop: Shop) -> None:
    with EmbeddedRedis() as server:
        redis = shop.settings.redis.model_copy(update={"url": server.url})
        settings = shop.settings.model_copy(update={"redis": redis})
        rebuild(settings, [shop.events], "built")
        built = settings.store.model_copy(update={"namespace": "built"})
        settings = settings.model_copy(update={"store": built})
        space = settings.feature_space()
        with ss.open_store(settings) as store:
            found = store.vectors(["c5", "nobody", "c2"], as_of=LATE)
            own = store.vectors(["c5", "nobody"])
            with pytest.raises(ss.InputError, match="the newest event, or later"):
                store.vectors(["c5"], as_of=START_MS)
            empty = store.vectors([])
    assert empty.matrix.shape == (0, space.width)
    assert found.matrix[1].nnz == 0
    assert found.as_of.astype("int64")[[0, 2]].tolist() == [LATE, LATE]
    assert np.isnat(found.as_of).tolist() == [False, True, False]
    # Events of a customer are in another order there, so sums are equal to rounding alone.
    expected, _ = ss.features_at(shop.events, space, [("c5", LATE), ("c2", LATE)])
    np.testing.assert_allclose(found.matrix[[0, 2]].toarray(), expected.toarray(), rtol=1e-5)
    newest = max(
        row["occurred_at"]
        for row in ss.read_events(shop.events).to_pylist()
        if row["customer_id"] == "c5"
    )
    assert own.as_of[0] == np.datetime64(newest.replace(tzinfo=None), "ms")
    assert np.isnat(own.as_of[1])


def test_a_store_that_does_not_answer_says_so(shop: Shop) -> None:
    redis = shop.settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    settings = shop.settings.model_copy(update={"redis": redis})
    with ss.open_store(settings) as store, pytest.raises(ss.StoreUnavailable):
        store.vectors(["a"])
