"""A model for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.model import artefact
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.live.pipeline_parts import CATEGORIES, SPACE
from tests.model.symbol_json import symbol_json


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> NativeEngine:
    """A model of random parameters."""
    path: Path = tmp_path_factory.mktemp("model") / "m"
    rule, spec = LabelRule("category_id", (("purchase",),), 1), NetworkSpec((4,), 0.0, True, (3,))
    index = np.arange(len(CATEGORIES))
    layout, draw = Layout.of(SPACE, rule, index), np.random.default_rng(1)
    parameters = {
        name: draw.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    symbol = symbol_json(layout, spec)
    artefact.save(TrainedModel(SPACE, rule, index, spec, parameters, symbol), path)
    return NativeEngine(artefact.load(path, SPACE.fingerprint))
