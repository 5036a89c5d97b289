"""The golden batch: stored with its scores, compared before serving, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact, golden_batch, params_file
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.engines.engine import ENGINES, open_engine
from stream_scorer.model.engines.golden import TOLERANCE, check_golden_batch, golden_batch_of
from stream_scorer.model.golden_batch import GoldenBatch, from_bytes, rows_of, to_bytes
from stream_scorer.model.spec import Layout
from tests.model.other_golden import with_other_golden

MakeRows = Callable[..., LabelledRows]


@pytest.fixture
def saved(make_model: Callable[..., TrainedModel], make_rows: MakeRows, tmp_path: Path) -> Path:
    model = make_model()
    golden = golden_batch_of(model, [make_rows(200, 4)])
    artefact.save(model, tmp_path / "model", golden=golden)
    return tmp_path / "model"


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_scores_the_golden_batch_as_training_did(saved: Path, name: str) -> None:
    loaded = artefact.load(saved)
    assert check_golden_batch(open_engine(loaded, name), loaded)  # type: ignore[arg-type]


def test_its_rows_are_rows_of_the_snapshot_without_customer_ids(
    saved: Path, make_rows: MakeRows
) -> None:
    batch = artefact.golden_batch(artefact.load(saved))
    assert batch is not None
    assert batch.matrix.shape[0] == golden_batch.MOST_ROWS
    given = {tuple(row) for row in make_rows(200, 4).matrix.toarray().tolist()}
    assert {tuple(row) for row in batch.matrix.toarray().tolist()} <= given
    assert b"customer" not in (saved / artefact.GOLDEN_FILE).read_bytes()


@pytest.mark.parametrize("by", [2 * TOLERANCE, -0.3])
def test_scores_that_differ_are_refused_with_the_difference(saved: Path, by: float) -> None:
    def moved(batch: GoldenBatch) -> GoldenBatch:
        scores = batch.scores.copy()
        scores[3, 1, 1] += by
        return GoldenBatch(batch.matrix, scores)

    loaded = with_other_golden(saved, moved)
    with pytest.raises(ArtefactError, match="scores its rows differently than training did"):
        check_golden_batch(open_engine(loaded, "native"), loaded)


def test_a_spoilt_byte_or_a_missing_file_is_one_clear_line(saved: Path) -> None:
    loaded, file = artefact.load(saved), saved / artefact.GOLDEN_FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"golden-batch\.params.*SHA-256 is not the manifest's"):
        artefact.golden_batch(loaded)
    file.unlink()
    with pytest.raises(ArtefactError, match=r"golden-batch\.params.*is missing"):
        artefact.golden_batch(loaded)


def test_a_golden_batch_of_another_model_is_refused(saved: Path) -> None:
    loaded = with_other_golden(saved, lambda b: GoldenBatch(b.matrix, b.scores[:, :3]))
    with pytest.raises(ArtefactError, match="not rows and scores of this model"):
        artefact.golden_batch(loaded)


def test_an_artefact_without_one_is_loaded_and_not_compared(
    make_model: Callable[..., TrainedModel], tmp_path: Path
) -> None:
    artefact.save(make_model(), tmp_path / "old")
    loaded = artefact.load(tmp_path / "old")
    assert not check_golden_batch(open_engine(loaded, "native"), loaded)


def test_it_is_no_part_of_the_models_version(
    saved: Path, make_model: Callable[..., TrainedModel], tmp_path: Path
) -> None:
    without = artefact.save(make_model(), tmp_path / "without")
    assert artefact.load(saved).manifest.model_version == without.model_version


def test_what_scores_alone_loads_the_artefact_without_its_file(saved: Path) -> None:
    """As Spark's workers do, which get the files that scoring needs."""
    (saved / artefact.GOLDEN_FILE).unlink()
    assert artefact.load(saved).manifest.files.keys() >= {artefact.GOLDEN_FILE}


def shard(matrix: sparse.csr_matrix) -> LabelledRows:
    rows = matrix.shape[0]
    none = np.zeros(0)
    return LabelledRows(
        [""] * rows, np.zeros(rows, np.int64), matrix, np.zeros(rows + 1, np.int64),
        none.astype(np.uint32), none.astype(np.uint8),
    )  # fmt: skip


def test_it_is_bounded_by_scores_and_entries_and_has_one_row_at_least() -> None:
    wide = shard(sparse.random(100, 5000, 0.5, format="csr", dtype=np.float32, random_state=1))
    few = rows_of([wide], golden_batch.MOST_SCORES // 3)
    assert few is not None
    assert few.shape[0] == 3
    one = rows_of([wide], 10 * golden_batch.MOST_SCORES)
    assert one is not None
    assert one.shape[0] == 1
    dense = shard(sparse.csr_matrix(np.ones((64, 20_000), np.float32)))
    some = rows_of([dense], 2)
    assert some is not None
    assert some.nnz <= golden_batch.MOST_ENTRIES < some.nnz + 20_000


def test_empty_rows_and_too_many_columns_give_none(space: FeatureSpace) -> None:
    assert rows_of([shard(sparse.csr_matrix((4, space.width), dtype=np.float32))], 2) is None
    columns = golden_batch.LARGEST_WHOLE + 1
    entry = ([1.0], ([0], [columns - 1]))
    assert rows_of([shard(sparse.csr_matrix(entry, (1, columns), np.float32))], 2) is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("indptr", [0, 3]), ("indptr", [1, 2]), ("columns", [0, 9]), ("columns", [0.5, 1]),
        ("columns", [-1, 1]), ("values", [1]), ("values", [np.nan, 1]), ("scores", [0.5]),
    ],
)  # fmt: skip
def test_arrays_that_contradict_each_other_are_refused(name: str, values: list[float]) -> None:
    batch = GoldenBatch(
        sparse.csr_matrix(np.array([[2, 3]], np.float32)), np.full((1, 1, 2), 0.5, np.float32)
    )
    layout = Layout(columns=2, vocabulary=1, category_index=(0,), classes=2, own=(), customer=())
    content = to_bytes(batch)
    same = from_bytes(content, layout)
    np.testing.assert_array_equal(same.matrix.toarray(), batch.matrix.toarray())
    arrays = params_file.read(content) | {name: np.array(values, np.float32)}
    with pytest.raises(params_file.ParamsFileError, match="not rows and scores"):
        from_bytes(params_file.write(arrays), layout)
