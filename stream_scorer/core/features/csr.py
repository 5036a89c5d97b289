"""Customers' vectors as one CSR matrix, as they look at a moment.

Blocks ascend in columns and so do a record's entries, so one walk over the blocks writes a row with
sorted indices. A decayed block is multiplied by 2^-((t - L) / h) once per row: with t / h = k + r
that is ldexp(exp2(-r), L / h - k). Entries below `INVISIBLE` are left out. A trend's column holds
the UTC day of the moment, in days since 1970.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64, UInt8
from stream_scorer.core.features.calendar import local_fields
from stream_scorer.core.features.space import CALENDAR_WIDTHS, FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates, Float32
from stream_scorer.jit import kernel

# About a millionth of one event. It is above `FADED` of the fold, so what is dropped from a record
# was not visible before.
INVISIBLE = np.float32(2.0**-20)
DAY_MS = 86_400_000.0
WHOLE_DAY_MS = 86_400_000

KINDS = "decayed", "recency", "latest", "calendar", "trend"
DECAYED, RECENCY, LATEST, CALENDAR, TREND = range(5)
TRANSFORMS = "none", "log1p", "binary"
NONE, LOG1P, BINARY = range(3)


class _Layout(NamedTuple):
    """The blocks of a space (S,): kind, one of KINDS; columns start to stop; half-life in ms, 0 for
    one that never ends; transform, one of TRANSFORMS; scale; for a calendar block which column of
    the calendar keys it shows."""

    kind: UInt8
    start: Int64
    stop: Int64
    half_life_ms: Int64
    transform: UInt8
    scale: Float32
    calendar: Int64


def build(states: CustomerStates, space: FeatureSpace, as_of_ms: Int64) -> sparse.csr_matrix:
    """(B, F) float32 CSR, int32 indices ascending in each row; row i is states.customer_ids[i].

    as_of_ms (B,) int64, not before the customer's newest event. Raises ValueError where it is.
    """
    newest = states.arrays.newest_ms
    # A score as of then would know of events after it, and the decay below would grow.
    if ((newest != NEVER) & (as_of_ms < newest)).any():
        raise ValueError("as_of_ms lies before a customer's newest event")
    data, indices, indptr = _build(
        states.arrays, space.derived(_layout), _calendar_keys(space, as_of_ms),
        as_of_ms.astype(np.int64),
    )  # fmt: skip
    matrix = sparse.csr_matrix(
        (data, indices, indptr), shape=(len(states), space.width), copy=False
    )
    # Said, or scipy would look through all indices when it is first asked.
    matrix.has_sorted_indices = True
    return matrix


def _layout(space: FeatureSpace) -> _Layout:
    blocks = space.blocks
    is_calendar = np.array([b.kind == "calendar" for b in blocks])
    return _Layout(
        kind=np.array([KINDS.index(b.kind) for b in blocks], np.uint8),
        start=np.array([b.start for b in blocks], np.int64),
        stop=np.array([b.stop for b in blocks], np.int64),
        half_life_ms=np.array([b.half_life_ms or 0 for b in blocks], np.int64),
        transform=np.array([TRANSFORMS.index(b.transform) for b in blocks], np.uint8),
        scale=np.array([b.scale for b in blocks], np.float32),
        calendar=np.cumsum(is_calendar) - 1,
    )


def _calendar_keys(space: FeatureSpace, as_of_ms: Int64) -> Int64:
    """(B, K) int64: the key of each of the K calendar blocks at as_of_ms (B,)."""
    keys: list[Int64] = []
    for block in space.blocks:
        if block.kind == "calendar":
            key = np.zeros(len(as_of_ms), np.int64)
            fields = local_fields(as_of_ms, space.features[block.feature].time_zone)
            for field in block.fields:
                # Mixed radix, the last field lowest, as `FeatureSpace.by_values` reads it.
                key = key * CALENDAR_WIDTHS[field] + fields[field]
            keys.append(key)
    return np.stack(keys, 1) if keys else np.zeros((len(as_of_ms), 0), np.int64)


@kernel(inline=True)
def _transformed(value, transform, scale):  # type: ignore[no-untyped-def]
    if transform == LOG1P:
        value = np.float32(np.log1p(value) if value >= 0 else -np.log1p(-value))
    elif transform == BINARY:
        value = np.float32(1.0)
    return np.float32(value * scale)


@kernel
def _build(a, layout, keys, as_of):  # type: ignore[no-untyped-def]
    """data, indices and indptr; a: StateArrays of B customers, keys (B, K), as_of (B,) ms."""
    customers, blocks = len(a.newest_ms), len(layout.kind)
    of_moment = keys.shape[1] + np.sum(layout.kind == TREND)
    most = len(a.sum_column) + len(a.stamp_column) + customers * of_moment
    data = np.empty(most, np.float32)
    indices = np.empty(most, np.int32)
    indptr = np.zeros(customers + 1, np.int32)
    at = 0
    for c in range(customers):
        u, u1 = a.sum_at[c], a.sum_at[c + 1]
        t, t1 = a.stamp_at[c], a.stamp_at[c + 1]
        now, newest = as_of[c], a.newest_ms[c]
        for b in range(blocks):
            kind, h, stop = layout.kind[b], layout.half_life_ms[b], layout.stop[b]
            if kind == DECAYED:
                factor = np.float32(1.0)
                if h > 0 and u < u1 and a.sum_column[u] < stop:
                    whole = now // h
                    # 2^-1000 is 0 as a float32, so a longer silence changes nothing.
                    moved = max(newest // h - whole, -1000)
                    factor = np.float32(np.exp2(-((now - whole * h) / h)) * 2.0 ** float(moved))
                while u < u1 and a.sum_column[u] < stop:
                    value = a.sum_value[u] * factor
                    if abs(value) >= INVISIBLE:
                        indices[at] = a.sum_column[u]
                        data[at] = _transformed(value, layout.transform[b], layout.scale[b])
                        at += 1
                    u += 1
            elif kind == CALENDAR:
                indices[at] = layout.start[b] + keys[c, layout.calendar[b]]
                data[at] = layout.scale[b]
                at += 1
            elif kind == TREND:
                indices[at] = layout.start[b]
                # Exact: float32 holds every whole number up to 2^24, which is 45,000 years.
                data[at] = np.float32(now // WHOLE_DAY_MS)
                at += 1
            else:
                while t < t1 and a.stamp_column[t] < stop:
                    value = a.stamp_value[t]
                    visible: Any = True
                    if kind == RECENCY and h > 0:
                        value = np.float32(np.exp2(-((now - a.stamp_ms[t]) / h)))
                        visible = value >= INVISIBLE
                    elif kind == RECENCY:
                        value = np.float32((now - a.stamp_ms[t]) / DAY_MS)
                    if visible:
                        indices[at] = a.stamp_column[t]
                        data[at] = _transformed(value, layout.transform[b], layout.scale[b])
                        at += 1
                    t += 1
        indptr[c + 1] = at
    # Copies, because a matrix of slices would keep the room for the entries that were left out.
    return data[:at].copy(), indices[:at].copy(), indptr
