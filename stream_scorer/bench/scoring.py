"""`bench score`: customers a second of the two engines, of the same network in PyTorch, and of the
native engine at the size of a large shop."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from stream_scorer.bench import shop, torch_network
from stream_scorer.bench.timing import Findings, rates
from stream_scorer.bench.workload import PLAIN, RULE, Sizes, rows_of, space_of
from stream_scorer.core.features.state import Float32
from stream_scorer.model import artefact
from stream_scorer.model.artefact import Artefact, TrainedModel
from stream_scorer.model.engines.engine import open_engine, score_chosen
from stream_scorer.model.spec import Layout, NetworkSpec

STAGE = "score"
ENGINES: tuple[Literal["native", "mxnet"], ...] = ("native", "mxnet")


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    matrix = rows_of(sizes, sizes.batch_rows, seed=2).matrix
    networks = {"hidden 256-128": PLAIN, "default network": NetworkSpec()}
    for name, spec in networks.items():
        case = f"F={sizes.columns:,} N={sizes.categories:,} {name} batch {sizes.batch_rows:,}"
        model = random_model(sizes, spec)
        medians: dict[str, float] = {}
        for engine in ENGINES:
            score = partial(open_engine(model, engine).score, matrix)
            found = rates(score, sizes.batch_rows, sizes.runs)
            medians[engine] = findings.add(STAGE, f"{case}, {engine}", "customers/s", found)
        if spec is not PLAIN:
            findings.ratios["score_default_native_vs_mxnet"] = medians["native"] / medians["mxnet"]
            continue
        findings.ratios["score_native_vs_mxnet"] = medians["native"] / medians["mxnet"]
        if not torch_network.available():
            findings.notes.append(torch_network.MISSING.format(ratio="score_native_vs_torch"))
            continue
        theirs = torch_network.scoring_rates(sizes, matrix)
        median = findings.add(STAGE, f"{case}, torch", "customers/s", theirs)
        findings.ratios["score_native_vs_torch"] = medians["native"] / median
        top = partial(score_chosen, open_engine(model, "native"), matrix, shop.TOP_TEN)
        found = rates(top, sizes.batch_rows, sizes.runs)
        ours = findings.add(STAGE, f"{case}, native, ten best", "customers/s", found)
        theirs = torch_network.scoring_rates(sizes, matrix, shop.TOP_TEN.top_k)
        median = findings.add(STAGE, f"{case}, torch, ten best", "customers/s", theirs)
        findings.ratios["score_ten_best_native_vs_torch"] = ours / median
    shop.measure_scoring(STAGE, sizes, findings)


def random_model(sizes: Sizes, spec: NetworkSpec) -> Artefact:
    """An artefact of random weights, loaded."""
    from stream_scorer.model import inference_network, network_parameters  # noqa: PLC0415 - imports MXNet

    space, index = space_of(sizes), np.arange(sizes.categories)
    layout = Layout.of(space, RULE, index)
    # As unlike each other as the categories of a shop: which are the best is then soon known.
    bias = np.random.default_rng(5).normal(-3, 1, sizes.categories).astype(np.float32)
    parameters: dict[str, Float32] = network_parameters.initial_parameters(
        layout, spec, head_bias=bias, entries_per_row=sizes.entries, seed=0
    )
    symbol = inference_network.inference_symbol(layout, spec).tojson()
    with tempfile.TemporaryDirectory(prefix="stream-scorer-bench-") as folder:
        path = Path(folder) / "model"
        artefact.save(TrainedModel(space, RULE, index, spec, parameters, symbol), path)
        return artefact.load(path)
