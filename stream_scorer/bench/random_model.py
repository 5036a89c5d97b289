"""A model of random weights, for measuring what scoring costs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from stream_scorer.bench.workload import RULE
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.model import artefact
from stream_scorer.model.artefact import Artefact, TrainedModel
from stream_scorer.model.spec import Layout, NetworkSpec


def random_model(space: FeatureSpace, network: NetworkSpec, entries: int) -> Artefact:
    """An artefact for all categories of `space`, loaded; entries: of a row.

    None of its weights are all zero, so that every path has a share. Categories are as unlike each
    other as those of a shop, so that which are the best is soon known.
    """
    from stream_scorer.model import inference_network, network_parameters  # noqa: PLC0415 - imports MXNet

    categories = len(space.vocabularies[RULE.by])
    index = np.arange(categories)
    layout = Layout.of(space, RULE, index)
    draw = np.random.default_rng(5)
    parameters: dict[str, Float32] = network_parameters.initial_parameters(
        layout, network, head_bias=draw.normal(-3, 1, categories).astype(np.float32),
        entries_per_row=entries, seed=0,
    )  # fmt: skip
    for name, array in parameters.items():
        if not array.any():
            parameters[name] = draw.normal(0, 0.1, array.shape).astype(np.float32)
    symbol = inference_network.inference_symbol(layout, network).tojson()
    with tempfile.TemporaryDirectory(prefix="stream-scorer-bench-") as folder:
        path = Path(folder) / "model"
        artefact.save(TrainedModel(space, RULE, index, network, parameters, symbol), path)
        return artefact.load(path)
