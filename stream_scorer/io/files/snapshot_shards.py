"""One shard of a snapshot on disk.

Rows are held until they fill a row group, which is then written. So memory is one row group,
however many rows a shard has, and the file's bytes do not depend on how the rows arrived. Its
columns are those of snapshot_tables.py.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from stream_scorer.atomic import flush
from stream_scorer.core.labels.labels import LabelledRows, concatenate_rows
from stream_scorer.errors import SnapshotError, cannot_read, cannot_write
from stream_scorer.io.files.snapshot_tables import SCHEMA, to_table
from stream_scorer.storage.places import Place

# Rows that a writer holds at a time. More need more memory; fewer make more groups, each with
# metadata and dictionaries of its own.
ROWS_PER_GROUP = 8_192
HASH_BLOCK_BYTES = 1 << 20
WRITE_AGAIN = "copy or write the snapshot again"
UNREADABLE = "is not readable as Parquet"


class ShardFile:
    """A new shard; `write` rows, then `finish`. Raises OSError where the disk refuses."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._writer = pq.ParquetWriter(file, SCHEMA, compression="zstd")
        self._waiting: list[LabelledRows] = []
        self.rows = 0

    def write(self, rows: LabelledRows) -> None:
        """Add rows; whole row groups go to disk at once."""
        self.rows += len(rows)
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) < ROWS_PER_GROUP:
            return
        held = concatenate_rows(self._waiting)
        whole = len(held) - len(held) % ROWS_PER_GROUP
        for start in range(0, whole, ROWS_PER_GROUP):
            self._write_group(held.take(np.arange(start, start + ROWS_PER_GROUP)))
        self._waiting = [held.take(np.arange(whole, len(held)))] if whole < len(held) else []

    def finish(self) -> dict[str, Any]:
        """Have it on disk; what the manifest says of it: name, rows, bytes, sha256."""
        if self._waiting:
            self._write_group(concatenate_rows(self._waiting))
        self._waiting = []
        self._writer.close()
        # Otherwise what names this shard could reach the disk before the shard does.
        flush(self.file)
        return {
            "name": self.file.name,
            "rows": self.rows,
            "bytes": self.file.stat().st_size,
            "sha256": sha256(self.file),
        }

    def abandon(self) -> None:
        """Close it without its last rows."""
        try:
            self._writer.close()
        except OSError:
            return  # its disk refuses, which is why it is abandoned

    def _write_group(self, rows: LabelledRows) -> None:
        self._writer.write_table(to_table(rows), row_group_size=ROWS_PER_GROUP)


def check_shard(file: Place, recorded: Mapping[str, Any]) -> None:
    """Raises SnapshotError where the shard is not what the manifest has recorded of it."""
    try:
        found = file.stat()
        # A pipe or a device of that name would be read for ever.
        if not stat.S_ISREG(found.st_mode):
            raise SnapshotError("snapshot", file, f"is not a file; {WRITE_AGAIN}")
        size = found.st_size
        right = size == recorded["bytes"] and sha256(file) == recorded["sha256"]
    except FileNotFoundError:
        raise SnapshotError("snapshot", file, f"is missing; {WRITE_AGAIN}") from None
    except OSError as error:
        raise SnapshotError("snapshot", file, cannot_read(error)) from None
    if not right:
        remedy = f"its SHA-256 is not the manifest's; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", file, remedy)


def sha256(file: Place) -> str:
    """Of a file's bytes, a block at a time."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def unwritable(path: Place, error: OSError) -> SnapshotError:
    """What to raise where `path` can't be written."""
    return SnapshotError("snapshot", path, cannot_write(error))
