"""The golden batch of an artefact: a few rows and the scores that they had where it was trained.

Whoever is about to serve a model scores these rows with an engine of its own and compares. Right
checksums say that the files are those that were written; this says that they mean the same here:
with this engine, these libraries, this machine.

The file is in MXNet's .params format (params_file.py), four arrays of float32: `indptr` (R + 1,),
`columns` and `values` (entries,) of the CSR matrix (R, F), and `scores` (R, N, C); where the model
has a trend, two more: `trend` (D, G, V) of the rows' days, and `trend_first_day` (1,). Customer ids
are no part of it. float32 holds whole numbers up to 2^24 exactly, so a model of more columns gets
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stream_scorer.core.features.space import DAY_MS
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import TrendTable
from stream_scorer.model import params_file
from stream_scorer.model.spec import Layout

MOST_ROWS = 64
MOST_SCORES = 500_000  # 2 MB of float32, also where a model has thousands of categories
MOST_ENTRIES = 500_000
MOST_CONTRASTS = 500_000
LARGEST_WHOLE = 1 << 24
NAMES = ("indptr", "columns", "values", "scores")
OF_TREND = ("trend", "trend_first_day")


@dataclass(frozen=True)
class GoldenBatch:
    """matrix: (R, F) float32 CSR. scores: (R, N, C) float32. trend: of all days of the rows, None
    of a model without.
    """

    matrix: sparse.csr_matrix
    scores: Float32
    trend: TrendTable | None = None


def rows_of(
    shards: Sequence[LabelledRows], scores_per_row: int, contrasts_per_day: int = 0
) -> sparse.csr_matrix | None:
    """At most `MOST_ROWS` rows (R, F), evenly spaced over the first shard that has any.

    scores_per_row: N * C. contrasts_per_day: G * V of a model with a trend, whose rows are of
    so few days that their table is small. None where no row has an entry, or there are
    too many columns.
    """
    for shard in shards:
        matrix = shard.matrix
        filled = np.flatnonzero(np.diff(matrix.indptr))
        if not len(filled):
            continue
        if matrix.shape[1] > LARGEST_WHOLE:
            return None
        if contrasts_per_day:
            days = shard.as_of_ms[filled] // DAY_MS
            filled = filled[days < days.min() + max(1, MOST_CONTRASTS // contrasts_per_day)]
        most = max(1, min(MOST_ROWS, MOST_SCORES // max(scores_per_row, 1), len(filled)))
        chosen = filled[np.linspace(0, len(filled) - 1, most).astype(np.int64)]
        # One row at least, however many entries it has.
        fits = np.cumsum(np.diff(matrix.indptr)[chosen]) <= MOST_ENTRIES
        return sparse.csr_matrix(matrix[chosen[: max(int(fits.sum()), 1)]], dtype=np.float32)
    return None


def to_bytes(batch: GoldenBatch) -> bytes:
    """The file's contents."""
    matrix = batch.matrix
    arrays = [matrix.indptr, matrix.indices, matrix.data, batch.scores]
    if batch.trend is not None:
        arrays += [batch.trend.contrasts, np.array([batch.trend.first_day])]
    named = zip(NAMES + OF_TREND if batch.trend is not None else NAMES, arrays, strict=True)
    return params_file.write({name: array.astype(np.float32) for name, array in named})


def most_bytes(layout: Layout) -> int:
    """More than the file of such a model can have; what is longer need not be read."""
    scores_per_row = layout.categories * layout.classes
    rows = min(MOST_ROWS, max(1, MOST_SCORES // max(scores_per_row, 1)))
    entries = max(MOST_ENTRIES, layout.columns)
    shapes = {"ends": (rows, scores_per_row + 1), "entries": (2, entries)}
    if layout.contrasts:
        contrasts = max(MOST_CONTRASTS, layout.contrasts * layout.vocabulary)
        shapes["trend"] = (1, contrasts + 1)
    return params_file.most_bytes(shapes)


def from_bytes(content: bytes, layout: Layout) -> GoldenBatch:
    """What `to_bytes` wrote, for a model of this layout. Raises ParamsFileError."""
    arrays = params_file.read(content)
    if tuple(arrays) != (NAMES + OF_TREND if layout.contrasts else NAMES):
        raise params_file.ParamsFileError(f"it has the arrays {', '.join(arrays)[:60]}")
    ends, column, values, scores = (arrays[name] for name in NAMES)
    rows = len(ends) - 1
    if (
        ends.ndim != 1 or column.ndim != 1 or column.shape != values.shape
        or scores.shape != (rows, layout.categories, layout.classes)
        or not all(np.isfinite(array).all() for array in arrays.values())
        or ends[0] != 0 or ends[-1] != len(column) or (np.diff(ends) < 0).any()
        or column.min() < 0 or column.max() >= layout.columns
        or any((array != np.floor(array)).any() for array in (ends, column))
    ):  # fmt: skip
        raise params_file.ParamsFileError("its arrays are not rows and scores of this model")
    matrix = sparse.csr_matrix(
        (values.copy(), column.astype(np.int32), ends.astype(np.int32)),
        shape=(rows, layout.columns),
    )
    return GoldenBatch(matrix, scores, _trend(arrays, layout) if layout.contrasts else None)


def _trend(arrays: dict[str, Float32], layout: Layout) -> TrendTable:
    contrasts, first_day = (arrays[name] for name in OF_TREND)
    if (
        contrasts.shape[1:] != (layout.contrasts, layout.vocabulary)
        or first_day.shape != (1,) or first_day[0] != np.floor(first_day[0])
    ):  # fmt: skip
        raise params_file.ParamsFileError("its trend is not one of this model")
    return TrendTable(int(first_day[0]), contrasts)
