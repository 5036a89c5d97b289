"""Shards of labelled rows as MXNet batches.

Shards come in an order drawn from the seed and the epoch. They are pooled until `shuffle_rows` rows
are there, the pool's rows are shuffled, and batches are cut off it; what is left over joins the
next pool. So memory holds one pool and one shard, however many shards there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.labels.labels import LabelledRows, concatenate_rows, dense_labels
from stream_scorer.model.inputs import NetworkInputs
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.spec import TrainingOptions


def csr_ndarray(matrix: sparse.csr_matrix) -> Any:
    """An MXNet CSR NDArray with the same entries."""
    return mx.nd.sparse.csr_matrix(
        (matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape, dtype=np.float32
    )


def descriptions(shapes: Mapping[str, tuple[int, ...]]) -> list[Any]:
    """Of a batch's inputs by name, as a Module takes them."""
    # A layout without "N" says that the first axis is not the rows of the batch.
    return [
        mx.io.DataDesc(name, shape, layout="P" if name.startswith("pair") else "N")
        for name, shape in shapes.items()
    ]


class LabelledBatches(mx.io.DataIter):  # type: ignore[misc]
    """Batches of `batch_rows` rows; `reset` starts the next epoch, in another order.

    shards: re-iterable and read one at a time, in a drawn order. Without `inputs` a batch has
    `data` (B, F) CSR and `label` (B, N) of the classes of category_index (N,). With them it has
    what the network that is trained takes, and no label: `matrix` is scaled, `pairs` are those that
    were listed, and the loss reads labels from `rows`. A batch's `rows` are its LabelledRows and
    `index` their customer ids. Rows that fill the last batch up are repeats, counted by its `pad`;
    they come last. seed None: rows in the order given.
    """

    def __init__(
        self,
        shards: Sequence[LabelledRows],
        category_index: Int64,
        *,
        columns: int,
        batch_rows: int,
        shuffle_rows: int = TrainingOptions.shuffle_rows,
        seed: int | None = None,
        inputs: NetworkInputs | None = None,
    ) -> None:
        super().__init__(batch_rows)
        self._inputs = inputs
        self._shards, self._categories, self._columns = shards, category_index, columns
        self._shuffle_rows, self._seed = shuffle_rows, seed
        self._epoch = 0
        self._rows = self._epoch_rows()

    @property
    def provide_data(self) -> list[Any]:
        """`data` (B, F), or all that `inputs` makes of it."""
        if self._inputs is None:
            return [mx.io.DataDesc("data", (self.batch_size, self._columns))]
        return descriptions(self._inputs.shapes(self.batch_size))

    @property
    def provide_label(self) -> list[Any]:
        """`label` (B, N), or nothing."""
        if self._inputs is not None:
            return []
        return [mx.io.DataDesc("label", (self.batch_size, len(self._categories)))]

    def reset(self) -> None:
        """Begin the next epoch."""
        self._epoch += 1
        self._rows = self._epoch_rows()

    def next(self) -> Any:
        """The next mx.io.DataBatch; StopIteration at the end of the epoch."""
        rows = next(self._rows)
        # A Module is bound to one batch size, so the last batch is filled up with repeats of its
        # rows.
        pad = self.batch_size - len(rows)
        if pad:
            rows = rows.take(np.resize(np.arange(len(rows)), self.batch_size))
        given: dict[str, Any] = {"data": rows.matrix}
        labels, matrix, pairs = [], rows.matrix, None
        if self._inputs is None:
            labels.append(mx.nd.array(dense_labels(rows, self._categories), dtype=np.float32))
        else:
            given, matrix, pairs = self._inputs.of(rows)
        data = [
            csr_ndarray(a) if sparse.issparse(a) else mx.nd.array(a, dtype=np.float32)
            for a in given.values()
        ]
        batch = mx.io.DataBatch(
            data,
            labels,
            pad=pad,
            index=rows.customer_ids,
            provide_data=descriptions({n: a.shape for n, a in zip(given, data, strict=True)}),
            provide_label=self.provide_label,
        )
        batch.rows, batch.matrix, batch.pairs = rows, matrix, pairs
        return batch

    def _epoch_rows(self) -> Iterator[LabelledRows]:
        """Up to batch_rows rows at a time; only the last may have fewer."""
        order = np.arange(len(self._shards))
        # By the epoch too: each has an order of its own, and the same one in every run.
        draw = None if self._seed is None else np.random.default_rng((self._seed, self._epoch))
        if draw is not None:
            draw.shuffle(order)
        pool: list[LabelledRows] = []
        for turn, number in enumerate(order.tolist(), start=1):
            pool.append(self._shards[number])
            held = sum(map(len, pool))
            # A pool smaller than a batch would give no batch.
            if turn < len(order) and held < max(self._shuffle_rows, self.batch_size):
                continue
            rows, pool = concatenate_rows(pool), []
            order_of_rows = np.arange(held)
            if draw is not None:
                draw.shuffle(order_of_rows)
            whole = held if turn == len(order) else held - held % self.batch_size
            for start in range(0, whole, self.batch_size):
                yield rows.take(order_of_rows[start : min(start + self.batch_size, whole)])
            if whole < held:
                pool = [rows.take(order_of_rows[whole:])]
