"""Packs what stands behind the sources of a stored record; record_unpacking.py reads it back.

Theory of operation. Columns repeat: a category that a customer bought has a column in each
half-life of each feature by category, so the differences between columns repeat from one range of
columns to the next. Values repeat too: goods that were bought once, in one basket, have one and the
same sum, and counts are small whole numbers. And most moments are those of a few baskets. So all
three are written as references to what was written before, where that is shorter; nothing is looked
up outside the record, neither the declaration nor another record. What is left are float32 of three
bytes and a tag of half a byte. No value loses a bit.

The body is a sequence of bytes; a varint has 7 bits in each byte, the lowest first, and the highest
bit set in all but the last.

Columns: those of the sums, then of the stamps, then of the low parts, each as the difference from
the one before in its own list, the first from 0. One varint t for each:
  t = 2 d        the difference d
  t = 4 n + 1    n differences that stand a varint v before, one after another
  t = 4 n + 3    likewise, and behind each of the n a 0: two stamps of one column

Values: those of the same lists, as float32. A byte of two tags, low half first, stands before what
belongs to the first of them. Behind a tag:
  0      the 4 bytes of a float32, lowest first
  1      a byte b: the value b + 1 before
  2      a byte n and a varint v: the n + 4 values that begin v before; they may overlap
  3      a byte: this whole number
  4      two bytes, low first: a whole number of hundredths
  5 to 7 nothing: 1, 2 and 3
  8 on   the lower three bytes of a float32, whose highest byte is the tag + 0x33

Moments, where there is a stamp: a byte u; 0: each as 8 bytes, lowest first; else a varint t each:
  t = 2 k        k units before the newest event time: ms for u = 1, seconds for 2, days for 3
  t = 2 v + 1    the moment v + 1 before

Then the event ids, 8 bytes each, lowest first.
"""

from __future__ import annotations

import numpy as np

from stream_scorer.core.features.record_head import (
    ERASURE,
    HEADER_WORDS,
    PACKED,
    RECORD_VERSION,
    WITH_LOW_PARTS,
    check_word,
    put64,
)
from stream_scorer.core.features.state import ERASED_PARTITION, ERASED_TOPIC
from stream_scorer.jit import bytes_of, kernel

WHOLE, BEFORE, RUN, BYTE, HUNDREDTHS, ONE = range(6)
THREE_BYTES = 8  # the first tag of those for three bytes
LEAST_TOP = 0x3B  # highest byte of a float32 from 2^-9 on; with the last tag it is below 128
LEAST_RUN, MOST_RUN = 4, 259
RAW, MILLISECONDS, SECONDS, DAYS = range(4)
MOST_MS = 2**61
MOST_HUNDREDTHS = 0x4423D666  # 655.35
LEAST_TOP_BITS, MOST_TOP_BITS = LEAST_TOP << 24, (LEAST_TOP + 8) << 24
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
TABLE = 1024  # places where equal values and equal differences are looked for
ONE_BITS, TWO_BITS, THREE_BITS = 0x3F800000, 0x40000000, 0x40400000


@kernel
def most_bytes(a):  # type: ignore[no-untyped-def]
    """No records of these StateArrays are longer together."""
    entries = len(a.sum_column) + len(a.stamp_column) + len(a.low_column)
    of_entries = 10 * entries + 10 * len(a.stamp_column) + 8 * len(a.recent_id)
    return of_entries + 16 * len(a.source_offset) + 64 * len(a.newest_ms)


@kernel
def pack_all(words, data, a, fingerprint):  # type: ignore[no-untyped-def]
    """All records one after another into `words`, of which `data` are the bytes; the byte where
    each begins and the last ends (B + 1,)."""
    customers = len(a.newest_ms)
    ends = np.zeros(customers + 1, np.int64)
    sum_bits, stamp_bits = a.sum_value.view(np.uint32), a.stamp_value.view(np.uint32)
    low_bits = a.low_value.view(np.uint32)
    sum_column, stamp_column, low_column = a.sum_column, a.stamp_column, a.low_column
    stamp_ms, recent_id = a.stamp_ms, a.recent_id
    most = 0
    for c in range(customers):
        entries = a.sum_at[c + 1] - a.sum_at[c] + a.stamp_at[c + 1] - a.stamp_at[c]
        most = max(most, entries + a.low_at[c + 1] - a.low_at[c])
    steps, bits = np.empty(most, np.uint32), np.empty(most, np.uint32)
    values = bits.view(np.float32)
    # What a place in a table says of an earlier record is below `base`, so nothing is cleared.
    runs, equal, base = np.full(TABLE, -1, np.int64), np.full(TABLE, -1, np.int64), 0
    for c in range(customers):
        at = ends[c]
        at = _put_head(words, at // 4, a, c, fingerprint) * 4
        n = 0
        n = _steps_of(sum_column, sum_bits, a.sum_at[c], a.sum_at[c + 1], steps, bits, n)
        n = _steps_of(stamp_column, stamp_bits, a.stamp_at[c], a.stamp_at[c + 1], steps, bits, n)
        low_parts = a.low_at[c + 1] - a.low_at[c]
        if low_parts > 0:
            at = _put_varint(data, at, np.uint64(low_parts))
            n = _steps_of(low_column, low_bits, a.low_at[c], a.low_at[c + 1], steps, bits, n)
        at = _put_steps(data, at, steps, n, runs, base)
        base += n
        at = _put_values(data, at, bits, values, n, equal, base)
        base += n
        if a.stamp_at[c + 1] > a.stamp_at[c]:
            moments = stamp_ms[a.stamp_at[c] : a.stamp_at[c + 1]]
            at = _put_moments(data, at, moments, a.newest_ms[c], equal, base)
            base += len(moments)
        at = _put_ids(data, at, recent_id, a.recent_at[c], a.recent_at[c + 1])
        while at % 4:
            data[at] = 0
            at += 1
        words[at // 4] = check_word(words, ends[c] // 4, at // 4)
        ends[c + 1] = at + 4
    return ends


@kernel
def _put_head(words, at, a, c, fingerprint):  # type: ignore[no-untyped-def]
    """Head and sources of customer c; the word behind them."""
    version = WITH_LOW_PARTS if a.low_at[c + 1] > a.low_at[c] else RECORD_VERSION
    first = at
    words[at + 1] = a.source_at[c + 1] - a.source_at[c]
    words[at + 2] = a.sum_at[c + 1] - a.sum_at[c]
    words[at + 3] = a.stamp_at[c + 1] - a.stamp_at[c]
    words[at + 4] = a.recent_at[c + 1] - a.recent_at[c]
    put64(words, at + 5, fingerprint)
    put64(words, at + 7, a.newest_ms[c])
    at += HEADER_WORDS
    for i in range(a.source_at[c], a.source_at[c + 1]):
        if a.source_topic[i] == ERASED_TOPIC and a.source_partition[i] == ERASED_PARTITION:
            version += ERASURE
        words[at] = a.source_topic[i]
        words[at + 1] = np.uint32(a.source_partition[i])
        put64(words, at + 2, a.source_offset[i])
        at += 4
    words[first] = PACKED + version
    return at


@kernel
def _steps_of(column, value, first, last, steps, bits, n):  # type: ignore[no-untyped-def]
    """Differences of column[first:last] and the values beside them, from `n` on; the next n."""
    before = np.uint32(0)
    for i in range(first, last):
        steps[n] = column[i] - before
        bits[n] = value[i]
        before = column[i]
        n += 1
    return n


@kernel
def _put_varint(data, at, value):  # type: ignore[no-untyped-def]
    while value >= np.uint64(128):
        data[at] = np.uint8((value & np.uint64(127)) | np.uint64(128))
        value >>= np.uint64(7)
        at += 1
    data[at] = np.uint8(value)
    return at + 1


@kernel
def _put_bytes(data, at, value, count):  # type: ignore[no-untyped-def]
    """The lower `count` bytes, lowest first."""
    left = np.uint64(value)
    for i in range(count):
        data[at + i] = np.uint8(left & np.uint64(255))
        left >>= np.uint64(8)
    return at + count


@kernel
def _place(x, y, z):  # type: ignore[no-untyped-def]
    """Where three numbers in a row are looked for."""
    mixed = (np.uint64(x) * np.uint64(31) + np.uint64(y)) * np.uint64(31) + np.uint64(z)
    return np.int64((mixed * MIX) >> np.uint64(54))


@kernel
def _same(numbers, here, there, n, most):  # type: ignore[no-untyped-def]
    """How many numbers from `here` on equal those from `there` on."""
    count = 0
    while here + count < n and count < most and numbers[here + count] == numbers[there + count]:
        count += 1
    return count


@kernel
def _put_ids(to, at, ids, first, last):  # type: ignore[no-untyped-def]
    data = bytes_of(to)
    for i in range(first, last):
        at = _put_bytes(data, at, ids[i], 8)
    return at


@kernel
def _put_steps(to, at, of, n, seen, base):  # type: ignore[no-untyped-def]
    data, steps, runs = bytes_of(to), bytes_of(of), bytes_of(seen)
    i = 0
    while i < n:
        taken = 0
        if i + 5 < n and steps[i + 1] == 0 and steps[i + 3] == 0 and steps[i + 5] == 0:
            there = runs[_place(steps[i], steps[i + 2], steps[i + 4])] - base
            pairs = 0
            while there >= 0 and there + pairs < i and i + 2 * pairs + 1 < n:
                here = i + 2 * pairs
                if steps[here] != steps[there + pairs] or steps[here + 1] != 0:
                    break
                pairs += 1
            if pairs >= 2:
                at = _put_varint(data, at, np.uint64(4 * pairs + 3))
                at = _put_varint(data, at, np.uint64(i - there))
                taken = 2 * pairs
        if taken == 0 and i + 2 < n:
            place = _place(steps[i], steps[i + 1], steps[i + 2])
            there = runs[place] - base
            runs[place] = base + i
            if there >= 0:
                same = _same(steps, i, there, n, n)
                if same >= LEAST_RUN:
                    at = _put_varint(data, at, np.uint64(4 * same + 1))
                    at = _put_varint(data, at, np.uint64(i - there))
                    taken = same
        if taken == 0:
            at = _put_varint(data, at, np.uint64(steps[i]) * np.uint64(2))
            taken = 1
        i += taken
    return at


@kernel
def _tag_of(x, value):  # type: ignore[no-untyped-def]
    """Of a float32 that is not written as a reference; x are its bits."""
    if x < MOST_HUNDREDTHS:  # and so not negative
        hundredths = np.int32(np.float64(value) * 100.0 + 0.5)
        if np.float32(hundredths / 100.0) == value:
            # Mantissas of more than 16 bits are too long for a byte.
            if x & np.uint32(0xFFFF) == 0 and value < 256 and np.float32(np.uint8(value)) == value:
                return BYTE
            return HUNDREDTHS
    if LEAST_TOP_BITS <= x < MOST_TOP_BITS:
        return THREE_BYTES + np.int64(x >> np.uint32(24)) - LEAST_TOP
    return WHOLE


@kernel
def _put_values(to, at, of, floats, n, seen, base):  # type: ignore[no-untyped-def]
    data, bits, values = bytes_of(to), bytes_of(of), bytes_of(floats)
    equal = bytes_of(seen)
    i, tags_at = 0, -1
    while i < n:
        x = bits[i]
        tag = WHOLE
        if x in (ONE_BITS, TWO_BITS, THREE_BITS):
            # Small counts are everywhere, so of these the next two count as well.
            tag = ONE if x == ONE_BITS else ONE + 1 if x == TWO_BITS else ONE + 2
            place = _place(x, bits[min(i + 1, n - 1)], bits[min(i + 2, n - 1)])
        else:
            place = np.int64((np.uint64(x) * MIX) >> np.uint64(54))
        there = equal[place] - base
        equal[place] = base + i
        taken = 0
        if there >= 0 and bits[there] == x:
            taken = _same(bits, i, there, n, MOST_RUN)
            if tag == WHOLE and i - there <= 256:
                tag = BEFORE
        if taken >= LEAST_RUN:
            tag = RUN
        else:
            taken = 1
            if tag == WHOLE:
                tag = _tag_of(x, values[i])
        if tags_at < 0:
            tags_at = at
            data[at] = np.uint8(tag)
            at += 1
        else:
            data[tags_at] |= np.uint8(tag << 4)
            tags_at = -1
        if tag >= THREE_BYTES:
            at = _put_bytes(data, at, x, 3)
        elif tag == WHOLE:
            at = _put_bytes(data, at, x, 4)
        elif tag == BEFORE:
            data[at] = np.uint8(i - there - 1)
            at += 1
        elif tag == RUN:
            data[at] = np.uint8(taken - LEAST_RUN)
            at = _put_varint(data, at + 1, np.uint64(i - there))
        elif tag == BYTE:
            data[at] = np.uint8(values[i])
            at += 1
        elif tag == HUNDREDTHS:
            at = _put_bytes(data, at, np.int64(np.float64(values[i]) * 100.0 + 0.5), 2)
        i += taken
    return at


@kernel
def _put_moments(to, at, moments, newest_ms, seen_once, base):  # type: ignore[no-untyped-def]
    data, equal = bytes_of(to), bytes_of(seen_once)
    unit = DAYS
    for ms in moments:
        # Beyond these the difference may not fit into 63 bits; no event is of such a time.
        if not -MOST_MS < ms <= newest_ms < MOST_MS:
            unit = RAW
            break
        ago = np.uint64(newest_ms - ms)
        # Divided by constants, since a division by a variable takes as long as all else here.
        if unit == DAYS and ago % np.uint64(86_400_000):
            unit = SECONDS
        if unit == SECONDS and ago % np.uint64(1000):
            unit = MILLISECONDS
    data[at] = unit
    at += 1
    for i in range(len(moments)):
        if unit == RAW:
            at = _put_bytes(data, at, moments[i], 8)
            continue
        ago = np.uint64(newest_ms - moments[i])
        if unit == DAYS:
            ago //= np.uint64(86_400_000)
        elif unit == SECONDS:
            ago //= np.uint64(1000)
        place = np.int64((ago * MIX) >> np.uint64(54))
        before = equal[place] - base
        equal[place] = base + i
        if before >= 0 and moments[before] == moments[i]:
            at = _put_varint(data, at, np.uint64(2 * (i - before - 1) + 1))
        else:
            at = _put_varint(data, at, np.uint64(2) * ago)
    return at
