"""Finite weights and values may overflow inside the network: no engine gives NaN away."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import ENGINES, open_engine


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.filterwarnings("error")
def test_weights_that_overflow_are_refused(make_model, make_matrix, tmp_path, name):
    model = make_model()
    model.parameters["input_weight"][:] = 3e38
    artefact.save(model, tmp_path / "m")
    engine = open_engine(artefact.load(tmp_path / "m"), name)
    with pytest.raises(ArtefactError, match="numbers that are not probabilities"):
        engine.score(make_matrix(300, 4))


@pytest.mark.parametrize("name", ENGINES)
def test_values_that_overflow_are_refused(make_model, make_matrix, tmp_path, name):
    artefact.save(make_model(), tmp_path / "m")
    engine = open_engine(artefact.load(tmp_path / "m"), name)
    matrix = make_matrix(300, 4)
    assert np.isfinite(engine.score(matrix)).all()
    matrix.data[-5:] = 3e38
    with pytest.raises(ArtefactError, match="numbers that are not probabilities"):
        engine.score(matrix)
