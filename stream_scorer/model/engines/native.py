"""Scores with numpy, scipy and numba: no MXNet, and faster.

The same sums as inference_network.py, which says what the paths are, for one machine. Rows are
scored in small blocks, each by one thread from the CSR to probabilities or to what is published of
them, so that a block's logits stay in its core's cache. A column's role says at once whether it is
some category's own, customer-wide or neither, so a walk over a row's entries feeds each path, and
the pair network costs what the customer's active categories cost. It agrees with the MXNet engine
to 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
from scipy import sparse

from stream_scorer.core.features.state import Float32
from stream_scorer.core.propensities import Entries, PublishPolicy, joined, published, select
from stream_scorer.core.trend import TrendTable
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines import native_answers as answers
from stream_scorer.model.engines import native_kernels as kernels
from stream_scorer.model.engines.matrix import check_matrix, not_numbers
from stream_scorer.model.engines.native_network import Outputs, network_of
from stream_scorer.model.engines.native_product import GROUP
from stream_scorer.model.engines.trend_days import require_fitting, table_rows
from stream_scorer.runtime import usable_cores

BLOCK_ROWS = 32  # the logits of 5,000 categories take 640 kB then

Work = Callable[[int, int, Float32], None]


class NativeEngine:
    """Scores the artefact's network. Safe for several threads."""

    def __init__(self, artefact: Artefact, threads: int | None = None) -> None:
        """threads: that share the blocks of a batch; None for as many as this process has cores."""
        manifest = artefact.manifest
        self.categories: tuple[str, ...] = manifest.categories
        self.classes: int = manifest.classes
        self.model_version: str = manifest.model_version
        self.fingerprint: int = artefact.fingerprint
        self._layout, self._threads = artefact.layout, threads or usable_cores()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._trend: TrendTable | None = None
        self._outputs = Outputs(artefact)
        self._network = network_of(artefact, self._outputs)
        p, m = artefact.parameters, artefact.layout.actions
        self._head_bias = p["head_bias"].reshape(-1, m)
        self._trend_weight = p["trend_weight"] if "trend_weight" in p else np.zeros((0, m), "f4")

    def use_trend(self, table: TrendTable) -> None:
        """The shop's trend for what is scored from now on; raises InputError if it does not fit."""
        if self._layout.contrasts:
            require_fitting(self._layout, table)
            self._trend = table

    def score(self, matrix: sparse.csr_matrix) -> Float32:
        """(B, N, C) float32 probabilities of a (B, F) float32 CSR; B from 0 up.

        Raises ValueError where the matrix has another width, or a column beyond it, ArtefactError
        where a probability is not a number, and InputError where the trend of a day is not known.
        """
        check_matrix(matrix, self._layout.columns)
        return self._score(matrix, self._days(matrix))

    def score_chosen(self, matrix: sparse.csr_matrix, policy: PublishPolicy) -> Entries:
        """What `select` gives for `score`, bit for bit, without the scores being written out.

        policy: of mode top_k or threshold. Raises as `score`.
        """
        check_matrix(matrix, self._layout.columns)
        return self._choose(matrix, policy, self._days(matrix))

    def warm_up(self, batch_rows: int) -> None:
        """Compile, or read compiled loops from disk, and run once for batches of this size."""
        rows = sparse.csr_matrix((batch_rows, self._layout.columns), dtype=np.float32)
        days = self._without_trend(batch_rows)
        self._score(rows, days)
        self._choose(rows, PublishPolicy(), days)

    def _score(self, matrix: sparse.csr_matrix, days: kernels.Days) -> Float32:
        write = answers.write_two_classes if self.classes == 2 else answers.write_classes
        scores = np.empty((matrix.shape[0], len(self.categories), self.classes), np.float32)

        def finish(first: int, last: int, logits: Float32) -> None:
            if not write(last - first, logits, scores[first:last]):
                raise not_numbers(self.model_version)

        self._each_block(matrix, days, finish)
        return scores

    def _choose(
        self, matrix: sparse.csr_matrix, policy: PublishPolicy, days: kernels.Days
    ) -> Entries:
        outputs = self._layout.categories * self._layout.actions
        most, floor = published(policy, outputs)
        pieces: dict[int, Entries] = {}

        def of_two(first: int, last: int, logits: Float32) -> None:
            rows = last - first
            counts = np.zeros(rows, np.int64)
            positions = np.empty((rows, most), np.int32)
            values = np.empty((rows, most), np.float32)
            if not answers.choose_of_two(
                rows, outputs, logits, most, floor, _worth(floor), counts, positions, values
            ):
                raise not_numbers(self.model_version)
            used = np.arange(most) < counts[:, None]
            indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
            category = positions[used]
            pieces[first] = Entries(indptr, category, np.ones_like(category), values[used])

        def of_more(first: int, last: int, logits: Float32) -> None:
            rows = last - first
            scores = np.empty((rows, len(self.categories), self.classes), np.float32)
            if not answers.write_classes(rows, logits, scores):
                raise not_numbers(self.model_version)
            pieces[first] = select(scores, policy)

        self._each_block(matrix, days, of_two if self.classes == 2 else of_more)
        return joined([pieces[first] for first in sorted(pieces)])

    def _each_block(self, matrix: sparse.csr_matrix, days: kernels.Days, finish: Work) -> None:
        """Call `finish` with the first and last row of each block, and its logits."""
        rows = matrix.shape[0]
        # scipy may index by int64; one type means that the kernels are compiled once.
        entries = kernels.Entries(
            matrix.indptr.astype(np.int32, copy=False),
            matrix.indices.astype(np.int32, copy=False),
            matrix.data.astype(np.float32, copy=False),
        )
        starts = range(0, rows, BLOCK_ROWS)
        numbers = count()  # the next block that nobody has; one call of `next` is one step

        def work() -> None:
            room = -(-min(rows, BLOCK_ROWS) // GROUP) * GROUP
            logits = np.empty((room, days.bias.shape[1]), np.float32)
            while (number := next(numbers)) < len(starts):
                first = starts[number]
                last = min(first + BLOCK_ROWS, rows)
                kernels.block_logits(first, last, entries, self._network, days, logits)
                finish(first, last, logits)

        if self._pool is None or len(starts) < 2:
            work()
            return
        for job in [self._pool.submit(work) for _ in range(min(self._threads, len(starts)))]:
            # Raises what was raised in the thread.
            job.result()

    def _days(self, matrix: sparse.csr_matrix) -> kernels.Days:
        if not self._layout.contrasts or not matrix.shape[0]:
            return self._without_trend(matrix.shape[0])
        positions = table_rows(self._layout, matrix, self._trend)
        assert self._trend is not None  # it was refused
        distinct, which = np.unique(positions, return_inverse=True)
        every = self._trend.contrasts[distinct]
        contrasts = np.ascontiguousarray(every[:, :, list(self._layout.category_index)])
        shares = [self._head_bias + day.T @ self._trend_weight for day in contrasts]
        bias = [self._outputs.bias(share) for share in shares]
        return kernels.Days(which.astype(np.int64), np.array(bias), contrasts)

    def _without_trend(self, rows: int) -> kernels.Days:
        """One day of zeros: of a model without trend, of no rows, and while warming up."""
        nothing = np.zeros((1, self._layout.contrasts, self._layout.categories), np.float32)
        bias = self._outputs.bias(self._head_bias)[None]
        return kernels.Days(np.zeros(rows, np.int64), bias, nothing)


def _worth(floor: np.float32) -> np.float32:
    """A logit below which no probability of class 1 of two is `floor`, roundings included."""
    share = min(float(floor), 1.0) - 1e-6
    if share <= 0:
        return np.float32("-inf")
    logit = math.log(share / (1 - share))
    return np.float32(logit - 1e-5 * (1 + abs(logit)))
