"""Snapshots: what is written is read, a defect is one clear line, memory is one shard."""

from __future__ import annotations

import copy
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas
import polars
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule, concatenate_rows
from stream_scorer.errors import FingerprintMismatch, SnapshotError
from stream_scorer.io.files import snapshot_manifest, snapshot_tables
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_writer import SnapshotWriter
from stream_scorer.io.files.snapshots import Shards, Snapshot

RULE = LabelRule("category_id", (("purchase",),), 1000)
SPACE = FeatureSpace.compile(
    [Feature("bought", by=("category_id",), half_lives=("2d", "inf"))],
    {"category_id": ("soup", "bread", "milk", "crème")},
)
INFO = SnapshotInfo(SPACE, "category_id", RULE, {"events": {"0": 17}})


def some_rows(count: int, seed: int = 0) -> LabelledRows:
    draw = np.random.default_rng(seed)
    values = draw.random((count, SPACE.width)) * (draw.random((count, SPACE.width)) < 0.4)
    classes = draw.random((count, 4)) < 0.3
    row, category = np.nonzero(classes)
    return LabelledRows(
        [f"zoë {seed}/{i}" for i in range(count)],
        draw.integers(0, 3, count).astype(np.int64) * 1000,
        sparse.csr_matrix(values.astype(np.float32)),
        np.searchsorted(row, np.arange(count + 1)).astype(np.int64),
        category.astype(np.uint32),
        np.ones(len(row), np.uint8),
        draw.uniform(0.5, 2, count).astype(np.float32),
    )


def assert_same(found: LabelledRows, expected: LabelledRows) -> None:
    assert found.customer_ids == expected.customer_ids
    for name in ("indptr", "indices", "data"):
        one, other = getattr(found.matrix, name), getattr(expected.matrix, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    for name in ("as_of_ms", "label_indptr", "label_category", "label_class", "weight"):
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert found.matrix.shape == expected.matrix.shape


def written(path, *parts, rows_per_shard=10, info=INFO) -> Snapshot:
    with SnapshotWriter(path, info, rows_per_shard) as writer:
        for part in parts:
            writer.write(part)
        return writer.finish()


@pytest.fixture
def snapshot(tmp_path):
    return written(tmp_path / "s", some_rows(25))


def refusal(path) -> str:
    with pytest.raises(SnapshotError) as caught:
        Snapshot.open(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("splits", [[37], [1, 36], [5, 5, 27], [10, 20, 7]])
def test_rows_are_read_as_written_however_they_arrived(tmp_path, splits):
    rows = some_rows(37)
    ends = np.cumsum([0, *splits])
    parts = [rows.take(np.arange(a, b)) for a, b in itertools.pairwise(ends)]
    written(tmp_path / "s", *parts)
    opened = Snapshot.open(tmp_path / "s", SPACE.fingerprint)
    shards = opened.shards()
    assert [len(s) for s in shards] == [10, 10, 10, 7]
    assert_same(concatenate_rows(list(shards)), rows)
    assert_same(concatenate_rows(list(shards)), rows)  # again: shards are re-iterable
    assert_same(shards[-1], rows.take(np.arange(30, 37)))


def test_the_manifest_says_what_it_is(snapshot):
    opened = Snapshot.open(snapshot.path)
    manifest = json.loads((snapshot.path / "_manifest.json").read_text())
    assert manifest["fingerprint"] == SPACE.fingerprint_hex
    assert manifest["categories"] == ["soup", "bread", "milk", "crème"]
    assert manifest["labels"]["horizon_ms"] == 1000
    assert manifest["as_of_ms"] == [0, 1000, 2000]
    assert manifest["source_offsets"] == {"events": {"0": 17}}
    assert opened.rows == manifest["rows"] == 25
    assert opened.info.labels == RULE
    assert opened.info.space.fingerprint == SPACE.fingerprint


def test_shards_have_the_promised_columns(snapshot):
    table = pq.read_table(snapshot.path / "part-00000.parquet")
    assert table.schema.names == ["customer_id", "as_of", "columns", "values", "labels", "weight"]
    assert str(table.schema.field("as_of").type) == "timestamp[ms, tz=UTC]"
    row = table.slice(0, 1).to_pylist()[0]
    assert row["customer_id"] == "zoë 0/0"
    assert len(row["columns"]) == len(row["values"])
    assert all(set(label) == {"category", "class"} for label in row["labels"])


@pytest.mark.parametrize("together", [1, 4, 10, 1000])
def test_a_shard_is_the_same_however_many_rows_are_read_together(snapshot, monkeypatch, together):
    expected = list(Snapshot.open(snapshot.path).shards())
    monkeypatch.setattr(snapshot_tables, "ROWS_TOGETHER", together)
    for found, rows in zip(Snapshot.open(snapshot.path).shards(), expected, strict=True):
        assert_same(found, rows)


def test_reading_a_shard_never_holds_it_whole_in_arrows_form(tmp_path):
    count, entries = 65_536, 200
    matrix = sparse.csr_matrix(
        (
            np.random.default_rng(0).random(count * entries, np.float32),
            np.tile(np.arange(entries, dtype=np.int32) * 7, count),
            np.arange(count + 1, dtype=np.int32) * entries,
        ),
        shape=(count, 2000),
    )
    nothing = np.zeros(0)
    rows = LabelledRows(
        [str(i) for i in range(count)], np.zeros(count, np.int64), matrix,
        np.zeros(count + 1, np.int64), nothing.astype(np.uint32), nothing.astype(np.uint8),
    )  # fmt: skip
    file = tmp_path / "part.parquet"
    pq.write_table(snapshot_tables.to_table(rows), file, row_group_size=8_192)
    # A process of its own: memory that earlier reads left to Arrow would be used again.
    code = """
import sys
from pathlib import Path
from stream_scorer.io.files.snapshot_tables import read_shard
from stream_scorer.runtime import peak_memory_bytes
before = peak_memory_bytes()
print(len(read_shard(Path(sys.argv[1]), None, 2000, 4, 2)), peak_memory_bytes() - before)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    read, grown = map(int, ran.stdout.split())
    assert read == count
    # 4.1 times; read at once 6.5 to 7.7.
    assert grown < 5.5 * 8 * count * entries


def test_rows_of_a_shard_without_weights_weigh_one_each():
    older = snapshot_tables.to_table(some_rows(5)).drop(["weight"])
    found = snapshot_tables.from_table(older, SPACE.width, 4)
    assert found.weight.dtype == np.float32
    assert found.weight.tolist() == [1.0] * 5


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_not_a_finite_number_above_0_is_refused(weight):
    rows = some_rows(2)
    rows.weight[1] = weight
    table = snapshot_tables.to_table(rows)
    with pytest.raises(ValueError, match="a weight is not a finite number above 0"):
        snapshot_tables.from_table(table, SPACE.width, 4)


def test_a_snapshot_without_rows_or_labels_is_one_too(tmp_path):
    unlabelled = replace(INFO, labels=None)
    written(tmp_path / "s", info=unlabelled)
    opened = Snapshot.open(tmp_path / "s")
    assert opened.info.labels is None
    (shard,) = opened.shards()
    assert len(shard) == 0
    assert shard.matrix.shape == (0, SPACE.width)


def test_snapshots_of_one_kind_are_read_as_one(tmp_path):
    one = written(tmp_path / "a", some_rows(12, 1))
    two = written(tmp_path / "b", some_rows(13, 2))
    together = concatenate_rows(list(Shards([one, two])))
    assert_same(together, concatenate_rows([some_rows(12, 1), some_rows(13, 2)]))
    other = written(tmp_path / "c", info=replace(INFO, labels=replace(RULE, horizon_ms=9)))
    with pytest.raises(SnapshotError, match="of one kind"):
        Shards([one, other])


def test_any_flipped_bit_is_noticed(snapshot):
    draw = np.random.default_rng(0)
    for file in sorted(snapshot.path.glob("part-*")):
        whole = file.read_bytes()
        for bit in draw.integers(0, 8 * len(whole), 20).tolist():
            broken = bytearray(whole)
            broken[bit // 8] ^= 1 << bit % 8
            file.write_bytes(bytes(broken))
            assert "SHA-256" in refusal(snapshot.path)
        file.write_bytes(whole)
    assert Snapshot.open(snapshot.path).rows == 25


def test_a_changed_manifest_is_noticed(snapshot):
    file = snapshot.path / "_manifest.json"
    file.write_text(file.read_text().replace('"rows": 25', '"rows": 26'))
    assert "altered" in refusal(snapshot.path)


def test_missing_files_are_named(snapshot, tmp_path):
    (snapshot.path / "part-00001.parquet").unlink()
    assert "part-00001.parquet" in refusal(snapshot.path)
    assert "there is no such folder" in refusal(tmp_path / "nothing")
    (tmp_path / "events").mkdir()
    said = refusal(tmp_path / "events")
    assert "events': is no snapshot: it has neither _manifest.json nor" in said
    (tmp_path / "events" / "manifest.json").write_text('{"mode": "top_k"}')
    assert "is of propensities, which `replay` writes without --cutoffs" in refusal(
        tmp_path / "events"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": "one"}'])
def test_what_is_no_manifest_is_refused(snapshot, text):
    (snapshot.path / "_manifest.json").write_text(text)
    assert refusal(snapshot.path)


def test_a_version_from_the_future_says_upgrade(snapshot):
    (snapshot.path / "_manifest.json").write_text('{"format": 2}')
    assert "upgrade" in refusal(snapshot.path)


def test_other_features_are_refused_with_the_remedy(snapshot):
    with pytest.raises(FingerprintMismatch, match="replay or export again"):
        Snapshot.open(snapshot.path, 1234)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(fingerprint="0" * 16), "do not belong together"),
        (lambda m: m.update(categories=["soup"]), "do not belong together"),
        (lambda m: m.update(label_field="brand"), "contradicts itself"),
        (lambda m: m.update(labels={"by": "x"}), "contradicts itself"),
        (lambda m: m.update(features={}), "contradicts itself"),
        (lambda m: m["shards"][0].update(name="../part-00000.parquet"), "not a shard's file name"),
        (lambda m: m["shards"][0].update(name="/etc/passwd"), "not a shard's file name"),
        (lambda m: m["shards"][0].update(bytes="many"), "not a snapshot's manifest"),
        (lambda m: m.update(shards=None), "not a snapshot's manifest"),
        (
            lambda m: m["shards"][0].update(rows=1),
            "its number of rows is not that",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(snapshot, change, said):
    manifest = copy.deepcopy(snapshot.manifest)
    change(manifest)
    (snapshot.path / "_manifest.json").write_bytes(snapshot_manifest.manifest_content(manifest))
    assert said in refusal(snapshot.path)


def test_rows_that_break_the_format_are_refused(tmp_path):
    """A shard written by another program, with a manifest that fits it."""
    rows = some_rows(5)
    rows.label_category[-1] = 99
    snapshot = written(tmp_path / "s", rows)
    with pytest.raises(SnapshotError, match="category 99 of 4"):
        snapshot.shards()[0]
    rows = some_rows(5)
    rows.matrix.indices[:2] = rows.matrix.indices[1::-1]
    snapshot = written(tmp_path / "t", rows)
    with pytest.raises(SnapshotError, match="ascend"):
        snapshot.shards()[0]


def test_a_shard_with_fewer_rows_than_its_manifest_says_is_refused(tmp_path):
    """A reader would not notice that customers are missing."""
    snapshot = written(tmp_path / "s", some_rows(5))
    manifest = copy.deepcopy(snapshot.manifest)
    manifest["shards"][0]["rows"] += 1
    manifest["rows"] += 1
    file = snapshot.path / "_manifest.json"
    Path(str(file)).write_bytes(snapshot_manifest.manifest_content(manifest))
    with pytest.raises(SnapshotError, match="has 5 rows, its manifest says 6"):
        Snapshot.open(snapshot.path).shards()[0]


def test_an_existing_snapshot_is_not_overwritten(snapshot):
    with pytest.raises(SnapshotError, match="already exists"):
        SnapshotWriter(snapshot.path, INFO)


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path):
    def fail() -> None:
        with SnapshotWriter(tmp_path / "s", INFO, 10) as writer:
            writer.write(some_rows(25))
            raise RuntimeError("no more rows")

    with pytest.raises(RuntimeError, match="no more rows"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_line(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SnapshotError, match="No space left"):
        written(tmp_path / "s", some_rows(25))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_there_before_finish(tmp_path):
    with SnapshotWriter(tmp_path / "s", INFO, 10) as writer:
        writer.write(some_rows(25))
        assert not (tmp_path / "s").exists()
        writer.finish()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s"]


def test_programs_that_read_parquet_directories_read_a_snapshot_as_it_is(snapshot):
    expected = some_rows(25)
    path = str(snapshot.path)
    arrow = ds.dataset(path).to_table()
    assert arrow.column("customer_id").to_pylist() == expected.customer_ids
    assert arrow.schema.names == ["customer_id", "as_of", "columns", "values", "labels", "weight"]
    assert pandas.read_parquet(path)["customer_id"].tolist() == expected.customer_ids
    in_duckdb = duckdb.read_parquet(f"{path}/*.parquet").fetchall()
    assert [row[0] for row in in_duckdb] == expected.customer_ids
    # Polars has to be given the names to skip in a directory.
    in_polars = polars.scan_parquet(path, hidden_file_prefix="_").collect()
    assert in_polars["customer_id"].to_list() == expected.customer_ids
    np.testing.assert_array_equal(np.concatenate(in_polars["values"]), expected.matrix.data)


def test_an_old_snapshot_with_manifest_json_still_opens(snapshot):
    (snapshot.path / "_manifest.json").rename(snapshot.path / "manifest.json")
    assert_same(concatenate_rows(list(Snapshot.open(snapshot.path).shards())), some_rows(25))
    (snapshot.path / "manifest.json").write_text("{")
    assert "/manifest.json': it is not JSON" in refusal(snapshot.path)


def test_of_two_manifests_the_new_name_counts(snapshot):
    (snapshot.path / "manifest.json").write_text("{")
    assert Snapshot.open(snapshot.path).rows == 25
