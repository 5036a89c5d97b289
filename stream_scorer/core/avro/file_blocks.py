"""Records of an Avro object container file's block: where each ends, without decoding it."""

from __future__ import annotations

import numpy as np

from stream_scorer.core.avro import program as k
from stream_scorer.core.avro.attributes import map_entries
from stream_scorer.core.avro.interpreter import run
from stream_scorer.core.avro.primitives import OK


def split_block(program: k.Program, block: bytes, count: int, prefix: bytes) -> list[bytes]:
    """The `count` records of an Avro file's block, each after `prefix`.

    program: `skip_program` of the file's schema. Where a record is broken, or bytes are left over,
    the rest of the block stays one record, which will not decode.
    """
    # The file's own count may be corrupt: so many records can't be in a block of these bytes.
    most = max(0, min(count, len(block) + k.FREE_ITEMS))
    errors = k.outcome(most)
    limits = np.full(most, len(block), np.int64)
    # A copy can be written to, as every other buffer here: numba would compile the whole loop once
    # more for a read-only one.
    run(
        np.frombuffer(block, np.uint8).copy(), limits, limits, np.arange(most), True,
        program.tables(0), k.columns(0), errors, map_entries(0),
    )  # fmt: skip
    broken = np.flatnonzero(errors.error != OK)[:1]
    whole = int(broken[0]) if len(broken) else most
    ends = errors.at[:whole].tolist()
    if whole == count and ends:
        # The last record takes bytes that are left over, so that they do not go unnoticed.
        ends[-1] = len(block)
    elif whole < count or block:
        ends.append(len(block))
    starts = [0, *ends[:-1]]
    return [prefix + block[s:e] for s, e in zip(starts, ends, strict=True)]
