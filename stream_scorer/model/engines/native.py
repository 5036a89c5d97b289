"""Scores with numpy, scipy and numba: no MXNet, and faster.

The same sums as inference_network.py, which says what the paths are, laid out for one machine. A
column's role says at once whether it is some category's own, customer-wide or neither, so a walk
over a row's entries feeds each path, and a category without entries costs nothing there. Threads
share the rows of the loops; matrix products are left to BLAS, which has its own. It agrees with the
MXNet engine to 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int32
from stream_scorer.core.features.state import Float32
from stream_scorer.core.trend import TrendTable
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines import native_kernels as kernels
from stream_scorer.model.engines.matrix import check_matrix, check_scores
from stream_scorer.runtime import usable_cores

MAX_BATCH_ROWS = 1024  # its logits and scores stay in cache for a few hundred categories
SHARED_ROWS = 32  # rows that are worth waking a thread for


class NativeEngine:
    """Scores the artefact's network. Safe for several threads."""

    def __init__(self, artefact: Artefact, threads: int | None = None) -> None:
        """threads: for the compiled loops; None for as many as this process has cores."""
        manifest, p, layout = artefact.manifest, artefact.parameters, artefact.layout
        self.categories: tuple[str, ...] = manifest.categories
        self.classes: int = manifest.classes
        self.model_version: str = manifest.model_version
        self.fingerprint: int = artefact.fingerprint
        self._trend: TrendTable | None = None
        self._layout, self._spec, self._p = layout, manifest.network, p
        self._threads = threads or usable_cores()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        n, m = layout.categories, layout.actions
        self._own_slots = len(layout.own) * n
        self._role = self._roles()
        # Outputs class by class rather than category by category: rows of categories stay together.
        head = p["head_weight"].reshape(n, m, -1).transpose(1, 0, 2).reshape(m * n, -1)
        self._head_weight = np.ascontiguousarray(head.T)
        self._head_bias = np.ascontiguousarray(p["head_bias"].reshape(n, m).T.reshape(-1))
        # Negative, because `_write` takes exp of minus the logit.
        self._scale = -np.ascontiguousarray(p["calibration_scale"].reshape(1, 1, n))
        self._shift = -np.ascontiguousarray(p["calibration_shift"].reshape(n, m).T)
        if "own_weight" in p:
            self._own_weight = _transposed(p["own_weight"])
        if "pooled_out_weight" in p:
            first = len(p["pooled_own_weight"])
            bias = p["pooled_category_bias"].reshape(n, first)
            later = range(1, len(self._spec.pooled))
            self._pooled = kernels.PooledNetwork(
                category_bias=_transposed(bias),
                own_weight=_transposed(p["pooled_own_weight"]),
                sizes=np.array(self._spec.pooled, np.int64),
                weights=_flat([p[f"pooled{i}_weight"] for i in later]),
                biases=_flat([p[f"pooled{i}_bias"] for i in later]),
                out_weight=p["pooled_out_weight"],
            )

    def use_trend(self, table: TrendTable) -> None:
        """The shop's trend for what is scored from now on."""
        self._trend = table

    def score(self, matrix: sparse.csr_matrix) -> Float32:
        """(B, N, C) float32 probabilities of a (B, F) float32 CSR; B from 0 up.

        Raises ValueError where the matrix has another width, or a column beyond it, and
        ArtefactError where a probability is not a number.
        """
        check_matrix(matrix, self._layout.columns)
        rows = matrix.shape[0]
        scores = np.empty((rows, self._layout.categories, self.classes), np.float32)
        for start in range(0, rows, MAX_BATCH_ROWS):
            stop = min(start + MAX_BATCH_ROWS, rows)
            # A slice of a CSR is a copy, so a batch that fits is passed on as it is.
            piece = matrix if stop - start == rows else matrix[start:stop]
            self._score_piece(piece, scores[start:stop])
        return scores

    def warm_up(self, batch_rows: int) -> None:
        """Compile, or read compiled loops from disk, and run once for batches of this size."""
        self.score(sparse.csr_matrix((batch_rows, self._layout.columns), dtype=np.float32))

    # What overflows becomes NaN or infinity, which check_scores looks for; numpy's warning would be
    # a second line on stderr.
    @np.errstate(over="ignore", invalid="ignore")
    def _score_piece(self, piece: sparse.csr_matrix, scores: Float32) -> None:
        rows = piece.shape[0]
        # scipy may index by int64; one type means that the kernels are compiled once.
        entries = kernels.Entries(
            piece.indptr.astype(np.int32, copy=False),
            piece.indices.astype(np.int32, copy=False),
            piece.data.astype(np.float32, copy=False),
        )
        context = self._context(rows, entries)
        logits = context @ self._head_weight
        logits += self._head_bias
        logits = logits.reshape(rows, self._layout.actions, self._layout.categories)
        pooled = "pooled_out_weight" in self._p
        from_context = np.zeros((0, 0), np.float32)
        if pooled:
            from_context = context @ self._p["pooled_context_weight"][0].T

        def finish(first: int, last: int) -> None:
            if "own_weight" in self._p:
                kernels.own_path(first, last, entries, self._role, self._own_weight, logits)
            if pooled:
                kernels.pooled_path(
                    first, last, entries, self._role, from_context, self._pooled, logits
                )
            self._write(logits[first:last], scores[first:last])
            check_scores(scores[first:last], self.model_version)

        self._shared(rows, finish)

    def _context(self, rows: int, entries: kernels.Entries) -> Float32:
        """(B, X): the customer-wide columns, then the last hidden layer."""
        p, parts = self._p, []
        if self._layout.customer:
            wide = np.zeros((rows, self._layout.customer_columns), np.float32)
            kernels.customer_columns(entries, self._role, self._own_slots, wide)
            parts.append((wide - p["customer_mean"]) * p["customer_scale"])
        if self._spec.hidden:
            # `gather` adds to what is there.
            hidden = np.repeat(p["input_bias"], rows, axis=0)
            self._shared(
                rows,
                lambda first, last: kernels.gather(first, last, entries, p["input_weight"], hidden),
            )
            np.maximum(hidden, 0, out=hidden)
            for i in range(1, len(self._spec.hidden)):
                hidden = hidden @ p[f"hidden{i}_weight"].T + p[f"hidden{i}_bias"]
                np.maximum(hidden, 0, out=hidden)
            parts.append(hidden)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    # A thread has numpy's settings of its own.
    @np.errstate(over="ignore", invalid="ignore")
    def _write(self, logits: Float32, scores: Float32) -> None:
        """Calibrated probabilities (R, N, C) of logits (R, M, N), which are overwritten."""
        logits *= self._scale
        logits += self._shift
        # Here they are minus the logits. exp may overflow to inf, whose probability is rightly 0.
        if self.classes == 2:
            np.exp(logits, out=logits)
            kernels.write_two_classes(logits[:, 0], scores)
            return
        # The largest logit (class 0's, which is 0, is one of them) is taken off before exp, which
        # then can't overflow.
        top = np.minimum(logits.min(axis=1, keepdims=True), 0)
        np.exp(top - logits, out=logits)
        nothing = np.exp(top)
        total = logits.sum(axis=1, keepdims=True) + nothing
        scores[:, :, :1] = (nothing / total).transpose(0, 2, 1)
        scores[:, :, 1:] = (logits / total).transpose(0, 2, 1)

    def _roles(self) -> Int32:
        """(F,): block * N + category of an own column; own slots + position of a shared one."""
        layout = self._layout
        role = np.full(layout.columns, kernels.NO_ROLE, np.int32)
        index = np.array(layout.category_index, np.int64)
        for block, (start, _) in enumerate(layout.own):
            role[start + index] = block * layout.categories + np.arange(layout.categories)
        position = self._own_slots
        for start, stop in layout.customer:
            role[start:stop] = np.arange(position, position + stop - start)
            position += stop - start
        return role

    def _shared(self, rows: int, work: Callable[[int, int], None]) -> None:
        """Do `work` on all rows, in as many threads as are worth it."""
        if self._pool is None or rows < 2 * SHARED_ROWS:
            work(0, rows)
            return
        # Four pieces for each thread, so that a thread that is held up leaves its pieces to others.
        size = max(SHARED_ROWS, -(-rows // (4 * self._threads)))
        starts = range(0, rows, size)
        jobs = [self._pool.submit(work, start, min(start + size, rows)) for start in starts]
        for job in jobs:
            # Raises what was raised in the thread.
            job.result()


def _transposed(array: Float32) -> Float32:
    """A copy with its axes in reverse, contiguous and writable whatever its shape is.

    `ascontiguousarray` gives back the parameter itself, which is read-only, where an axis of 1
    makes it contiguous both ways: kernels would then be compiled for that type too.
    """
    return np.array(array.T, order="C")


def _flat(arrays: list[Float32]) -> Float32:
    return np.concatenate([np.zeros(0, np.float32), *(a.reshape(-1) for a in arrays)])
