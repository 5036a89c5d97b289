"""`bench score`: customers a second of the two engines, of the same network in PyTorch, and of the
native engine at the size of a large shop."""

from __future__ import annotations

from functools import partial
from typing import Literal

from stream_scorer.bench import shop, torch_network
from stream_scorer.bench.random_model import random_model
from stream_scorer.bench.timing import Findings, rates
from stream_scorer.bench.workload import PLAIN, Sizes, rows_of, space_of
from stream_scorer.model.engines.engine import Engine, open_engine, score_chosen
from stream_scorer.model.spec import NetworkSpec

STAGE = "score"
ENGINES: tuple[Literal["native", "mxnet"], ...] = ("native", "mxnet")


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    matrix = rows_of(sizes, sizes.batch_rows, seed=2).matrix
    networks = {"hidden 256-128": PLAIN, "default network": NetworkSpec()}
    for name, spec in networks.items():
        case = f"F={sizes.columns:,} N={sizes.categories:,} {name} batch {sizes.batch_rows:,}"
        model = random_model(space_of(sizes), spec, sizes.entries)
        opened: dict[str, Engine] = {}
        medians: dict[str, float] = {}
        for engine in ENGINES:
            opened[engine] = open_engine(model, engine)
            found = rates(partial(opened[engine].score, matrix), sizes.batch_rows, sizes.runs)
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
        top = partial(score_chosen, opened["native"], matrix, shop.TOP_TEN)
        found = rates(top, sizes.batch_rows, sizes.runs)
        ours = findings.add(STAGE, f"{case}, native, ten best", "customers/s", found)
        theirs = torch_network.scoring_rates(sizes, matrix, shop.TOP_TEN.top_k)
        median = findings.add(STAGE, f"{case}, torch, ten best", "customers/s", theirs)
        findings.ratios["score_ten_best_native_vs_torch"] = ours / median
    shop.measure_scoring(STAGE, sizes, findings)
