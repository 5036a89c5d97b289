"""ONNX Runtime scores the network that reference_network.py writes out, for every kind of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from scipy import sparse

from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import ArtefactError, InputError
from stream_scorer.model import onnx_file
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines import onnx as onnx_engine
from stream_scorer.model.engines.engine import engines_here
from stream_scorer.model.engines.onnx import OnnxEngine
from stream_scorer.model.engines.trend_days import table_rows
from stream_scorer.model.manifest import FORMAT, Manifest
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.model.conftest import CATEGORIES, THREE, TWO, with_trend
from tests.model.reference_network import probabilities

MakeMatrix = Callable[[int, int], sparse.csr_matrix]
MakeArtefact = Callable[..., Artefact]
SOME, ALL = (0, 2, 3, 7, 11), tuple(range(len(CATEGORIES)))
SPECS = {
    "all pairs": NetworkSpec((9, 5), pooled=(6, 4)),
    "no hidden layer": NetworkSpec((), pooled=(5,)),
    "deep path alone": NetworkSpec((16, 8, 4), own_path=False, pooled=()),
    "own path alone": NetworkSpec((7,), pooled=()),
    "pooled path alone": NetworkSpec((7,), own_path=False, pooled=(4, 9, 3)),
    "pairs with history": NetworkSpec((9, 5), pooled=(6, 4), pairs="history"),
    "tower": NetworkSpec((9, 5), pooled=(6,), pairs="history", tower=3),
    "linear": NetworkSpec((9,), pooled=(6,), linear_rank=3),
    "everything": NetworkSpec((9, 5), pooled=(6, 4), pairs="history", tower=3, linear_rank=3),
    "everything but hidden layers": NetworkSpec((), pairs="history", tower=3, linear_rank=3),
}


@pytest.fixture
def make_artefact(space: FeatureSpace) -> MakeArtefact:
    """A checked artefact's contents, of random parameters; its symbol is missing: MXNet's alone."""

    def make(
        rule: LabelRule = TWO, network: NetworkSpec | None = None, index: tuple[int, ...] = SOME,
        trend: bool = False,
    ) -> Artefact:  # fmt: skip
        network = network or SPECS["everything"]
        layout = Layout.of(space, rule, np.array(index))
        layout = with_trend(layout) if trend else layout
        draw = np.random.default_rng(3)
        parameters = {
            name: draw.normal(0, 0.3, shape).astype(np.float32)
            for name, shape in layout.shapes(network).items()
        }
        parameters["calibration_scale"] += 1
        for name in {"input_weight", "linear_weight"} & {*parameters}:
            parameters[name][list(layout.trend)] = 0  # a day may not reach them
        named = tuple(CATEGORIES[i] for i in index)
        manifest = Manifest(
            FORMAT, "ab" * 8, space.fingerprint_hex, space.declaration(), named, index, rule,
            rule.classes, network, {}, {}, {}, {}, {},
        )  # fmt: skip
        return Artefact(Path("model"), manifest, layout, parameters, "")

    return make


def with_empty_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    empty = sparse.csr_matrix((2, matrix.shape[1]), dtype=np.float32)
    return sparse.csr_matrix(sparse.vstack([empty, matrix, empty]))


@pytest.mark.parametrize("index", [SOME, ALL], ids=["some categories", "all categories"])
@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("network", SPECS.values(), ids=SPECS)
def test_every_network_is_scored_as_the_reference_says(
    make_artefact: MakeArtefact, make_matrix: MakeMatrix, network: NetworkSpec, rule: LabelRule,
    index: tuple[int, ...],
) -> None:  # fmt: skip
    made = make_artefact(rule, network, index)
    matrix = with_empty_rows(make_matrix(60, 1))
    scores = OnnxEngine(made, threads=2).score(matrix)
    expected = probabilities(made.layout, network, made.parameters, matrix)
    assert scores.shape == (64, len(index), rule.classes)
    assert scores.dtype == np.float32
    assert np.ptp(expected[:, :, 1]) > 0.1
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("index", [SOME, ALL], ids=["some categories", "all categories"])
@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("name", ["all pairs", "own path alone", "everything"])
def test_a_trend_is_scored_as_the_reference_says(
    make_artefact: MakeArtefact, make_matrix: MakeMatrix, rule: LabelRule, index: tuple[int, ...],
    name: str,
) -> None:  # fmt: skip
    made = make_artefact(rule, SPECS[name], index, trend=True)
    draw = np.random.default_rng(9)
    contrasts = draw.normal(0, 1, (6, 3, len(CATEGORIES))).astype(np.float32)
    day = draw.integers(0, 6, 40)
    column = (20_000 + day).astype(np.float32)[:, None]
    matrix = sparse.csr_matrix(sparse.hstack([make_matrix(40, 5), column], "csr", np.float32))
    engine = OnnxEngine(made)
    engine.warm_up(8)
    with pytest.raises(InputError, match="use_trend"):
        engine.score(matrix)
    engine.use_trend(TrendTable(20_000, contrasts))
    expected = probabilities(made.layout, SPECS[name], made.parameters, matrix, contrasts[day])
    np.testing.assert_allclose(engine.score(matrix), expected, rtol=0, atol=1e-5)
    without_day = matrix.copy()
    without_day.data[matrix.indices == made.layout.trend[0]] = 0
    without_day.eliminate_zeros()
    first = np.zeros(40, np.int64)
    expected = probabilities(made.layout, SPECS[name], made.parameters, matrix, contrasts[first])
    np.testing.assert_allclose(engine.score(without_day), expected, rtol=0, atol=1e-5)


def test_a_row_scores_the_same_in_any_batch(
    make_artefact: MakeArtefact, make_matrix: MakeMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a batch has to be scored in several runs, for memory."""
    matrix = with_empty_rows(make_matrix(300, 3))
    engine = OnnxEngine(make_artefact())
    whole = engine.score(matrix)
    for rows in (0, 1, 7, 64, 303):
        some = engine.score(matrix[:rows])
        assert some.shape == (rows, len(SOME), 2)
        np.testing.assert_allclose(some, whole[:rows], rtol=0, atol=1e-6)
    runs: list[int] = []
    padded = onnx_engine.padded

    def counted(piece: sparse.csr_matrix) -> Any:
        runs.append(piece.shape[0])
        return padded(piece)

    monkeypatch.setattr(onnx_engine, "padded", counted)
    monkeypatch.setattr(onnx_engine, "MOST_NUMBERS", 5_000)
    np.testing.assert_allclose(engine.score(matrix), whole, rtol=0, atol=1e-6)
    assert sum(runs) == 304
    assert len(runs) > 10


@pytest.mark.parametrize("name", ["everything", "no hidden layer"])
def test_one_long_row_does_not_make_all_rows_long(make_artefact: MakeArtefact, name: str) -> None:
    """Also where no weights are gathered for its entries: they themselves are in a dense array."""
    engine = OnnxEngine(make_artefact(network=SPECS[name]))
    entries = np.full(1024, 10)
    entries[500] = 5_000_000
    assert engine._rows_that_fit(entries) == 500
    assert engine._rows_that_fit(entries[500:]) == 1


def test_trends_of_categories_that_the_model_has_not_take_memory_too(
    make_artefact: MakeArtefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OnnxEngine(make_artefact(network=SPECS["own path alone"], index=(0,), trend=True))
    monkeypatch.setattr(onnx_engine, "MOST_NUMBERS", 10 * 3 * len(CATEGORIES))
    assert engine._rows_that_fit(np.ones(1024, np.int64)) == 10


def test_rows_are_scored_with_the_trend_that_was_checked(
    make_artefact: MakeArtefact, make_matrix: MakeMatrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may bring a newer one meanwhile."""
    engine = OnnxEngine(make_artefact(trend=True))
    draw = np.random.default_rng(9)
    old, new = (
        TrendTable(day, draw.normal(0, 1, (1, 3, len(CATEGORIES))).astype(np.float32))
        for day in (20_000, 20_001)
    )
    day = np.full((40, 1), 20_000, np.float32)
    matrix = sparse.csr_matrix(sparse.hstack([make_matrix(40, 5), day], "csr", np.float32))
    engine.use_trend(old)
    expected = engine.score(matrix)

    def then_a_newer_one(*arguments: Any) -> Any:
        rows = table_rows(*arguments)
        engine.use_trend(new)
        return rows

    monkeypatch.setattr(onnx_engine, "table_rows", then_a_newer_one)
    np.testing.assert_array_equal(engine.score(matrix), expected)


def test_entries_of_one_column_that_stand_twice_are_added(
    make_artefact: MakeArtefact, space: FeatureSpace
) -> None:
    made = make_artefact()
    columns = np.array([5, 5, 1, 1])
    twice = sparse.csr_matrix(
        (np.array([1, 2, 3, 4], np.float32), columns, [0, 4]), shape=(1, space.width)
    )
    once = twice.copy()
    once.sum_duplicates()
    assert once.nnz == 2
    engine = OnnxEngine(made)
    np.testing.assert_allclose(engine.score(twice), engine.score(once), rtol=0, atol=1e-6)


@pytest.mark.parametrize("column", [-1, 10**9])
def test_a_column_beyond_the_matrix_is_refused(
    make_artefact: MakeArtefact, space: FeatureSpace, column: int
) -> None:
    """ONNX counts negative indices from the end."""
    matrix = sparse.csr_matrix((2, space.width), dtype=np.float32)
    matrix.indptr, matrix.indices = np.array([0, 1, 1]), np.array([column])
    matrix.data = np.ones(1, np.float32)
    with pytest.raises(ValueError, match=f"{column}.* columns 0 to {space.width - 1}"):
        OnnxEngine(make_artefact()).score(matrix)


def fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message, by number."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(content):
        number, kind = divmod(varint(), 8)
        size = varint()
        if kind == 2:
            yield number, content[at : at + size]
            at += size


def test_the_file_names_its_model_and_holds_a_checksum_of_its_graph(
    make_artefact: MakeArtefact,
) -> None:
    made = make_artefact()
    content = onnx_file.to_bytes(made)
    assert content == onnx_file.to_bytes(made)
    onnx.checker.check_model(content, full_check=True)
    about = {p.key: p.value for p in onnx.load_from_string(content).metadata_props}
    (graph,) = (value for number, value in fields(content) if number == onnx_file.GRAPH_FIELD)
    assert about == {
        "stream_scorer.model_version": made.manifest.model_version,
        "stream_scorer.fingerprint": made.manifest.fingerprint,
        "stream_scorer.categories": json.dumps(made.manifest.categories),
        "stream_scorer.classes": "2",
        "stream_scorer.columns": str(made.layout.columns),
        "stream_scorer.graph_sha256": hashlib.sha256(graph).hexdigest(),
    }


def test_a_network_that_no_onnx_file_holds_is_refused(
    make_artefact: MakeArtefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph has more arrays than the artefact has parameters: a position for each column."""
    made = make_artefact(network=SPECS["own path alone"])
    weights = sum(array.nbytes for array in made.parameters.values())
    for most_bytes in (1_000, weights + 3 * made.layout.columns):
        monkeypatch.setattr(onnx_file, "MOST_BYTES", most_bytes)
        with pytest.raises(ArtefactError, match="more than 2 GB of weights"):
            onnx_file.to_bytes(made)
    monkeypatch.setattr(onnx_file, "MOST_BYTES", weights + 5 * made.layout.columns + 1_000)
    assert onnx_file.to_bytes(made)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_absent_packages_are_one_clear_error(absent: str) -> None:
    program = f"import sys; sys.modules[{absent!r}] = None\nimport stream_scorer.model.engines.onnx"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"stream_scorer.errors.ConfigError: {absent}: ")
    assert "pip install 'stream-scorer[onnx]'" in last


def test_the_engine_is_here_only_with_both_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "onnx" in engines_here()
    for absent in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setattr(
                "stream_scorer.model.engines.engine.find_spec",
                lambda name, a=absent: None if name == a else find_spec(name),
            )
            assert "onnx" not in engines_here()
