"""What the network's starting values and scales need to know about the training rows.

One pass over the shards, so that training never holds them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import Float64, Int32, Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.errors import InputError
from stream_scorer.jit import kernel
from stream_scorer.model.spec import Layout

NONE = -1


@dataclass(frozen=True)
class ColumnStatistics:
    """Counts and sizes over R training rows.

    first_ms, last_ms: the earliest and latest as-of time. class_counts (N, C): rows of
    each class, each counted as its weight. weighted: whether any row has another weight than 1.
    entries_per_row: mean number of columns that are not 0. rows_of_column (F,): in how many rows
    each column is not 0. column_scale (F,) float32: 1 / root mean square of the values that are not
    0, one value per block; 0 for the day of a trend, which is no size. customer_mean,
    customer_scale (W,) float32: mean, and 1 / standard deviation.
    """

    rows: int
    first_ms: int
    last_ms: int
    class_counts: Float64
    weighted: bool
    entries_per_row: float
    rows_of_column: Int64
    column_scale: Float32
    customer_mean: Float32
    customer_scale: Float32

    @classmethod
    def of(
        cls, shards: Iterable[LabelledRows], space: FeatureSpace, layout: Layout
    ) -> ColumnStatistics:
        """One pass over the shards. Raises InputError where there are no rows."""
        widths = [b.stop - b.start for b in space.blocks]
        block_of = np.repeat(np.arange(len(widths), dtype=np.int32), widths)
        wide_at = np.full(layout.columns, NONE, np.int32)
        wide = np.concatenate([np.arange(*r) for r in layout.customer] or [np.zeros(0, np.int64)])
        wide_at[wide] = np.arange(len(wide))
        position = np.full(layout.vocabulary, NONE, np.int64)
        position[np.array(layout.category_index, np.int64)] = np.arange(layout.categories)
        squares = np.zeros(len(widths))
        # (sum, sum of squares) of each customer-wide column; in float64: the deviation is the small
        # difference of two large sums.
        of_column = np.zeros((len(wide), 2))
        counts = np.zeros((layout.categories, layout.classes))
        rows_of_column = np.zeros(layout.columns, np.int64)
        rows, total, weighted, moments = 0, 0.0, False, list[Int64]()
        for shard in shards:
            if not len(shard):
                continue
            rows += len(shard)
            moments.append(shard.as_of_ms[[shard.as_of_ms.argmin(), shard.as_of_ms.argmax()]])
            # Arrays of a snapshot are read-only; the kernel is compiled for those alone.
            data = shard.matrix.data.view()
            indices = shard.matrix.indices.astype(np.int32, copy=False).view()
            data.flags.writeable = indices.flags.writeable = False
            _add_entries(indices, data, block_of, wide_at, rows_of_column, squares, of_column)
            total += float(shard.weight.sum(dtype=np.float64))
            weighted |= bool((shard.weight != 1).any())
            # Of every label the number of its category, as far as the model has it.
            n = position[shard.label_category]
            weight = np.repeat(shard.weight.astype(np.float64), np.diff(shard.label_indptr))
            slots = (n * layout.classes + shard.label_class)[n != NONE]
            counts += np.bincount(slots, weight[n != NONE], counts.size).reshape(counts.shape)
        if not rows:
            raise InputError("training snapshots", "(no rows)", "give snapshots that have rows")
        counts[:, 0] = total - counts.sum(axis=1)
        entries = np.bincount(block_of, rows_of_column, len(widths))
        size = np.sqrt(squares / np.maximum(entries, 1))
        # The inner `where` keeps numpy from dividing by 0, about which it warns even where the
        # quotient is not used.
        scale = np.where(size > 0, 1 / np.where(size > 0, size, 1), 1)
        scale[[i for i, b in enumerate(space.blocks) if b.start in layout.trend]] = 0
        sums, sums_of_squares = of_column.T
        mean = sums / rows
        # Rounding may leave a difference just below 0.
        deviation = np.sqrt(np.maximum(sums_of_squares / rows - mean**2, 0))
        # Rounding leaves a tiny deviation even where a column is constant.
        varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1)
        times = np.concatenate(moments)
        return cls(
            rows,
            int(times.min()),
            int(times.max()),
            counts,
            weighted,
            float(entries.sum() / rows),
            rows_of_column,
            np.repeat(scale, widths).astype(np.float32),
            mean.astype(np.float32),
            np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32),
        )

    @property
    def prior_logits(self) -> Float32:
        """(N * M,) log odds of each class against class 0, with half a row added to each count."""
        # Without the half a class that no row has would have log odds of minus infinity.
        smooth = self.class_counts + 0.5
        odds: Float32 = np.log(smooth[:, 1:] / smooth[:, :1]).astype(np.float32).reshape(-1)
        return odds


@kernel
def _add_entries(
    indices: Int32, data: Float32, block_of: Int32, wide_at: Int32, rows_of_column: Int64,
    squares: Float64, of_column: Float64,
) -> None:  # fmt: skip
    """Count entries by column; add up squares by block, values and squares by customer-wide
    column."""
    for at in range(len(indices)):
        value = np.float64(data[at])
        rows_of_column[indices[at]] += 1
        squares[block_of[indices[at]]] += value * value
        column = wide_at[indices[at]]
        if column >= 0:
            of_column[column, 0] += value
            of_column[column, 1] += value * value
