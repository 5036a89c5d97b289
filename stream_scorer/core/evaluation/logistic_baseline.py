"""One logistic regression for each category on that category's own columns: the baseline.

Weighted ridge regression by Newton's method, a category at a time. Rows count by their weights.
Most customers have nothing in a category's columns; they are one row with the sum of their weights,
so a fit costs what the entries cost. Columns are divided by their block's root mean square, and the
penalty is `RIDGE` / 2 times the squared weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Float64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, dense_labels

RIDGE = 1.0
NEWTON_STEPS = 50
HALVINGS = 20
CLOSE = 1e-8


class OwnColumns(Protocol):
    """Where the columns of each of N categories are: `own` holds K ranges [start, stop) of columns.

    Category n has column start + category_index[n] of each range.
    """

    @property
    def category_index(self) -> tuple[int, ...]: ...
    @property
    def own(self) -> tuple[tuple[int, int], ...]: ...


class OwnLogistic(NamedTuple):
    """intercept (N,) and weight (N, K) float64 of N categories and K own ranges."""

    intercept: Float64
    weight: Float64


def fit(shards: Iterable[LabelledRows], columns: OwnColumns) -> OwnLogistic:
    """The regressions of these rows; their own columns and labels are held in memory.

    The outcome is any class but 0.
    """
    index = np.array(columns.category_index, np.int64)
    pieces: list[list[sparse.csc_matrix]] = []
    labels: list[sparse.csc_matrix] = []
    weights: list[Float64] = []
    for rows in shards:
        pieces.append(_own(rows.matrix, columns))
        labels.append(sparse.csc_matrix(dense_labels(rows, index) > 0))
        weights.append(rows.weight.astype(np.float64))
    if not labels:
        raise ValueError("no rows to fit on")
    blocks = [sparse.vstack(parts, format="csc") for parts in zip(*pieces, strict=True)]
    acted = sparse.vstack(labels, format="csc")
    of_rows = np.concatenate(weights)
    intercept = np.zeros(len(index))
    weight = np.zeros((len(index), len(blocks)))
    for n in range(len(index)):
        intercept[n], weight[n] = _fit_one(blocks, acted, of_rows, n)
    return OwnLogistic(intercept, weight)


def probabilities(found: OwnLogistic, rows: LabelledRows, columns: OwnColumns) -> Float32:
    """(R, N) float32 probability of acting on each category."""
    logits = np.repeat(found.intercept[None].astype(np.float32), len(rows), axis=0)
    for k, block in enumerate(_own(rows.matrix, columns)):
        logits += block.toarray() * found.weight[:, k].astype(np.float32)
    answer: Float32 = _sigmoid(logits)
    return answer


def _own(matrix: sparse.csr_matrix, columns: OwnColumns) -> list[sparse.csc_matrix]:
    """For each own range (R, N): the categories' columns."""
    index = np.array(columns.category_index, np.int64)
    return [matrix[:, start:stop].tocsc()[:, index] for start, stop in columns.own]


def _fit_one(
    blocks: list[sparse.csc_matrix], acted: sparse.csc_matrix, of_rows: Float64, n: int
) -> tuple[float, Float64]:
    """Intercept and weights (K,) of category n; of_rows (R,): how many rows each stands for."""
    columns = [(b.indices[b.indptr[n] : b.indptr[n + 1]], b) for b in blocks]
    known = np.unique(np.concatenate([np.zeros(0, np.int32), *(at for at, _ in columns)]))
    x = np.zeros((len(known) + 1, len(blocks) + 1))
    x[:, 0] = 1  # the intercept
    for k, (at, b) in enumerate(columns, start=1):
        x[np.searchsorted(known, at), k] = b.data[b.indptr[n] : b.indptr[n + 1]]
    positive = acted.indices[acted.indptr[n] : acted.indptr[n + 1]]
    # All rows without an entry are the last row of x: `others` of them, `share` of which acted.
    everybody, all_positive = of_rows.sum(), of_rows[positive].sum()
    others = everybody - of_rows[known].sum() if len(known) < len(of_rows) else 0.0
    met = np.isin(known, positive, assume_unique=True)
    share = (all_positive - of_rows[known[met]].sum()) / others if others else 0.0
    y = np.append(met.astype(np.float64), np.clip(share, 0, 1))  # sums of weights are rounded
    rows = np.append(of_rows[known], others)
    # Blocks differ by orders of magnitude, as their half-lives do, and one penalty is to suit all.
    entries = (rows[:, None] * (x != 0)).sum(axis=0)
    scale = np.sqrt((rows[:, None] * x**2).sum(axis=0) / np.where(entries, entries, 1))
    scale[scale == 0] = 1
    start = np.zeros(x.shape[1])
    # The log odds of the prior; a half keeps them finite where nobody acted, or everybody.
    start[0] = np.log((all_positive + 0.5) / (everybody - all_positive + 0.5))
    beta = _newton(x / scale, y, rows, start) / scale
    return float(beta[0]), beta[1:]


def _newton(x: Float64, y: Float64, rows: Float64, beta: Float64) -> Float64:
    """The least penalised loss of `rows` rows of each kind, y of them (a share) positive."""
    ridge = np.full(x.shape[1], RIDGE)
    ridge[0] = 0  # the intercept is free, so that the mean probability is the share that acted
    loss = _loss(x @ beta, y, rows) + (ridge * beta**2).sum() / 2
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (rows * (p - y)) + ridge * beta
        # 1e-9: where all probabilities are close to 0 or 1, the free intercept has no curvature.
        hessian = (x.T * (rows * p * (1 - p))) @ x + np.diag(ridge + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        for _ in range(HALVINGS):  # a full step may overshoot far from the optimum
            moved = beta - step
            after = _loss(x @ moved, y, rows) + (ridge * moved**2).sum() / 2
            if after <= loss:
                break
            step /= 2
        else:
            return beta
        gain, beta, loss = loss - after, moved, after
        if gain <= CLOSE * abs(loss):
            break
    return beta


def _loss(logits: Float64, y: Float64, rows: Float64) -> float:
    return float((rows * (np.logaddexp(0, logits) - y * logits)).sum())


def _sigmoid(logits: Any) -> Any:
    with np.errstate(over="ignore"):  # exp may be inf, whose probability is rightly 0
        return 1 / (1 + np.exp(-logits))
