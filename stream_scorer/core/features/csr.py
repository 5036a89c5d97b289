"""Customers' vectors as one CSR matrix, as they look at a moment.

Blocks ascend in columns and so do a record's entries, so one walk over the blocks writes a row with
sorted indices. A decayed block is multiplied by 2^-((t - L) / h) once per row: with t / h = k + r
that is ldexp(exp2(-r), L / h - k). Entries below `INVISIBLE` are left out. A block whose moments
stand at the columns of an earlier one (moments.py) is written from there. A trend's column holds
the UTC day of the moment, in days since 1970.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64, UInt8
from stream_scorer.core.features.calendar import local_fields
from stream_scorer.core.features.moments import stored_moments
from stream_scorer.core.features.space import CALENDAR_WIDTHS, FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates, Float32
from stream_scorer.jit import kernel

# About a millionth of one event. It is above `FADED` of the fold, so what is dropped from a record
# was not visible before.
INVISIBLE = np.float32(2.0**-20)
DAY_MS = 86_400_000.0
WHOLE_DAY_MS = 86_400_000

# Two events a second apart and then silence for a month: a customer is overdue in any case.
MOST_OVERDUE = 100.0

KINDS = "decayed", "recency", "latest", "calendar", "trend", "first", "gap", "overdue"
DECAYED, RECENCY, LATEST, CALENDAR, TREND, FIRST, GAP, OVERDUE = range(8)
TRANSFORMS = "none", "log1p", "binary"
NONE, LOG1P, BINARY = range(3)


class _Layout(NamedTuple):
    """The blocks of a space (S,): kind, one of KINDS; columns start to stop; half-life in ms, 0 for
    one that never ends; transform, one of TRANSFORMS; scale; for a calendar block which column of
    the calendar keys it shows; the block at whose columns its moments stand; how many stamps a key
    has there, 1 or 2. shown (): the most blocks that show one stamp."""

    kind: UInt8
    start: Int64
    stop: Int64
    half_life_ms: Int64
    transform: UInt8
    scale: Float32
    calendar: Int64
    stored: Int64
    stamps: Int64
    shown: int


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
    stored, stamps = np.arange(len(blocks)), np.ones(len(blocks), np.int64)
    moments = stored_moments(space)
    for one in moments:
        stored[list(one.blocks)] = one.blocks[0]
        stamps[list(one.blocks)] = one.first + one.last
    return _Layout(
        kind=np.array([KINDS.index(b.kind) for b in blocks], np.uint8),
        start=np.array([b.start for b in blocks], np.int64),
        stop=np.array([b.stop for b in blocks], np.int64),
        half_life_ms=np.array([b.half_life_ms or 0 for b in blocks], np.int64),
        transform=np.array([TRANSFORMS.index(b.transform) for b in blocks], np.uint8),
        scale=np.array([b.scale for b in blocks], np.float32),
        calendar=np.cumsum(is_calendar) - 1,
        stored=stored,
        stamps=stamps,
        shown=max((len(one.blocks) for one in moments), default=1),
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


@kernel(inline=True)
def _of_age(age_ms, half_life_ms):  # type: ignore[no-untyped-def]
    """What recency and first show of the age of an event."""
    if half_life_ms > 0:
        return np.float32(np.exp2(-(age_ms / half_life_ms)))
    return np.float32(age_ms / DAY_MS)


@kernel
def _build(a, layout, keys, as_of):  # type: ignore[no-untyped-def]
    """data, indices and indptr; a: StateArrays of B customers, keys (B, K), as_of (B,) ms."""
    customers, blocks = len(a.newest_ms), len(layout.kind)
    of_moment = keys.shape[1] + np.sum(layout.kind == TREND)
    most = len(a.sum_column) + len(a.stamp_column) * layout.shown + customers * of_moment
    data = np.empty(most, np.float32)
    indices = np.empty(most, np.int32)
    indptr = np.zeros(customers + 1, np.int32)
    # By block at whose columns moments stand: this row's stamps and counts there.
    begin, end = np.zeros(blocks, np.int64), np.zeros(blocks, np.int64)
    count_at = np.zeros(blocks, np.int64)
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
            elif layout.stored[b] == b and layout.stamps[b] == 1:
                begin[b] = t
                while t < t1 and a.stamp_column[t] < stop:
                    value = a.stamp_value[t]
                    visible: Any = True
                    if kind != LATEST:
                        value = _of_age(now - a.stamp_ms[t], h)
                        visible = h == 0 or value >= INVISIBLE
                    if visible:
                        indices[at] = a.stamp_column[t]
                        data[at] = _transformed(value, layout.transform[b], layout.scale[b])
                        at += 1
                    t += 1
                end[b] = t
            else:
                o, step = layout.stored[b], layout.stamps[b]
                if o == b:
                    begin[b], count_at[b] = t, u
                    while t < t1 and a.stamp_column[t] < stop:
                        t += 1
                    while u < u1 and a.sum_column[u] < stop:
                        u += 1
                    end[b] = t
                moved = layout.start[b] - layout.start[o]
                for i in range(begin[o], end[o] - step + 1, step):
                    # Where there are two stamps, the second is of the newest event.
                    first_ms, last_ms = a.stamp_ms[i], a.stamp_ms[i + step - 1]
                    if kind in (RECENCY, FIRST):
                        value = _of_age(now - (last_ms if kind == RECENCY else first_ms), h)
                        visible = h == 0 or value >= INVISIBLE
                    else:
                        # Each key with stamps has a count, in the same order; `u1` is for a damaged
                        # record, beyond whose end nothing may be read.
                        count = count_at[o] + (i - begin[o]) // step
                        gaps = np.float64(a.sum_value[count]) - 1.0 if count < u1 else 0.0
                        visible = last_ms > first_ms and gaps > 0
                        if visible:
                            gap_ms = (last_ms - first_ms) / gaps
                            value = np.float32(gap_ms / DAY_MS)
                            if kind == OVERDUE:
                                value = np.float32(min((now - last_ms) / gap_ms, MOST_OVERDUE))
                    if visible:
                        indices[at] = a.stamp_column[i] + moved
                        data[at] = _transformed(value, layout.transform[b], layout.scale[b])
                        at += 1
        indptr[c + 1] = at
    # Copies, because a matrix of slices would keep the room for the entries that were left out.
    return data[:at].copy(), indices[:at].copy(), indptr
