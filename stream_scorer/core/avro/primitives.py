"""Compiled readers and writers of what every Avro record is made of: varints, lengths and strings.

Readers take the position where reading must end and return an error code with the position of the
item at fault; they never read past that end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_scorer.jit import kernel

# What can be wrong with a record. ERROR_TEXTS has the words.
(
    OK, TRUNCATED, VARINT_TOO_LONG, NEGATIVE_LENGTH, BAD_UTF8, OUT_OF_INT, BAD_BRANCH, BAD_BOOLEAN,
    BAD_SYMBOL, TRAILING, REFUSED, TOO_DEEP, TOO_MANY_ITEMS, BAD_BLOCK_SIZE, BAD_DECIMAL, NOT_WHOLE,
    BAD_MOMENT,
) = range(17)  # fmt: skip

ERROR_TEXTS = {
    TRUNCATED: "{field}: the record ends inside it, at byte {at}",
    VARINT_TOO_LONG: "{field}: a number of more than 64 bits at byte {at}",
    NEGATIVE_LENGTH: "{field}: a negative length at byte {at}",
    BAD_UTF8: "{field}: not valid UTF-8 at byte {at}",
    OUT_OF_INT: "{field}: an int of more than 32 bits at byte {at}",
    BAD_BRANCH: "{field}: no such branch of its union, at byte {at}",
    BAD_BOOLEAN: "{field}: a boolean that is neither 0 nor 1 at byte {at}",
    BAD_SYMBOL: "{field}: no such symbol of its enum, at byte {at}",
    TRAILING: "bytes left over after the last field, at byte {at}",
    REFUSED: "{field}, at byte {at}",
    TOO_DEEP: "{field}: nested too deep at byte {at}",
    TOO_MANY_ITEMS: "{field}: more items than bytes at byte {at}",
    BAD_BLOCK_SIZE: "{field}: a block that is not as long as it says, at byte {at}",
    BAD_DECIMAL: "{field}: a decimal with too many bytes or a scale out of range, at byte {at}",
    NOT_WHOLE: "{field}: not a whole number; give text or whole numbers",
    BAD_MOMENT: "{field}: not a time in ISO 8601 with a zone (2026-01-31T12:00:00Z), at byte {at}",
}


@kernel
def get_long(data: Any, pos: Any, end: Any) -> Any:
    """(value, position after it, error) of the zigzag varint at pos."""
    # Most numbers are lengths and branches of one byte.
    if pos < end and data[pos] < 128:
        b = np.int64(data[pos])
        return (b >> 1) ^ -(b & 1), pos + 1, OK
    # Every operand is uint64: numba makes a float64 of uint64 and int64.
    n = np.uint64(0)
    shift = np.uint64(0)
    at = pos
    while at < end:
        c = np.uint64(data[at])
        at += 1
        # Nine bytes have 63 bits, so the tenth may have one.
        if shift == np.uint64(63) and c > np.uint64(1):
            return np.int64(0), pos, VARINT_TOO_LONG
        n |= (c & np.uint64(127)) << shift
        if c < np.uint64(128):
            return np.int64(n >> np.uint64(1)) ^ -np.int64(n & np.uint64(1)), at, OK
        shift += np.uint64(7)
    return np.int64(0), pos, TRUNCATED


@kernel
def get_length(data: Any, pos: Any, end: Any) -> Any:
    """Like `get_long`, for the length of bytes that follow and must end at `end` at the latest."""
    length, at, error = get_long(data, pos, end)
    if error == OK:
        if length < 0:
            return length, pos, NEGATIVE_LENGTH
        if length > end - at:
            return length, pos, TRUNCATED
    return length, at, error


@kernel
def is_utf8(data: Any, start: Any, end: Any) -> Any:
    """As Python's strict decoder decides: no overlong forms, no surrogates, up to U+10FFFF."""
    # Nearly all text is ASCII, and this loop without a branch is vectorised.
    seen = np.uint8(0)
    for i in range(start, end):
        seen |= data[i]
    if seen < 128:
        return True
    i = start
    while i < end:
        b = data[i]
        i += 1
        if b < 0x80:
            continue
        if b < 0xC2 or b > 0xF4:
            return False
        # The second byte has narrower limits after E0 and F0 (overlong forms), ED (surrogates) and
        # F4 (past U+10FFFF).
        low, high = 0x80, 0xBF
        if b < 0xE0:
            more = 1
        elif b < 0xF0:
            more = 2
            low = 0xA0 if b == 0xE0 else 0x80
            high = 0x9F if b == 0xED else 0xBF
        else:
            more = 3
            low = 0x90 if b == 0xF0 else 0x80
            high = 0x8F if b == 0xF4 else 0xBF
        if end - i < more:
            return False
        for _ in range(more):
            if data[i] < low or data[i] > high:
                return False
            low, high = 0x80, 0xBF
            i += 1
    return True


@kernel
def get_text(data: Any, pos: Any, end: Any) -> Any:
    """(length, position after it, error) of the UTF-8 string at pos."""
    length, at, error = get_length(data, pos, end)
    if error == OK:
        if not is_utf8(data, at, at + length):
            return length, pos, BAD_UTF8
        at += length
    return length, at, error


@kernel
def put_long(data: Any, pos: Any, value: Any) -> Any:
    """Write `value` as a zigzag varint; the position after it."""
    n = (np.uint64(value) << np.uint64(1)) ^ np.uint64(np.int64(value) >> np.int64(63))
    while n >= np.uint64(128):
        data[pos] = np.uint8(n & np.uint64(127)) | np.uint8(128)
        n >>= np.uint64(7)
        pos += 1
    data[pos] = np.uint8(n)
    return pos + 1


@kernel
def put_bytes(data: Any, pos: Any, source: Any, start: Any, length: Any) -> Any:
    """Write source[start:start + length]; the position after it."""
    for i in range(length):
        data[pos + i] = source[start + i]
    return pos + length


@kernel
def put_text(data: Any, pos: Any, source: Any, start: Any, length: Any) -> Any:
    """Write source[start:start + length] after its length; the position after it."""
    pos = put_long(data, pos, length)
    return put_bytes(data, pos, source, start, length)
