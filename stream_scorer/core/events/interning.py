"""Spans of bytes to small integer codes.

Open addressing on a hash of eight bytes at a time; equality is decided on the bytes, so collisions
are harmless, and codes are in order of appearance, so the hash is not seen. In a small buffer many
spans are the same bytes: a span that starts where an earlier one did, and is as long, has its code,
without a look at the bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_scorer.jit import bytes_of, kernel

# The table of starts takes four bytes for each byte of the buffer, and is filled for every batch.
SMALL_BYTES = 1 << 17

# 2^64 divided by the golden ratio, made odd (Knuth): a product with it carries every bit into the
# higher ones.
_ODD = np.uint64(0x9E3779B97F4A7C15)


@kernel(inline=True)
def _word(data, at):  # type: ignore[no-untyped-def]
    """Eight bytes as an integer; compiles to one load."""
    return (
        np.uint64(data[at])
        | np.uint64(data[at + 1]) << np.uint64(8)
        | np.uint64(data[at + 2]) << np.uint64(16)
        | np.uint64(data[at + 3]) << np.uint64(24)
        | np.uint64(data[at + 4]) << np.uint64(32)
        | np.uint64(data[at + 5]) << np.uint64(40)
        | np.uint64(data[at + 6]) << np.uint64(48)
        | np.uint64(data[at + 7]) << np.uint64(56)
    )


@kernel
def intern_spans(buffer: Any, starts: Any, lengths: Any) -> Any:
    """Codes (n,) int32, -1 where a length is negative, and the row that each code was first seen in
    (distinct,) int64. buffer (M,) uint8, starts (n,) int64, lengths (n,) int32.
    """
    data = bytes_of(buffer)
    n = len(starts)
    size = 1024
    mask = np.uint64(size - 1)
    slots = np.full(size, -1, np.int32)
    codes = np.empty(n, np.int32)
    firsts = np.empty(n, np.int64)
    hashes = np.empty(n, np.uint64)  # by code
    small = len(buffer) <= max(SMALL_BYTES, 2 * n)
    # One more than bytes: an empty text may start at the end.
    seen_at = np.full(len(buffer) + 1 if small else 0, -1, np.int32)
    count = 0
    for i in range(n):
        length = np.int64(lengths[i])
        if length < 0:
            codes[i] = -1
            continue
        start = starts[i]
        if len(seen_at):
            code = seen_at[start]
            if code >= 0 and lengths[firsts[code]] == length:
                codes[i] = code
                continue
        end = start + length
        h = np.uint64(length)
        at = start
        while at + 8 <= end:
            h = (h ^ _word(data, at)) * _ODD
            # The mask takes the low bits, so the well mixed high ones come down.
            h ^= h >> np.uint64(32)
            at += 8
        rest = np.uint64(0)
        while at < end:
            rest = rest << np.uint64(8) | np.uint64(data[at])
            at += 1
        h = (h ^ rest) * _ODD
        h ^= h >> np.uint64(32)
        slot = h & mask
        while True:
            code = slots[slot]
            if code < 0:
                slots[slot] = count
                codes[i] = count
                firsts[count] = i
                hashes[count] = h
                count += 1
                break
            same = hashes[code] == h and lengths[firsts[code]] == length
            if same:
                other = starts[firsts[code]] - start
                at = start
                while same and at + 8 <= end:
                    same = _word(data, at) == _word(data, at + other)
                    at += 8
                while same and at < end:
                    same = data[at] == data[at + other]
                    at += 1
            if same:
                codes[i] = code
                break
            slot = (slot + np.uint64(1)) & mask
        if len(seen_at):
            seen_at[start] = codes[i]
        # At most half full, so that a search ends after few steps.
        if 2 * count > size:
            size *= 4
            mask = np.uint64(size - 1)
            slots = np.full(size, -1, np.int32)
            for code in range(count):
                slot = hashes[code] & mask
                while slots[slot] >= 0:
                    slot = (slot + np.uint64(1)) & mask
                slots[slot] = code
    return codes, firsts[:count].copy()  # a copy, so that the n rows are freed
