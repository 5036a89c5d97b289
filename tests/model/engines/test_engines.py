"""All engines score the same artefact alike, whatever the network and the batch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.model import artefact
from stream_scorer.model.engines.mxnet import MAX_BATCH_ROWS, MxnetEngine
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.engines.onnx import OnnxEngine
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.spec import NetworkSpec
from tests.model.conftest import CATEGORIES, THREE, TWO

SPECS = {
    "all": NetworkSpec(hidden=(9, 5), pooled=(6, 4)),
    "no hidden layer": NetworkSpec(hidden=(), pooled=(5,)),
    "plain": NetworkSpec(hidden=(16, 8, 4), own_path=False, pooled=()),
    "own path only": NetworkSpec(hidden=(7,), pooled=()),
    "pooled only": NetworkSpec(hidden=(7,), own_path=False, pooled=(4, 9, 3)),
}


@pytest.fixture
def loaded(make_model, tmp_path):
    def build(**keywords):
        artefact.save(make_model(**keywords), tmp_path / "m")
        return artefact.load(tmp_path / "m")

    return build


@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_engines_agree(loaded, make_matrix, rule, spec):
    model = loaded(rule=rule, spec=spec)
    matrix = make_matrix(150, 1)
    reference = MxnetEngine(model).score(matrix)
    scores = NativeEngine(model, threads=2).score(matrix)
    assert scores.shape == (150, 5, rule.classes)
    assert scores.dtype == reference.dtype == np.float32
    assert np.ptp(reference[:, :, 1]) > 0.1
    np.testing.assert_allclose(scores, reference, atol=1e-5)
    np.testing.assert_allclose(OnnxEngine(model, threads=2).score(matrix), reference, atol=1e-5)
    np.testing.assert_allclose(scores.sum(axis=2), 1, atol=1e-6)


def test_engines_agree_where_the_model_has_every_category(loaded, make_matrix):
    model = loaded(index=tuple(range(len(CATEGORIES))))
    matrix = make_matrix(20, 2)
    assert "category_index" not in model.parameters
    np.testing.assert_allclose(
        NativeEngine(model).score(matrix), MxnetEngine(model).score(matrix), atol=1e-5
    )


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 31, MAX_BATCH_ROWS, MAX_BATCH_ROWS + 1])
def test_a_row_scores_the_same_in_any_batch(loaded, make_matrix, rows):
    model = loaded()
    matrix = make_matrix(MAX_BATCH_ROWS + 1, 3)
    for engine in (MxnetEngine(model), NativeEngine(model), OnnxEngine(model)):
        whole = engine.score(matrix)
        some = engine.score(matrix[:rows])
        assert some.shape == (rows, 5, 2)
        np.testing.assert_allclose(some, whole[:rows], atol=1e-6)


def test_unknown_customers_and_extreme_values_have_probabilities(loaded, space):
    rows = np.zeros((3, space.width), np.float32)
    rows[1], rows[2] = 1e6, -1e6
    model = loaded()
    for engine in (MxnetEngine(model), NativeEngine(model), OnnxEngine(model)):
        scores = engine.score(sparse.csr_matrix(rows))
        assert ((scores >= 0) & (scores <= 1)).all()


def test_a_matrix_of_another_width_is_refused(loaded):
    model = loaded()
    for engine in (MxnetEngine(model), NativeEngine(model), OnnxEngine(model)):
        with pytest.raises(ValueError, match="columns"):
            engine.score(sparse.csr_matrix((1, 3), dtype=np.float32))


@pytest.mark.parametrize("column", [-1, 10**9])
def test_a_column_beyond_the_matrix_is_refused(loaded, space, column):
    """scipy takes any indices; a compiled loop would read memory of something else."""
    matrix = sparse.csr_matrix((2, space.width), dtype=np.float32)
    matrix.indptr, matrix.indices = np.array([0, 1, 1]), np.array([column])
    matrix.data = np.ones(1, np.float32)
    model = loaded()
    for engine in (MxnetEngine(model), NativeEngine(model), OnnxEngine(model)):
        with pytest.raises(ValueError, match=f"{column}.* columns 0 to {space.width - 1}"):
            engine.score(matrix)


def test_engines_say_what_they_score(loaded, space):
    model = loaded()
    for engine in (MxnetEngine(model), NativeEngine(model), OnnxEngine(model)):
        engine.warm_up(4)
        assert engine.categories == model.manifest.categories
        assert engine.classes == 2
        assert engine.model_version == model.manifest.model_version
        assert engine.fingerprint == space.fingerprint


def test_the_symbol_takes_dense_input_too(loaded, make_matrix):
    """As DJL and others may feed it."""
    model = loaded()
    matrix = make_matrix(6, 4)
    arguments = {k: mx.nd.array(v, dtype=np.float32) for k, v in model.parameters.items()}
    arguments["data"] = mx.nd.array(matrix.toarray(), dtype=np.float32)
    executor = mx.sym.load_json(model.symbol_json).bind(mx.cpu(), arguments, grad_req="null")
    (scores,) = executor.forward()
    np.testing.assert_allclose(scores.asnumpy(), MxnetEngine(model).score(matrix), atol=1e-6)


def run_python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_the_native_engine_does_not_import_mxnet():
    program = (
        "import sys, stream_scorer.model.engines.native, stream_scorer.model.artefact\n"
        "print('mxnet' in sys.modules)"
    )
    assert run_python(program) == "False"


def test_importing_mxnet_leaves_no_signal_handler():
    caught = "[l for l in open('/proc/self/status') if l.startswith('SigCgt')][0].split()[1]"
    program = (
        "import numpy, signal, faulthandler\n"
        "faulthandler.enable()\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        f"before = {caught}\n"
        "import stream_scorer.model.mxnet_loader\n"
        f"print((int(before, 16) ^ int({caught}, 16)) & 0x7fffffff)"
    )
    assert run_python(program) == "0"
