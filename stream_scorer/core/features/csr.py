"""Customers' vectors as one CSR matrix, as they look at a moment.

Lives here: `build`. Must not live here: how vectors change (customer_state.py) or what columns mean
(feature_space.py).

How it works: blocks ascend in columns and so do a record's entries, so one walk over the blocks
writes a row with sorted indices. A decayed block is multiplied by 2^-((t - L) / h) once per row:
with t / h = k + r that is ldexp(exp2(-r), L / h - k). Entries below `INVISIBLE` are left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64, UInt8
from stream_scorer.core.features.calendar import local_fields
from stream_scorer.core.features.space import CALENDAR_WIDTHS, FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates
from stream_scorer.jit import kernel

INVISIBLE = np.float32(2.0**-20)
DAY_MS = 86_400_000.0


class _Layout(NamedTuple):
    kind: UInt8  # per block: 0 decayed, 1 recency, 2 latest, 3 calendar
    stop: Int64
    start: Int64
    half_life: Int64
    transform: UInt8  # 0 none, 1 log1p, 2 binary
    scale: np.ndarray  # type: ignore[type-arg]
    calendar: Int64  # per block: column of the calendar keys, -1 where none


def build(states: CustomerStates, space: FeatureSpace, as_of_ms: Int64) -> sparse.csr_matrix:
    """(B, F) float32 CSR, int32 indices ascending in each row; row i is states.customer_ids[i].

    as_of_ms (B,) int64, not before the customer's newest event. Raises ValueError where it is.
    """
    newest = states.arrays.newest_ms
    if ((newest != NEVER) & (as_of_ms < newest)).any():
        raise ValueError("as_of_ms lies before a customer's newest event")
    layout, keys = _layout(space, as_of_ms)
    data, indices, indptr = _build(states.arrays, layout, keys, as_of_ms.astype(np.int64))
    matrix = sparse.csr_matrix(
        (data, indices, indptr), shape=(len(states), space.width), copy=False
    )
    matrix.has_sorted_indices = True
    return matrix


def _layout(space: FeatureSpace, as_of_ms: Int64) -> tuple[_Layout, Int64]:
    kinds = {"decayed": 0, "recency": 1, "latest": 2, "calendar": 3}
    transforms = {"none": 0, "log1p": 1, "binary": 2}
    calendar = np.full(len(space.blocks), -1, np.int64)
    keys: list[Int64] = []
    for i, block in enumerate(space.blocks):
        if block.kind == "calendar":
            key = np.zeros(len(as_of_ms), np.int64)
            zone = space.features[block.feature].time_zone
            for field in block.fields:
                key = key * CALENDAR_WIDTHS[field] + local_fields(as_of_ms, zone)[field]
            calendar[i] = len(keys)
            keys.append(key)
    columns = np.stack(keys, 1) if keys else np.zeros((len(as_of_ms), 0), np.int64)
    blocks = space.blocks
    return _Layout(
        np.array([kinds[b.kind] for b in blocks], np.uint8),
        np.array([b.stop for b in blocks], np.int64),
        np.array([b.start for b in blocks], np.int64),
        np.array([b.half_life_ms or 0 for b in blocks], np.int64),
        np.array([transforms[b.transform] for b in blocks], np.uint8),
        np.array([b.scale for b in blocks], np.float32),
        calendar,
    ), columns


@kernel(inline=True)
def _shown(value, transform, scale):  # type: ignore[no-untyped-def]
    if transform == 1:
        value = np.float32(np.log1p(value) if value >= 0 else -np.log1p(-value))
    elif transform == 2:
        value = np.float32(1.0)
    return np.float32(value * scale)


@kernel
def _build(a, layout, keys, as_of):  # type: ignore[no-untyped-def]
    customers, blocks = len(a.newest_ms), len(layout.kind)
    most = len(a.sum_column) + len(a.stamp_column) + customers * keys.shape[1]
    data = np.empty(most, np.float32)
    indices = np.empty(most, np.int32)
    indptr = np.zeros(customers + 1, np.int32)
    at = 0
    for c in range(customers):
        u, u1 = a.sum_at[c], a.sum_at[c + 1]
        t, t1 = a.stamp_at[c], a.stamp_at[c + 1]
        now, newest = as_of[c], a.newest_ms[c]
        for b in range(blocks):
            kind, h, stop = layout.kind[b], layout.half_life[b], layout.stop[b]
            if kind == 0:
                factor = np.float32(1.0)
                if h > 0 and u < u1 and a.sum_column[u] < stop:
                    whole = now // h
                    moved = max(newest // h - whole, -1000)
                    factor = np.float32(np.exp2(-((now - whole * h) / h)) * 2.0 ** float(moved))
                while u < u1 and a.sum_column[u] < stop:
                    value = a.sum_value[u] * factor
                    if abs(value) >= INVISIBLE:
                        indices[at] = a.sum_column[u]
                        data[at] = _shown(value, layout.transform[b], layout.scale[b])
                        at += 1
                    u += 1
            elif kind == 3:
                indices[at] = layout.start[b] + keys[c, layout.calendar[b]]
                data[at] = layout.scale[b]
                at += 1
            else:
                while t < t1 and a.stamp_column[t] < stop:
                    value = a.stamp_value[t]
                    visible: Any = True
                    if kind == 1 and h > 0:
                        value = np.float32(np.exp2(-((now - a.stamp_ms[t]) / h)))
                        visible = value >= INVISIBLE
                    elif kind == 1:
                        value = np.float32((now - a.stamp_ms[t]) / DAY_MS)
                    if visible:
                        indices[at] = a.stamp_column[t]
                        data[at] = _shown(value, layout.transform[b], layout.scale[b])
                        at += 1
                    t += 1
        indptr[c + 1] = at
    return data[:at].copy(), indices[:at].copy(), indptr
