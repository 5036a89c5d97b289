"""Parquet files, and tables like them, as rows of events.

Arrow's columns become columns of an EventBatch (event_rows.py): string buffers become spans as they
are, and attributes are written as Avro maps by a compiled loop. Any type of a column that can be
shown as the type of the event's field will do (arrow_texts.py, arrow_attributes.py). A row with a
value that can't be read is refused on its own, with the name of the column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_scorer.core.events.batch import NULL, Bool, EventBatch, Float64
from stream_scorer.core.events.numbers_as_text import IDS_REMEDY
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.arrow_attributes import attribute_maps, attributes_problem
from stream_scorer.io.files.arrow_moments import moments_of, moments_problem, moments_remedy
from stream_scorer.io.files.arrow_texts import Texts, can_be_id, is_bytes, texts_of
from stream_scorer.io.files.event_paths import lacks_partition_column, partition_columns
from stream_scorer.io.files.event_rows import EventRows, UnfitRow, text_bytes
from stream_scorer.io.files.limits import ReadLimits
from stream_scorer.io.files.parquet_pages import reading_plan
from stream_scorer.storage.places import Place, on_disk

REQUIRED = ("event_id", "customer_id", "event_type", "occurred_at")
OPTIONAL = ("category_id", "product_id", "value", "attributes")
TEXTS = ("event_id", "customer_id", "event_type", "category_id", "product_id")

_BYTES_REMEDY = "is not text; give text, whole numbers, or annotate a UUID as such"


def allocate_with_malloc() -> None:
    """Arrow takes memory from the C library, in the whole process: for jobs, not for a notebook.

    Arrow's own allocator gives the memory of each chunk back, and every page of the next one is a
    page fault. What malloc does with it is up to the process (`runtime.keep_freed_memory`).
    """
    pa.set_memory_pool(pa.system_memory_pool())


def row_count(path: Place) -> int:
    """How many rows the file says it has. Raises EventFileError."""
    with _errors_in_one_line(path), pq.ParquetFile(_metadata_source(path)) as file:
        return int(file.metadata.num_rows)


def parquet_rows(path: Place, limits: ReadLimits) -> Iterator[EventRows]:
    """The file's rows, at most `limits.batch_records` at a time. Raises EventFileError."""
    position = 0
    # An object is copied first: its pages are looked at one by one before they are read.
    with _errors_in_one_line(path), on_disk(path) as here:
        # Opened twice: which columns to read as dictionaries must be said when a file is opened.
        with pq.ParquetFile(here) as file:
            schema = _with_int96_in_utc(file)
            check_schema(path, schema)
            names = [name for name in (*REQUIRED, *OPTIONAL) if name in schema.names]
            plan = reading_plan(path, here, file, names, _repetitive(schema), limits)
        # INT96 reaches beyond the years that Arrow's default of nanoseconds can hold, and would
        # wrap round to a wrong time.
        with pq.ParquetFile(
            here, read_dictionary=plan.dictionaries, coerce_int96_timestamp_unit="ms"
        ) as file:
            # One row group after another: pyarrow can't join the dictionaries of two in a struct.
            for group in range(file.num_row_groups):
                if not file.metadata.row_group(group).num_rows:
                    continue  # its pages were not looked at (parquet_pages.py)
                # Arrow's own threads cost more than they bring: whoever folds needs the cores.
                for table in file.iter_batches(
                    plan.most_rows, row_groups=[group], columns=names, use_threads=False
                ):
                    if len(table):
                        yield from event_rows(table, str(path), position, limits)
                    position += len(table)


def _metadata_source(path: Place) -> Path | pa.PythonFile:
    """What pyarrow opens for the end of a file alone."""
    return path if isinstance(path, Path) else pa.PythonFile(path.open("rb"), "r")


def check_file(path: Place) -> None:
    """Raises EventFileError where the columns of the file can't be read as fields of events."""
    with _errors_in_one_line(path), pq.ParquetFile(_metadata_source(path)) as file:
        check_schema(path, _with_int96_in_utc(file))


@contextmanager
def _errors_in_one_line(path: Place) -> Iterator[None]:
    try:
        yield
    # pyarrow decodes the names of columns, which may be any bytes where a file is corrupt.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        message = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise EventFileError(
            "events", path, f"not readable as Parquet ({message}); write or copy it again"
        ) from error


def event_rows(
    table: pa.RecordBatch, file: str, first_position: int, limits: ReadLimits
) -> Iterator[EventRows]:
    """Rows of `file` from first_position on, in parts whose texts, each row with its own copy, are
    within the limits; columns as `check_schema` accepts them.
    """
    rows = _within(table, file, first_position, limits)
    if rows is not None:
        yield rows
        return
    half = len(table) // 2
    yield from event_rows(table.slice(0, half), file, first_position, limits)
    yield from event_rows(table.slice(half), file, first_position + half, limits)


def _with_int96_in_utc(file: pq.ParquetFile) -> pa.Schema:
    """The file's columns. INT96, Spark's default for times, has no zone and always means UTC."""
    schema = file.schema_arrow
    int96 = {
        leaf.path for leaf in map(file.schema.column, range(len(file.schema)))
        if leaf.physical_type == "INT96"
    }  # fmt: skip
    fields = [
        field.with_type(pa.timestamp("ms", "UTC")) if field.name in int96 else field
        for field in schema
    ]
    return pa.schema(fields)


def _repetitive(schema: pa.Schema) -> list[str]:
    """Texts to read as dictionaries: of each distinct one the bytes come once."""
    # Event ids are all different, so a dictionary of them would save nothing.
    names = [name for name in TEXTS if name in schema.names and name != "event_id"]
    if "attributes" in schema.names and pa.types.is_struct(
        given := schema.field("attributes").type
    ):
        names += [f"attributes.{field.name}" for field in given]
    return names


def check_schema(path: Place, schema: pa.Schema) -> None:
    """Raises EventFileError where a column is missing, or has a type that can't be read."""
    names = schema.names
    for name, part in partition_columns(path, (*REQUIRED, *OPTIONAL)).items():
        if name not in names:
            raise EventFileError("events", path, lacks_partition_column(name, part))
    for name in REQUIRED:
        if name not in names:
            shown = ", ".join(names) or "none"
            raise EventFileError(
                "events", path, f"the file lacks the column {name}; its columns are {shown}"
            )
    for name in (*REQUIRED, *OPTIONAL):
        if names.count(name) > 1:
            remedy = f"has {names.count(name)} columns with the name {name}; write it once"
            raise EventFileError("events", path, remedy)
    problem = _problem(schema)
    if problem is not None:
        raise EventFileError("events", path, problem)


def _problem(schema: pa.Schema) -> str | None:
    """What is wrong with the type of a column; each column that is read stands in it once."""
    moment = moments_problem(schema.field("occurred_at").type)
    if moment is not None:
        return f"occurred_at {moment}"
    for name in TEXTS:
        if name in schema.names and not can_be_id(schema.field(name).type):
            return f"{name} is {schema.field(name).type}; {IDS_REMEDY}"
    if "value" in schema.names:
        number = schema.field("value").type
        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
        if not any(is_kind(number) for is_kind in kinds):
            return f"value is {number}; give numbers"
    if "attributes" in schema.names:
        return attributes_problem(schema.field("attributes").type)
    return None


def _within(
    table: pa.RecordBatch, file: str, first_position: int, limits: ReadLimits
) -> EventRows | None:
    """The rows; None where they are several and have too many bytes."""
    n = len(table)
    most_bytes = limits.max_block_bytes if n > 1 else None
    texts = {name: _texts(table, name) for name in TEXTS}
    moments = moments_of(table.column("occurred_at"))
    value, has_value = _values(table)
    attributes = table.column("attributes") if "attributes" in table.schema.names else pa.nulls(n)
    columns = {name: given.column for name, given in texts.items()}
    found = attribute_maps(attributes, limits.longest_text, most_bytes)
    if found is None:
        return None
    maps, valid_utf8, too_long = found
    if most_bytes is not None and text_bytes([*columns.values(), maps]) > most_bytes:
        return None
    events = EventBatch(
        **columns, value=value, has_value=has_value, occurred_at_ms=moments.ms, attributes=maps,
        partitions=[(file, 0)], partition_index=np.zeros(n, np.int32),
        offsets=np.arange(first_position, first_position + n), record_index=np.arange(n),
    )  # fmt: skip
    unreadable = {name: given.unreadable for name, given in texts.items()}
    unreadable["occurred_at"] = moments.unreadable
    unreadable["attributes"] = too_long
    missing = {name: texts[name].column.lengths == NULL for name in REQUIRED if name in texts}
    missing["occurred_at"] = ~moments.given
    unfit = _unfit(
        table, missing, {n: mask for n, mask in unreadable.items() if mask is not None}, limits
    )
    return EventRows(events, unfit, valid_utf8 and all(t.valid_utf8 for t in texts.values()))


def _unfit(
    table: pa.RecordBatch, missing: dict[str, Bool], unreadable: dict[str, Bool],
    limits: ReadLimits,
) -> dict[int, UnfitRow]:  # fmt: skip
    """The rows with a value that is missing or can't be read: what is wrong, and the row."""
    remedies = {name: _remedy(name, table.schema.field(name).type, limits) for name in unreadable}
    rows = np.flatnonzero(np.logical_or.reduce([*missing.values(), *unreadable.values()]))
    found = {}
    for row in rows.tolist():
        fields = {
            # Too long to be shown, and perhaps to be in memory.
            name: "..." if name == "attributes" and _holds(unreadable, name, row)
            else _shown(table.column(name), row)
            for name in table.schema.names
        }  # fmt: skip
        details = [
            f"{name}: {str(fields[name])!r}: {remedies[name]}"
            for name, mask in unreadable.items()
            if mask[row]
        ]
        # A value that can't be read is null to Arrow, too.
        names = [n for n, mask in missing.items() if mask[row] and not _holds(unreadable, n, row)]
        if names:
            details.append(f"null in {', '.join(names)}")
        found[row] = UnfitRow("; ".join(details), json.dumps(fields, default=str).encode())
    return found


def _remedy(name: str, kind: pa.DataType, limits: ReadLimits) -> str:
    if name == "attributes":
        most = limits.longest_text
        return f"more bytes than {limits.longest_text_setting}, {most}; shorten them, or raise that"
    if name == "occurred_at":
        return moments_remedy(kind)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _BYTES_REMEDY if is_bytes(kind) else IDS_REMEDY


def _holds(masks: dict[str, Bool], name: str, row: int) -> bool:
    return name in masks and bool(masks[name][row])


def _shown(array: pa.Array, row: int) -> object:
    """The value, as JSON can write it."""
    value = array[row]
    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    try:
        return value.as_py()
    except UnicodeDecodeError:
        is_flat = isinstance(value, pa.StringScalar | pa.BinaryScalar)
        return str(value.as_buffer().to_pybytes()) if is_flat else "(not UTF-8 text)"
    # Arrow's times reach beyond Python's, and those in nanoseconds need pandas.
    except (ValueError, OverflowError, ImportError):
        return str(value.value)


def _texts(table: pa.RecordBatch, name: str) -> Texts:
    given = name in table.schema.names
    return texts_of(table.column(name) if given else pa.nulls(len(table)), ids=True)


def _values(table: pa.RecordBatch) -> tuple[Float64, Bool]:
    """(values, where they are not null)."""
    n = len(table)
    if "value" not in table.schema.names:
        return np.zeros(n), np.zeros(n, np.bool_)
    array = table.column("value")
    if pa.types.is_decimal(array.type):
        # Arrow's own cast of decimals does not give the nearest double: of 3.3 it makes another
        # number than JSON and Avro do.
        array = pc.cast(array, pa.string())
    # Arrow's safe cast refuses a large integer that a double can't hold exactly. For a value the
    # nearest double is right.
    numbers = pc.fill_null(pc.cast(array, pa.float64(), safe=False), 0)
    # A copy: without nulls Arrow gives its own memory, read-only, for which kernels would be
    # compiled anew.
    values = np.array(numbers.to_numpy(zero_copy_only=False))
    return values, array.is_valid().to_numpy(zero_copy_only=False)
