"""What the network's starting values and scales need to know about the training rows.

One pass over the shards, so that training never holds them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import Float64, Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.errors import InputError
from stream_scorer.model.spec import Layout


@dataclass(frozen=True)
class ColumnStatistics:
    """Counts and sizes over R training rows.

    first_ms, last_ms: the earliest and latest as-of time. class_counts (N, C): rows of
    each class, each counted as its weight. weighted: whether any row has another weight than 1.
    entries_per_row: mean number of columns that are not 0. column_scale (F,) float32: 1 / root mean
    square of the values that are not 0, one value per block; 0 for the day of a trend, which is no
    size. customer_mean, customer_scale (W,)
    float32: mean, and 1 / standard deviation.
    """

    rows: int
    first_ms: int
    last_ms: int
    class_counts: Float64
    weighted: bool
    entries_per_row: float
    column_scale: Float32
    customer_mean: Float32
    customer_scale: Float32

    @classmethod
    def of(
        cls, shards: Iterable[LabelledRows], space: FeatureSpace, layout: Layout
    ) -> ColumnStatistics:
        """One pass over the shards. Raises InputError where there are no rows."""
        stops = np.array([b.stop for b in space.blocks])
        categories = np.array(layout.category_index, np.int64)
        wide = np.concatenate([np.arange(*r) for r in layout.customer] or [np.zeros(0, np.int64)])
        entries, squares = np.zeros(len(stops), np.int64), np.zeros(len(stops))
        sums, sums_of_squares = np.zeros(len(wide)), np.zeros(len(wide))
        counts = np.zeros((layout.categories, layout.classes))
        rows, total, weighted, moments = 0, 0.0, False, list[Int64]()
        for shard in shards:
            if not len(shard):
                continue
            rows += len(shard)
            moments.append(shard.as_of_ms[[shard.as_of_ms.argmin(), shard.as_of_ms.argmax()]])
            # "right", because a block ends before its stop.
            block = np.searchsorted(stops, shard.matrix.indices, "right")
            entries += np.bincount(block, minlength=len(stops))
            squares += np.bincount(block, shard.matrix.data.astype(np.float64) ** 2, len(stops))
            # In float64: the deviation is the small difference of two large sums.
            totals = shard.matrix[:, wide].toarray().astype(np.float64)
            sums += totals.sum(axis=0)
            sums_of_squares += (totals**2).sum(axis=0)
            classes = dense_labels(shard, categories)
            total += float(shard.weight.sum(dtype=np.float64))
            weighted |= bool((shard.weight != 1).any())
            for k in range(1, layout.classes):
                counts[:, k] += shard.weight.astype(np.float64) @ (classes == k)
        if not rows:
            raise InputError(
                "training snapshots", "they have no rows", "give snapshots that have rows"
            )
        counts[:, 0] = total - counts.sum(axis=1)
        size = np.sqrt(squares / np.maximum(entries, 1))
        # The inner `where` keeps numpy from dividing by 0, about which it warns even where the
        # quotient is not used.
        scale = np.where(size > 0, 1 / np.where(size > 0, size, 1), 1)
        scale[[i for i, b in enumerate(space.blocks) if b.start in layout.trend]] = 0
        widths = [b.stop - b.start for b in space.blocks]
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
