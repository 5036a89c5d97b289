"""Attributes that are no canonical map of strings, rewritten as one (attributes.py).

The interpreter only counts the entries of such maps. Few writers make them, so their rows are
interpreted a second time, which gives where each key and value stands.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_scorer.core.avro import program as k
from stream_scorer.core.avro.attributes import MapEntries, map_entries, write_maps
from stream_scorer.core.avro.interpreter import run
from stream_scorer.core.avro.texts import texts_of
from stream_scorer.core.events.batch import NULL, Int64, UInt8

# An entry takes 40 bytes while it is rewritten, and two bytes of a record are enough for one. So
# many, or those of one row, are rewritten at a time.
ENTRIES_AT_A_TIME = 2**18
# One byte of a record may be a symbol of an enum of a thousand characters, or a decimal of hundreds
# of digits. Words and numbers of a shop stay far below: a symbol of 30 characters under a key of
# one takes three bytes and makes 33, and FREE_MAP_BYTES hold 500 of those.
FREE_MAP_BYTES = 16_384
MAP_BYTES_PER_BYTE = 8


class Rewritten(NamedTuple):
    """maps: all of them, one after another; too_long: rows of which none was made, with the bytes
    it would have had."""

    maps: UInt8
    too_long: dict[int, int]


def rewrite_maps(
    tables: k.Tables,
    buffer: UInt8,
    starts: Int64,
    ends: Int64,
    rows: Int64,
    out: k.Columns,
    first: int,
) -> Rewritten:
    """Canonical maps of `rows` (r,) ascending, whose attributes the interpreter marked REWRITE.

    Their spans in `out` are set: the maps will stand one after another from `first`.
    """
    maps: list[UInt8] = []
    too_long: dict[int, int] = {}
    counted = np.cumsum(out.starts[k.ATTRIBUTES, rows])
    for part in np.split(rows, np.flatnonzero(np.diff(counted // ENTRIES_AT_A_TIME)) + 1):
        room = map_entries(int(out.starts[k.ATTRIBUTES, part].sum()))
        run(
            buffer, starts, ends, part, False, tables, out, k.outcome(len(starts)), room
        )  # fmt: skip
        texts, entries = _with_texts(buffer, room)
        sizes = np.zeros(len(part), np.int64)
        index = np.searchsorted(part, entries.row)
        np.add.at(sizes, index, entries.key_length + entries.value_length)
        fits = sizes <= FREE_MAP_BYTES + MAP_BYTES_PER_BYTE * (ends[part] - starts[part])
        if not fits.all():
            too_long |= dict(zip(part[~fits].tolist(), sizes[~fits].tolist(), strict=True))
            entries = MapEntries(*(column[fits[index]] for column in entries))
        kept = part[fits]
        written, map_ends = write_maps(texts, entries, kept)
        map_lengths = np.diff(map_ends, prepend=0)
        out.starts[k.ATTRIBUTES, kept] = first + map_ends - map_lengths
        out.lengths[k.ATTRIBUTES, kept] = map_lengths
        first += len(written)
        maps.append(written)
    return Rewritten(np.concatenate(maps) if maps else np.empty(0, np.uint8), too_long)


def _with_texts(buffer: UInt8, entries: MapEntries) -> tuple[UInt8, MapEntries]:
    """The entries with text for values that are none yet, and the buffer that holds it; entries
    whose value is NaN are left out."""
    raw = entries.value_length <= k.RAW_LONG
    if not raw.any():
        return buffer, entries
    written, starts, lengths, _ = texts_of(
        buffer, entries.value_start[raw], entries.value_length[raw], ids=False
    )
    entries.value_start[raw], entries.value_length[raw] = starts + len(buffer), lengths
    kept = entries.value_length != NULL
    return np.concatenate((buffer, written)), MapEntries(*(column[kept] for column in entries))
