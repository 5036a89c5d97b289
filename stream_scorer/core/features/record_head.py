"""The head of a stored record, which all forms have in common, and its check word.

state_codec.py has the whole layout.
"""

from __future__ import annotations

import numpy as np

from stream_scorer.jit import kernel

RECORD_VERSION = 1
WITH_LOW_PARTS = 2
ERASURE = 2  # added to either, so that a release which knows no boundary refuses the record
# Added to any: what stands behind the sources is packed (record_packing.py). It is the second byte
# of the record, so the first one says what it said before, to scripts and to older members.
PACKED = 0x100
HEADER_WORDS = 9


@kernel
def put64(words, at, value):  # type: ignore[no-untyped-def]
    """`value` into words[at] and words[at + 1], low word first."""
    bits = np.uint64(value)
    words[at] = np.uint32(bits & np.uint64(0xFFFFFFFF))
    words[at + 1] = np.uint32(bits >> np.uint64(32))


@kernel
def get64(words, at):  # type: ignore[no-untyped-def]
    """What `put64` put there, as uint64."""
    return np.uint64(words[at]) | (np.uint64(words[at + 1]) << np.uint64(32))


@kernel
def check_word(words, start, stop):  # type: ignore[no-untyped-def]
    """Of words[start:stop] (uint32): a sum a of the words and a sum b of its values after each
    word, both modulo 2^64 (Fletcher, "An Arithmetic Checksum for Serial Transmissions", IEEE
    Trans. Commun. 30, 1982, in words of 32 bits); then a + 3 b modulo 2^64, its halves xored."""
    first, second = np.uint64(1), np.uint64(0)
    for i in range(start, stop):
        first += np.uint64(words[i])
        second += first
    mixed = first + np.uint64(3) * second
    return np.uint32((mixed ^ (mixed >> np.uint64(32))) & np.uint64(0xFFFFFFFF))
