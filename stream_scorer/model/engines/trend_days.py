"""Which days of the shop's trend the rows of a matrix ask for."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import InputError
from stream_scorer.model.spec import Layout

NO_DAY = -1


def days_of(matrix: sparse.csr_matrix, column: int) -> Int64:
    """(B,) the days that a (B, F) CSR has in a trend's column, `NO_DAY` where it has none."""
    entries = np.flatnonzero(matrix.indices == column)
    days = np.full(matrix.shape[0], NO_DAY, np.int64)
    days[np.searchsorted(matrix.indptr, entries, side="right") - 1] = matrix.data[entries]
    return days


def require_fitting(layout: Layout, table: TrendTable) -> None:
    """Raises InputError where a table is not one of the layout's G contrasts and V categories."""
    found = table.contrasts.shape
    if found[1:] != (layout.contrasts, layout.vocabulary) or not found[0]:
        shape = " x ".join(map(str, found))
        wanted = f"{layout.contrasts} contrasts of {layout.vocabulary} categories"
        remedy = f"the model needs one day or more with {wanted}: give the trend of its features"
        raise InputError("trend", shape, remedy)


def table_rows(layout: Layout, matrix: sparse.csr_matrix, table: TrendTable | None) -> Int64:
    """(B,) the row of the table's contrasts for each row of a (B, F) CSR; 0 for one without a day.

    Only of a layout that has contrasts. Raises InputError where there is no table, or it has not
    the day of a row.
    """
    if table is None:
        remedy = "give the engine the shop's trend by use_trend before it scores"
        raise InputError("trend", "(none)", f"the model was trained with one: {remedy}")
    days = days_of(matrix, layout.trend[0])
    known = days != NO_DAY
    beyond = known & ((days < table.first_day) | (days > table.last_day))
    if beyond.any():
        day = np.datetime64(int(days[np.argmax(beyond)]), "D")
        first, last = (np.datetime64(d, "D") for d in (table.first_day, table.last_day))
        remedy = f"its trend has only the days {first} to {last}: give one that has all days"
        raise InputError("trend", day, f"a customer is to be scored as of this day, but {remedy}")
    return np.where(known, days - table.first_day, 0)
