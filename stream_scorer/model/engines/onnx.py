"""Scores with ONNX Runtime: on any machine and Python that it has a wheel for, without MXNet.

There is no arithmetic of the model here; it is in the ONNX graph, which is made from the artefact
when it is loaded. So there is no second file that could be of another model than the artefact.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import ConfigError
from stream_scorer.model import onnx_file
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines.matrix import check_matrix, check_scores
from stream_scorer.model.engines.trend_days import require_fitting, table_rows
from stream_scorer.runtime import usable_cores

try:
    import onnxruntime
except ImportError as error:
    raise ConfigError("onnxruntime", error, "pip install 'stream-scorer[onnx]'") from error

MAX_BATCH_ROWS = 1024
# Numbers that the largest array of a run may have: 64 MB of float32.
MOST_NUMBERS = 1 << 24
NUMBERS_OF_AN_ENTRY = 4  # 16 bytes: its column, its value, and its place among own columns
ONLY_FATAL = 4  # of its log levels: whatever else it has to say, it raises


class OnnxEngine:
    """Scores the artefact's network. Safe for several threads."""

    def __init__(
        self, artefact: Artefact, threads: int | None = None, content: bytes | None = None
    ) -> None:
        """threads: None for as many as this process has cores. content: the ONNX file's, where it
        was made before."""
        manifest = artefact.manifest
        self.categories: tuple[str, ...] = manifest.categories
        self.classes: int = manifest.classes
        self.model_version: str = manifest.model_version
        self.fingerprint: int = artefact.fingerprint
        self._layout = artefact.layout
        self._trend: TrendTable | None = None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = ONLY_FATAL
        # A plan of memory is kept for each shape of the inputs, and these are never the same twice.
        options.enable_mem_pattern = False
        # Threads that wait by spinning take the cores from the consumer's own thread.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = onnx_file.to_bytes(artefact) if content is None else content
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        layout, spec, p = artefact.layout, manifest.network, artefact.parameters
        gathered = sum(p[name].shape[1] for name in ("input_weight", "linear_weight") if name in p)
        units = max((*spec.pooled, 2)) if layout.own else 2
        wide = layout.categories * max(len(layout.own) + layout.contrasts, units, self.classes)
        self._numbers_per_entry = max(gathered, NUMBERS_OF_AN_ENTRY)
        # A row's trend is of the whole vocabulary before the model's categories are taken from it.
        trend = layout.contrasts * layout.vocabulary
        self._numbers_per_row = max(wide + layout.customer_columns, trend)

    def use_trend(self, table: TrendTable) -> None:
        """The shop's trend for what is scored from now on; raises InputError if it does not fit."""
        if self._layout.contrasts:
            require_fitting(self._layout, table)
            self._trend = table

    def score(self, matrix: sparse.csr_matrix) -> Float32:
        """(B, N, C) float32 probabilities of a (B, F) float32 CSR; B from 0 up.

        Raises ValueError where the matrix has another width, or a column beyond it, InputError
        where the model needs a trend and has none of a row's day, and ArtefactError where a
        probability is not a number.
        """
        check_matrix(matrix, self._layout.columns)
        table = self._trend  # the one that is checked, also where another thread brings a newer one
        if self._layout.contrasts:
            table_rows(self._layout, matrix, table)
        return self._scores(matrix, table)

    def warm_up(self, batch_rows: int) -> None:
        """Run once for batches of this size."""
        rows = sparse.csr_matrix((batch_rows, self._layout.columns), dtype=np.float32)
        self._scores(rows, self._trend)

    def _scores(self, matrix: sparse.csr_matrix, table: TrendTable | None) -> Float32:
        trend = self._trend_inputs(table)
        rows = matrix.shape[0]
        scores = np.empty((rows, len(self.categories), self.classes), np.float32)
        entries = np.diff(matrix.indptr).astype(np.int64)
        start = 0
        while start < rows:
            stop = start + self._rows_that_fit(entries[start : start + MAX_BATCH_ROWS])
            piece = matrix if stop - start == rows else matrix[start:stop]
            columns, values = padded(piece)
            inputs = {"columns": columns, "values": values, **trend}
            (scores[start:stop],) = self._session.run(None, inputs)
            start = stop
        check_scores(scores, self.model_version)
        return scores

    def _trend_inputs(self, table: TrendTable | None) -> dict[str, Float32]:
        g, v = self._layout.contrasts, self._layout.vocabulary
        if not g:
            return {}
        # warm_up comes before the first table.
        table = table or TrendTable(0, np.zeros((1, g, v), np.float32))
        flat = np.ascontiguousarray(table.contrasts, np.float32).reshape(-1, g * v)
        return {"trend": flat, "trend_first_day": np.array([table.first_day], np.float32)}

    def _rows_that_fit(self, entries: Int64) -> int:
        """How many of the next rows, of so many entries each, are scored in one run; 1 or more."""
        longest = np.maximum.accumulate(entries)
        numbers = np.arange(1, len(entries) + 1) * np.maximum(
            longest * self._numbers_per_entry, self._numbers_per_row
        )
        return max(1, int(np.searchsorted(numbers, MOST_NUMBERS, side="right")))


def padded(matrix: sparse.csr_matrix) -> tuple[Int64, Float32]:
    """Columns (B, E) and values (B, E) of a CSR's entries, E those of its longest row, at least 1.

    Shorter rows are filled up with column 0 and value 0.
    """
    entries = np.diff(matrix.indptr)
    shape = matrix.shape[0], max(1, int(entries.max(initial=0)))
    taken = np.arange(shape[1]) < entries[:, None]
    columns, values = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    columns[taken], values[taken] = matrix.indices, matrix.data
    return columns, values
