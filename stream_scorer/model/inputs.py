"""From rows of features to what the training network takes: columns by role, and listed pairs.

A column is a category's own, customer-wide, the day of the trend, or none of these; the deep and
the linear path take every column, scaled, as CSR (gathered_layer.py). A **pair** is a (row,
category) for which the own and the pooled path are computed: of `pairs = "history"` those with a
value in one of the category's own columns, of "all" every one. Pairs stand in one flat list, so
that training costs what customers did and not the number of categories.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int32, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import TrendTable
from stream_scorer.jit import kernel
from stream_scorer.model.column_statistics import ColumnStatistics
from stream_scorer.model.gathered_layer import NAMES
from stream_scorer.model.spec import Layout, NetworkSpec

# The inputs of the training symbol, in the order in which a batch has them.
INPUTS = ("gathered", "wide", "pair_row", "pair_category", "pair_own", "pair_trend", "day")
NO_ROLE = -1
# A Module binds its arrays anew where a list of pairs has another length than the one before. So
# lists are filled up to one length, which has some room and is a multiple of so many.
PAIRS_TOGETHER = 1024
ROOM = 1.15


class TrendRows(NamedTuple):
    """The trend that some rows need: contrasts (D, G, N) float32 of the model's categories, of the
    D days from first_day on; table_row: where the symbol's table has the first of them."""

    first_day: int
    contrasts: Float32
    table_row: int


def trend_rows(table: TrendTable, layout: Layout, table_row: int) -> TrendRows:
    """The table's contrasts of the model's categories, which begin at table_row of the symbol's."""
    index = np.array(layout.category_index, np.int64)
    return TrendRows(table.first_day, table.contrasts[:, :, index], table_row)


def symbol_table(parts: Iterable[TrendRows]) -> Float32:
    """(D * N, G) float32: the days of all `parts`, one after another."""
    contrasts = np.concatenate([part.contrasts for part in parts])
    return contrasts.transpose(0, 2, 1).reshape(-1, contrasts.shape[1])


class PairList(NamedTuple):
    """P pairs: those of row b are start[b] to start[b + 1], start (B + 1,) int64; row (P,) and
    category (P,) int32, own columns (P, K) float32, scaled."""

    start: Int64
    row: Int32
    category: Int32
    own: Float32


class Prepared(NamedTuple):
    """The symbol's inputs by name, in order, of which `gathered` is not computed yet; the scaled
    matrix (B, F) that it is computed of; the listed pairs, None where the network has none."""

    arrays: dict[str, Any]
    matrix: sparse.csr_matrix
    pairs: PairList | None


class NetworkInputs:
    """Which column has which role, and the scales that training uses.

    names: the inputs that the training symbol has.
    """

    def __init__(
        self,
        layout: Layout,
        spec: NetworkSpec,
        statistics: ColumnStatistics,
        names: Collection[str],
        trend: TrendRows | None = None,
    ) -> None:
        self._layout, self._trend = layout, trend
        self._names = tuple(name for name in INPUTS if name in names)
        self._scale = statistics.column_scale
        self._own_scale = np.array([self._scale[start] for start, _ in layout.own], np.float32)
        self._mean, self._deviation = statistics.customer_mean, statistics.customer_scale
        shapes = layout.shapes(spec)
        self._gathered = sum(shapes[name][1] for name in NAMES if name in shapes)
        self._role = _roles(layout)
        self._every = spec.pairs == "all"
        self._length = 0

    def shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """The shape of each input of a batch of so many rows, by name."""
        layout, pairs = self._layout, max(self._length, PAIRS_TOGETHER)
        every = {
            "gathered": (rows, self._gathered), "wide": (rows, layout.customer_columns),
            "pair_row": (pairs,), "pair_category": (pairs,), "pair_own": (pairs, len(layout.own)),
            "pair_trend": (pairs, layout.contrasts), "day": (rows,),
        }  # fmt: skip
        return {name: every[name] for name in self._names}

    def of(self, rows: LabelledRows) -> Prepared:
        """The inputs of these rows."""
        layout, matrix = self._layout, rows.matrix
        indices = matrix.indices.astype(np.int32, copy=False)
        indptr = matrix.indptr.astype(np.int32, copy=False)
        entries = indptr, indices, matrix.data, self._role
        wide = np.zeros((len(rows), layout.customer_columns), np.float32)
        day = np.zeros(len(rows), np.int64)
        _shared_columns(*entries, len(layout.own) * layout.categories, wide, day)
        scaled = sparse.csr_matrix(
            (matrix.data * self._scale[indices], indices, indptr), shape=matrix.shape, copy=False
        )
        found: dict[str, Any] = {
            "gathered": np.empty((len(rows), self._gathered), np.float32),
            "wide": (wide - self._mean) * self._deviation,
        }
        pairs = None
        if "pair_own" in self._names:
            pairs = self._pairs(*entries)
            fill = self._filled(len(pairs.row)) - len(pairs.row)
            found["pair_row"] = np.pad(pairs.row, (0, fill))
            # A category of its own, whose column the symbol cuts off.
            number = layout.categories
            found["pair_category"] = np.pad(pairs.category, (0, fill), constant_values=number)
            found["pair_own"] = np.pad(pairs.own, ((0, fill), (0, 0)))
        if self._trend is not None:
            index = day - self._trend.first_day
            found["day"] = index + self._trend.table_row
            if pairs is not None:
                of_pair = self._trend.contrasts[index[pairs.row], :, pairs.category]
                found["pair_trend"] = np.pad(of_pair, ((0, fill), (0, 0)))
        return Prepared({name: found[name] for name in self._names}, scaled, pairs)

    def _filled(self, pairs: int) -> int:
        """The length of a list of so many pairs: that of the lists before, if they fit."""
        if pairs > self._length:
            self._length = -(-int(pairs * ROOM) // PAIRS_TOGETHER) * PAIRS_TOGETHER
        return self._length

    def _pairs(self, indptr: Int32, indices: Int32, data: Float32, role: Int32) -> PairList:
        rows, k, n = len(indptr) - 1, len(self._layout.own), self._layout.categories
        if self._every:
            own = np.zeros((rows, n, k), np.float32)
            _fill_every(indptr, indices, data, role, own)
            start = np.arange(rows + 1, dtype=np.int64) * n
            row = np.repeat(np.arange(rows, dtype=np.int32), n)
            category = np.tile(np.arange(n, dtype=np.int32), rows)
            return PairList(start, row, category, own.reshape(-1, k) * self._own_scale)
        position = np.full(n, NO_ROLE, np.int32)
        most = _count_pairs(indptr, indices, data, role, k, position)
        row, category = np.empty(most, np.int32), np.empty(most, np.int32)
        pair_own, start = np.zeros((most, k), np.float32), np.zeros(rows + 1, np.int64)
        position[:] = NO_ROLE
        _fill_pairs(indptr, indices, data, role, position, start, row, category, pair_own)
        return PairList(start, row, category, pair_own * self._own_scale)


def _roles(layout: Layout) -> Int32:
    """(F,): block * N + category of an own column; then W customer-wide ones; then the day."""
    role = np.full(layout.columns, NO_ROLE, np.int32)
    index = np.array(layout.category_index, np.int64)
    for block, (start, _) in enumerate(layout.own):
        role[start + index] = block * layout.categories + np.arange(layout.categories)
    position = len(layout.own) * layout.categories
    for start, stop in layout.customer:
        role[start:stop] = np.arange(position, position + stop - start)
        position += stop - start
    # Every feature of kind "trend" has a day, and all have the same.
    role[list(layout.trend[:1])] = position
    return role


@kernel
def _shared_columns(
    indptr: Int32, indices: Int32, data: Float32, role: Int32, own_slots: int,
    wide: Float32, day: Int64,
) -> None:  # fmt: skip
    """wide (B, W) and day (B,) of the columns whose role is own_slots or above."""
    width = wide.shape[1]
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            slot = role[indices[at]] - own_slots
            if 0 <= slot < width:
                wide[row, slot] = data[at]
            elif slot == width:
                day[row] = np.int64(data[at])


@kernel
def _count_pairs(
    indptr: Int32, indices: Int32, data: Float32, role: Int32, blocks: int, seen: Int32
) -> int:
    """How many pairs have history; seen (N,), all -1, is overwritten."""
    categories, found = len(seen), 0
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            slot = role[indices[at]]
            if 0 <= slot < blocks * categories and data[at] != 0:
                category = slot % categories
                if seen[category] != row:
                    seen[category] = row
                    found += 1
    return found


@kernel
def _fill_pairs(
    indptr: Int32, indices: Int32, data: Float32, role: Int32, position: Int32,
    start: Int64, pair_row: Int32, pair_category: Int32, own: Float32,
) -> None:  # fmt: skip
    """Write each pair with history where its category is first met; position (N,) is all -1."""
    categories, blocks, found = len(position), own.shape[1], 0
    for row in range(len(indptr) - 1):
        first = found
        for at in range(indptr[row], indptr[row + 1]):
            slot = role[indices[at]]
            if 0 <= slot < blocks * categories and data[at] != 0:
                block, category = slot // categories, slot % categories
                if position[category] < first:  # of an earlier row, or of none
                    position[category] = found
                    pair_row[found] = row
                    pair_category[found] = category
                    found += 1
                own[position[category], block] = data[at]
        start[row + 1] = found


@kernel
def _fill_every(indptr: Int32, indices: Int32, data: Float32, role: Int32, own: Float32) -> None:
    """own (B, N, K)."""
    _, categories, blocks = own.shape
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            slot = role[indices[at]]
            if 0 <= slot < blocks * categories:
                own[row, slot % categories, slot // categories] = data[at]
