"""The table of a declared trend in a snapshot: written for the days of its rows, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import DailyCounts, TrendTable
from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.resumable_snapshot import UnfinishedSnapshot
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_manifest import (
    MANIFEST_FILE,
    manifest_content,
    read_manifest,
)
from stream_scorer.io.files.snapshot_trend import TREND_FILE, trend_content
from stream_scorer.io.files.snapshot_writer import SnapshotWriter
from stream_scorer.io.files.snapshots import Shards, Snapshot

SPACE = FeatureSpace.compile(
    [
        Feature("bought", by=("category_id",), half_lives=("2d",)),
        Feature("trend", kind="trend", by=("category_id",), half_lives=("2d", "5d", "14d")),
    ],
    {"category_id": ("soup", "bread", "milk")},
)
INFO = SnapshotInfo(SPACE, "category_id", None)


def _counts(seed: int = 1) -> DailyCounts:
    draw = np.random.default_rng(seed)
    days, words = np.meshgrid(np.arange(80, 160), np.arange(3), indexing="ij")
    return DailyCounts(
        np.zeros(days.size, np.int32), days.reshape(-1).astype(np.int32),
        words.reshape(-1).astype(np.int32), draw.integers(1, 90, days.size), np.array([80]),
    )  # fmt: skip


def _rows(*days: int) -> LabelledRows:
    matrix = np.zeros((len(days), SPACE.width), np.float32)
    matrix[:, 3] = days
    nothing = np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    return LabelledRows(
        [f"c{i}" for i in range(len(days))], np.array(days, np.int64) * DAY_MS + 5,
        sparse.csr_matrix(matrix), np.zeros(len(days) + 1, np.int64), *nothing,
    )  # fmt: skip


def _written(path: Path, *days: int, counts: DailyCounts | None = None) -> Snapshot:
    with SnapshotWriter(path, INFO) as writer:
        if days:
            writer.write(_rows(*days))
        return writer.finish(counts=_counts() if counts is None else counts)


def _altered(path: Path, change: Mapping[str, Any] | None) -> None:
    """The manifest with another entry of the table, and a checksum that is right."""
    manifest, file = read_manifest(path)
    entry = None if change is None else {**manifest["trend"], **change}
    Path(str(file)).write_bytes(manifest_content({**manifest, "trend": entry}))


def test_a_snapshot_has_the_table_for_the_days_of_its_rows(tmp_path: Path) -> None:
    _written(tmp_path / "s", 120, 100, 111)
    found = Snapshot.open(tmp_path / "s", SPACE.fingerprint).trend
    assert found is not None
    assert (found.first_day, found.last_day) == (100, 120)
    assert found.contrasts.any()
    assert np.array_equal(found.contrasts, TrendTable.of(SPACE, _counts(), 100, 120).contrasts)


def test_a_snapshot_that_was_written_in_several_runs_has_it_too(tmp_path: Path) -> None:
    with UnfinishedSnapshot(tmp_path / "s", {}, {}) as unfinished:
        shard = unfinished.new_shard(0)
        shard.write(_rows(100, 120))
        unfinished.keep(0, shard, {})
        table = TrendTable.of(SPACE, _counts(), 100, 120)
        unfinished.finish(INFO, [100 * DAY_MS + 5, 120 * DAY_MS + 5], table)
    _written(tmp_path / "at-once", 100, 120)
    names = {f.name: f.read_bytes() for f in (tmp_path / "s").iterdir()}
    assert names == {f.name: f.read_bytes() for f in (tmp_path / "at-once").iterdir()}


def test_a_snapshot_without_rows_has_a_table_without_days(tmp_path: Path) -> None:
    _written(tmp_path / "s")
    found = Snapshot.open(tmp_path / "s").trend
    assert found is not None
    assert found.contrasts.shape == (0, 2, 3)


def test_a_snapshot_without_a_declared_trend_has_none(tmp_path: Path) -> None:
    space = FeatureSpace.compile(SPACE.features[:1], SPACE.vocabularies)
    with SnapshotWriter(tmp_path / "s", SnapshotInfo(space, "category_id", None)) as writer:
        snapshot = writer.finish()
    assert snapshot.trend is None
    assert snapshot.manifest["trend"] is None
    assert snapshot.shards().trend() is None
    assert not (tmp_path / "s" / TREND_FILE).exists()


def test_a_declared_trend_can_not_be_left_out_when_a_snapshot_is_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="needs daily counts"),
        SnapshotWriter(tmp_path / "s", INFO) as writer,
    ):
        writer.finish()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("how", ["altered", "missing"])
def test_a_damaged_table_is_found_when_the_snapshot_is_opened(tmp_path: Path, how: str) -> None:
    file = _written(tmp_path / "s", 100, 120).path / TREND_FILE
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.unlink()
    if how == "altered":
        Path(str(file)).write_bytes(bytes(content))
    with pytest.raises(SnapshotError, match=r"_trend\.parquet.*write the snapshot again"):
        Snapshot.open(tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "has no table of the shop's trend"),
        ({"name": "../other/_trend.parquet"}, "not a snapshot's manifest"),
        ({"days": -1}, "not a snapshot's manifest"),
        ({"days": 20}, "other days than its rows"),
        ({"first_day": 101}, "other days than its rows"),
        ({"first_day": 99, "days": 22}, "has not the days and contrasts of this snapshot"),
    ],
)
def test_a_manifest_that_contradicts_the_table_is_refused(
    tmp_path: Path, change: Mapping[str, Any] | None, said: str
) -> None:
    _written(tmp_path / "s", 100, 120)
    _altered(tmp_path / "s", change)
    with pytest.raises(SnapshotError, match=said):
        _ = Snapshot.open(tmp_path / "s").trend


def test_a_table_with_a_value_that_is_no_number_is_refused(tmp_path: Path) -> None:
    _written(tmp_path / "s", 100, 120)
    contrasts = TrendTable.of(SPACE, _counts(), 100, 120).contrasts.copy()
    contrasts[3, 1, 1] = np.nan
    content, entry = trend_content(TrendTable(100, contrasts))
    (tmp_path / "s" / TREND_FILE).write_bytes(content)
    _altered(tmp_path / "s", entry)
    with pytest.raises(SnapshotError, match="has not the days and contrasts"):
        _ = Snapshot.open(tmp_path / "s").trend


def test_snapshots_of_one_log_share_a_table_whatever_their_days_are(tmp_path: Path) -> None:
    snapshots = [_written(tmp_path / "a", 100, 105), _written(tmp_path / "b", 104, 120),
                 _written(tmp_path / "c", 130, 131), _written(tmp_path / "none")]  # fmt: skip
    found = Shards(snapshots).trend()
    assert found is not None
    whole = TrendTable.of(SPACE, _counts(), 100, 131).contrasts.copy()
    whole[21:30] = 0  # of these days there is no row
    assert found.first_day == 100
    assert np.array_equal(found.contrasts, whole)


def test_snapshots_of_two_logs_that_differ_on_a_day_are_refused(tmp_path: Path) -> None:
    snapshots = [_written(tmp_path / "a", 100, 105), _written(tmp_path / "b", 103, 120,
                                                              counts=_counts(2))]  # fmt: skip
    with pytest.raises(SnapshotError, match=r"trend of 1970-04-14 is not that of .*/a.*replay"):
        Shards(snapshots).trend()


def test_the_manifest_is_still_what_readers_of_a_directory_skip(tmp_path: Path) -> None:
    _written(tmp_path / "s", 100, 120)
    names = sorted(f.name for f in (tmp_path / "s").iterdir())
    assert names == [MANIFEST_FILE, TREND_FILE, "part-00000.parquet"]
