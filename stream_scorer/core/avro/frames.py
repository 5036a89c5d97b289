"""The frame that each value of a topic begins with: which schema its record was written with.

schemas.py has the formats of both frames. A batch's frames are read in one compiled pass.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stream_scorer.core.avro.schemas import (
    CONFLUENT_MAGIC,
    CONFLUENT_PREFIX_BYTES,
    SINGLE_OBJECT_MAGIC,
    SINGLE_OBJECT_PREFIX_BYTES,
)
from stream_scorer.core.events.batch import Int64, Reason, UInt8
from stream_scorer.jit import kernel

# Kinds; the first three have no schema.
EMPTY, BAD_MAGIC, CUT_SHORT, CONFLUENT, SINGLE_OBJECT = range(5)


@kernel
def read_frames(buffer: UInt8, starts: Int64, ends: Int64) -> tuple[UInt8, Int64]:
    """(n,) the kind of each value's frame and its schema id or fingerprint."""
    n = len(starts)
    kinds = np.empty(n, np.uint8)
    keys = np.zeros(n, np.int64)
    for row in range(n):
        start, length = starts[row], ends[row] - starts[row]
        if length == 0:
            kinds[row] = EMPTY
        elif buffer[start] == 0:
            kinds[row] = CONFLUENT if length >= CONFLUENT_PREFIX_BYTES else CUT_SHORT
            stop = CONFLUENT_PREFIX_BYTES if length >= CONFLUENT_PREFIX_BYTES else 0
            for i in range(1, stop):
                keys[row] = (keys[row] << 8) | buffer[start + i]
        elif buffer[start] == 0xC3 and (length == 1 or buffer[start + 1] == 0x01):
            kinds[row] = SINGLE_OBJECT if length >= SINGLE_OBJECT_PREFIX_BYTES else CUT_SHORT
            stop = SINGLE_OBJECT_PREFIX_BYTES if length >= SINGLE_OBJECT_PREFIX_BYTES else 0
            for i in range(2, stop):
                keys[row] = (keys[row] << 8) | buffer[start + i]
        else:
            kinds[row] = BAD_MAGIC
    return kinds, keys


def equal_rows(kinds: UInt8, keys: Int64, rows: Int64) -> Iterator[Int64]:
    """`rows` split into those of equal kind and key."""
    if not len(rows):
        return
    if (kinds[rows] == kinds[rows[0]]).all() and (keys[rows] == keys[rows[0]]).all():
        yield rows
        return
    for kind in np.unique(kinds[rows]):
        same = rows[kinds[rows] == kind]
        _, group = np.unique(keys[same], return_inverse=True)
        order = np.argsort(group, kind="stable")
        cuts = np.flatnonzero(np.diff(group[order])) + 1
        yield from np.split(same[order], cuts)


def prefix_bytes(kind: int) -> int:
    """How long the frame of a value is."""
    return CONFLUENT_PREFIX_BYTES if kind == CONFLUENT else SINGLE_OBJECT_PREFIX_BYTES


def unframed(value: bytes, kind: int) -> tuple[Reason, str]:
    """Why a value of one of the first three kinds is no record."""
    if kind == EMPTY:
        return Reason.EMPTY_VALUE, "the record has no value"
    if kind == CUT_SHORT:
        return Reason.UNDECODABLE, f"the record ends inside its frame, at byte {len(value)}"
    return Reason.UNDECODABLE, f"no Avro frame: it starts with {value[:8]!r}"


def key_in_words(key: bytes) -> str:
    """The id or fingerprint as people write it: the key has the fingerprint's bytes reversed."""
    if key.startswith(CONFLUENT_MAGIC):
        return f"schema id {int.from_bytes(key[1:], 'big')}"
    return f"schema fingerprint {key[len(SINGLE_OBJECT_MAGIC) :][::-1].hex()}"
