"""Finite weights and values may overflow inside the network: no engine gives NaN away."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import ENGINES, open_engine, score_chosen


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


@pytest.mark.filterwarnings("error")
def test_what_is_chosen_of_scores_that_are_not_numbers_is_refused(
    make_model, make_matrix, tmp_path
):
    model = make_model()
    model.parameters["input_weight"][:] = 3e38
    artefact.save(model, tmp_path / "m")
    engine = open_engine(artefact.load(tmp_path / "m"), "native")
    with pytest.raises(ArtefactError, match="numbers that are not probabilities"):
        score_chosen(engine, make_matrix(300, 4), PublishPolicy())
