"""The columns of a feature declaration as a Parquet file, which can be joined with snapshots.

column int64; name string, feature string, kind string; by list<struct<field, value: string>>;
half_life string ("inf": for ever; of a trend all, as "2d/14d"); half_life_ms int64, null for "inf"
and for a trend; transform string;
scale double; bucket int64, null where the keys are not hashed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stream_scorer.atomic import new_file
from stream_scorer.errors import InputError, cannot_write
from stream_scorer.result import Result

SCHEMA = pa.schema(
    [
        ("column", pa.int64()),
        ("name", pa.string()),
        ("feature", pa.string()),
        ("kind", pa.string()),
        ("by", pa.list_(pa.struct([("field", pa.string()), ("value", pa.string())]))),
        ("half_life", pa.string()),
        ("half_life_ms", pa.int64()),
        ("transform", pa.string()),
        ("scale", pa.float64()),
        ("bucket", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Column(Result):
    """One column. by: each field with its value, empty where keys are hashed into `bucket`."""

    column: int
    name: str
    feature: str
    kind: str
    by: tuple[tuple[str, str], ...]
    half_life: str
    half_life_ms: int | None
    transform: str
    scale: float
    bucket: int | None

    def as_json(self) -> dict[str, Any]:
        """`by` as a list of {"field", "value"}."""
        return {**super().as_json(), "by": [{"field": f, "value": v} for f, v in self.by]}


def write_columns(out: Path, columns: Sequence[Column]) -> None:
    """Write the new file `out`. Raises InputError where it exists or can't be written."""
    if out.exists():
        raise InputError("--out", out, "already exists; choose another path or delete it")
    table = pa.Table.from_pylist([column.as_json() for column in columns], SCHEMA)
    try:
        with new_file(out) as work:
            pq.write_table(table, work, compression="zstd")
    except OSError as error:
        remedy = cannot_write(error)
        raise InputError("--out", out, remedy) from None
