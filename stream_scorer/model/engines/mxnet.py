"""Scores with MXNet: the reference that the native engine must agree with.

There is no arithmetic of the model here; it is in the artefact's symbol.

MXNet binds a network to a batch size. Sizes are powers of two up to `MAX_BATCH_ROWS`; a batch is
filled up with empty rows to the next one, and a larger batch is scored in pieces. Each size is
bound when first needed and kept; all share the parameters, and the table of the shop's trend.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.core.features.state import Float32
from stream_scorer.core.trend import TrendTable
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.batches import csr_ndarray
from stream_scorer.model.engines.matrix import check_matrix, check_scores
from stream_scorer.model.engines.trend_days import require_fitting, table_rows
from stream_scorer.model.inference_network import DATA, TREND, TREND_FIRST_DAY
from stream_scorer.model.mxnet_loader import mx

# Eight sizes at most are bound, each with arrays of its own for every layer.
MIN_BATCH_ROWS = 8
MAX_BATCH_ROWS = 1024
MIN_TREND_DAYS = 8
INPUTS = (DATA, TREND, TREND_FIRST_DAY)


class MxnetEngine:
    """Scores the artefact's network. Not thread-safe: one owner."""

    def __init__(self, artefact: Artefact) -> None:
        manifest = artefact.manifest
        self.categories: tuple[str, ...] = manifest.categories
        self.classes: int = manifest.classes
        self.model_version: str = manifest.model_version
        self.fingerprint: int = artefact.fingerprint
        self._trend: TrendTable | None = None
        self._layout = artefact.layout
        self._symbol = mx.sym.load_json(artefact.symbol_json)
        self._parameters = {
            name: mx.nd.array(artefact.parameters[name], dtype=np.float32)
            for name in self._symbol.list_arguments()
            if name not in INPUTS
        }
        self._bound: dict[int, Any] = {}
        self._inputs: dict[str, Any] = {}
        if self._layout.contrasts:
            # What is bound before the first table comes, as in warm_up.
            g, v = self._layout.contrasts, self._layout.vocabulary
            self._bind_trend(TrendTable(0, np.zeros((1, g, v), np.float32)))

    def use_trend(self, table: TrendTable) -> None:
        """The shop's trend for what is scored from now on; raises InputError if it does not fit."""
        if self._layout.contrasts:
            require_fitting(self._layout, table)
            self._trend = table
            self._bind_trend(table)

    def score(self, matrix: sparse.csr_matrix) -> Float32:
        """(B, N, C) float32 probabilities of a (B, F) float32 CSR; B from 0 up.

        Raises ValueError where the matrix has another width, or a column beyond it, InputError
        where the model needs a trend and has none of a row's day, and ArtefactError where a
        probability is not a number.
        """
        check_matrix(matrix, self._layout.columns)
        if self._layout.contrasts:
            table_rows(self._layout, matrix, self._trend)
        return self._scores(matrix)

    def warm_up(self, batch_rows: int) -> None:
        """Bind and run once for batches of this size, so that the first is as fast as the rest."""
        self._scores(sparse.csr_matrix((batch_rows, self._layout.columns), dtype=np.float32))

    def _scores(self, matrix: sparse.csr_matrix) -> Float32:
        rows = matrix.shape[0]
        scores = np.empty((rows, len(self.categories), self.classes), np.float32)
        for start in range(0, rows, MAX_BATCH_ROWS):
            stop = min(start + MAX_BATCH_ROWS, rows)
            # A slice of a CSR is a copy, so a batch that fits is passed on as it is.
            piece = matrix if stop - start == rows else matrix[start:stop]
            scores[start:stop] = self._score_piece(piece)[: stop - start]
        check_scores(scores, self.model_version)
        return scores

    def _score_piece(self, piece: sparse.csr_matrix) -> Float32:
        size = max(MIN_BATCH_ROWS, 1 << (piece.shape[0] - 1).bit_length())
        if size not in self._bound:
            self._bound[size] = self._bind(size)
        executor = self._bound[size]
        csr_ndarray(_padded(piece, size)).copyto(executor.arg_dict[DATA])
        (scores,) = executor.forward(is_train=False)
        found: Float32 = scores.asnumpy()
        return found

    def _bind(self, rows: int) -> Any:
        data = mx.nd.sparse.zeros("csr", (rows, self._layout.columns))
        arguments = {**self._parameters, **self._inputs, DATA: data}
        return self._symbol.bind(mx.cpu(), arguments, grad_req="null")

    def _bind_trend(self, table: TrendTable) -> None:
        """Put a table where the bound networks read it; bind anew where it has another size."""
        # Of as many days as the next power of two, so that a day more seldom binds anew. Rows of
        # these days are refused.
        days, *shape = table.contrasts.shape
        size = max(MIN_TREND_DAYS, 1 << (days - 1).bit_length())
        flat = np.zeros((size, math.prod(shape)), np.float32)
        flat[:days] = table.contrasts.reshape(days, -1)
        arrays = {TREND: flat, TREND_FIRST_DAY: np.array([table.first_day], np.float32)}
        if TREND in self._inputs and self._inputs[TREND].shape == flat.shape:
            for name, array in arrays.items():
                self._inputs[name][:] = array
        else:
            self._bound.clear()
            self._inputs = {name: mx.nd.array(a, dtype=np.float32) for name, a in arrays.items()}


def _padded(matrix: sparse.csr_matrix, rows: int) -> sparse.csr_matrix:
    """With empty rows after it, up to `rows`."""
    missing = rows - matrix.shape[0]
    if not missing:
        return matrix
    indptr = np.pad(matrix.indptr, (0, missing), mode="edge")
    return sparse.csr_matrix(
        (matrix.data, matrix.indices, indptr), shape=(rows, matrix.shape[1]), copy=False
    )
