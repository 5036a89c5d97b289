"""Reads stored records of every form: the words of versions 1 to 4, and what record_packing.py
packed.

Nothing is read beyond a record's end, and no more is written than its head says that it holds,
whatever its bytes are; a record that does not end where its head says is damaged.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_scorer.core.events.batch import Int64, UInt8
from stream_scorer.core.features.record_head import (
    ERASURE,
    HEADER_WORDS,
    PACKED,
    RECORD_VERSION,
    WITH_LOW_PARTS,
    check_word,
    get64,
)
from stream_scorer.core.features.record_packing import (
    BEFORE,
    BYTE,
    DAYS,
    HUNDREDTHS,
    LEAST_RUN,
    LEAST_TOP,
    MOST_RUN,
    ONE,
    ONE_BITS,
    RAW,
    RUN,
    SECONDS,
    THREE_BITS,
    THREE_BYTES,
    TWO_BITS,
    WHOLE,
)
from stream_scorer.core.features.state import NEVER, StateArrays, UInt32
from stream_scorer.jit import bytes_of, kernel

DAMAGED = -1  # in place of a position


@kernel
def _grown(array, needed):  # type: ignore[no-untyped-def]
    """`array`, or one with its content and room for `needed`."""
    if needed <= len(array):
        return array
    more = np.empty(max(needed, 2 * len(array)), array.dtype)
    more[: len(array)] = array
    return more


@kernel
def unpack_all(
    words: UInt32, data: UInt8, starts: Int64, lengths: Int64, fingerprint: np.uint64
) -> Any:
    """The number of the first record that is damaged or of another declaration, -1 for none; and
    StateArrays, which mean nothing where there is one. Record c is words[starts[c] : starts[c] +
    lengths[c]] (uint32, `data` are their bytes), none where lengths[c] is 0."""
    customers = len(starts)
    source_at = np.zeros(customers + 1, np.int64)
    sum_at = np.zeros(customers + 1, np.int64)
    stamp_at = np.zeros(customers + 1, np.int64)
    recent_at = np.zeros(customers + 1, np.int64)
    low_at = np.zeros(customers + 1, np.int64)
    newest = np.full(customers, NEVER, np.int64)
    # A damaged head may promise anything, so room is made for what the bytes may well hold, and
    # for more only when a record before it was whole.
    s, u, t, r = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    total = np.int64(0)
    for c in range(customers):
        if lengths[c] >= HEADER_WORDS:
            w = starts[c]
            total += lengths[c]
            s += np.int64(words[w + 1])
            u += np.int64(words[w + 2])
            t += np.int64(words[w + 3])
            r += np.int64(words[w + 4])
    source_topic = np.empty(min(s, total), np.uint32)
    source_partition = np.empty(min(s, total), np.int32)
    source_offset = np.empty(min(s, total), np.int64)
    sum_column = np.empty(min(u, 4 * total), np.uint32)
    sum_bits = np.empty(min(u, 4 * total), np.uint32)
    stamp_column = np.empty(min(t, 4 * total), np.uint32)
    stamp_bits = np.empty(min(t, 4 * total), np.uint32)
    stamp_ms = np.empty(min(t, 4 * total), np.int64)
    recent_id = np.empty(min(r, total), np.uint64)
    low_column, low_bits = np.empty(0, np.uint32), np.empty(0, np.uint32)
    column, bits = np.empty(1024, np.uint32), np.empty(1024, np.uint32)
    bad = -1
    for c in range(customers):
        w, end = starts[c], starts[c] + lengths[c]
        s0, u0, t0, r0, l0 = source_at[c], sum_at[c], stamp_at[c], recent_at[c], low_at[c]
        source_at[c + 1], sum_at[c + 1], stamp_at[c + 1] = s0, u0, t0
        recent_at[c + 1], low_at[c + 1] = r0, l0
        if lengths[c] == 0:
            continue
        if lengths[c] < HEADER_WORDS or get64(words, w + 5) != fingerprint:
            bad = c
            break
        s, u = np.int64(words[w + 1]), np.int64(words[w + 2])
        t, r = np.int64(words[w + 3]), np.int64(words[w + 4])
        low = np.int64(0)
        packed = words[w] >= PACKED
        version = np.int64(words[w]) - (PACKED if packed else 0)
        if version > WITH_LOW_PARTS:
            version -= ERASURE
        # The counts are checked against the length before anything is read by them.
        left = lengths[c] - HEADER_WORDS - 4 * s
        if packed:
            good = left > 0 and 2 * r < left and check_word(words, w, end - 1) == words[end - 1]
            good &= version in (RECORD_VERSION, WITH_LOW_PARTS)
        else:
            left -= 2 * u + 4 * t + 2 * r
            low = left // 2
            good = left == 0 and version == RECORD_VERSION
            good |= left > 0 and left == 2 * low and version == WITH_LOW_PARTS
        at = 4 * (w + HEADER_WORDS + 4 * s)
        stop = 4 * (end - 1)
        if good and packed and version == WITH_LOW_PARTS:
            count, at = _varint(data, at, stop)
            good = at != DAMAGED and 0 < count < np.uint64(2**32)
            low = np.int64(count) if good else np.int64(0)
        # No tag of the values stands for more than a run.
        if packed and u + t + low > MOST_RUN * (stop - at):
            good = False
        if not good:
            bad = c
            break
        newest[c] = np.int64(get64(words, w + 7))
        w += HEADER_WORDS
        source_topic = _grown(source_topic, s0 + s)
        source_partition = _grown(source_partition, s0 + s)
        source_offset = _grown(source_offset, s0 + s)
        for i in range(s0, s0 + s):
            source_topic[i] = words[w]
            source_partition[i] = np.int32(words[w + 1])
            source_offset[i] = np.int64(get64(words, w + 2))
            w += 4
        sum_column, sum_bits = _grown(sum_column, u0 + u), _grown(sum_bits, u0 + u)
        stamp_column, stamp_bits = _grown(stamp_column, t0 + t), _grown(stamp_bits, t0 + t)
        stamp_ms, recent_id = _grown(stamp_ms, t0 + t), _grown(recent_id, r0 + r)
        low_column, low_bits = _grown(low_column, l0 + low), _grown(low_bits, l0 + low)
        if packed:
            n = u + t + low
            column, bits = _grown(column, n), _grown(bits, n)
            at = _steps(data, at, stop, column, n)
            at = _values(data, at, stop, bits, bits.view(np.float32), n)
            if t > 0:
                at = _moments(data, at, stop, stamp_ms[t0 : t0 + t], newest[c])
            if at != DAMAGED and stop - at < 8 * r:
                at = DAMAGED
            if at == DAMAGED:
                bad = c
                break
            good = _columns_of(column, 0, u, sum_column, u0)
            good &= _columns_of(column, u, t, stamp_column, t0)
            good &= _columns_of(column, u + t, low, low_column, l0)
            sum_bits[u0 : u0 + u] = bits[:u]
            stamp_bits[t0 : t0 + t] = bits[u : u + t]
            low_bits[l0 : l0 + low] = bits[u + t : n]
            at = _ids(data, at, recent_id, r0, r0 + r)
            # Fewer than four bytes, all 0, fill the last word.
            good &= stop - at < 4
            while at < stop:
                good &= data[at] == 0
                at += 1
            if not good:
                bad = c
                break
        else:
            sum_column[u0 : u0 + u] = words[w : w + u]
            sum_bits[u0 : u0 + u] = words[w + u : w + 2 * u]
            w += 2 * u
            stamp_column[t0 : t0 + t] = words[w : w + t]
            stamp_bits[t0 : t0 + t] = words[w + t : w + 2 * t]
            w += 2 * t
            for i in range(t0, t0 + t):
                stamp_ms[i] = np.int64(get64(words, w))
                w += 2
            for i in range(r0, r0 + r):
                recent_id[i] = get64(words, w)
                w += 2
            low_column[l0 : l0 + low] = words[w : w + low]
            low_bits[l0 : l0 + low] = words[w + low : w + 2 * low]
        source_at[c + 1], sum_at[c + 1], stamp_at[c + 1] = s0 + s, u0 + u, t0 + t
        recent_at[c + 1], low_at[c + 1] = r0 + r, l0 + low
    # With numba an error can't be raised with the customer's id, so its number is returned.
    s, u, t = source_at[-1], sum_at[-1], stamp_at[-1]
    r, low = recent_at[-1], low_at[-1]
    arrays = StateArrays(
        newest,
        source_at, source_topic[:s], source_partition[:s], source_offset[:s],
        sum_at, sum_column[:u], sum_bits[:u].view(np.float32),
        stamp_at, stamp_column[:t], stamp_bits[:t].view(np.float32), stamp_ms[:t],
        recent_at, recent_id[:r],
        low_at, low_column[:low], low_bits[:low].view(np.float32),
    )  # fmt: skip
    return bad, arrays


@kernel
def _varint(data, at, stop):  # type: ignore[no-untyped-def]
    """The varint at `at` (uint64) and the position behind it."""
    if at < stop and data[at] < 128:
        return np.uint64(data[at]), at + 1
    value, shift = np.uint64(0), np.uint64(0)
    while at < stop and shift < 64:
        byte = np.uint64(data[at])
        value |= (byte & np.uint64(127)) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += np.uint64(7)
    return np.uint64(0), np.int64(DAMAGED)


@kernel
def _number(data, at, count):  # type: ignore[no-untyped-def]
    """The number in `count` bytes, lowest first, as uint64."""
    value = np.uint64(0)
    for i in range(count - 1, -1, -1):
        value = value << np.uint64(8) | np.uint64(data[at + i])
    return value


@kernel
def _ids(found, at, ids, first, last):  # type: ignore[no-untyped-def]
    """Event ids into ids[first:last]; the position behind them."""
    data = bytes_of(found)
    for i in range(first, last):
        ids[i] = _number(data, at, 8)
        at += 8
    return at


@kernel
def _steps(found, at, stop, into, n):  # type: ignore[no-untyped-def]
    """Differences of columns into into[:n]; the position behind them."""
    data, steps = bytes_of(found), bytes_of(into)
    i = np.int64(0)
    while i < n:
        token, at = _varint(data, at, stop)
        if at == DAMAGED:
            return at
        if token & np.uint64(1) == 0:
            if token >> np.uint64(33):
                return np.int64(DAMAGED)
            steps[i] = np.uint32(token >> np.uint64(1))
            i += 1
            continue
        back, at = _varint(data, at, stop)
        count = token >> np.uint64(2)
        if at == DAMAGED or back == 0 or back > np.uint64(i) or count == 0:
            return np.int64(DAMAGED)
        there = i - np.int64(back)
        if token & np.uint64(2):
            if count > np.uint64((n - i) // 2):
                return np.int64(DAMAGED)
            for k in range(there, there + np.int64(count)):
                steps[i] = steps[k]
                steps[i + 1] = 0
                i += 2
        else:
            if count > np.uint64(n - i):
                return np.int64(DAMAGED)
            for k in range(there, there + np.int64(count)):
                steps[i] = steps[k]
                i += 1
    return at


@kernel
def _values(found, at, stop, into, as_floats, n):  # type: ignore[no-untyped-def]
    """The bits of values into into[:n], of which as_floats is a view; the position behind them.
    `at` may be DAMAGED already."""
    data, bits, values = bytes_of(found), bytes_of(into), bytes_of(as_floats)
    if at == DAMAGED:
        return at
    i, tags, one_left = np.int64(0), np.int64(0), False
    while i < n:
        if one_left:
            tag = tags >> 4
        else:
            if at >= stop:
                return np.int64(DAMAGED)
            tags = np.int64(data[at])
            at += 1
            tag = tags & 15
        one_left = not one_left
        if tag >= ONE:
            needed = 3 if tag >= THREE_BYTES else 0
        else:
            needed = 4 if tag == WHOLE else 2 if tag == HUNDREDTHS else 1
        if at + needed > stop:
            return np.int64(DAMAGED)
        if tag >= THREE_BYTES:
            low = np.uint32(data[at]) | np.uint32(data[at + 1]) << np.uint32(8)
            low |= np.uint32(data[at + 2]) << np.uint32(16)
            bits[i] = low | np.uint32(tag - THREE_BYTES + LEAST_TOP) << np.uint32(24)
        elif tag >= ONE:
            bits[i] = ONE_BITS if tag == ONE else TWO_BITS if tag == ONE + 1 else THREE_BITS
        elif tag == WHOLE:
            bits[i] = np.uint32(_number(data, at, 4))
        elif tag == HUNDREDTHS:
            hundredths = np.int64(data[at]) | np.int64(data[at + 1]) << 8
            values[i] = np.float32(hundredths / 100.0)
        elif tag == BYTE:
            values[i] = np.float32(data[at])
        at += needed
        if tag in (BEFORE, RUN):
            byte = np.int64(data[at - 1])
            count, back = np.int64(1), np.uint64(byte + 1)
            if tag == RUN:
                count = byte + LEAST_RUN
                back, at = _varint(data, at, stop)
            if at == DAMAGED or back == 0 or back > np.uint64(i) or count > n - i:
                return np.int64(DAMAGED)
            there = i - np.int64(back)
            for k in range(count):
                bits[i + k] = bits[there + k]
            i += count
        else:
            i += 1
    return at


@kernel
def _moments(found, at, stop, moments, newest_ms):  # type: ignore[no-untyped-def]
    """The moments of stamps into `moments`; the position behind them."""
    data = bytes_of(found)
    if at == DAMAGED or at >= stop or data[at] > DAYS:
        return np.int64(DAMAGED)
    kind = data[at]
    at += 1
    unit = np.uint64(86_400_000 if kind == DAYS else 1000 if kind == SECONDS else 1)
    for i in range(len(moments)):
        if kind == RAW:
            if at + 8 > stop:
                return np.int64(DAMAGED)
            moments[i] = np.int64(_number(data, at, 8))
            at += 8
            continue
        token, at = _varint(data, at, stop)
        if at == DAMAGED:
            return at
        half = token >> np.uint64(1)
        if token & np.uint64(1):
            if half >= np.uint64(i):
                return np.int64(DAMAGED)
            moments[i] = moments[i - np.int64(half) - 1]
        else:
            moments[i] = np.int64(np.uint64(newest_ms) - half * unit)
    return at


@kernel
def _columns_of(steps, first, count, column, at):  # type: ignore[no-untyped-def]
    """Adds up steps[first : first + count] into column[at : at + count]; whether each is a column:
    of 32 bits, and not below the one before."""
    total = np.uint64(0)
    for i in range(count):
        total += np.uint64(steps[first + i])
        column[at + i] = np.uint32(total)
    return total < np.uint64(2**32)
