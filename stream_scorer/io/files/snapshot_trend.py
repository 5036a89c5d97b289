"""The shop's trend in a snapshot: one Parquet file beside the shards, for the days of its rows.

day int32, ascending without a gap; contrasts fixed_size_list<float32>, G * V long: contrast by
contrast, within it the label field's vocabulary in its order. Its name begins with "_", which
readers of a directory skip, as they do the manifest. The manifest has its days, bytes and SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_scorer.core.features.space import DAY_MS, FeatureSpace
from stream_scorer.core.trend import DailyCounts, TrendTable, contrast_count, day_of
from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.snapshot_shards import UNREADABLE, WRITE_AGAIN, check_shard
from stream_scorer.storage.places import Place

TREND_FILE = "_trend.parquet"
ENTRY_FIELDS = {"name": str, "first_day": int, "days": int, "bytes": int, "sha256": str}


def table_of_rows(
    space: FeatureSpace, counts: DailyCounts | None, as_of_ms: tuple[int, int] | None
) -> TrendTable | None:
    """The table for rows between two moments, both included; None where no trend is declared.

    as_of_ms: None where there are no rows. Raises InputError where it would be too large, and
    ValueError where a trend is declared and there are no counts.
    """
    if not contrast_count(space):
        return None
    if counts is None:
        raise ValueError("a snapshot of a declaration with a trend needs daily counts")
    first, last = (0, -1) if as_of_ms is None else (day_of(as_of_ms[0]), day_of(as_of_ms[1]))
    return TrendTable.of(space, counts, first, last)


def trend_content(table: TrendTable) -> tuple[bytes, dict[str, Any]]:
    """The file's bytes, and what the manifest says of it."""
    days, contrasts, words = table.contrasts.shape
    flat = pa.array(table.contrasts.reshape(-1))
    columns = {
        "day": pa.array(np.arange(table.first_day, table.first_day + days, dtype=np.int32)),
        "contrasts": pa.FixedSizeListArray.from_arrays(flat, contrasts * words),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    return content, {
        "name": TREND_FILE,
        "first_day": table.first_day,
        "days": days,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def is_entry(entry: object) -> bool:
    """Whether this is what `trend_content` returned; a name becomes a path, so it must be ours."""
    return (
        isinstance(entry, dict)
        and all(type(entry.get(name)) is kind for name, kind in ENTRY_FIELDS.items())
        and entry["name"] == TREND_FILE
        and entry["days"] >= 0
    )


def check_days(entry: Mapping[str, Any], as_of_ms: list[int], where: object) -> None:
    """Raises SnapshotError where a row's moment lies outside the days of the table."""
    first, days = entry["first_day"], entry["days"]
    if any(not first <= moment // DAY_MS < first + days for moment in as_of_ms):
        remedy = f"its trend is of other days than its rows; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", where, remedy)


def check_trend(folder: Place, entry: Mapping[str, Any]) -> None:
    """Raises SnapshotError where the file is not what the manifest has recorded of it."""
    check_shard(folder / TREND_FILE, entry)


def read_trend(folder: Place, entry: Mapping[str, Any], space: FeatureSpace) -> TrendTable:
    """The table in a snapshot's folder. Raises SnapshotError."""
    file = folder / TREND_FILE
    try:
        return parse_trend(file.read_bytes(), entry, space)
    except OSError as error:
        remedy = f"can't be read: {error.strerror or error}; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", file, remedy) from None
    except ValueError as error:
        raise SnapshotError("snapshot", file, f"{error}; {WRITE_AGAIN}") from None


def parse_trend(content: bytes, entry: Mapping[str, Any], space: FeatureSpace) -> TrendTable:
    """The table in the file's bytes. Raises ValueError where it is not that of the entry."""
    trend = next(feature for feature in space.features if feature.kind == "trend")
    shape = entry["days"], contrast_count(space), len(space.vocabularies[trend.by[0]])
    try:
        table = pq.read_table(pa.BufferReader(content), columns=["day", "contrasts"])
        days = table.column("day").combine_chunks().to_numpy(zero_copy_only=False)
        lists = table.column("contrasts").combine_chunks()
        values = lists.flatten().to_numpy(zero_copy_only=False)
    except (pa.ArrowException, AttributeError, KeyError):
        raise ValueError(UNREADABLE) from None
    if (
        values.dtype != np.float32 or values.size != shape[0] * shape[1] * shape[2]
        or not np.array_equal(days, np.arange(entry["first_day"], entry["first_day"] + shape[0]))
        or not np.isfinite(values).all()
    ):  # fmt: skip
        raise ValueError("has not the days and contrasts of this snapshot")
    return TrendTable(entry["first_day"], values.reshape(shape))
