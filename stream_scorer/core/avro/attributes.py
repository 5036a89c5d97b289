"""The attributes of events: Avro-encoded maps of strings in canonical form.

Canonical: the number of entries as a positive varint, then key and value of each, then 0; an empty
map is just 0. A writer may split a map into blocks, or write symbols of an enum for strings; such
maps are rewritten when a record is decoded, so that later readers need no other form.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_scorer.core.avro.primitives import (
    OK,
    TRUNCATED,
    get_long,
    get_text,
    put_long,
    put_text,
)
from stream_scorer.core.events.batch import NULL, EventBatch, Int32, Int64, StringColumn, UInt8
from stream_scorer.jit import bytes_of, kernel

EMPTY_MAP_BYTES = b"\x00"


class MapEntries(NamedTuple):
    """Entries of maps that must be rewritten: the row, and the spans of key and value; (p,) int64
    each, rows ascending."""

    row: Int64
    key_start: Int64
    key_length: Int64
    value_start: Int64
    value_length: Int64


def map_entries(n: int) -> MapEntries:
    """Room for n entries."""
    return MapEntries(*(np.empty(n, np.int64) for _ in MapEntries._fields))


def attribute(batch: EventBatch, name: str) -> StringColumn:
    """The attribute `name` of each of n events, as decoded; null where the event lacks it."""
    maps = batch.attributes
    key = np.frombuffer(name.encode(), np.uint8)
    return StringColumn(maps.buffer, *_find_in_maps(maps.buffer, maps.starts, maps.lengths, key))


@kernel
def canonical_map(data: Any, pos: Any, end: Any) -> Any:
    """(whether it is at most one block of positive count, position after it, error) of the map of
    strings at pos."""
    count, at, error = get_long(data, pos, end)
    if error != OK:
        return False, at, error
    if count < 0:
        return False, pos, OK
    # Each entry takes two bytes or more; without this 2 * count could overflow.
    if count > end - at:
        return False, pos, TRUNCATED
    for _ in range(2 * count):
        _, at, error = get_text(data, at, end)
        if error != OK:
            return False, at, error
    if count > 0:
        count, at, error = get_long(data, at, end)
    return count == 0, at, error


@kernel
def write_maps(buffer: UInt8, entries: MapEntries, rows: Int64) -> tuple[UInt8, Int64]:
    """Canonical maps, one after another, for `rows` (r,) ascending, of `entries`.

    Returns the bytes and the ends (r,) of the maps.
    """
    entry_row, key_length, value_length = entries.row, entries.key_length, entries.value_length
    # Upper bounds: a varint takes at most 10 bytes, and a map ends with one byte.
    size = 11 * len(rows)
    for p in range(len(entry_row)):
        size += 20 + key_length[p] + value_length[p]
    out = np.empty(size, np.uint8)
    ends = np.empty(len(rows), np.int64)
    data, source = bytes_of(out), bytes_of(buffer)
    at: Any = 0
    p = 0
    for r in range(len(rows)):
        stop = p
        while stop < len(entry_row) and entry_row[stop] == rows[r]:
            stop += 1
        if stop > p:
            at = put_long(data, at, stop - p)
        for q in range(p, stop):
            at = put_text(data, at, source, entries.key_start[q], key_length[q])
            at = put_text(data, at, source, entries.value_start[q], value_length[q])
        p = stop
        at = put_long(data, at, 0)
        ends[r] = at
    return out[:at], ends


@kernel
def _find_in_maps(buffer: UInt8, starts: Int64, lengths: Int32, name: UInt8) -> tuple[Int64, Int32]:
    """Spans of the values of key `name`; length NULL where absent.

    Of several entries of one key the last counts, as in a dictionary read from the map.
    """
    n = len(starts)
    data = bytes_of(buffer)
    found = np.zeros(n, np.int64)
    found_length = np.full(n, NULL, np.int32)
    # In a small buffer many rows share one map: a map that starts where one did has its value.
    row_at = np.full(len(buffer) + 1 if len(buffer) <= 2 * n else 0, -1, np.int32)
    for row in range(n):
        if len(row_at):
            before = row_at[starts[row]]
            if before >= 0 and lengths[before] == lengths[row]:
                found[row], found_length[row] = found[before], found_length[before]
                continue
            row_at[starts[row]] = row
        end = starts[row] + lengths[row]
        # Errors are not looked at: maps were checked when they were decoded.
        count, at, _ = get_long(data, starts[row], end)
        for _ in range(count):
            key_length, at, _ = get_long(data, at, end)
            same = key_length == len(name)
            if same:
                for i in range(key_length):
                    if data[at + i] != name[i]:
                        same = False
                        break
            at += key_length
            length, at, _ = get_long(data, at, end)
            if same:
                found[row] = at
                found_length[row] = length
            at += length
    return found, found_length
