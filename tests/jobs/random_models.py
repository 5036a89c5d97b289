"""Models of random parameters for the declaration of a config, whole and spoilt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.model.golden_batch import GoldenBatch
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import Settings
from tests.model.other_golden import with_other_golden
from tests.model.symbol_json import symbol_json


def random_model(settings: Settings, seed: int) -> artefact.TrainedModel:
    """Of all four categories of the config's vocabulary."""
    space, rule, spec = settings.feature_space(), settings.label_rule(), NetworkSpec((4,))
    index = np.arange(4)
    layout, draw = Layout.of(space, rule, index), np.random.default_rng(seed)
    parameters = {
        name: draw.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    symbol = symbol_json(layout, spec)
    return artefact.TrainedModel(space, rule, index, spec, parameters, symbol)


def save_with_golden_batch(trained: artefact.TrainedModel, path: Path, seed: int = 1) -> None:
    rows = sparse.random(5, trained.space.width, 0.5, "csr", np.float32, seed)
    scores = open_engine(artefact.unsaved(trained), "native").score(rows)
    artefact.save(trained, path, golden=GoldenBatch(rows, scores))


def spoil_golden_scores(path: Path) -> None:
    """Other scores, with checksums that are right."""
    with_other_golden(path, lambda batch: GoldenBatch(batch.matrix, batch.scores[::-1]))


def flip(file: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))
