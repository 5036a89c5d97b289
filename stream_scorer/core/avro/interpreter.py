"""A compiled loop that walks Avro records and puts the wanted fields into columns.

It runs a program (program.py). The loop has no types of its own, only a position, a program counter
and a short stack for blocks and nested records. Every read is checked against the record's end, so
hostile bytes end in an error code with its position, never in a wild read. Work is bounded too.
Whatever takes no bytes of the record costs 1 of a budget that grows with the record's length: an
item of an array or map, and a call of a nested record. All other instructions take a byte or follow
one that did, and only items and calls repeat them, so no work goes uncounted; counting each one
would slow ordinary events down. The stack is MAX_DEPTH deep.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_scorer.core.avro import program as k
from stream_scorer.core.avro.attributes import MapEntries, canonical_map
from stream_scorer.core.avro.numbers import decimal_value, get_moment
from stream_scorer.core.avro.primitives import (
    BAD_BLOCK_SIZE,
    BAD_BOOLEAN,
    BAD_BRANCH,
    BAD_DECIMAL,
    BAD_MOMENT,
    BAD_SYMBOL,
    OK,
    OUT_OF_INT,
    REFUSED,
    TOO_DEEP,
    TOO_MANY_ITEMS,
    TRAILING,
    TRUNCATED,
    get_length,
    get_long,
    get_text,
)
from stream_scorer.core.events.batch import NULL, Int64, UInt8
from stream_scorer.jit import bytes_of, kernel


@kernel
def _bits(data: Any, pos: Any, size: Any) -> Any:
    """`size` little-endian bytes at pos as an integer."""
    bits = np.uint64(0)
    for i in range(size):
        bits |= np.uint64(data[pos + i]) << np.uint64(8 * i)
    return bits


@kernel
def run(
    buffer: UInt8,
    starts: Int64,
    ends: Int64,
    rows: Int64,
    chained: bool,
    tables: k.Tables,
    out: k.Columns,
    errors: k.Outcome,
    entries: MapEntries,
) -> Any:
    """Run the program over the records `rows` (r,) int64, into `out` and `errors`.

    Record `row` is buffer[starts[row]:ends[row]]. Where `chained`, each record instead starts where
    the one before it ended, `errors.at` is its end, and the first broken one is the last. Returns
    how many map entries belong to maps that must be rewritten; `entries` takes the first of them,
    as many as it has room for. Such a map's length is REWRITE and its start the number of its
    entries.
    """
    # numba counts references each time that a field of a tuple is taken: once is enough.
    code, jumps = tables.code, tables.jumps
    symbol_starts, symbol_lengths = tables.symbol_starts, tables.symbol_lengths
    slot_starts, slot_lengths = out.starts, out.lengths
    value, has_value, occurred_ms = out.value, out.has_value, out.occurred_ms
    row_error, row_at, row_label = errors.error, errors.at, errors.label
    room = len(entries.row)
    data = bytes_of(buffer)
    # Of an array or map: the items left in its block. Of a nested record: where to go on after it.
    stack = np.empty(k.MAX_DEPTH, np.int64)
    block_end = np.empty(k.MAX_DEPTH, np.int64)  # -1 where the writer did not give it
    bits = np.zeros(1, np.uint64)  # written as an integer, read as a float through the views
    doubles, floats = bits.view(np.float64), bits.view(np.float32)
    entry_count = 0
    pos = np.int64(0)
    items_left = calls_left = np.int64(0)
    if chained and len(rows):
        # Chained records share one budget, else many records without bytes would each have it.
        items_left = ends[rows[0]] + k.FREE_ITEMS
        calls_left = k.CALLS_PER_BYTE * ends[rows[0]] + k.FREE_CALLS
    scale = np.int64(0)
    for row in rows:
        end = ends[row]
        if not chained:
            pos = starts[row]
            items_left = end - pos + k.FREE_ITEMS
            calls_left = k.CALLS_PER_BYTE * (end - pos) + k.FREE_CALLS
        error, at, label = OK, pos, np.int32(0)
        top = -1
        key_start, key_length, row_entries = np.int64(0), np.int64(0), np.int64(0)
        pc = 0
        while True:
            op, a, b, label = code[pc, k.OP], code[pc, k.A], code[pc, k.B], code[pc, k.LABEL]
            pc += 1
            if op == k.STRING:
                length, at, error = get_text(data, pos, end)
                if error != OK:
                    break
                slot_starts[a, row] = at - length
                slot_lengths[a, row] = length
                pos = at
            elif op == k.UNION:
                branch, at, error = get_long(data, pos, end)
                if error == OK and (branch < 0 or branch >= b):
                    error, at = BAD_BRANCH, pos
                if error != OK:
                    break
                pc = jumps[a + branch]
                pos = at
            elif op == k.JUMP:
                pc = a
            elif op == k.NULL_STRING:
                slot_starts[a, row] = pos
                slot_lengths[a, row] = NULL
            elif op in (k.DOUBLE, k.FLOAT):
                size = 8 if op == k.DOUBLE else 4
                if end - pos < size:
                    error, at = TRUNCATED, pos
                    break
                bits[0] = _bits(data, pos, size)
                if op == k.DOUBLE:
                    value[row] = doubles[0]
                else:
                    value[row] = floats[0]
                has_value[row] = True
                pos += size
            elif op in (k.TIME, k.LONG_VALUE, k.INT_VALUE):
                number, at, error = get_long(data, pos, end)
                is_int = op == k.INT_VALUE or (op == k.TIME and b == 1)
                if error == OK and is_int and (number < -(2**31) or number >= 2**31):
                    error, at = OUT_OF_INT, pos
                if error != OK:
                    break
                if op == k.TIME:
                    if a != 1:
                        number = number // a if a > 0 else number * -a
                    occurred_ms[row] = number
                else:
                    value[row] = np.float64(number)
                    has_value[row] = True
                pos = at
            elif op == k.NULL_VALUE:
                value[row] = 0.0
                has_value[row] = False
            elif op == k.MAP:
                canonical, at, error = canonical_map(data, pos, end)
                if error != OK:
                    break
                if canonical:
                    slot_starts[k.ATTRIBUTES, row] = pos
                    slot_lengths[k.ATTRIBUTES, row] = at - pos
                    pos = at
                    pc = a
            elif op == k.EMPTY_MAP:
                slot_starts[k.ATTRIBUTES, row] = tables.empty_map_at
                slot_lengths[k.ATTRIBUTES, row] = 1
            elif op in (k.ENUM, k.SKIP_ENUM):
                symbol, at, error = get_long(data, pos, end)
                if error == OK and (symbol < 0 or symbol >= b):
                    error, at = BAD_SYMBOL, pos
                if error != OK:
                    break
                if op == k.ENUM:
                    slot = code[pc - 1, k.C]
                    slot_starts[slot, row] = symbol_starts[a + symbol]
                    slot_lengths[slot, row] = symbol_lengths[a + symbol]
                pos = at
            elif op == k.SKIP_BYTES:
                length, at, error = get_length(data, pos, end)
                if error != OK:
                    break
                pos = at + length
            elif op in (k.SKIP_INT, k.SKIP_LONG):
                number, at, error = get_long(data, pos, end)
                if error == OK and op == k.SKIP_INT and (number < -(2**31) or number >= 2**31):
                    error, at = OUT_OF_INT, pos
                if error != OK:
                    break
                pos = at
            elif op == k.SKIP_FIXED:
                if end - pos < a:
                    error, at = TRUNCATED, pos
                    break
                pos += a
            elif op == k.SKIP_BOOLEAN:
                if pos >= end:
                    error, at = TRUNCATED, pos
                    break
                if data[pos] > 1:
                    error, at = BAD_BOOLEAN, pos
                    break
                pos += 1
            elif op in (k.BLOCKS, k.CALL):
                top += 1
                if top >= k.MAX_DEPTH:
                    error, at = TOO_DEEP, pos
                    break
                calls_left -= 1
                if calls_left < 0:
                    error, at = TOO_MANY_ITEMS, pos
                    break
                stack[top] = 0 if op == k.BLOCKS else pc
                block_end[top] = -1
                if op == k.CALL:
                    pc = a
            elif op == k.RETURN:
                pc = stack[top]
                top -= 1
            elif op == k.NEXT:
                left = stack[top]
                if left == 0:
                    if block_end[top] >= 0 and block_end[top] != pos:
                        error, at = BAD_BLOCK_SIZE, pos
                        break
                    left, at, error = get_long(data, pos, end)
                    if error != OK:
                        break
                    block_end[top] = -1
                    if left == -(2**63):  # -left would overflow
                        error, at = TOO_MANY_ITEMS, pos
                        break
                    if left < 0:
                        size, at, error = get_long(data, at, end)
                        if error == OK and (size < 0 or size > end - at):
                            error, at = BAD_BLOCK_SIZE, pos
                        if error != OK:
                            break
                        block_end[top] = at + size
                        left = -left
                    pos = at
                if left == 0:
                    top -= 1
                    pc = a
                else:
                    items_left -= 1
                    if items_left < 0:
                        error, at = TOO_MANY_ITEMS, pos
                        break
                    stack[top] = left - 1
            elif op == k.KEY:
                key_length, at, error = get_text(data, pos, end)
                if error != OK:
                    break
                key_start = at - key_length
                slot_lengths[k.ATTRIBUTES, row] = k.REWRITE
                pos = at
            elif op == k.PAIR:
                if slot_lengths[k.MAP_VALUE, row] != NULL:  # null is left out, as JSON's null is
                    if entry_count < room:
                        entries.row[entry_count] = row
                        entries.key_start[entry_count] = key_start
                        entries.key_length[entry_count] = key_length
                        entries.value_start[entry_count] = slot_starts[k.MAP_VALUE, row]
                        entries.value_length[entry_count] = slot_lengths[k.MAP_VALUE, row]
                    entry_count += 1
                    row_entries += 1
                slot_starts[k.ATTRIBUTES, row] = row_entries
            elif op == k.REFUSE:
                error, at = REFUSED, pos
                break
            elif op == k.END:
                error, at = OK, pos
                break
            # What few writers use comes last: the comparisons before it cost ordinary events time.
            elif op == k.MOMENT:
                length, at, error = get_length(data, pos, end)
                if error != OK:
                    break
                moment, known = get_moment(data, at, at + length)
                if not known:
                    error, at = BAD_MOMENT, pos
                    break
                occurred_ms[row] = moment
                pos = at + length
            elif op in (k.LONG_TEXT, k.SCALE):
                number, at, error = get_long(data, pos, end)
                if error == OK and b == 1 and (number < -(2**31) or number >= 2**31):
                    error, at = OUT_OF_INT, pos
                is_scale = op == k.SCALE
                if error == OK and is_scale and (number < k.LEAST_SCALE or number > k.MOST_SCALE):
                    error, at = BAD_DECIMAL, pos
                if error != OK:
                    break
                if is_scale:
                    scale = number
                else:
                    slot_starts[a, row] = number
                    slot_lengths[a, row] = k.RAW_LONG
                pos = at
            elif op == k.BOOLEAN_TEXT:
                if pos >= end:
                    error, at = TRUNCATED, pos
                    break
                if data[pos] > 1:
                    error, at = BAD_BOOLEAN, pos
                    break
                slot = code[pc - 1, k.C]
                symbol = a + np.int64(data[pos])
                slot_starts[slot, row] = symbol_starts[symbol]
                slot_lengths[slot, row] = symbol_lengths[symbol]
                pos += 1
            elif op == k.RAW_BYTES:
                if end - pos < b:
                    error, at = TRUNCATED, pos
                    break
                slot_starts[a, row] = pos
                slot_lengths[a, row] = code[pc - 1, k.C]
                pos += b
            else:  # k.DECIMAL
                length, at = np.int64(b), pos
                if b < 0:
                    length, at, error = get_length(data, pos, end)
                elif end - pos < b:
                    error = TRUNCATED
                if code[pc - 1, k.C] != k.SCALE_READ:
                    scale = np.int64(code[pc - 1, k.C])
                if error == OK and length > k.MOST_DECIMAL_BYTES:
                    error, at = BAD_DECIMAL, pos
                if error != OK:
                    break
                if a == k.VALUE:
                    value[row] = decimal_value(data, at, length, scale)
                    has_value[row] = True
                else:
                    slot_starts[a, row] = at
                    size_and_scale = length * k.SCALES + scale - k.LEAST_SCALE
                    slot_lengths[a, row] = k.RAW_DECIMAL - size_and_scale
                pos = at + length
        if error == OK and not chained and pos != end:
            error, at = TRAILING, pos
        row_error[row] = error
        row_at[row] = at
        row_label[row] = label
        if chained and error != OK:
            break
    return entry_count
