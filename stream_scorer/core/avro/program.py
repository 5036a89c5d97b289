"""What a writer's schema is compiled to: instructions, their tables, and the columns they fill.

A program is an int32 array (P, 5) of instructions (OP, A, B, C, LABEL). resolution.py makes it from
a writer's schema, interpreter.py runs it.

Values that are no text where text is wanted (whole numbers, decimals, UUIDs) leave their bytes, or
the number itself, and a negative length that says what they are; `texts.py` makes the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Bool, Float64, Int32, Int64

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

LABEL_BYTES = 60  # of a label beside its characters

# Length of an attributes span that must be rewritten in canonical form; its start is how many
# entries it has.
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


@dataclass(frozen=True, slots=True)
class Program:
    """What interpreter.run runs. Symbols of enums and defaults are spans of `constants`, which must
    stand in the buffer; labels name fields in messages. raw_slots: the slots that may be given what
    is no text yet, such as whole numbers, each with the name of its field."""

    code: Int32
    jumps: Int32
    symbol_starts: Int64
    symbol_lengths: Int32
    constants: bytes
    labels: tuple[str, ...]
    raw_slots: dict[int, str]

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        arrays = (self.code, self.jumps, self.symbol_starts, self.symbol_lengths)
        labels = sum(LABEL_BYTES + len(label) for label in self.labels)
        return sum(array.nbytes for array in arrays) + len(self.constants) + labels

    def tables(self, constants_at: int) -> Tables:
        """The program for a buffer that holds `constants` at constants_at."""
        return Tables(
            self.code, self.jumps, self.symbol_starts + constants_at, self.symbol_lengths,
            constants_at,
        )  # fmt: skip
