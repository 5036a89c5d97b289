"""One customer's sums, laid out in tables for the events of a batch.

The features of a group (fold_plan.Plan) see an event at the same key. So each group has a table: a
position for each key, in order of arrival, and for each of its blocks a lane of values, one for
each position, 0 where the block has no such entry. An event looks for the position of its key once
for each group. Beside them the keys are kept in ascending order, each with its position; in that
order the lanes are gathered to a record, block by block, without the zeros.

Low parts. A float32 has 24 bits: a sum of 2^24 ones stops growing, and long before that each
addition rounds, by up to 2^-24 of the sum. So a sum that is at least `WIDE` times an addend may
begin to keep what rounding takes away: its low part, a float32 beside it, which makes about 48 bits
of the two ("double-single" arithmetic). The value alone is still the sum rounded to float32, so
whoever reads vectors needs no low parts. Whether an addition begins one depends on value and addend
alone: on one in 1,024 patterns of the value's bits, so that an ordinary customer with a few tiny
addends seldom gets one, and always where the addend would get lost altogether. It stays until its
value fades. So the result is a function of the sequence of addends, however it was cut into
batches, and moving a landmark scales value and low part by the same power of two, exactly.

How large the error is, for n addends of one sign and size whose low part begins with the N-th
addition. Each addition without a low part rounds by up to 2^-24 of the sum (Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd edition, section 2.2 and chapter 4), so that N of them are
off by up to N^2 / 2 * 2^-24 addends. With one, only the low part is rounded: it is at most 2^-24
of the sum, so that is 2^-48 of it. Together the error is at most

    N^2 / n * 2^-25 + n * 2^-49    of the sum (N * 2^-25 of it where n = N).

N is 4,096 and more, by a chance of one in 1,024 with each addition: of 4,008 addends half began
within 611 more, one in a thousand needed 21,000, and the last 36,000. Up to there the error may be
some 1e-4 of the sum (of these addends, 2.1e-4 at most); it stays as it is while the sum grows on.
At 10^8 events the bound is 1.9e-7 where N is 5,120, and 6.6e-7 for the last of them; it would be
above 1e-5 only for an N of 180,000, which has a chance of e^-170.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_scorer.core.features.fold_plan import SumTables
from stream_scorer.jit import bytes_of, kernel

FADED = np.float32(2.0**-40)
# The errors of 4,096 equal addends add up to at most 1.2e-4 of their sum; see above.
WIDE = np.float32(2.0**12)
CHANCE_SHIFT = np.uint32(22)  # leaves 10 bits of 32: one in 1,024
# A float32 has 2^23 steps between powers of two: half a step is the least that can change it.
LOST = np.float32(2.0**23)


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
def lay_out(columns, begin, end, events, blocks, tables):  # type: ignore[no-untyped-def]
    """Room for the old entries columns[begin:end] and one new key of each group for each event.

    Fills in entry_at, lane_at and key_at. Returns the tables, larger ones where they were too
    small; what they held is then lost.
    """
    entry_at, lane_at, key_at = tables.entry_at, tables.lane_at, tables.key_at
    start, stop, group = blocks.start, blocks.stop, blocks.group
    key_at[:] = events
    at = begin
    for b in range(len(start)):
        entry_at[b] = at
        at = search(columns, at, end, stop[b])
        key_at[group[b]] += at - entry_at[b]
    entry_at[len(start)] = end
    keys: Any = np.int64(0)
    values: Any = np.int64(0)
    for b in range(len(start)):
        lane_at[b] = values
        values += min(key_at[group[b]], stop[b] - start[b])
    lane_at[len(start)] = values
    for g in range(len(key_at)):
        room = key_at[g]
        key_at[g] = keys
        keys += room
    if keys <= len(tables.arrived) and values <= len(tables.values):
        return tables
    keys = max(2 * keys, len(tables.arrived))
    values = max(2 * values, len(tables.values))
    return SumTables(
        entry_at, lane_at, key_at, tables.keys,
        np.empty(keys, np.int32), np.empty(keys, np.int32), np.empty(keys, np.int32),
        np.empty(values, np.float32), np.empty(values, np.float32), tables.hint,
    )  # fmt: skip


class SumPointers(NamedTuple):
    """Arrays of SumBlocks and SumTables as bare pointers, for loops that must not count references.

    They are good for as long as the blocks and tables are named later in the same function.
    """

    blocks: int
    group: Any
    lane_at: Any
    key_at: Any
    keys: Any
    arrived: Any
    ascending: Any
    position_of: Any
    values: Any
    low: Any
    hint: Any


@kernel(inline=True)
def pointers_to(blocks, tables):  # type: ignore[no-untyped-def]
    return SumPointers(
        len(blocks.start), bytes_of(blocks.group), bytes_of(tables.lane_at),
        bytes_of(tables.key_at), bytes_of(tables.keys),
        bytes_of(tables.arrived), bytes_of(tables.ascending), bytes_of(tables.position_of),
        bytes_of(tables.values), bytes_of(tables.low), bytes_of(tables.hint),
    )  # fmt: skip


@kernel(inline=True)
def add_key(key, g, rank, base, n, to):  # type: ignore[no-untyped-def]
    """A key that group g has not, after the n that it has; `rank` is where it is in to.ascending.

    to: SumPointers; base: where the group's keys begin.
    """
    for r in range(base + n, rank, -1):
        to.ascending[r] = to.ascending[r - 1]
        to.position_of[r] = to.position_of[r - 1]
    to.ascending[rank] = key
    to.position_of[rank] = n
    to.arrived[base + n] = key
    for b in range(to.blocks):
        if to.group[b] == g:
            to.values[to.lane_at[b] + n] = 0


@kernel
def spread(columns, sums, blocks, tables):  # type: ignore[no-untyped-def]
    """The entries of the old record into the tables; fills in tables.keys and hint."""
    start, group, hint = blocks.start, blocks.group, tables.hint
    entry_at, lane_at, key_at = tables.entry_at, tables.lane_at, tables.key_at
    mask = np.uint32(len(hint) - 1)
    to = pointers_to(blocks, tables)
    arrived, ascending, position_of, values = to.arrived, to.ascending, to.position_of, to.values
    for g in range(len(key_at)):
        first = -1
        fullest = -1
        for b in range(len(start)):
            if group[b] == g:
                first = b if first < 0 else first
                if fullest < 0 or (
                    entry_at[b + 1] - entry_at[b] > entry_at[fullest + 1] - entry_at[fullest]
                ):
                    fullest = b
        base, at = key_at[g], entry_at[fullest]
        n = entry_at[fullest + 1] - at
        for i in range(n):
            key = np.int32(columns[at + i] - start[fullest])
            arrived[base + i] = key
            ascending[base + i] = key
            position_of[base + i] = i
        full = n
        for b in range(len(start)):
            if group[b] != g:
                continue
            at, lane, from_column = entry_at[b], lane_at[b], start[b]
            same = entry_at[b + 1] - at == full
            for i in range(full if same else 0):
                same &= columns[at + i] - from_column == arrived[base + i]
            for i in range(full if same else 0):  # as most do
                values[lane + i] = sums[at + i]
            for i in range(full if same else 0, n):
                values[lane + i] = 0
            rank = base
            for i in range(0 if same else entry_at[b + 1] - at):
                key = np.int32(columns[at + i] - from_column)
                while rank < base + n and ascending[rank] < key:
                    rank += 1
                if rank == base + n or ascending[rank] != key:
                    add_key(key, g, rank, base, n, to)
                    n += 1
                values[lane + position_of[rank]] = sums[at + i]
                rank += 1
        tables.keys[g] = n
        for i in range(n):
            hint[np.uint32(start[first] + arrived[base + i]) & mask] = i


@kernel
def fade(values, start, stop, factor):  # type: ignore[no-untyped-def]
    """Multiply values[start:stop]; what fell below FADED is dropped."""
    for i in range(start, stop):
        value = values[i] * factor
        values[i] = value if abs(value) >= FADED else np.float32(0.0)


@kernel
def gather(blocks, tables, sum_column, sum_value, to):  # type: ignore[no-untyped-def]
    """The tables as a record's entries, from position `to` of sum_column, sum_value; its end.

    Both need room for one entry more: a 0 is written, and overwritten by the next entry.
    """
    start, of = blocks.start, pointers_to(blocks, tables)
    columns, sums = bytes_of(sum_column), bytes_of(sum_value)
    for b in range(of.blocks):
        g = of.group[b]
        base, lane, from_column = of.key_at[g], of.lane_at[b], np.uint32(start[b])
        for rank in range(base, base + of.keys[g]):
            value = of.values[lane + of.position_of[rank]]
            columns[to] = from_column + np.uint32(of.ascending[rank])
            sums[to] = value
            to += value != 0  # no branch, which would often be mispredicted
    return to


@kernel
def begin_low(tables, at, addend, has_low):  # type: ignore[no-untyped-def]
    """Add to values[at], which has no low part; it may get one here.

    has_low: whether `low` is in use for this customer. Returns whether it is afterwards.
    """
    values, low = tables.values, tables.low
    old, value = values[at], np.float32(values[at] + addend)
    values[at] = value
    if addend == 0 or abs(value) < WIDE * abs(addend):
        return has_low
    mixed = np.uint32(np.uint64(values.view(np.uint32)[at]) * np.uint64(2654435761))
    if mixed >> CHANCE_SHIFT != 0 and abs(value) < LOST * abs(addend):
        return has_low
    if not has_low:
        low[: tables.lane_at[-1]] = np.nan
    low[at] = np.float32(np.float64(old) + np.float64(addend) - np.float64(value))
    return True


@kernel
def spread_low(columns, low_parts, begin, end, blocks, tables):  # type: ignore[no-untyped-def]
    """The old record's low parts [begin:end] to their values, which `spread` has put there."""
    tables.low[: tables.lane_at[-1]] = np.nan
    b = 0
    for i in range(begin, end):
        while b < len(blocks.start) and columns[i] >= blocks.stop[b]:
            b += 1
        if b == len(blocks.start) or columns[i] < blocks.start[b]:
            continue  # a damaged record; it must not make this write beyond the tables
        g, key = blocks.group[b], np.int32(columns[i] - blocks.start[b])
        base = tables.key_at[g]
        rank = search(tables.ascending, base, base + tables.keys[g], key)
        if rank < base + tables.keys[g] and tables.ascending[rank] == key:
            tables.low[tables.lane_at[b] + tables.position_of[rank]] = low_parts[i]


@kernel
def fade_low(tables, start, stop, factor):  # type: ignore[no-untyped-def]
    """As `fade`, of low parts: a value that was dropped has none."""
    for i in range(start, stop):
        tables.low[i] = tables.low[i] * factor if tables.values[i] != 0 else np.float32(np.nan)


@kernel
def gather_low(blocks, tables, low_column, low_value, to):  # type: ignore[no-untyped-def]
    """As `gather`, of low parts."""
    for b in range(len(blocks.start)):
        g = blocks.group[b]
        base = tables.key_at[g]
        for rank in range(base, base + tables.keys[g]):
            part = tables.low[tables.lane_at[b] + tables.position_of[rank]]
            if not np.isnan(part):
                low_column[to] = np.uint32(blocks.start[b] + tables.ascending[rank])
                low_value[to] = part
                to += 1
    return to
