"""Snapshots: customers' vectors at a moment, with labels, as a directory of Parquet shards.

The directory (others may read it):
    part-00000.parquet ...  rows, as snapshot_tables.py says
    _trend.parquet          where a trend is declared: snapshot_trend.py
    _manifest.json          format, fingerprint, features (the declaration), categories, labels (the
                            rule, null where no labels are known yet), as_of_ms (the rows' moments;
                            of more than 1,000 the first and the last), row_moments (`RowMoments`,
                            null where nothing is known of them), trend (of the file below: name,
                            first_day, days, bytes, sha256; null where none is declared),
                            source_offsets and
                            source_offsets_end (see `SnapshotInfo`), left_out (`LeftOut`),
                            event_types (events by type, null where that is not known),
                            sample_customers ("1/64": of a sample of customers, see
                            core/customer_sample.py; null where the rows are everybody's), rows,
                            shards (name, rows, bytes, sha256), checksum of all that

Programs that read a directory of Parquet files skip names that begin with "_", so they read a
snapshot as it is. Older snapshots have `manifest.json` instead, and are opened too.

snapshot_info.py says what a manifest means, snapshot_writer.py writes. Opening a snapshot checks
every byte against the manifest, a block at a time. Readers hold one shard in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from stream_scorer.core.features.space import DAY_MS
from stream_scorer.core.features.state import NEVER
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import TrendTable, joined_tables
from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.snapshot_info import check_fingerprint, info_of, trend_entry
from stream_scorer.io.files.snapshot_manifest import read_manifest
from stream_scorer.io.files.snapshot_shards import UNREADABLE, WRITE_AGAIN, check_shard
from stream_scorer.io.files.snapshot_tables import SCORED, read_shard
from stream_scorer.io.files.snapshot_trend import check_trend, read_trend
from stream_scorer.storage.places import Place


class Snapshot:
    """A snapshot on disk. `open` one; `shards` reads it."""

    def __init__(self, path: Place, manifest: dict[str, Any], manifest_file: Place) -> None:
        self.path, self.manifest = path, manifest
        self.info = info_of(manifest, manifest_file)
        self._erased: Mapping[str, int] = {}
        self._erased_rows: dict[str, int] = {}  # by shard
        self._weight_factor = 1.0

    @classmethod
    def open(cls, path: Place, expected_fingerprint: int | None = None) -> Snapshot:
        """The snapshot in `path`, checked byte by byte.

        Raises SnapshotError where something is missing, altered or from the future, and
        FingerprintMismatch where it has other features than `expected_fingerprint`.
        """
        snapshot = cls(path, *read_manifest(path))
        if expected_fingerprint is not None:
            check_fingerprint(snapshot.manifest, path, expected_fingerprint)
        for shard in snapshot.manifest["shards"]:
            check_shard(path / shard["name"], shard)
        if snapshot.manifest.get("trend") is not None:
            check_trend(path, snapshot.manifest["trend"])
        return snapshot

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.manifest["rows"])

    def leave_out(self, erased_customers: Mapping[str, int]) -> None:
        """From now on leave out the rows of customers who were forgotten on request: by id the
        moment in ms since 1970 UTC up to which rows are left out."""
        self._erased, self._erased_rows = erased_customers, {}

    @property
    def erased_rows(self) -> int:
        """How many rows were left out so of the shards that were read since."""
        return sum(self._erased_rows.values())

    def without_erased(self, shard: str, rows: LabelledRows) -> LabelledRows:
        """The rows of a shard but those to be left out."""
        if not self._erased:
            return rows
        until = np.array([self._erased.get(i, NEVER) for i in rows.customer_ids], np.int64)
        kept = np.flatnonzero(rows.as_of_ms > until)
        self._erased_rows[shard] = len(rows) - len(kept)
        return rows if len(kept) == len(rows) else rows.take(kept)

    def weigh(self, factor: float) -> None:
        """From now on multiply the weights of its rows."""
        self._weight_factor = factor

    def weighed(self, rows: LabelledRows) -> LabelledRows:
        """Rows of a shard with their weights as `weigh` asked for."""
        if self._weight_factor == 1:
            return rows
        return replace(rows, weight=rows.weight * np.float32(self._weight_factor))

    @cached_property
    def trend(self) -> TrendTable | None:
        """The table of the days of its rows; None where no trend is declared.

        Raises SnapshotError where the file is not as its manifest says.
        """
        entry = trend_entry(self.manifest, self.info.space, self.path)
        return None if entry is None else read_trend(self.path, entry, self.info.space)

    def shards(self, *, labels: bool = True) -> Shards:
        """Its rows, a shard at a time, as often as asked for. labels: whether they are read."""
        return Shards([self], labels=labels)


class Shards(Sequence[LabelledRows]):
    """The shards of snapshots of one kind, read from disk each time one is asked for.

    Raises SnapshotError where the snapshots have different features, categories or label rules.
    """

    def __init__(self, snapshots: Sequence[Snapshot], *, labels: bool = True) -> None:
        self.snapshots = tuple(snapshots)
        self._names = None if labels else list(SCORED)
        first = snapshots[0]
        for other in snapshots[1:]:
            for name in ("fingerprint", "label_field", "labels"):
                if other.manifest[name] != first.manifest[name]:
                    remedy = f"its {name} is not that of {first.path}; give snapshots of one kind"
                    raise SnapshotError("snapshot", other.path, remedy)
        self._space = first.info.space
        self._categories = len(first.info.categories)
        rule = first.info.labels
        self._classes = None if rule is None else rule.classes
        listed = [(s, shard) for s in snapshots for shard in s.manifest["shards"]]
        self._files = [(s, s.path / shard["name"]) for s, shard in listed]
        self._rows = [int(shard["rows"]) for _, shard in listed]
        self._sha256 = [shard["sha256"] for _, shard in listed]

    def __len__(self) -> int:
        return len(self._files)

    def weeks_ms(self) -> set[int]:
        """Moments of rows by the manifests, at least one in each week that has any.

        Rows between cut-offs count as ones of every week from the first to the last: a manifest
        does not list so many moments.
        """
        found: set[int] = set()
        for snapshot in self.snapshots:
            moments, of_rows = snapshot.manifest["as_of_ms"], snapshot.info.row_moments
            found.update(moments)
            if of_rows is None or not moments:
                continue
            if of_rows.cutoff_rows < snapshot.rows:
                found.update(range(moments[0], moments[-1], 7 * DAY_MS))
            elif len(of_rows.cutoffs_ms) > len(moments):
                found.update(m for m in of_rows.cutoffs_ms if moments[0] <= m <= moments[-1])
        return found

    def trend(self) -> TrendTable | None:
        """One table for the rows of all the snapshots; None where no trend is declared.

        Days between the snapshots, of which there are no rows, have contrasts of 0. Raises
        SnapshotError where two of them differ on one day, and InputError where all of them together
        span too many days.
        """
        tables = [(snapshot, snapshot.trend) for snapshot in self.snapshots]
        found = [(snapshot, table) for snapshot, table in tables if table is not None]
        if not found:
            return None
        for number, (snapshot, table) in enumerate(found):
            for other, before in found[:number]:
                day = table.differs_from(before)
                if day is not None:
                    remedy = (
                        f"its trend of {np.datetime64(day, 'D')} is not that of {other.path}, so "
                        "they were made of different events; replay both from the same ones"
                    )
                    raise SnapshotError("snapshot", snapshot.path, remedy)
        return joined_tables([table for _, table in found])

    @overload
    def __getitem__(self, number: int) -> LabelledRows: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[LabelledRows]: ...
    def __getitem__(self, number: int | slice) -> LabelledRows | Sequence[LabelledRows]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        snapshot, file = self._files[number]
        try:
            rows = read_shard(
                self._source(number),
                self._names,
                self._space.width,
                self._categories,
                self._classes,
            )
            if len(rows) != self._rows[number]:
                raise ValueError(f"has {len(rows)} rows, its manifest says {self._rows[number]}")
            return snapshot.weighed(snapshot.without_erased(file.name, rows))
        except (OSError, pa.ArrowException) as error:
            # What pyarrow says of a file that is not Parquet has no number of the system.
            reason = error.strerror if isinstance(error, OSError) and error.errno else None
            problem = f"can't be read: {reason}" if reason else UNREADABLE
            raise SnapshotError("snapshot", file, f"{problem}; {WRITE_AGAIN}") from None
        except ValueError as error:
            raise SnapshotError("snapshot", file, f"{error}; {WRITE_AGAIN}") from None

    def _source(self, number: int) -> Path | pa.Buffer:
        """A shard's file. Of an object its bytes, checked again: they come anew over the network,
        and what is asked for in many small parts takes long."""
        _, file = self._files[number]
        if isinstance(file, Path):
            return file
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != self._sha256[number]:
            raise ValueError("its SHA-256 is not the manifest's")
        return pa.py_buffer(content)
