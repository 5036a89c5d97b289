"""A compiled interpreter that walks Avro records and puts the wanted fields into columns.

A program, which resolution.py makes from a writer's schema, is an int32 array (P, 5) of
instructions (OP, A, B, C, LABEL). The loop has no types of its own, only a position, a program
counter and a short stack for blocks and nested records. Every read is checked against the record's
end, so hostile bytes end in an error code with its position, never in a wild read. Work is bounded
too. Whatever takes no bytes of the record costs 1 of a budget that grows with the record's length:
an item of an array or map, and a call of a nested record. All other instructions take a byte or
follow one that did, and only items and calls repeat them, so no work goes uncounted; counting each
one would slow ordinary events down. The stack is MAX_DEPTH deep.

Values that are no text where text is wanted (whole numbers, decimals, UUIDs) leave their bytes, or
the number itself, and a negative length that says what they are; `texts.py` makes the text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

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
from stream_scorer.core.events.batch import NULL, Bool, Float64, Int32, Int64, UInt8
from stream_scorer.jit import bytes_of, kernel

# The columns of a program: what to do, three operands, and the label of the field for messages.
OP, A, B, C, LABEL = range(5)

# Instructions, with their operands a, b and c.
(
    END,  # the record is complete
    STRING,  # a: slot
    ENUM,  # a: first symbol; b: number of symbols; c: slot
    NULL_STRING,  # a: slot
    DOUBLE, FLOAT, LONG_VALUE, INT_VALUE, NULL_VALUE,  # into the value column
    TIME,  # a: divisor to milliseconds, or minus a factor; b: 1 where the writer's type is int
    MAP,  # a: where to go on; falls through to the general loop where the map is not canonical
    EMPTY_MAP,
    KEY,  # a map key, and the row's map must be rewritten
    PAIR,  # key and value are complete
    UNION,  # a: first row of the jump table; b: number of branches
    JUMP,  # a: where to
    CALL, RETURN,  # a: where to
    BLOCKS,  # start of an array or map
    NEXT,  # a: where to go on when there is no further item
    SKIP_BOOLEAN, SKIP_INT, SKIP_LONG, SKIP_BYTES,
    SKIP_FIXED,  # a: bytes
    SKIP_ENUM,  # b: number of symbols
    REFUSE,  # this branch of a union does not resolve
    MOMENT,  # a time as ISO 8601 text
    LONG_TEXT,  # a: slot; b: 1 where the writer's type is int
    BOOLEAN_TEXT,  # a: first of the two symbols; c: slot
    RAW_BYTES,  # a: slot; b: how many bytes; c: the RAW_ length that says what they are
    SCALE,  # the scale of the decimal that follows
    DECIMAL,  # a: slot, or VALUE; b: bytes, or -1 where a length precedes; c: scale, or SCALE_READ
) = range(33)  # fmt: skip

# Slots of the string columns; the writer's fields of the same names end here.
EVENT_ID, CUSTOMER_ID, EVENT_TYPE, CATEGORY_ID, PRODUCT_ID, ATTRIBUTES, MAP_VALUE = range(7)
SLOTS = 7
VALUE = -1  # of DECIMAL: into the value column

# Nested records and containers within one record. Real schemas need fewer than ten.
MAX_DEPTH = 256
# An item of zero bytes (array of nulls) is legal, a billion of them in three bytes is an attack. So
# are nested records without bytes: a schema may have any number of them for each byte of a record.
FREE_ITEMS = 1024
FREE_CALLS = 4 * FREE_ITEMS
CALLS_PER_BYTE = 32

# Length of an attributes span that must be rewritten in canonical form.
REWRITE = -2
# Lengths of what is no text yet. Of RAW_LONG the start is the number itself, of the others it is
# where their bytes stand. Of a decimal the length also has its size in bytes and its scale: it is
# RAW_DECIMAL - (size * SCALES + scale - LEAST_SCALE).
RAW_LONG, RAW_DOUBLE, RAW_FLOAT, RAW_UUID = -3, -4, -5, -6
RAW_DECIMAL = -1000
MOST_DECIMAL_BYTES = 64  # 153 digits; databases have up to 131, most have 38
LEAST_SCALE, MOST_SCALE = -128, 255
SCALES = MOST_SCALE - LEAST_SCALE + 1
SCALE_READ = MOST_SCALE + 1


class Tables(NamedTuple):
    """A program: code (P, 5) int32; jumps, the tables of unions, int32; the symbols of enums as
    spans of the buffer; where in the buffer the bytes of an empty map stand."""

    code: Int32
    jumps: Int32
    symbol_starts: Int64
    symbol_lengths: Int32
    empty_map_at: int


class Columns(NamedTuple):
    """What `run` fills. starts (SLOTS, n) int64 and lengths (SLOTS, n) int32 are spans of the
    buffer; value, has_value and occurred_ms (n,).
    """

    starts: Int64
    lengths: Int32
    value: Float64
    has_value: Bool
    occurred_ms: Int64


class Outcome(NamedTuple):
    """For each record its error, where in the buffer it lies, and the label of its field."""

    error: Int32
    at: Int64
    label: Int32


def columns(n: int) -> Columns:
    """Room for n records."""
    return Columns(
        np.empty((SLOTS, n), np.int64), np.empty((SLOTS, n), np.int32), np.empty(n),
        np.empty(n, np.bool_), np.empty(n, np.int64),
    )  # fmt: skip


def outcome(n: int) -> Outcome:
    """Room for the errors of n records; OK at first."""
    return Outcome(np.zeros(n, np.int32), np.zeros(n, np.int64), np.zeros(n, np.int32))


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
    tables: Tables,
    out: Columns,
    errors: Outcome,
    entries: MapEntries,
) -> Any:
    """Run the program over the records `rows` (r,) int64, into `out` and `errors`.

    Record `row` is buffer[starts[row]:ends[row]]. Where `chained`, each record instead starts where
    the one before it ended, `errors.at` is its end, and the first broken one is the last. Returns
    how many map entries belong to maps that must be rewritten; `entries` takes the first of them,
    as many as it has room for.
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
    stack = np.empty(MAX_DEPTH, np.int64)
    block_end = np.empty(MAX_DEPTH, np.int64)  # -1 where the writer did not give it
    bits = np.zeros(1, np.uint64)  # written as an integer, read as a float through the views
    doubles, floats = bits.view(np.float64), bits.view(np.float32)
    entry_count = 0
    pos = np.int64(0)
    items_left = calls_left = np.int64(0)
    if chained and len(rows):
        # Chained records share one budget, else many records without bytes would each have it.
        items_left = ends[rows[0]] + FREE_ITEMS
        calls_left = CALLS_PER_BYTE * ends[rows[0]] + FREE_CALLS
    scale = np.int64(0)
    for row in rows:
        end = ends[row]
        if not chained:
            pos = starts[row]
            items_left = end - pos + FREE_ITEMS
            calls_left = CALLS_PER_BYTE * (end - pos) + FREE_CALLS
        error, at, label = OK, pos, np.int32(0)
        top = -1
        key_start, key_length = np.int64(0), np.int64(0)
        pc = 0
        while True:
            op, a, b, label = code[pc, OP], code[pc, A], code[pc, B], code[pc, LABEL]
            pc += 1
            if op == STRING:
                length, at, error = get_text(data, pos, end)
                if error != OK:
                    break
                slot_starts[a, row] = at - length
                slot_lengths[a, row] = length
                pos = at
            elif op == UNION:
                branch, at, error = get_long(data, pos, end)
                if error == OK and (branch < 0 or branch >= b):
                    error, at = BAD_BRANCH, pos
                if error != OK:
                    break
                pc = jumps[a + branch]
                pos = at
            elif op == JUMP:
                pc = a
            elif op == NULL_STRING:
                slot_starts[a, row] = pos
                slot_lengths[a, row] = NULL
            elif op in (DOUBLE, FLOAT):
                size = 8 if op == DOUBLE else 4
                if end - pos < size:
                    error, at = TRUNCATED, pos
                    break
                bits[0] = _bits(data, pos, size)
                if op == DOUBLE:
                    value[row] = doubles[0]
                else:
                    value[row] = floats[0]
                has_value[row] = True
                pos += size
            elif op in (TIME, LONG_VALUE, INT_VALUE):
                number, at, error = get_long(data, pos, end)
                is_int = op == INT_VALUE or (op == TIME and b == 1)
                if error == OK and is_int and (number < -(2**31) or number >= 2**31):
                    error, at = OUT_OF_INT, pos
                if error != OK:
                    break
                if op == TIME:
                    if a != 1:
                        number = number // a if a > 0 else number * -a
                    occurred_ms[row] = number
                else:
                    value[row] = np.float64(number)
                    has_value[row] = True
                pos = at
            elif op == NULL_VALUE:
                value[row] = 0.0
                has_value[row] = False
            elif op == MAP:
                canonical, at, error = canonical_map(data, pos, end)
                if error != OK:
                    break
                if canonical:
                    slot_starts[ATTRIBUTES, row] = pos
                    slot_lengths[ATTRIBUTES, row] = at - pos
                    pos = at
                    pc = a
            elif op == EMPTY_MAP:
                slot_starts[ATTRIBUTES, row] = tables.empty_map_at
                slot_lengths[ATTRIBUTES, row] = 1
            elif op in (ENUM, SKIP_ENUM):
                symbol, at, error = get_long(data, pos, end)
                if error == OK and (symbol < 0 or symbol >= b):
                    error, at = BAD_SYMBOL, pos
                if error != OK:
                    break
                if op == ENUM:
                    slot = code[pc - 1, C]
                    slot_starts[slot, row] = symbol_starts[a + symbol]
                    slot_lengths[slot, row] = symbol_lengths[a + symbol]
                pos = at
            elif op == SKIP_BYTES:
                length, at, error = get_length(data, pos, end)
                if error != OK:
                    break
                pos = at + length
            elif op in (SKIP_INT, SKIP_LONG):
                number, at, error = get_long(data, pos, end)
                if error == OK and op == SKIP_INT and (number < -(2**31) or number >= 2**31):
                    error, at = OUT_OF_INT, pos
                if error != OK:
                    break
                pos = at
            elif op == SKIP_FIXED:
                if end - pos < a:
                    error, at = TRUNCATED, pos
                    break
                pos += a
            elif op == SKIP_BOOLEAN:
                if pos >= end:
                    error, at = TRUNCATED, pos
                    break
                if data[pos] > 1:
                    error, at = BAD_BOOLEAN, pos
                    break
                pos += 1
            elif op in (BLOCKS, CALL):
                top += 1
                if top >= MAX_DEPTH:
                    error, at = TOO_DEEP, pos
                    break
                calls_left -= 1
                if calls_left < 0:
                    error, at = TOO_MANY_ITEMS, pos
                    break
                stack[top] = 0 if op == BLOCKS else pc
                block_end[top] = -1
                if op == CALL:
                    pc = a
            elif op == RETURN:
                pc = stack[top]
                top -= 1
            elif op == NEXT:
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
            elif op == KEY:
                key_length, at, error = get_text(data, pos, end)
                if error != OK:
                    break
                key_start = at - key_length
                slot_lengths[ATTRIBUTES, row] = REWRITE
                pos = at
            elif op == PAIR:
                if entry_count < room:
                    entries.row[entry_count] = row
                    entries.key_start[entry_count] = key_start
                    entries.key_length[entry_count] = key_length
                    entries.value_start[entry_count] = slot_starts[MAP_VALUE, row]
                    entries.value_length[entry_count] = slot_lengths[MAP_VALUE, row]
                entry_count += 1
            elif op == REFUSE:
                error, at = REFUSED, pos
                break
            elif op == END:
                error, at = OK, pos
                break
            # What few writers use comes last: the comparisons before it cost ordinary events time.
            elif op == MOMENT:
                length, at, error = get_length(data, pos, end)
                if error != OK:
                    break
                moment, known = get_moment(data, at, at + length)
                if not known:
                    error, at = BAD_MOMENT, pos
                    break
                occurred_ms[row] = moment
                pos = at + length
            elif op in (LONG_TEXT, SCALE):
                number, at, error = get_long(data, pos, end)
                if error == OK and b == 1 and (number < -(2**31) or number >= 2**31):
                    error, at = OUT_OF_INT, pos
                if error == OK and op == SCALE and (number < LEAST_SCALE or number > MOST_SCALE):
                    error, at = BAD_DECIMAL, pos
                if error != OK:
                    break
                if op == SCALE:
                    scale = number
                else:
                    slot_starts[a, row] = number
                    slot_lengths[a, row] = RAW_LONG
                pos = at
            elif op == BOOLEAN_TEXT:
                if pos >= end:
                    error, at = TRUNCATED, pos
                    break
                if data[pos] > 1:
                    error, at = BAD_BOOLEAN, pos
                    break
                slot = code[pc - 1, C]
                symbol = a + np.int64(data[pos])
                slot_starts[slot, row] = symbol_starts[symbol]
                slot_lengths[slot, row] = symbol_lengths[symbol]
                pos += 1
            elif op == RAW_BYTES:
                if end - pos < b:
                    error, at = TRUNCATED, pos
                    break
                slot_starts[a, row] = pos
                slot_lengths[a, row] = code[pc - 1, C]
                pos += b
            else:  # DECIMAL
                length, at = np.int64(b), pos
                if b < 0:
                    length, at, error = get_length(data, pos, end)
                elif end - pos < b:
                    error = TRUNCATED
                if code[pc - 1, C] != SCALE_READ:
                    scale = np.int64(code[pc - 1, C])
                if error == OK and length > MOST_DECIMAL_BYTES:
                    error, at = BAD_DECIMAL, pos
                if error != OK:
                    break
                if a == VALUE:
                    value[row] = decimal_value(data, at, length, scale)
                    has_value[row] = True
                else:
                    slot_starts[a, row] = at
                    slot_lengths[a, row] = RAW_DECIMAL - (length * SCALES + scale - LEAST_SCALE)
                pos = at + length
        if error == OK and not chained and pos != end:
            error, at = TRAILING, pos
        row_error[row] = error
        row_at[row] = at
        row_label[row] = label
        if chained and error != OK:
            break
    return entry_count
