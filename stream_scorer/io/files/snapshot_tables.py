"""Rows of a snapshot as an Arrow table, and back.

A shard's columns, which others may read: customer_id string; as_of timestamp[ms, UTC]; columns
list<uint32>, ascending; values list<float32>, as many; labels list<struct<category: uint32, class:
uint8>>, only those whose class is not 0, where category is an index into the manifest's categories;
weight float32, how many rows a row stands for, which older shards do not have: theirs is 1. Nothing
is ever null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, concatenate_rows

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of", pa.timestamp("ms", tz="UTC")),
        ("columns", pa.list_(pa.uint32())),
        ("values", pa.list_(pa.float32())),
        ("labels", pa.list_(pa.struct([("category", pa.uint32()), ("class", pa.uint8())]))),
        ("weight", pa.float32()),
    ]
)

SCORED = ("customer_id", "as_of", "columns", "values")  # what scoring reads

# Spark knows no unsigned integers; what it stores is the same.
SPARK_SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of", pa.timestamp("us", tz="UTC")),  # Spark's only unit
        ("columns", pa.list_(pa.int32())),
        ("values", pa.list_(pa.float32())),
        ("labels", pa.list_(pa.struct([("category", pa.int32()), ("class", pa.int16())]))),
        ("weight", pa.float32()),
    ]
)
OPTIONAL = ("labels", "weight")  # columns that a shard may lack
SPARK_ROWS = 4_096  # of one batch
ROWS_TOGETHER = 8_192  # that are read from a file


def spark_batches(rows: LabelledRows) -> list[pa.RecordBatch]:
    """The R rows as Spark takes them, in batches."""
    batches: list[pa.RecordBatch] = to_table(rows).cast(SPARK_SCHEMA).to_batches(SPARK_ROWS)
    return batches


def to_table(rows: LabelledRows) -> pa.Table:
    """The R rows as a table of `SCHEMA`."""
    matrix = rows.matrix
    labels = pa.StructArray.from_arrays(
        [pa.array(rows.label_category, pa.uint32()), pa.array(rows.label_class, pa.uint8())],
        fields=list(SCHEMA.field("labels").type.value_type),
    )
    offsets = pa.array(matrix.indptr.astype(np.int32))
    columns = pa.array(matrix.indices.astype(np.uint32))
    values = pa.array(matrix.data.astype(np.float32, copy=False))
    return pa.Table.from_arrays(
        [
            pa.array(rows.customer_ids, pa.string()),
            pa.array(rows.as_of_ms).cast(SCHEMA.field("as_of").type),
            pa.ListArray.from_arrays(offsets, columns),
            pa.ListArray.from_arrays(offsets, values),
            pa.ListArray.from_arrays(pa.array(rows.label_indptr.astype(np.int32)), labels),
            pa.array(rows.weight.astype(np.float32, copy=False)),
        ],
        schema=SCHEMA,
    )


def read_shard(
    file: Path | pa.Buffer,
    names: Sequence[str] | None,
    width: int,
    categories: int,
    classes: int | None,
) -> LabelledRows:
    """The rows of a file of `SCHEMA`, or of such a file's bytes, of these columns, None for all.

    Otherwise as `from_table`. Raises OSError and pyarrow's ArrowException where it can't be read.
    """
    # Its schema first: of two columns of one name pyarrow reads neither.
    check_schema(pq.read_schema(_source(file)))
    # Read at once, a shard took 6.5 to 7.7 times the memory of its entries; a part at a time it
    # takes 4.1 times (tests/io/files/test_snapshots.py).
    with pq.ParquetFile(_source(file)) as shard:
        parts = [
            from_table(pa.Table.from_batches([batch]), width, categories, classes)
            for batch in shard.iter_batches(ROWS_TOGETHER, columns=names)
        ]
        if not parts:
            parts.append(from_table(shard.read(names), width, categories, classes))
    return concatenate_rows(parts)


def _source(file: Path | pa.Buffer) -> Path | pa.BufferReader:
    return file if isinstance(file, Path) else pa.BufferReader(file)


def from_table(
    table: pa.Table, width: int, categories: int, classes: int | None = None
) -> LabelledRows:
    """The rows of a table of `SCHEMA`; ValueError where it is not what the format promises.

    width: F; categories: entries of the label field's vocabulary; classes: C, where it is known.
    Whole numbers may have another type: Spark writes signed ones. Without the column `labels`,
    which scoring does not read, no row has one, and without `weight` every row's is 1.
    """
    check_schema(table.schema)
    (whole,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], SCHEMA)]
    customer_ids, as_of_ms = customers(whole)
    matrix = vectors(whole, width)
    nothing = np.zeros(0, np.uint32)
    label_indptr, label_category, label_class = np.zeros(len(whole) + 1, np.int64), nothing, nothing
    if "labels" in whole.schema.names:
        label_indptr, label_category, label_class = _labels(whole.column("labels"))
        if label_category.max(initial=0) >= categories or label_category.min(initial=0) < 0:
            raise ValueError(f"label of category {label_category.max()} of {categories}")
        most = (classes or 256) - 1
        if label_class.max(initial=0) > most or label_class.min(initial=1) < 1:
            raise ValueError(f"label of class {label_class.max()}, only 1 to {most} are there")
    return LabelledRows(
        customer_ids, as_of_ms, matrix, label_indptr, label_category.astype(np.uint32),
        label_class.astype(np.uint8), _weights(whole),
    )  # fmt: skip


def check_schema(schema: pa.Schema) -> None:
    """Raises ValueError where a column is missing or of another type.

    The same types are taken by the JVM's readers (SnapshotReader.java, SparkScore.java).
    """
    for name, (fits, _) in _KINDS.items():
        if name in OPTIONAL and name not in schema.names:
            continue
        if schema.names.count(name) != 1:
            raise ValueError(no_column(name))
        if not fits(schema.field(name).type):
            raise ValueError(wrong_kind(name))


def problems(batch: pa.RecordBatch, width: int) -> pa.RecordBatch:
    """A batch `problem` of what is wrong with the rows: one, or none where nothing is."""
    found = []
    try:
        customers(batch)
        vectors(batch, width)
    except ValueError as error:
        found.append(str(error))
    return pa.RecordBatch.from_arrays([pa.array(found, pa.string())], ["problem"])


def no_column(name: str) -> str:
    """The problem of a shard that does not have one column of this name."""
    return f"has no column {name}, or two"


def wrong_kind(name: str) -> str:
    """The problem of a shard whose column of this name has another type."""
    return f"its column {name} is not {_KINDS[name][1]}"


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_moment(kind: pa.DataType) -> bool:
    is_one = pa.types.is_timestamp(kind) and kind.unit in ("ms", "us")
    return bool(is_one and kind.tz is not None)


def _is_index(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) and kind != pa.uint64())


def _is_list(kind: pa.DataType, fits: Callable[[pa.DataType], bool]) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_one(kind) for is_one in lists) and fits(kind.value_type)


def _is_label(kind: pa.DataType) -> bool:
    return (
        pa.types.is_struct(kind)
        and [field.name for field in kind] == ["category", "class"]
        and all(_is_index(field.type) for field in kind)
    )


_KINDS: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "customer_id": (_is_text, "text"),
    "as_of": (_is_moment, "a timestamp with a time zone, in milliseconds or microseconds"),
    "columns": (lambda k: _is_list(k, _is_index), "lists of whole numbers of at most 64 bits"),
    "values": (lambda k: _is_list(k, pa.types.is_float32), "lists of numbers of 32 bits"),
    "labels": (lambda k: _is_list(k, _is_label), "lists of a category and a class"),
    "weight": (pa.types.is_float32, "numbers of 32 bits"),
}


def customers(batch: pa.RecordBatch) -> tuple[list[str], Int64]:
    """Ids and moments (R,) in milliseconds of the rows; ValueError as above."""
    ids, moments = batch.column("customer_id"), batch.column("as_of")
    if any(batch.column(name).null_count for name in ("customer_id", "as_of", "columns", "values")):
        raise ValueError("has nulls")
    try:
        customer_ids = ids.to_pylist()
    except UnicodeDecodeError:
        raise ValueError("a customer_id is not UTF-8") from None
    if "" in customer_ids:
        raise ValueError("a customer_id is empty")
    as_of = moments.cast(pa.int64()).to_numpy()
    if moments.type.unit == "us":
        if (as_of % 1000).any():
            raise ValueError("as_of is not in whole milliseconds")
        as_of = as_of // 1000
    return customer_ids, as_of


def _labels(labels: pa.Array) -> tuple[Int64, npt.NDArray[Any], npt.NDArray[Any]]:
    if not pa.types.is_list(labels.type):
        labels = labels.cast(pa.list_(labels.type.value_type))
    flat = labels.flatten()
    category, label_class = flat.field("category"), flat.field("class")
    if labels.null_count + flat.null_count + category.null_count + label_class.null_count:
        raise ValueError("has nulls")
    indptr = labels.offsets.to_numpy().astype(np.int64)
    # Arrow's offsets begin where the batch lies in a longer array.
    return indptr - indptr[0], category.to_numpy(), label_class.to_numpy()


def _weights(batch: pa.RecordBatch) -> Float32:
    if "weight" not in batch.schema.names:
        return np.ones(len(batch), np.float32)
    weights = batch.column("weight")
    if weights.null_count:
        raise ValueError("has nulls")
    found: Float32 = weights.to_numpy()
    if not (np.isfinite(found) & (found > 0)).all():
        raise ValueError("a weight is not a finite number above 0")
    return found


def vectors(batch: pa.RecordBatch, width: int) -> sparse.csr_matrix:
    """(R, F) float32 CSR of its `columns`, of any integer type, and `values`; ValueError as above.

    width: F.
    """
    columns, values = (_plain_list(batch.column(name)) for name in ("columns", "values"))
    indptr = columns.offsets.to_numpy()
    indptr = indptr - indptr[0]
    if not np.array_equal(indptr, values.offsets.to_numpy() - values.offsets[0].as_py()):
        raise ValueError("columns and values differ in length")
    indices, data = columns.flatten(), values.flatten()
    if columns.null_count + values.null_count + indices.null_count + data.null_count:
        raise ValueError("has nulls")
    # Columns that Spark wrote are signed, so a negative one is possible.
    indices = indices.to_numpy()
    if indices.max(initial=0) >= width or indices.min(initial=0) < 0:
        odd = int(np.flatnonzero((indices < 0) | (indices >= width))[0])
        raise ValueError(f"column {indices[odd]}, there are only the columns 0 to {width - 1}")
    indices = indices.astype(np.int32)
    within = np.ones(len(indices), np.bool_)
    within[indptr[:-1][np.diff(indptr) > 0]] = False  # a row's first column follows nothing
    if (np.diff(indices, prepend=-1) <= 0)[within].any():
        raise ValueError("columns do not ascend")
    numbers = data.to_numpy()
    if not np.isfinite(numbers).all():
        odd = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"a value of column {indices[odd]} is not a finite number")
    matrix = sparse.csr_matrix((numbers, indices, indptr), shape=(len(batch), width), copy=False)
    # Known from the check above; scipy would otherwise look at every row again.
    matrix.has_sorted_indices = True
    return matrix


def _plain_list(lists: pa.Array) -> pa.ListArray:
    return lists if pa.types.is_list(lists.type) else lists.cast(pa.list_(lists.type.value_type))
