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
                            event_types (events by type, null where that is not known), rows,
                            shards (name, rows, bytes, sha256), checksum of all that

Programs that read a directory of Parquet files skip names that begin with "_", so they read a
snapshot as it is. Older snapshots have `manifest.json` instead, and are opened too.

Shards are written as rows arrive, into a new directory that gets its name when it is whole
(atomic.py; resumable_snapshot.py for what is written in several runs). Opening a snapshot checks
every byte against the manifest, a block at a time. Readers hold one shard in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
import pyarrow as pa

from stream_scorer import atomic
from stream_scorer.core.events.refused import (
    Refusal,
    Refused,
    RefusedRecord,
    ignored_events_in_words,
    outside_window_in_words,
    refused_in_words,
)
from stream_scorer.core.features.ignored_values import IgnoredValue, ignored_in_words
from stream_scorer.core.features.space import DAY_MS, MALFORMED, FeatureSpace
from stream_scorer.core.features.state import NEVER
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.core.trend import DailyCounts, TrendTable, contrast_count, joined_tables
from stream_scorer.errors import FingerprintMismatch, SnapshotError
from stream_scorer.io.files.row_moments import RowMoments
from stream_scorer.io.files.snapshot_manifest import (
    FORMAT,
    MANIFEST_FILE,
    manifest_content,
    read_manifest,
)
from stream_scorer.io.files.snapshot_shards import (
    UNREADABLE,
    WRITE_AGAIN,
    ShardFile,
    check_shard,
    unwritable,
)
from stream_scorer.io.files.snapshot_tables import SCORED, read_shard
from stream_scorer.io.files.snapshot_trend import (
    TREND_FILE,
    check_days,
    check_trend,
    read_trend,
    table_of_rows,
    trend_content,
)
from stream_scorer.result import Result

# Readers hold one shard in memory; smaller shards are more files.
ROWS_PER_SHARD = 65_536  # 65,536 rows of 500 entries: 260 MB in memory
MOST_MOMENTS = 1_000  # that a manifest lists


@dataclass(frozen=True)
class LeftOut(Result):
    """What the events of a snapshot lacked when it was made: records that were refused, by reason,
    and values of events that features and labels could not use, by field.

    ignored_events: of customers who were to be ignored. outside_window: events of files, or records
    of the topic, outside --from and --to. Older snapshots do not have these two.
    """

    refusals: tuple[Refusal, ...] = ()
    ignored_values: tuple[IgnoredValue, ...] = ()
    ignored_events: int = 0
    outside_window: int = 0

    @classmethod
    def by(cls, refused: Refused, ignored_values: tuple[IgnoredValue, ...]) -> LeftOut:
        """What a job that has read all events counted."""
        return cls(
            refused.refusals(), ignored_values, refused.ignored_events, refused.outside_window
        )

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> LeftOut:
        """From its `as_json`. Raises KeyError, TypeError and ValueError."""
        found = cls(
            tuple(
                Refusal(**{**given, "example": RefusedRecord(**given["example"])})
                for given in manifest["refusals"]
            ),
            tuple(IgnoredValue(**given) for given in manifest["ignored_values"]),
            manifest.get("ignored_events", 0),
            manifest.get("outside_window", 0),
        )
        found.in_words()  # a number that is none, or a text that is none, fails here
        if found.as_json() != {"ignored_events": 0, "outside_window": 0, **manifest}:
            raise ValueError("left_out has other keys")
        return found

    def in_words(self) -> list[str]:
        """A line of text for each reason and field, and for each example."""
        return [
            *refused_in_words(self.refusals, ()),
            *ignored_events_in_words(self.ignored_events),
            *outside_window_in_words(self.outside_window),
            *ignored_in_words(self.ignored_values),
        ]


@dataclass(frozen=True)
class SnapshotInfo:
    """What a snapshot is of.

    labels: the rule that its labels follow, None where they are not known yet. label_field: whose
    vocabulary the label categories are. source_offsets: for each topic and partition, every event
    before this offset went in. source_offsets_end: no event from this offset on went in; empty
    where that is the same offset, or not known. left_out: nothing, where that is not known.
    row_moments: of which kind each row's moment is, None where that is not known. event_types: how
    many events of each type were read, None where that is not known.
    """

    space: FeatureSpace
    label_field: str
    labels: LabelRule | None
    source_offsets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    source_offsets_end: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    left_out: LeftOut = LeftOut()
    row_moments: RowMoments | None = None
    event_types: Mapping[str, int] | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """The vocabulary of the label field."""
        return self.space.vocabularies[self.label_field]


class SnapshotWriter:
    """Writes the new snapshot `path`. A context manager: leaving it by an error leaves nothing.

    Raises SnapshotError where `path` exists or can't be written.
    """

    def __init__(
        self, path: Path, info: SnapshotInfo, rows_per_shard: int = ROWS_PER_SHARD
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
            publish(work, self._path, manifest_of(info, moments, self._shards, trend))
        except OSError as error:
            raise unwritable(self._path, error) from None
        return Snapshot(self._path, *read_manifest(self._path))

    def _open_shard(self) -> ShardFile:
        if self._shard is None:
            self._shard = ShardFile(self._folder.work / shard_name(len(self._shards)))
        return self._shard

    def _close_shard(self, shard: ShardFile) -> None:
        self._shards.append(shard.finish())
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


def manifest_of(
    info: SnapshotInfo,
    as_of_ms: Sequence[int],
    shards: Sequence[Mapping[str, Any]],
    trend: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest, without its checksum; shards: what `ShardFile.finish` returned for each, trend:
    what `trend_content` did.
    """
    return {
        "format": FORMAT,
        "fingerprint": info.space.fingerprint_hex,
        "features": info.space.declaration(),
        "label_field": info.label_field,
        "categories": list(info.categories),
        "labels": None if info.labels is None else asdict(info.labels),
        "as_of_ms": list(as_of_ms),
        "row_moments": None if info.row_moments is None else info.row_moments.as_json(),
        "trend": None if trend is None else dict(trend),
        "source_offsets": {t: dict(p) for t, p in info.source_offsets.items()},
        "source_offsets_end": {t: dict(p) for t, p in info.source_offsets_end.items()},
        "left_out": info.left_out.as_json(),
        "event_types": None if info.event_types is None else dict(info.event_types),
        "rows": sum(s["rows"] for s in shards),
        "shards": list(shards),
    }


def publish(work: Path, path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest beside the shards in `work` and rename it to `path`. Raises OSError."""
    (work / MANIFEST_FILE).write_bytes(manifest_content(manifest))
    atomic.publish(work, path)


def refuse_existing(path: Path) -> None:
    """Raises SnapshotError where `path` is there already."""
    if path.exists():
        remedy = "already exists; choose another path or delete it"
        raise SnapshotError("snapshot", path, remedy)


class Snapshot:
    """A snapshot on disk. `open` one; `shards` reads it."""

    def __init__(self, path: Path, manifest: dict[str, Any], manifest_file: Path) -> None:
        self.path, self.manifest = path, manifest
        self.info = info_of(manifest, manifest_file)
        self._erased: Mapping[str, int] = {}
        self._erased_rows: dict[str, int] = {}  # by shard

    @classmethod
    def open(cls, path: Path, expected_fingerprint: int | None = None) -> Snapshot:
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
            rows = read_shard(file, self._names, self._space.width, self._categories, self._classes)
            if len(rows) != self._rows[number]:
                raise ValueError(f"has {len(rows)} rows, its manifest says {self._rows[number]}")
            return snapshot.without_erased(file.name, rows)
        except (OSError, pa.ArrowException) as error:
            # What pyarrow says of a file that is not Parquet has no number of the system.
            reason = error.strerror if isinstance(error, OSError) and error.errno else None
            problem = f"can't be read: {reason}" if reason else UNREADABLE
            raise SnapshotError("snapshot", file, f"{problem}; {WRITE_AGAIN}") from None
        except ValueError as error:
            raise SnapshotError("snapshot", file, f"{error}; {WRITE_AGAIN}") from None


def check_fingerprint(manifest: Mapping[str, Any], path: object, expected: int) -> None:
    """Raises FingerprintMismatch where the snapshot `path` has other features."""
    wanted, found = f"{expected:016x}", manifest["fingerprint"]
    if wanted != found:
        remedy = f"the model's or configuration's features have {wanted}: replay or export again"
        raise FingerprintMismatch(f"snapshot {path}: fingerprint", found, remedy)


def trend_entry(
    manifest: Mapping[str, Any], space: FeatureSpace, path: object
) -> dict[str, Any] | None:
    """What a manifest says of its table; None where no trend is declared.

    Raises SnapshotError where one is declared and there is none, or one of other days.
    """
    if not contrast_count(space):
        return None
    entry: dict[str, Any] | None = manifest.get("trend")
    if entry is None:
        raise SnapshotError("snapshot", path, f"has no table of the shop's trend; {WRITE_AGAIN}")
    check_days(entry, manifest["as_of_ms"], path)
    return entry


def _event_types(given: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Raises AttributeError, TypeError and ValueError."""
    if given is None:
        return None
    found = {str(name): int(events) for name, events in given.items()}
    if min(found.values(), default=0) < 0:
        raise ValueError("event_types has a number below 0")
    return found


def info_of(manifest: Mapping[str, Any], where: object) -> SnapshotInfo:
    """What a manifest says; `where` names it in the SnapshotError where it contradicts itself."""
    try:
        space = FeatureSpace.from_declaration(manifest["features"])
        rule = manifest["labels"]
        labels = None
        if rule is not None:
            actions = tuple(tuple(group) for group in rule["actions"])
            labels = LabelRule(str(rule["by"]), actions, int(rule["horizon_ms"]))
        info = SnapshotInfo(
            space, manifest["label_field"], labels, manifest["source_offsets"],
            manifest.get("source_offsets_end", {}),
            LeftOut.of(manifest["left_out"]) if "left_out" in manifest else LeftOut(),
            RowMoments.of(manifest.get("row_moments"), manifest["rows"]),
            _event_types(manifest.get("event_types")),
        )  # fmt: skip
        agrees = info.categories == tuple(manifest["categories"])
    except MALFORMED as error:
        reason = f"contradicts itself: {error}; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", where, reason) from None
    if not agrees or space.fingerprint_hex != manifest["fingerprint"]:
        remedy = f"features, categories and fingerprint do not belong together; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", where, remedy)
    return info
