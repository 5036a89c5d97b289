"""Writes a snapshot: shards as rows arrive, then the manifest, in a new directory that gets its
name when it is whole (atomic.py; resumable_snapshot.py for what is written in several runs). What
it looks like is in snapshots.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from stream_scorer import atomic
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import DailyCounts, TrendTable
from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.row_moments import RowMoments
from stream_scorer.io.files.snapshot_info import SnapshotInfo, manifest_of
from stream_scorer.io.files.snapshot_manifest import MANIFEST_FILE, manifest_content, read_manifest
from stream_scorer.io.files.snapshot_shards import ShardFile, unwritable
from stream_scorer.io.files.snapshot_trend import TREND_FILE, table_of_rows, trend_content
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.storage.places import Place

# Readers hold one shard in memory; smaller shards are more files.
ROWS_PER_SHARD = 65_536  # 65,536 rows of 500 entries: 260 MB in memory
MOST_MOMENTS = 1_000  # that a manifest lists


class SnapshotWriter:
    """Writes the new snapshot `path`. A context manager: leaving it by an error leaves nothing.

    Raises SnapshotError where `path` exists or can't be written.
    """

    def __init__(
        self, path: Place, info: SnapshotInfo, rows_per_shard: int = ROWS_PER_SHARD
    ) -> None:
        refuse_existing(path)
        self._path, self._info, self._rows_per_shard = path, info, rows_per_shard
        self._shard: ShardFile | None = None
        self._shards: list[dict[str, Any]] = []
        self._moments: set[int] = set()
        self._many_moments = False
        try:
            self._folder = atomic.NewFolder(path)
        except OSError as error:
            raise unwritable(path, error) from None

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shard is not None:
            self._shard.abandon()
        self._folder.discard()

    def write(self, rows: LabelledRows) -> None:
        """Add rows; whole row groups go to disk at once."""
        self._note_moments(rows)
        at = 0
        while at < len(rows):
            shard = self._open_shard()
            stop = min(len(rows), at + self._rows_per_shard - shard.rows)
            part = rows if stop - at == len(rows) else rows.take(np.arange(at, stop))
            try:
                shard.write(part)
                if shard.rows == self._rows_per_shard:
                    self._close_shard(shard)
            except OSError as error:
                raise unwritable(self._path, error) from None
            at = stop

    def finish(
        self, row_moments: RowMoments | None = None, counts: DailyCounts | None = None
    ) -> Snapshot:
        """Write what is left and the manifest, and give the snapshot its name.

        row_moments: what is known of the rows only now that all are written. counts: of all events
        of the log, from which the table of a declared trend is made for the days of the rows.
        Raises InputError where that table would be too large.
        """
        info = replace(self._info, row_moments=row_moments)
        try:
            # A snapshot without rows has one shard without rows: Spark, for one, can't infer the
            # columns of a directory that holds no Parquet file.
            if self._shard is not None or not self._shards:
                self._close_shard(self._open_shard())
            moments = sorted(self._moments)
            if self._many_moments:
                moments = [moments[0], moments[-1]]
            work = self._folder.work
            trend = write_trend(work, info, moments, counts)
            manifest = manifest_of(info, moments, self._shards, trend)
            (work / MANIFEST_FILE).write_bytes(manifest_content(manifest))
            self._folder.publish()
        except OSError as error:
            raise unwritable(self._path, error) from None
        return Snapshot(self._path, *read_manifest(self._path))

    def _open_shard(self) -> ShardFile:
        if self._shard is None:
            self._shard = ShardFile(self._folder.work / shard_name(len(self._shards)))
        return self._shard

    def _close_shard(self, shard: ShardFile) -> None:
        self._shards.append(shard.finish())
        self._folder.settle(shard.file)
        self._shard = None

    def _note_moments(self, rows: LabelledRows) -> None:
        self._moments.update(np.unique(rows.as_of_ms).tolist())
        if len(self._moments) > MOST_MOMENTS:
            self._moments = {min(self._moments), max(self._moments)}
            self._many_moments = True


def shard_name(number: int) -> str:
    """The file name of shard `number`."""
    return f"part-{number:05d}.parquet"


def write_trend(
    work: Path, info: SnapshotInfo, moments: Sequence[int], counts: DailyCounts | None
) -> dict[str, Any] | None:
    """Write the table for rows at `moments` (ascending) into the folder `work`.

    Returns what the manifest says of it, None where no trend is declared. Raises OSError, and what
    `table_of_rows` raises.
    """
    span = (moments[0], moments[-1]) if moments else None
    return write_table(work, table_of_rows(info.space, counts, span))


def write_table(work: Path, table: TrendTable | None) -> dict[str, Any] | None:
    """Write a table into the folder `work`; what the manifest says of it, None for no table."""
    if table is None:
        return None
    content, entry = trend_content(table)
    file = work / TREND_FILE
    file.write_bytes(content)
    atomic.flush(file)
    return entry


def refuse_existing(path: Place) -> None:
    """Raises SnapshotError where `path` is there already."""
    if path.exists():
        remedy = "already exists; choose another path or delete it"
        raise SnapshotError("snapshot", path, remedy)
