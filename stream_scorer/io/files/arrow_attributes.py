"""Arrow columns of attributes as Avro maps: Arrow's maps, structs, and lists of pairs.

Lists of structs of `key` and `value` are how Polars, which has no maps, writes them.
Entries without a key or without a value are left out, as JSON's null is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stream_scorer.core.avro.attributes import MapEntries, map_entries, write_maps
from stream_scorer.core.events.batch import NULL, Bool, Int64, StringColumn, UInt8
from stream_scorer.core.events.numbers_as_text import ATTRIBUTES_REMEDY
from stream_scorer.io.files.arrow_texts import can_be_attribute, codes_of, texts_of

_PAIR = ("key", "value")


def attributes_problem(kind: pa.DataType) -> str | None:
    """What is wrong with a column of attributes of this type; None where it can be read."""
    if pa.types.is_null(kind):
        return None
    if pa.types.is_map(kind):
        fields = {"a key": kind.key_type, "a value": kind.item_type}
    elif _is_list_of_pairs(kind):
        fields = {field.name: field.type for field in kind.value_type}
    elif pa.types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        if len(fields) < kind.num_fields:
            names = [field.name for field in kind]
            twice = next(name for name in names if names.count(name) > 1)
            return f"attributes has the field {twice} twice; write it once"
    else:
        return f"attributes is {kind}; give a map, or a struct of text, numbers or booleans"
    for name, field in fields.items():
        if not can_be_attribute(field):
            return f"attributes: {name} is {field}; {ATTRIBUTES_REMEDY}"
    return None


class AttributeMaps(NamedTuple):
    """The Avro map of each row, and whether all their texts are valid UTF-8.

    too_long: (n,) bool, rows whose map would have too many bytes, and is empty; None for no row.
    """

    column: StringColumn
    valid_utf8: bool
    too_long: Bool | None


def attribute_maps(
    array: pa.Array, most_bytes: int, most_in_all: int | None
) -> AttributeMaps | None:
    """A column of a type that `attributes_problem` accepts; each map of at most most_bytes.

    None where all maps together would have more than most_in_all bytes.
    """
    if pa.types.is_struct(array.type):
        rows, same = _distinct_rows(array)
        maps = _maps(len(rows), _struct_entries(array.take(rows)), most_bytes, most_in_all)
        if maps is None:
            return None
        too_long = None if maps.too_long is None else maps.too_long[same]
        return AttributeMaps(maps.column.take(same), maps.valid_utf8, too_long)
    if pa.types.is_null(array.type):
        nothing = _Entries(map_entries(0), np.empty(0, np.uint8), True)
        return _maps(len(array), nothing, most_bytes, most_in_all)
    return _maps(len(array), _pairs(array), most_bytes, most_in_all)


class _Entries(NamedTuple):
    """Entries whose key and value are not null, the buffer that they are spans of, and whether all
    texts are UTF-8."""

    entries: MapEntries
    buffer: UInt8
    valid_utf8: bool


def _is_list_of_pairs(kind: pa.DataType) -> bool:
    return bool(
        (pa.types.is_list(kind) or pa.types.is_large_list(kind))
        and pa.types.is_struct(kind.value_type)
        and tuple(field.name for field in kind.value_type) == _PAIR
    )


def _maps(
    n: int, found: _Entries, most_bytes: int, most_in_all: int | None
) -> AttributeMaps | None:
    """Avro maps of rows 0..n - 1; None as of `attribute_maps`."""
    entries = found.entries
    lengths = entries.key_length + entries.value_length
    in_all = int(lengths.sum())
    if most_in_all is not None and in_all > most_in_all:
        return None
    too_long = None
    if in_all > most_bytes:
        too_long = np.bincount(entries.row, lengths, n) > most_bytes
        entries = _chosen(entries, ~too_long[entries.row])
    maps, ends = write_maps(found.buffer, entries, np.arange(n))
    starts = np.concatenate(([0], ends[:-1])) if n else ends
    column = StringColumn(maps, starts, (ends - starts).astype(np.int32))
    return AttributeMaps(column, found.valid_utf8, too_long)


def _distinct_rows(array: pa.StructArray) -> tuple[Int64, Int64]:
    """(d,) rows that have every combination of values once, and (n,) which of them each row equals.

    Both are all rows where a field is no dictionary, or where there may be too many combinations.
    """
    rows = np.arange(len(array))
    fields = array.flatten()
    sizes = [len(f.dictionary) + 1 for f in fields if pa.types.is_dictionary(f.type)]
    # The table below has an entry for each possible combination, so it may not grow far beyond the
    # rows.
    if len(sizes) < len(fields) or math.prod(sizes) > 4 * len(rows):
        return rows, rows
    combined = np.zeros(len(rows), np.int64)
    for field, size in zip(fields, sizes, strict=True):
        combined = combined * size + codes_of(field) + 1
    # Combinations are numbers below the product of sizes, so an array finds each one's row.
    row_of = np.full(math.prod(sizes), NULL, np.int64)
    row_of[combined] = rows
    chosen = row_of[row_of != NULL]
    row_of[row_of != NULL] = np.arange(len(chosen))
    return chosen, row_of[combined]


def _pairs(array: pa.Array) -> _Entries:
    """The entries of maps, or of lists of pairs."""
    # `keys` and `items` are those of the whole array, even where `array` is a slice of it.
    if pa.types.is_map(array.type):
        given_keys, given_values = array.keys, array.items
    else:
        given_keys, given_values = array.values.flatten()
    offsets = array.offsets.to_numpy().astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    found_keys, found_values = texts_of(given_keys, ids=False), texts_of(given_values, ids=False)
    keys, values = found_keys.column, found_values.column
    rows = np.repeat(np.arange(len(array)), np.diff(offsets))
    entries = MapEntries(
        row=rows,
        key_start=keys.starts[first:last],
        key_length=keys.lengths[first:last].astype(np.int64),
        value_start=values.starts[first:last] + len(keys.buffer),
        value_length=values.lengths[first:last].astype(np.int64),
    )
    # A null map may still have entries in Arrow's buffers; they count for nothing.
    missing = array.is_null().to_numpy(zero_copy_only=False)[rows]
    kept = (entries.value_length != NULL) & (entries.key_length != NULL) & ~missing
    valid = found_keys.valid_utf8 and found_values.valid_utf8
    return _Entries(_chosen(entries, kept), np.concatenate([keys.buffer, values.buffer]), valid)


def _struct_entries(array: pa.StructArray) -> _Entries:
    """The fields of structs, with their names as keys."""
    parts: list[MapEntries] = []
    buffers: list[UInt8] = []
    valid = True
    end = 0
    for field, child in zip(array.type, array.flatten(), strict=True):
        name = np.frombuffer(field.name.encode(), np.uint8)
        values, _, valid_here = texts_of(child, ids=False)
        valid &= valid_here
        rows = np.flatnonzero(values.lengths != NULL)
        parts.append(
            MapEntries(
                row=rows,
                key_start=np.full(len(rows), end),
                key_length=np.full(len(rows), len(name)),
                value_start=values.starts[rows] + end + len(name),
                value_length=values.lengths[rows].astype(np.int64),
            )
        )
        buffers += [name, values.buffer]
        end += len(name) + len(values.buffer)
    if not parts:
        return _Entries(map_entries(0), np.empty(0, np.uint8), True)
    entries = MapEntries(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    # Stable, so that a row's entries stay in the order of the struct's fields.
    by_row = np.argsort(entries.row, kind="stable")
    return _Entries(_chosen(entries, by_row), np.concatenate(buffers), valid)


def _chosen(entries: MapEntries, which: Int64 | Bool) -> MapEntries:
    return MapEntries(*(field[which] for field in entries))
