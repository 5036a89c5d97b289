"""A row's amount in each block of columns, and the columns that it has entries in, as bins.

A block is a feature with one half-life (core/features/space.py). Two things can drift in it. Its
amount, the sum of a row's entries, has a bin for 0, as most rows of a sparse vector have nothing
there, and up to ten bins of about as many rows each above and below it. Which columns have entries
is binned by column: each of the most frequent has its own, and one is for all others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stream_scorer.core.events.batch import Float64, Int32, Int64
from stream_scorer.core.features.space import Block, FeatureSpace

QUANTILE_BINS = 10
AMOUNT_BINS = QUANTILE_BINS + 1  # with that for 0
COLUMNS_APART = 24  # that have bins of their own: the hours of a day
COLUMN_BINS = COLUMNS_APART + 1
MOST_BLOCKS = 256


def watched_blocks(space: FeatureSpace) -> tuple[Block, ...]:
    """The blocks that are watched, at most `MOST_BLOCKS`; a trend's column holds the day, which
    moves on by itself."""
    return tuple(b for b in space.blocks if b.kind != "trend")[:MOST_BLOCKS]


def block_of_column(space: FeatureSpace) -> Int32:
    """(F,) int32: the number of each column's watched block; as many as there are for no block."""
    blocks = watched_blocks(space)
    found = np.full(space.width, len(blocks), np.int32)
    for number, block in enumerate(blocks):
        found[block.start : block.stop] = number
    return found


def amounts(matrix: sparse.csr_matrix, space: FeatureSpace) -> Float64:
    """(R, K) float64: the sum of each row's entries in each of the K watched blocks.

    matrix: (R, F) float32 CSR. A row's sums depend on nothing but the row.
    """
    of_column = space.derived(block_of_column)
    blocks, rows = len(watched_blocks(space)), matrix.shape[0]
    row = np.repeat(np.arange(rows, dtype=np.int64), np.diff(matrix.indptr))
    cell = row * (blocks + 1) + of_column[matrix.indices]
    sums: Float64 = np.bincount(cell, matrix.data, rows * (blocks + 1)).astype(np.float64)
    return sums.reshape(rows, blocks + 1)[:, :blocks]


def column_rows(matrix: sparse.csr_matrix, weight: npt.NDArray[Any] | None = None) -> Float64:
    """(F,) float64: each column's entries that are not 0, by the weights (R,) of their rows."""
    kept = matrix.data != 0
    of = None
    if weight is not None:
        of = np.repeat(np.asarray(weight, np.float64), np.diff(matrix.indptr))[kept]
    found = np.bincount(matrix.indices[kept], of, matrix.shape[1])
    return found.astype(np.float64)


class Edges(NamedTuple):
    """Right ends of the bins of K distributions: bin j of distribution k reaches from padded[k,
    j - 1], without it, to padded[k, j]. padded (K, QUANTILE_BINS - 1) float64, filled up with
    infinity, beyond which nothing lies."""

    padded: Float64

    @classmethod
    def of(cls, edges: list[tuple[float, ...]]) -> Edges:
        """edges: of each distribution, ascending, at most QUANTILE_BINS - 1."""
        padded = np.full((len(edges), QUANTILE_BINS - 1), np.inf)
        for number, own in enumerate(edges):
            padded[number, : len(own)] = own
        return cls(padded)

    def bins(self, values: npt.NDArray[Any]) -> Int64:
        """(R, K) int64 of values (R, K)."""
        found: Int64 = (np.asarray(values)[:, :, None] > self.padded[None]).sum(axis=2)
        return found


def quantile_edges(values: Float64, weight: Float64) -> tuple[float, ...]:
    """Ascending right ends of at most QUANTILE_BINS bins of about as much weight each; the last bin
    has none. Fewer where many values are alike. values, weight (n,)."""
    if not len(values):
        return ()
    order = np.argsort(values, kind="stable")
    ordered, summed = values[order], np.cumsum(weight[order])
    wanted = np.arange(1, QUANTILE_BINS) / QUANTILE_BINS * summed[-1]
    ends = np.unique(ordered[np.minimum(np.searchsorted(summed, wanted), len(ordered) - 1)])
    # Beyond the largest value nothing lies, so that bin would always be empty.
    return tuple(ends[ends < ordered[-1]].tolist())


def counted(bins: Int64, count: int, weight: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """(K, count): how many of bins (R, K) are each, by the weights (R,) of rows."""
    parts = bins.shape[1]
    cell = bins + np.arange(parts) * count
    of = None if weight is None else np.repeat(np.asarray(weight, np.float64), parts)
    return np.bincount(cell.reshape(-1), of, parts * count).reshape(parts, count)
