"""The stored form of a customer's record, and the way between it and `CustomerStates`.

The record, a public contract: a sequence of little-endian 32-bit words.
  0      version: 1, or 2 where there are low parts; 3 and 4 likewise, with the boundary of an
         erasure among the sources (erasure.py); and 256 more where what follows them is packed
  1..4   counts: sources S, sums N, stamps M, event ids K
  5..6   fingerprint of the feature declaration, low word first
  7..8   newest event time, ms since 1970, signed, low word first
  then   S x (xxh32 of the topic name, partition, offset low, offset high)
In the packed form, which Redis holds, the body of record_packing.py follows, in versions 2 and 4
with the number of low parts before it as a varint; then bytes of 0 up to a whole word, and
`check_word` of all words before. In the form of words, which releases up to 0.1.0 wrote and which
the store in memory works on, there are
         N x column, N x float32 value                               columns ascend
         M x column, M x float32 value, M x (time low, time high)    columns ascend
         K x (event id hash low, high)                               oldest first
  in versions 2 and 4 alone
         L x column, L x float32 low part                            columns ascend
L is half of the words that are left. A reader of sums needs no low parts: the value in the record
is the sum rounded to float32, and its low part is what rounding took away (fold_sums.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.record_head import (
    ERASURE,
    HEADER_WORDS,
    PACKED,
    RECORD_VERSION,
    WITH_LOW_PARTS,
    get64,
    put64,
)
from stream_scorer.core.features.record_packing import most_bytes, pack_all
from stream_scorer.core.features.record_unpacking import unpack_all
from stream_scorer.core.features.state import (
    ERASED_PARTITION,
    ERASED_TOPIC,
    CustomerStates,
    UInt32,
)
from stream_scorer.errors import FingerprintMismatch
from stream_scorer.jit import kernel

assert sys.byteorder == "little", "the record format is read in place"

VERSIONS = {
    form + boundary + version
    for form in (0, PACKED)
    for boundary in (0, ERASURE)
    for version in (RECORD_VERSION, WITH_LOW_PARTS)
}
RECORD = "stored record of customer"
REPLAY = "set store.namespace to a new name and replay the events into it"


def empty_states(customer_ids: list[str]) -> CustomerStates:
    """States of customers who never did anything."""
    return unpack(customer_ids, [None] * len(customer_ids), 0)


def pack(states: CustomerStates, fingerprint: int) -> list[bytes]:
    """One record for each customer, in the packed form."""
    words = np.empty(most_bytes(states.arrays) // 4 + 1, np.uint32)
    ends = pack_all(words, words.view(np.uint8), states.arrays, np.uint64(fingerprint))
    cuts = ends.tolist()
    data = words[: cuts[-1] // 4].tobytes()
    return [data[a:b] for a, b in pairwise(cuts)]


def in_words(states: CustomerStates) -> int:
    """The length of all records together in the form of words."""
    a = states.arrays
    words = HEADER_WORDS * len(states) + 4 * len(a.source_offset)
    words += 2 * len(a.sum_column) + 4 * len(a.stamp_column) + 2 * len(a.recent_id)
    return words + 2 * len(a.low_column)


def put_words(words: UInt32, states: CustomerStates, fingerprint: int) -> Int64:
    """All records one after another into `words`, in the form of words; where each begins and the
    last ends (B + 1,)."""
    at: Int64 = _put_words(words, states.arrays, np.uint64(fingerprint))
    return at


def unpack(
    customer_ids: list[str], records: Sequence[bytes | None], fingerprint: int
) -> CustomerStates:
    """States from records; row i is customer_ids[i], None is a customer without a record.

    Raises FingerprintMismatch where a record is damaged, of another version, or was written under
    another feature declaration.
    """
    lengths = np.array([0 if r is None else len(r) for r in records], np.int64)
    odd = np.flatnonzero((lengths % 4 != 0) | ((lengths > 0) & (lengths < 4 * HEADER_WORDS)))
    if len(odd):
        raise _mismatch(customer_ids[int(odd[0])], "is damaged")
    # One copy into one array, so that the compiled loop sees a single buffer, not B objects.
    words = np.frombuffer(b"".join(r for r in records if r), np.uint32)
    lengths //= 4
    return unpack_words(customer_ids, words, np.cumsum(lengths) - lengths, lengths, fingerprint)


def unpack_words(
    customer_ids: list[str], words: UInt32, starts: Int64, lengths: Int64, fingerprint: int
) -> CustomerStates:
    """As `unpack`, of records words[starts[i] : starts[i] + lengths[i]]; no words: no record."""
    data = words.view(np.uint8)
    bad, arrays = unpack_all(words, data, starts, lengths, np.uint64(fingerprint))
    if bad >= 0:
        start = int(starts[bad])
        found, version = int(get64(words, start + 5)), int(words[start])
        what = "is damaged"
        # The remedy differs in words: another declaration is a change that somebody made, while a
        # damaged record is a fault.
        if found == fingerprint and version not in VERSIONS:
            what = f"is of another version ({version}), which a later release wrote, or is damaged"
            raise _mismatch(customer_ids[int(bad)], what, "run that release, or " + REPLAY)
        if found != fingerprint:
            what = f"was written under feature declaration {found:016x}, not {fingerprint:016x}"
        raise _mismatch(customer_ids[int(bad)], what)
    return CustomerStates(customer_ids, arrays)


def _mismatch(customer_id: str, what: str, remedy: str = REPLAY) -> FingerprintMismatch:
    return FingerprintMismatch(RECORD, customer_id, f"it {what}; {remedy}")


@kernel
def _lacks_an_offset(a, row, words, at):  # type: ignore[no-untyped-def]
    """Whether the record at word `at` holds an offset beyond those of this row of StateArrays."""
    w = at + HEADER_WORDS
    for _ in range(words[at + 1]):
        newest = np.int64(-1)
        for i in range(a.source_at[row], a.source_at[row + 1]):
            # A record has few sources, so a scan will do.
            same = a.source_topic[i] == words[w]
            if same and np.uint32(a.source_partition[i]) == words[w + 1]:
                newest = a.source_offset[i]
                break
        if newest < np.int64(get64(words, w + 2)):
            return True
        w += 4
    return False


@kernel
def rows_behind(arrays, rows, words, start, length):  # type: ignore[no-untyped-def]
    """Which of `rows` (k,) of StateArrays lack an offset that a stored record has; (k,) bool.

    The stored record of rows[i] is words[start[i] : start[i] + length[i]]; none where length is 0.
    """
    found = np.zeros(len(rows), np.bool_)
    for i in range(len(rows)):
        found[i] = length[i] > 0 and _lacks_an_offset(arrays, rows[i], words, start[i])
    return found


@kernel
def joined_spans(words, start, length):  # type: ignore[no-untyped-def]
    """The records words[start[i] : start[i] + length[i]] one after another, and where each begins
    and the last ends."""
    at = np.zeros(len(start) + 1, np.int64)
    for i in range(len(start)):
        at[i + 1] = at[i] + length[i]
    out = np.empty(at[-1], np.uint32)
    for i in range(len(start)):
        out[at[i] : at[i + 1]] = words[start[i] : start[i] + length[i]]
    return out, at


@kernel
def _put_words(words, a, fingerprint):  # type: ignore[no-untyped-def]
    customers = len(a.newest_ms)
    starts = np.zeros(customers + 1, np.int64)
    sum_bits, stamp_bits = a.sum_value.view(np.uint32), a.stamp_value.view(np.uint32)
    low_bits = a.low_value.view(np.uint32)
    at = 0
    for c in range(customers):
        s0, s1 = a.source_at[c], a.source_at[c + 1]
        u0, u1 = a.sum_at[c], a.sum_at[c + 1]
        t0, t1 = a.stamp_at[c], a.stamp_at[c + 1]
        r0, r1 = a.recent_at[c], a.recent_at[c + 1]
        l0, l1 = a.low_at[c], a.low_at[c + 1]
        words[at] = WITH_LOW_PARTS if l1 > l0 else RECORD_VERSION
        for i in range(s0, s1):
            if a.source_topic[i] == ERASED_TOPIC and a.source_partition[i] == ERASED_PARTITION:
                words[at] += np.uint32(ERASURE)
        words[at + 1] = s1 - s0
        words[at + 2] = u1 - u0
        words[at + 3] = t1 - t0
        words[at + 4] = r1 - r0
        put64(words, at + 5, fingerprint)
        put64(words, at + 7, a.newest_ms[c])
        at += HEADER_WORDS
        for i in range(s0, s1):
            words[at] = a.source_topic[i]
            words[at + 1] = np.uint32(a.source_partition[i])
            put64(words, at + 2, a.source_offset[i])
            at += 4
        n = u1 - u0
        words[at : at + n] = a.sum_column[u0:u1]
        words[at + n : at + 2 * n] = sum_bits[u0:u1]
        at += 2 * n
        n = t1 - t0
        words[at : at + n] = a.stamp_column[t0:t1]
        words[at + n : at + 2 * n] = stamp_bits[t0:t1]
        at += 2 * n
        for i in range(t0, t1):
            put64(words, at, a.stamp_ms[i])
            at += 2
        for i in range(r0, r1):
            put64(words, at, a.recent_id[i])
            at += 2
        n = l1 - l0
        words[at : at + n] = a.low_column[l0:l1]
        words[at + n : at + 2 * n] = low_bits[l0:l1]
        at += 2 * n
        starts[c + 1] = at
    return starts
