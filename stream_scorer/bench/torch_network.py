"""The plain network in PyTorch, for comparison only: the product never imports it.

It has the same layers, sizes and losses. The input layer has a sparse gradient and SparseAdam, or a
dense one and fused Adam; the other layers have Adam. PyTorch comes with the extra `bench`.
"""

# ruff: noqa: PLC0415 - torch is an extra

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.bench.timing import rates
from stream_scorer.bench.workload import HIDDEN, Sizes
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, dense_labels

MISSING = "{ratio} left out: PyTorch is not installed (pip install 'stream-scorer[bench]')"
STEPS = 5  # of training in one run


def available() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def trainer(sizes: Sizes, rows: LabelledRows, *, lazy: bool) -> Callable[[], float]:
    """A function that trains for `STEPS` batches cut from `rows`, and gives its customers a second.

    lazy: SparseAdam on sparse gradients, which changes what a batch touched; else fused Adam on
    dense ones, which changes every row at every step.
    """
    import torch

    network = _network(sizes, sparse=lazy)
    first = list(network[0].parameters())
    rest = [p for layer in network[1:] for p in layer.parameters()]
    if lazy:
        optimizers = [torch.optim.SparseAdam(first, lr=0.001), torch.optim.Adam(rest, lr=0.005)]
    else:
        optimizers = [torch.optim.Adam(p, lr=0.001, fused=True) for p in (first, rest)]
    loss = torch.nn.BCEWithLogitsLoss(reduction="sum")
    categories = np.arange(sizes.categories)
    draw = np.random.default_rng(0)

    def run() -> float:
        started = time.perf_counter()
        for _ in range(STEPS):
            batch = rows.take(draw.integers(len(rows), size=sizes.batch_rows))
            truth = torch.from_numpy(dense_labels(batch, categories).astype(np.float32))
            for optimizer in optimizers:
                optimizer.zero_grad()
            logits = _logits(network, batch.matrix)
            (loss(logits, truth) / sizes.batch_rows).backward()
            for optimizer in optimizers:
                optimizer.step()
        return STEPS * sizes.batch_rows / (time.perf_counter() - started)

    return run


def scoring_rates(sizes: Sizes, matrix: sparse.csr_matrix, best: int = 0) -> list[float]:
    """Customers a second, for each run. best: so many of each customer's probabilities alone, in
    order; 0 for all of them."""
    import torch

    network = _network(sizes, sparse=True)

    def run() -> Float32:
        with torch.inference_mode():
            logits = _logits(network, matrix)
            if best:
                logits = torch.topk(logits, best).values  # before the sigmoid: it keeps the order
            scores: Float32 = torch.sigmoid(logits).numpy()
        return scores

    return rates(run, matrix.shape[0], sizes.runs)


def _network(sizes: Sizes, *, sparse: bool) -> Any:
    import torch

    torch.manual_seed(0)
    bag = torch.nn.EmbeddingBag(sizes.columns, HIDDEN[0], mode="sum", sparse=sparse,
                                include_last_offset=True)  # fmt: skip
    torch.nn.init.normal_(bag.weight, std=sizes.entries**-0.5)
    return [bag, torch.nn.Linear(*HIDDEN), torch.nn.Linear(HIDDEN[1], sizes.categories)]


def _logits(network: Any, matrix: sparse.csr_matrix) -> Any:
    import torch

    bag, middle, last = network
    hidden = bag(
        torch.from_numpy(matrix.indices), torch.from_numpy(matrix.indptr),
        per_sample_weights=torch.from_numpy(matrix.data),
    )  # fmt: skip
    return last(torch.relu(middle(torch.relu(hidden))))
