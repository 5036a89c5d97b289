"""Shards of labelled rows as MXNet batches, and the metric that training watches.

Shards come in an order drawn from the seed and the epoch. They are pooled until `shuffle_rows` rows
are there, the pool's rows are shuffled, and batches are cut off it; what is left over joins the
next pool. So memory holds one pool and one shard, however many shards there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, concatenate_rows, dense_labels
from stream_scorer.model.inputs import NetworkInputs
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.spec import TrainingOptions

LEAST_PROBABILITY = 1e-7  # of the true class, so that one float32 zero is not an infinite loss


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

    shards: re-iterable and read one at a time, in a drawn order. category_index (N,) picks the
    labels. labels "fused": one NDArray (B, N), named `label`; "list": N NDArrays (B,), named
    `label0` and so on. A batch's `index` holds its customer ids, its `weight` (B,)
    float32 how many rows each row counts as. Rows that fill the last batch up
    are repeats, counted by its `pad`; they come last. seed None: rows in the order given. inputs:
    what a batch has in place of `data` alone, for the network that is trained.
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
        labels: Literal["fused", "list"] = "fused",
        inputs: NetworkInputs | None = None,
    ) -> None:
        super().__init__(batch_rows)
        self._inputs = inputs
        self._shards, self._categories, self._columns = shards, category_index, columns
        self._shuffle_rows, self._seed, self._form = shuffle_rows, seed, labels
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
        """`label` (B, N), or N labels (B,)."""
        if self._form == "fused":
            return [mx.io.DataDesc("label", (self.batch_size, len(self._categories)))]
        names = [f"label{i}" for i in range(len(self._categories))]
        return [mx.io.DataDesc(name, (self.batch_size,)) for name in names]

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
        classes = dense_labels(rows, self._categories).astype(np.float32)
        arrays = [classes] if self._form == "fused" else list(classes.T)
        given = {"data": rows.matrix} if self._inputs is None else self._inputs.arrays(rows)
        data = [
            csr_ndarray(a) if sparse.issparse(a) else mx.nd.array(a, dtype=np.float32)
            for a in given.values()
        ]
        batch = mx.io.DataBatch(
            data,
            [mx.nd.array(a, dtype=np.float32) for a in arrays],
            pad=pad,
            index=rows.customer_ids,
            provide_data=descriptions({n: a.shape for n, a in zip(given, data, strict=True)}),
            provide_label=self.provide_label,
        )
        batch.weight = rows.weight
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


class MultiLabelLogLoss(mx.metric.EvalMetric):  # type: ignore[misc]
    """Mean over rows and categories of -log of the probability given to the true class.

    Fused: label (B, N) with probability (B, N) of class 1, or (B, N, C). Separate heads: N labels
    (B,) with N outputs (B, C).
    """

    def __init__(self) -> None:
        super().__init__("multi_label_log_loss")

    def update(self, labels: list[Any], preds: list[Any], weights: Float32 | None = None) -> None:
        """Add one batch to the sums; weights (B,) say how many rows each row counts as."""
        for label, given in zip(labels, preds, strict=False):
            classes, p = label.asnumpy().astype(np.int64), given.asnumpy()
            if p.ndim == classes.ndim:
                right = np.where(classes > 0, p, 1 - p)
            else:
                right = np.take_along_axis(p, classes[..., None], axis=-1)
            losses = -np.log(np.clip(right, LEAST_PROBABILITY, 1)).reshape(len(classes), -1)
            counted = np.ones(len(classes)) if weights is None else weights.astype(np.float64)
            self.sum_metric += float(losses.sum(axis=1, dtype=np.float64) @ counted)
            self.num_inst += float(counted.sum()) * losses.shape[1]
