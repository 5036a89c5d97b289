"""The golden batch of an artefact: a few rows and the scores that they had where it was trained.

Whoever is about to serve a model scores these rows with an engine of its own and compares. Right
checksums say that the files are those that were written; this says that they mean the same here:
with this engine, these libraries, this machine.

The file is in MXNet's .params format (params_file.py), four arrays of float32: `indptr` (R + 1,),
`columns` and `values` (entries,) of the CSR matrix (R, F), and `scores` (R, N, C). Customer ids are
no part of it. float32 holds whole numbers up to 2^24 exactly, so a model of more columns gets none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.model import params_file

MOST_ROWS = 64
MOST_SCORES = 500_000  # 2 MB of float32, also where a model has thousands of categories
MOST_ENTRIES = 500_000
LARGEST_WHOLE = 1 << 24
NAMES = ("indptr", "columns", "values", "scores")


@dataclass(frozen=True)
class GoldenBatch:
    """matrix: (R, F) float32 CSR. scores: (R, N, C) float32."""

    matrix: sparse.csr_matrix
    scores: Float32


def rows_of(shards: Sequence[LabelledRows], scores_per_row: int) -> sparse.csr_matrix | None:
    """At most `MOST_ROWS` rows (R, F), evenly spaced over the first shard that has any.

    scores_per_row: N * C. None where no row has an entry, or there are too many columns.
    """
    for shard in shards:
        matrix = shard.matrix
        filled = np.flatnonzero(np.diff(matrix.indptr))
        if not len(filled):
            continue
        if matrix.shape[1] > LARGEST_WHOLE:
            return None
        most = max(1, min(MOST_ROWS, MOST_SCORES // max(scores_per_row, 1), len(filled)))
        chosen = filled[np.linspace(0, len(filled) - 1, most).astype(np.int64)]
        # One row at least, however many entries it has.
        fits = np.cumsum(np.diff(matrix.indptr)[chosen]) <= MOST_ENTRIES
        return sparse.csr_matrix(matrix[chosen[: max(int(fits.sum()), 1)]], dtype=np.float32)
    return None


def to_bytes(batch: GoldenBatch) -> bytes:
    """The file's contents."""
    matrix = batch.matrix
    arrays = (matrix.indptr, matrix.indices, matrix.data, batch.scores)
    named = zip(NAMES, arrays, strict=True)
    return params_file.write({name: array.astype(np.float32) for name, array in named})


def most_bytes(columns: int, scores_per_row: int) -> int:
    """More than the file of such a model can have; what is longer need not be read."""
    rows = min(MOST_ROWS, max(1, MOST_SCORES // max(scores_per_row, 1)))
    entries = max(MOST_ENTRIES, columns)
    return params_file.most_bytes({"ends": (rows, scores_per_row + 1), "entries": (2, entries)})


def from_bytes(content: bytes, columns: int, categories: int, classes: int) -> GoldenBatch:
    """What `to_bytes` wrote, for a model of F, N and C. Raises ParamsFileError."""
    arrays = params_file.read(content)
    if tuple(arrays) != NAMES:
        raise params_file.ParamsFileError(f"it has the arrays {', '.join(arrays)[:60]}")
    ends, column, values, scores = (arrays[name] for name in NAMES)
    rows = len(ends) - 1
    if (
        ends.ndim != 1 or column.ndim != 1 or column.shape != values.shape
        or scores.shape != (rows, categories, classes)
        or not all(np.isfinite(array).all() for array in arrays.values())
        or ends[0] != 0 or ends[-1] != len(column) or (np.diff(ends) < 0).any()
        or column.min() < 0 or column.max() >= columns
        or any((array != np.floor(array)).any() for array in (ends, column))
    ):  # fmt: skip
        raise params_file.ParamsFileError("its arrays are not rows and scores of this model")
    matrix = sparse.csr_matrix(
        (values.copy(), column.astype(np.int32), ends.astype(np.int32)), shape=(rows, columns)
    )
    return GoldenBatch(matrix, scores)
