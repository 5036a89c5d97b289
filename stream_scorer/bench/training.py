"""`bench train`: customers a second in training, and the same network in PyTorch.

`model.training.train` runs as it always does; the time between its reports, which
come after a fixed number of steps, is a run. So shuffling, batches and the watched loss are in it.
PyTorch's runs are put between ours, and a ratio is the median over such pairs: what else the
machine does meanwhile slows both. The whole command at the size of a large shop follows (shop.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from stream_scorer.bench import shop, torch_network
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import PLAIN, RULE, Sizes, rows_of, space_of
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.model.spec import NetworkSpec, TrainingOptions

STAGE = "train"
CASE = "F={s.columns:,} N={s.categories:,} hidden 256-128 batch {s.batch_rows:,}"


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    case = CASE.format(s=sizes)
    shards = [rows_of(sizes, sizes.rows, seed=1)]
    theirs: dict[str, Callable[[], float]] = {}
    if torch_network.available():
        theirs = {
            "train_vs_torch": torch_network.trainer(sizes, shards[0], lazy=True),
            "train_vs_torch_dense": torch_network.trainer(sizes, shards[0], lazy=False),
        }
    else:
        findings.notes.append(torch_network.MISSING.format(ratio="train_vs_torch"))
    names = {"train_vs_torch": "torch SparseAdam", "train_vs_torch_dense": "torch dense Adam"}
    between: dict[str, list[float]] = {ratio: [] for ratio in theirs}

    def let_others_run() -> None:
        for ratio, run in theirs.items():
            between[ratio].append(run())

    mine = _rates(sizes, shards, PLAIN, let_others_run)
    ours = findings.add(STAGE, f"{case}, mxnet", "customers/s", mine)
    for ratio, rates in between.items():
        counted = rates[1 : sizes.runs + 1]  # the first warms up
        findings.add(STAGE, f"{case}, {names[ratio]}", "customers/s", counted)
        findings.ratios[ratio] = median(a / b for a, b in zip(mine, counted, strict=True))
    batches = findings.add(
        STAGE, f"{case}, iterator alone", "customers/s", _iterator_rates(sizes, shards)
    )
    findings.ratios["train_iterator_share_of_step"] = ours / batches
    default = _rates(sizes, shards, NetworkSpec(), lambda: None)
    findings.add(STAGE, f"F={sizes.columns:,} N={sizes.categories:,} default network, mxnet",
                 "customers/s", default)  # fmt: skip
    shop.measure_training(STAGE, sizes, findings)


def _rates(
    sizes: Sizes, shards: Sequence[LabelledRows], network: NetworkSpec, pause: Callable[[], None]
) -> list[float]:
    """Of each run after the first; `pause` is called after each, and its time not counted."""
    from stream_scorer.model import training, training_loop  # noqa: PLC0415 - imports MXNet

    found: list[float] = []
    started = 0.0

    def report(at: training_loop.Progress) -> None:
        nonlocal started
        if at.training_log_loss is not None:
            found.append(
                training_loop.REPORT_STEPS * sizes.batch_rows / (time.perf_counter() - started)
            )
            pause()
            started = time.perf_counter()

    steps = training_loop.REPORT_STEPS * (sizes.runs + 1)
    options = TrainingOptions(
        network=network,
        min_customers=1,
        average_seeds=1,
        batch_rows=sizes.batch_rows,
        epochs=1,
        min_steps=steps,
    )
    training.train(shards, None, space_of(sizes), RULE, options, report)
    return found[1 : sizes.runs + 1]


def _iterator_rates(sizes: Sizes, shards: Sequence[LabelledRows]) -> list[float]:
    """Of an epoch's batches, made and thrown away."""
    from stream_scorer.model.batches import LabelledBatches  # noqa: PLC0415 - imports MXNet

    batches = LabelledBatches(
        shards, np.arange(sizes.categories), columns=sizes.columns,
        batch_rows=sizes.batch_rows, seed=0,
    )  # fmt: skip
    found = []
    for _ in range(sizes.runs):
        started = time.perf_counter()
        for batch in batches:
            batch.data[0].wait_to_read()
            batch.label[0].wait_to_read()
        found.append(sizes.rows / (time.perf_counter() - started))
        batches.reset()
    return found
