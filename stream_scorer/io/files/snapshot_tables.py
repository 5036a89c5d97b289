"""Rows of a snapshot as an Arrow table, and back.

A shard's columns, which others may read: customer_id string; as_of timestamp[ms, UTC]; columns
list<uint32>, ascending; values list<float32>, as many; labels list<struct<category: uint32, class:
uint8>>, only those whose class is not 0, where category is an index into the manifest's categories.
Nothing is ever null.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy import sparse

from stream_scorer.core.labels.labels import LabelledRows

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of", pa.timestamp("ms", tz="UTC")),
        ("columns", pa.list_(pa.uint32())),
        ("values", pa.list_(pa.float32())),
        ("labels", pa.list_(pa.struct([("category", pa.uint32()), ("class", pa.uint8())]))),
    ]
)

# Spark knows no unsigned integers; what it stores is the same.
SPARK_SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of", pa.timestamp("us", tz="UTC")),  # Spark's only unit
        ("columns", pa.list_(pa.int32())),
        ("values", pa.list_(pa.float32())),
        ("labels", pa.list_(pa.struct([("category", pa.int32()), ("class", pa.int16())]))),
    ]
)
SPARK_ROWS = 4_096  # of one batch


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
        ],
        schema=SCHEMA,
    )


def from_table(table: pa.Table, width: int, categories: int) -> LabelledRows:
    """The rows of a table of `SCHEMA`; ValueError where it is not what the format promises.

    width: F; categories: entries of the label field's vocabulary. Integers may have another type:
    Spark writes signed ones.
    """
    if table.schema.names != SCHEMA.names:
        raise ValueError(f"its columns are {', '.join(map(str, table.schema))}")
    if not table.schema.equals(SCHEMA):
        table = _cast(table)
    if any(column.null_count for column in table.columns):
        raise ValueError("has nulls")
    (whole,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], SCHEMA)]
    labels = whole.column("labels")
    label_indptr = labels.offsets.to_numpy().astype(np.int64)
    label_category = labels.flatten().field("category").to_numpy()
    if label_category.max(initial=0) >= categories:
        raise ValueError(f"label of category {label_category.max()} of {categories}")
    return LabelledRows(
        whole.column("customer_id").to_pylist(),
        whole.column("as_of").cast(pa.int64()).to_numpy(),
        vectors(whole, width),
        # Arrow's offsets begin where the batch lies in a longer array.
        label_indptr - label_indptr[0],
        label_category,
        labels.flatten().field("class").to_numpy(),
    )


def vectors(batch: pa.RecordBatch, width: int) -> sparse.csr_matrix:
    """(R, F) float32 CSR of its `columns`, of any integer type, and `values`; ValueError as above.

    width: F.
    """
    columns, values = batch.column("columns"), batch.column("values")
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
        odd_column = indices.min() if indices.min() < 0 else indices.max()
        raise ValueError(f"column {odd_column} of {width}")
    indices = indices.astype(np.int32)
    within = np.ones(len(indices), np.bool_)
    within[indptr[:-1][np.diff(indptr) > 0]] = False  # a row's first column follows nothing
    if (np.diff(indices, prepend=-1) <= 0)[within].any():
        raise ValueError("columns do not ascend")
    numbers = data.to_numpy()
    if not np.isfinite(numbers).all():
        odd = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"column {indices[odd]} has the value {numbers[odd]}")
    matrix = sparse.csr_matrix((numbers, indices, indptr), shape=(len(batch), width), copy=False)
    # Known from the check above; scipy would otherwise look at every row again.
    matrix.has_sorted_indices = True
    return matrix


def _cast(table: pa.Table) -> pa.Table:
    try:
        return table.cast(SCHEMA)
    except (pa.ArrowException, KeyError) as error:
        columns = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        reason = str(error).partition("\n")[0]
        raise ValueError(f"its columns are {columns} ({reason})") from None
