"""Parquet files, and tables like them, as rows of events.

Arrow's columns become columns of an EventBatch (event_rows.py): string buffers become spans as they
are, and maps and structs of attributes are written as Avro maps by a compiled loop. Any type of a
column that Arrow can show as the type of the event's field will do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_scorer.core.avro.attributes import MapEntries, map_entries, write_maps
from stream_scorer.core.events.batch import (
    NULL,
    Bool,
    EventBatch,
    Int32,
    Int64,
    StringColumn,
    UInt8,
)
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.event_rows import EventRows, UnfitRow

REQUIRED = ("event_id", "customer_id", "event_type", "occurred_at")
OPTIONAL = ("category_id", "product_id", "value", "attributes")
TEXTS = ("event_id", "customer_id", "event_type", "category_id", "product_id")

# (multiplier, divisor) to milliseconds of Arrow's units.
_UNITS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}


def allocate_with_malloc() -> None:
    """Arrow takes memory from the C library, in the whole process: for jobs, not for a notebook.

    Arrow's own allocator gives the memory of each chunk back, and every page of the next one is a
    page fault. What malloc does with it is up to the process (`runtime.keep_freed_memory`).
    """
    pa.set_memory_pool(pa.system_memory_pool())


def parquet_rows(path: Path, most_rows: int) -> Iterator[EventRows]:
    """The file's rows, at most `most_rows` at a time. Raises EventFileError."""
    position = 0
    try:
        # Opened twice: which columns to read as dictionaries must be said when a file is opened.
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
        check_schema(path, schema)
        names = [name for name in (*REQUIRED, *OPTIONAL) if name in schema.names]
        with pq.ParquetFile(path, read_dictionary=_repetitive(schema)) as file:
            # One row group after another: pyarrow can't join the dictionaries of two in a struct.
            for group in range(file.num_row_groups):
                # Arrow's own threads cost more than they bring: whoever folds needs the cores.
                for table in file.iter_batches(
                    most_rows, row_groups=[group], columns=names, use_threads=False
                ):
                    if len(table):
                        yield event_rows(table, str(path), position)
                    position += len(table)
    except (pa.ArrowException, OSError) as error:
        message = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise EventFileError(
            "events", path, f"not readable as Parquet ({message}); write or copy it again"
        ) from error


def _repetitive(schema: pa.Schema) -> list[str]:
    """Texts to read as dictionaries: of each distinct one the bytes come once."""
    # Event ids are all different, so a dictionary of them would save nothing.
    names = [name for name in TEXTS if name in schema.names and name != "event_id"]
    if "attributes" in schema.names and pa.types.is_struct(
        given := schema.field("attributes").type
    ):
        names += [f"attributes.{field.name}" for field in given]
    return names


def check_schema(path: Path | str, schema: pa.Schema) -> None:
    """Raises EventFileError where a column is missing, or has a type that can't be read."""
    for name in REQUIRED:
        if name not in schema.names:
            raise EventFileError("events", path, f"the file lacks the column {name}")
    moment = schema.field("occurred_at").type
    if pa.types.is_timestamp(moment) and moment.tz is None:
        raise EventFileError("events", path, "occurred_at has no time zone; write it with one")
    if not (pa.types.is_timestamp(moment) or pa.types.is_integer(moment)):
        raise EventFileError(
            "events", path, f"occurred_at is {moment}; give a timestamp with a zone, or ms"
        )
    if "value" in schema.names:
        number = schema.field("value").type
        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
        if not any(is_kind(number) for is_kind in kinds):
            raise EventFileError("events", path, f"value is {number}; give numbers")
    if "attributes" in schema.names:
        given = schema.field("attributes").type
        if not (pa.types.is_map(given) or pa.types.is_struct(given) or pa.types.is_null(given)):
            raise EventFileError("events", path, f"attributes is {given}; give a map or a struct")


def event_rows(table: pa.RecordBatch, file: str, first_position: int) -> EventRows:
    """Rows of `file` from first_position on; columns as `check_schema` accepts them."""
    n = len(table)
    texts = {name: _text_column(table, name) for name in TEXTS}
    moments, has_moment = _numbers(table, "occurred_at", pa.int64())
    value, has_value = _numbers(table, "value", pa.float64())
    good = has_moment.copy()
    for name in ("event_id", "customer_id", "event_type"):
        good &= texts[name].lengths != NULL
    events = EventBatch(
        texts["event_id"], texts["customer_id"], texts["event_type"], texts["category_id"],
        texts["product_id"], value, has_value, moments, _attributes(table),
        [(file, 0)], np.zeros(n, np.int32), np.arange(first_position, first_position + n),
        np.arange(n),
    )  # fmt: skip
    unfit = {row: _unfit(table, row) for row in np.flatnonzero(~good).tolist()}
    return EventRows(events, unfit, _is_utf8(table))


def _is_utf8(table: pa.RecordBatch) -> bool:
    """Whether all texts are valid UTF-8, which Parquet does not guarantee."""
    try:
        for array in table.columns:
            _check_texts(array)
    except pa.ArrowInvalid:
        return False
    return True


def _check_texts(array: pa.Array) -> None:
    """Raises ArrowInvalid for a text that is not UTF-8; of a dictionary each once."""
    if pa.types.is_dictionary(array.type):
        array.dictionary.validate(full=True)
    elif pa.types.is_struct(array.type):
        for field in array.flatten():
            _check_texts(field)
    elif not (
        pa.types.is_primitive(array.type) or (pa.types.is_string(array.type) and _is_ascii(array))
    ):
        array.validate(full=True)


def _is_ascii(array: pa.StringArray) -> bool:
    """Whether all bytes are ASCII. This check is ten times as fast as Arrow's check of UTF-8."""
    _, offsets, data = array.buffers()
    if data is None or offsets is None:
        return True
    ends = np.frombuffer(offsets, np.int32)
    used = np.frombuffer(data, np.uint8)[ends[array.offset] : ends[array.offset + len(array)]]
    return int(used.max(initial=0)) < 128


def _unfit(table: pa.RecordBatch, row: int) -> UnfitRow:
    fields = table.slice(row, 1).to_pylist()[0]
    missing = [name for name in REQUIRED if fields[name] is None]
    original = json.dumps(fields, default=str).encode()
    return UnfitRow(f"null in {', '.join(missing)}", original)


def _text_column(table: pa.RecordBatch, name: str) -> StringColumn:
    if name not in table.schema.names:
        return _strings(pa.nulls(len(table), pa.string()))
    return _strings(table.column(name))


def _strings(array: pa.Array) -> StringColumn:
    """Any column that Arrow can show as text."""
    if pa.types.is_dictionary(array.type):
        codes = _codes(array)
        texts = _strings(array.dictionary)
        starts, lengths = np.append(texts.starts, 0), np.append(texts.lengths, np.int32(NULL))
        return StringColumn(texts.buffer, starts[codes], lengths[codes])
    array = pc.cast(array, pa.large_string())
    _, offsets, data = array.buffers()
    if data is None or offsets is None:
        buffer, ends = np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    else:
        buffer = np.frombuffer(data, np.uint8)
        ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(ends).astype(np.int32)
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = NULL
    return StringColumn(buffer, ends[:-1], lengths)


def _codes(array: pa.DictionaryArray) -> Int32 | Int64:
    """Positions in its dictionary, `NULL` for null."""
    if not array.null_count and array.indices.type == pa.int32():
        return np.asarray(array.indices)
    codes = pc.fill_null(array.indices.cast(pa.int64()), NULL)
    return np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)


def _numbers(table: pa.RecordBatch, name: str, wanted: pa.DataType) -> tuple[Any, Bool]:
    """(values, where they are not null); moments in ms."""
    n = len(table)
    if name not in table.schema.names:
        return np.zeros(n, wanted.to_pandas_dtype()), np.zeros(n, np.bool_)
    array = table.column(name)
    multiplier, divisor = 1, 1
    if pa.types.is_timestamp(array.type):
        multiplier, divisor = _UNITS[array.type.unit]
    # Arrow's safe cast refuses a decimal or a large integer that a double can't hold exactly. For a
    # value the nearest double is right; a moment must be exact.
    numbers = pc.fill_null(
        pc.cast(array, wanted, safe=not pa.types.is_floating(wanted)), 0
    ).to_numpy(zero_copy_only=False)
    if multiplier != divisor:
        # Rounded down, as the Avro decoder rounds microseconds.
        numbers = numbers * multiplier // divisor
    return numbers, array.is_valid().to_numpy(zero_copy_only=False)


def _attributes(table: pa.RecordBatch) -> StringColumn:
    """Avro maps of the column: map entries or struct fields that are not null, as text."""
    n = len(table)
    array = table.column("attributes") if "attributes" in table.schema.names else pa.nulls(n)
    if pa.types.is_map(array.type):
        return _maps(n, *_map_entries(array))
    if pa.types.is_struct(array.type):
        rows, same = _distinct_rows(array)
        return _maps(len(rows), *_struct_entries(array.take(rows))).take(same)
    return _maps(n, map_entries(0), np.empty(0, np.uint8))


def _maps(n: int, entries: MapEntries, buffer: UInt8) -> StringColumn:
    """Avro maps of rows 0..n - 1, of `entries` over `buffer`."""
    maps, ends = write_maps(buffer, entries, np.arange(n))
    starts = np.concatenate(([0], ends[:-1])) if n else ends
    return StringColumn(maps, starts, (ends - starts).astype(np.int32))


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
        combined = combined * size + _codes(field) + 1
    # Combinations are numbers below the product of sizes, so an array finds each one's row.
    row_of = np.full(math.prod(sizes), NULL, np.int64)
    row_of[combined] = rows
    chosen = row_of[row_of != NULL]
    row_of[row_of != NULL] = np.arange(len(chosen))
    return chosen, row_of[combined]


def _map_entries(array: pa.MapArray) -> tuple[MapEntries, UInt8]:
    """Entries whose key and value are not null, and the buffer that they are spans of."""
    # `keys` and `items` are those of the whole array, even where `array` is a slice of it.
    offsets = array.offsets.to_numpy().astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    keys, values = _strings(array.keys), _strings(array.items)
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
    return _chosen(entries, kept), np.concatenate([keys.buffer, values.buffer])


def _struct_entries(array: pa.StructArray) -> tuple[MapEntries, UInt8]:
    """The fields that are not null, as entries with their names as keys, and the buffer of both."""
    parts: list[MapEntries] = []
    buffers: list[UInt8] = []
    end = 0
    for field, child in zip(array.type, array.flatten(), strict=True):
        name, values = np.frombuffer(field.name.encode(), np.uint8), _strings(child)
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
        return map_entries(0), np.empty(0, np.uint8)
    entries = MapEntries(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    # Stable, so that a row's entries stay in the order of the struct's fields.
    by_row = np.argsort(entries.row, kind="stable")
    return _chosen(entries, by_row), np.concatenate(buffers)


def _chosen(entries: MapEntries, which: Int64 | Bool) -> MapEntries:
    return MapEntries(*(field[which] for field in entries))
