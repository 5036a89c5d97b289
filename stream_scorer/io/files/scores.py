"""Scores as a Parquet file.

This is the file that `evaluate --scores` and `score` write, and its rows as Spark takes them. It is
written whole or not at all (atomic.py).

Columns, which others may read: customer_id string; as_of timestamp[ms, UTC]; probabilities
fixed_size_list<float32>: of class 1 for each of the N categories where there are two classes, else
N * C, category by category. The schema's metadata has `categories` (a JSON list), `classes` and
`model_version`. Parquet itself knows no fixed size, so Spark writes and reads `probabilities` as a
list, and has this metadata on that column.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_scorer.atomic import new_file
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.errors import InputError, cannot_write
from stream_scorer.storage.places import Place

ROWS_PER_GROUP = 8_192
REPEATING = ["customer_id", "as_of"]  # hardly two probabilities are equal


def described(categories: Sequence[str], classes: int, model_version: str) -> dict[str, str]:
    """The metadata of scores, from which a reader learns what the numbers are."""
    return {
        "categories": json.dumps(list(categories)),
        "classes": str(classes),
        "model_version": model_version,
    }


def scored(rows: pa.RecordBatch, scores: Float32) -> pa.RecordBatch:
    """customer_id and as_of of R `rows` as they are, and their scores (R, N, C) as plain lists."""
    flat = _kept(scores)
    width = len(flat) // max(len(rows), 1)
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * width
    lists = pa.ListArray.from_arrays(pa.array(offsets), flat)
    names = ["customer_id", "as_of", "probabilities"]
    return pa.RecordBatch.from_arrays([rows.column(n) for n in names[:2]] + [lists], names)


class ScoreWriter:
    """Writes the new file `path`. A context manager: leaving it by an error leaves nothing.

    Raises InputError where `path` exists or can't be written.
    """

    def __init__(
        self, path: Place, categories: Sequence[str], classes: int, model_version: str
    ) -> None:
        if path.exists():
            raise InputError("scores", path, "already exists; choose another path or delete it")
        self._path, self._closing = path, ExitStack()
        self._width = len(categories) * (1 if classes == 2 else classes)
        self._schema = pa.schema(
            [
                ("customer_id", pa.string()),
                ("as_of", pa.timestamp("ms", tz="UTC")),
                ("probabilities", pa.list_(pa.float32(), self._width)),
            ],
            metadata=described(categories, classes, model_version),
        )

    def __enter__(self) -> ScoreWriter:
        try:
            work = self._closing.enter_context(new_file(self._path))
            self._file = self._closing.enter_context(
                pq.ParquetWriter(work, self._schema, compression="zstd", use_dictionary=REPEATING)
            )
        except OSError as error:
            # Leaving with the error keeps `new_file` from publishing half a file.
            self._closing.__exit__(type(error), error, error.__traceback__)
            raise self._unwritable(error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._closing.__exit__(kind, error, trace)
        except OSError as unwritten:
            raise self._unwritable(unwritten) from None

    def write(self, customer_ids: list[str], as_of_ms: Int64, scores: Float32) -> None:
        """Add R rows; scores (R, N, C)."""
        columns = [
            pa.array(customer_ids, pa.string()),
            pa.array(as_of_ms).cast(self._schema.field("as_of").type),
            pa.FixedSizeListArray.from_arrays(_kept(scores), self._width),
        ]
        try:
            self._file.write_table(
                pa.Table.from_arrays(columns, schema=self._schema), row_group_size=ROWS_PER_GROUP
            )
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> InputError:
        return InputError("scores", self._path, cannot_write(error))


def _kept(scores: Float32) -> pa.Array:
    """(R, N, C) as one array, row by row: class 1 alone where there are two."""
    kept = scores[:, :, 1] if scores.shape[2] == 2 else scores
    return pa.array(np.ascontiguousarray(kept, np.float32).reshape(-1))
