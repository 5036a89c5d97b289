"""Propensities as files: a new directory with one Parquet file and a manifest.

propensities.parquet: customer_id string; as_of timestamp[ms, UTC]; source_topic string,
source_partition int32, source_offset int64 (-1: none), the newest event behind the row; then
propensities list<struct<category_id: string, class: int32, probability: float>>, best first, or,
where every one is published, probabilities fixed_size_list<float> in the manifest's order.
_manifest.json holds what the job reports of them, and `rows`; programs that read a directory of
Parquet files skip its name. The directory is written whole or not at all (atomic.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stream_scorer.atomic import NewFolder
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.features.state import CustomerStates, Float32, source_positions
from stream_scorer.core.propensities import Entries
from stream_scorer.errors import InputError, cannot_write
from stream_scorer.storage.places import Place

FILE, MANIFEST = "propensities.parquet", "_manifest.json"
_ENTRY = pa.struct(
    [("category_id", pa.string()), ("class", pa.int32()), ("probability", pa.float32())]
)


class PropensityWriter:
    """Writes the new directory `path`; a context manager that leaves nothing after an error.

    width: probabilities of a row where all are written, None where chosen entries are.
    """

    def __init__(self, path: Place, categories: Sequence[str], width: int | None) -> None:
        if path.exists():
            raise InputError("--out", path, "already exists; choose another path or delete it")
        self._path, self._names = path, pa.array(list(categories), pa.string())
        last = (
            pa.field("propensities", pa.list_(_ENTRY))
            if width is None
            else pa.field("probabilities", pa.list_(pa.float32(), width))
        )
        self._schema = pa.schema(
            [
                pa.field("customer_id", pa.string()),
                pa.field("as_of", pa.timestamp("ms", tz="UTC")),
                pa.field("source_topic", pa.string()),
                pa.field("source_partition", pa.int32()),
                pa.field("source_offset", pa.int64()),
                last,
            ]
        )
        try:
            self._folder = NewFolder(path)
        except OSError as error:
            raise self._unwritable(error) from None
        self._file = pq.ParquetWriter(self._folder.work / FILE, self._schema, compression="zstd")
        self.rows = 0

    def write(
        self,
        states: CustomerStates,
        partitions: list[TopicPartition],
        chosen: Entries | Float32,
    ) -> None:
        """Rows of B customers, as of their newest events. chosen: entries, or (B, width)."""
        index, offsets = source_positions(states, partitions)
        # Index -1, of a customer without a source, takes the last entry.
        topics = [*(topic for topic, _ in partitions), ""]
        numbers = [*(number for _, number in partitions), -1]
        self._file.write_table(
            pa.Table.from_arrays(
                [
                    pa.array(states.customer_ids, pa.string()),
                    pa.array(states.arrays.newest_ms).cast(self._schema.field("as_of").type),
                    pa.array([topics[i] for i in index.tolist()], pa.string()),
                    pa.array([numbers[i] for i in index.tolist()], pa.int32()),
                    pa.array(offsets, pa.int64()),
                    self._last(chosen),
                ],
                schema=self._schema,
            )
        )
        self.rows += len(states)

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Close the file, write the manifest and give the directory its name."""
        text = json.dumps({**manifest, "rows": self.rows}, indent=1, sort_keys=True)
        try:
            self._file.close()
            (self._folder.work / MANIFEST).write_text(text + "\n", encoding="utf-8")
            self._folder.publish()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> InputError:
        return InputError("--out", self._path, cannot_write(error))

    def _last(self, chosen: Entries | Float32) -> pa.Array:
        if not isinstance(chosen, Entries):
            return pa.FixedSizeListArray.from_arrays(pa.array(chosen.reshape(-1)), chosen.shape[1])
        entries = pa.StructArray.from_arrays(
            [
                self._names.take(pa.array(chosen.category)),
                pa.array(chosen.class_index),
                pa.array(chosen.probability),
            ],
            fields=list(_ENTRY),
        )
        # Arrow's lists have 32-bit offsets.
        return pa.ListArray.from_arrays(pa.array(chosen.indptr.astype("int32")), entries)

    def __enter__(self) -> PropensityWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError:
            if kind is None:  # else the error that is already on its way says more
                raise
        finally:
            self._folder.discard()
