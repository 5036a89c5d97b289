"""Each path's share of a logit: they sum to the engine's, and are those of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.errors import InputError
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.engines.shares import shares
from stream_scorer.model.spec import NetworkSpec
from tests.model import reference_network
from tests.model.conftest import THREE, TWO
from tests.model.engines.test_native_network import (
    FIRST_DAY,
    SOME,
    SPECS,
    TREND,
    WITHOUT_TREND,
    model_of,
    random_table,
    space_of,
    with_days,
)

EVERYTHING = NetworkSpec((9, 5), 0.0, True, (6, 4), "history", 3, 2)


@pytest.mark.parametrize("rule", [TWO, THREE], ids=["two classes", "three classes"])
def test_shares_sum_to_the_logit_of_the_engines_probability_and_are_the_references(rule):
    space, table = space_of(*WITHOUT_TREND, TREND), random_table()
    matrix, day = with_days(space, 3)
    for spec in SPECS:
        model = model_of(space, rule, spec, SOME)
        engine = NativeEngine(model, threads=1)
        engine.use_trend(table)
        scores = engine.score(matrix)
        paths = reference_network.paths(
            model.layout, spec, model.parameters, matrix, table.contrasts[day - FIRST_DAY]
        )
        scale = model.parameters["calibration_scale"][0]
        for row in range(3):
            found = shares(model, matrix[row], table)
            # A probability near 1 is a float32 that has not enough digits for a logit's.
            odds = np.exp(np.pad(sum(found.values()), ((0, 0), (1, 0))))
            probabilities = odds / odds.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(scores[row], probabilities, atol=1e-6, err_msg=f"{spec}")
            assert set(found) == {*paths, "calibration"}
            for name, share in paths.items():
                np.testing.assert_allclose(found[name], share[row] * scale, atol=1e-6)


def test_only_one_row_of_the_models_columns_is_explained():
    space = space_of(*WITHOUT_TREND)
    model = model_of(space, TWO, EVERYTHING, SOME)
    for rows, columns in ((2, space.width), (1, 3)):
        with pytest.raises(InputError, match=f"row: '{rows} rows of {columns} columns': give one"):
            shares(model, sparse.csr_matrix((rows, columns), dtype=np.float32))


def test_a_model_with_trend_needs_the_trend_to_be_explained():
    space = space_of(*WITHOUT_TREND, TREND)
    matrix, _ = with_days(space, 1)
    with pytest.raises(InputError, match="the model was trained with one"):
        shares(model_of(space, TWO, EVERYTHING, SOME), matrix)
