"""One customer's sums, laid out for the events of a batch.

Lives here: the scratch area of the fold's loop. Must not live here: what events do to it
(fold_kernel.py).

How it works: features of sums by the same fields, a group (fold_tables.py), see an event at the
same key. So each group has a table: a place for each key, in order of arrival, and for each of its
blocks a lane of values, one for each place, 0 where the block has no such entry. An event looks for
the place of its key once for each group. Beside them the keys are kept ascending, each with its
place; by these the lanes are gathered to a record, block by block, without the zeros.

Arrays are by group (key_at: where its part of the keys begins; keys: how many there are) or by
block (entry_at: where its entries begin in the old record; lane_at: where its lane begins).
"""

from __future__ import annotations

import numpy as np

from stream_scorer.jit import bytes_of, kernel

FADED = np.float32(2.0**-40)


@kernel(inline=True)
def search(columns, start, stop, column):  # type: ignore[no-untyped-def]
    """First position in the ascending columns[start:stop] that is not below column."""
    at, left = start, stop - start
    while left > 1:
        half = left >> 1
        at += half if columns[at + half - 1] < column else 0
        left -= half
    if left == 1 and columns[at] < column:
        at += 1
    return at


@kernel
def lay_out(columns, begin, end, events, sum_start, sum_stop, group, entry_at, lane_at, key_at):  # type: ignore[no-untyped-def]
    """Room for old entries columns[begin:end] and one new key of each group for each event.

    Fills in entry_at, lane_at and key_at; how many keys and how many values that makes.
    """
    blocks, groups = len(sum_start), len(key_at)
    key_at[:] = events
    at = begin
    for b in range(blocks):
        entry_at[b] = at
        at = search(columns, at, end, sum_stop[b])
        key_at[group[b]] += at - entry_at[b]
    entry_at[blocks] = end
    keys, values = np.int64(0), np.int64(0)
    for b in range(blocks):
        lane_at[b] = values
        values += min(key_at[group[b]], sum_stop[b] - sum_start[b])
    for g in range(groups):
        room = key_at[g]
        key_at[g] = keys
        keys += room
    return keys, values


@kernel(inline=True)
def add_key(  # type: ignore[no-untyped-def]
    key, g, rank, base, n, group, lane_at, arrived, ascending, place_of, values
):
    """A key that group g has not, after the n that it has; `rank` is its place when ascending."""
    for r in range(base + n, rank, -1):
        ascending[r] = ascending[r - 1]
        place_of[r] = place_of[r - 1]
    ascending[rank] = key
    place_of[rank] = n
    arrived[base + n] = key
    for b in range(len(group)):
        if group[b] == g:
            values[lane_at[b] + n] = 0


@kernel
def spread(  # type: ignore[no-untyped-def]
    columns, sums, sum_start, group, entry_at, lane_at, key_at,
    keys, arrived, ascending, place_of, values, place,
):  # fmt: skip
    """The old record's entries into the tables; fills in `keys`."""
    blocks, mask = len(sum_start), np.uint32(len(place) - 1)
    arrived_, ascending_ = bytes_of(arrived), bytes_of(ascending)
    place_of_, values_ = bytes_of(place_of), bytes_of(values)
    for g in range(len(key_at)):
        first = -1
        fullest = -1
        for b in range(blocks):
            if group[b] == g:
                first = b if first < 0 else first
                if fullest < 0 or (
                    entry_at[b + 1] - entry_at[b] > entry_at[fullest + 1] - entry_at[fullest]
                ):
                    fullest = b
        base, at = key_at[g], entry_at[fullest]
        n = entry_at[fullest + 1] - at
        for i in range(n):
            key = np.int32(columns[at + i] - sum_start[fullest])
            arrived_[base + i] = key
            ascending_[base + i] = key
            place_of_[base + i] = i
        full = n
        for b in range(blocks):
            if group[b] != g:
                continue
            at, lane, start = entry_at[b], lane_at[b], sum_start[b]
            same = entry_at[b + 1] - at == full
            for i in range(full if same else 0):
                same &= columns[at + i] - start == arrived_[base + i]
            for i in range(full if same else 0):  # as most do
                values_[lane + i] = sums[at + i]
            for i in range(full if same else 0, n):
                values_[lane + i] = 0
            rank = base
            for i in range(0 if same else entry_at[b + 1] - at):
                key = np.int32(columns[at + i] - start)
                while rank < base + n and ascending_[rank] < key:
                    rank += 1
                if rank == base + n or ascending_[rank] != key:
                    add_key(
                        key, g, rank, base, n, group, lane_at,
                        arrived_, ascending_, place_of_, values_,
                    )  # fmt: skip
                    n += 1
                values_[lane + place_of_[rank]] = sums[at + i]
                rank += 1
        keys[g] = n
        for i in range(n):
            place[np.uint32(sum_start[first] + arrived_[base + i]) & mask] = i


@kernel
def fade(values, start, stop, factor):  # type: ignore[no-untyped-def]
    """Multiply values[start:stop]; what fell below FADED is dropped."""
    for i in range(start, stop):
        value = values[i] * factor
        values[i] = value if abs(value) >= FADED else np.float32(0.0)


@kernel
def gather(  # type: ignore[no-untyped-def]
    sum_start, group, lane_at, key_at, keys, ascending, place_of, values, sum_column, sum_value, to
):
    """The tables as a record's entries, from position `to` of sum_column, sum_value; its end."""
    ascending_, place_of_, values_ = bytes_of(ascending), bytes_of(place_of), bytes_of(values)
    column_, value_ = bytes_of(sum_column), bytes_of(sum_value)
    for b in range(len(sum_start)):
        g = group[b]
        base, lane, start = key_at[g], lane_at[b], np.uint32(sum_start[b])
        for rank in range(base, base + keys[g]):
            value = values_[lane + place_of_[rank]]
            # A 0 is overwritten by the next entry: no branch.
            column_[to] = start + np.uint32(ascending_[rank])
            value_[to] = value
            to += value != 0
    return to
