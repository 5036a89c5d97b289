"""Snapshots, events and models as objects: as on disk, whole or not there, and checked."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_scorer.atomic import NewFolder, new_file
from stream_scorer.errors import InputError, SnapshotError
from stream_scorer.io.files.events import open_events, write_events
from stream_scorer.io.files.snapshot_writer import SnapshotWriter
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.storage.places import ObjectPath, place
from stream_scorer.storage.uploads import UNFINISHED, put, upload
from tests.io.files.test_snapshots import INFO, assert_same, some_rows


def at(address: str) -> ObjectPath:
    found = place(address, "--out")
    assert isinstance(found, ObjectPath)
    return found


def names(folder: ObjectPath) -> list[str]:
    return [path.name for path in folder.walk()] if folder.is_dir() else []


def written(target: Path | ObjectPath) -> Snapshot:
    with SnapshotWriter(target, INFO, rows_per_shard=40) as writer:
        writer.write(some_rows(100))
        return writer.finish()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_snapshot_is_the_same_bytes_as_on_disk(
    scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    target = at(f"{request.getfixturevalue(scheme)}/snapshots/a")
    written(target)
    here = written(tmp_path / "a")
    assert names(target) == sorted(path.name for path in (tmp_path / "a").iterdir())
    for path in (tmp_path / "a").iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()
    there = Snapshot.open(target)
    for one, other in zip(there.shards(), here.shards(), strict=True):
        assert_same(one, other)
    with pytest.raises(SnapshotError, match="already exists; choose another path"):
        written(target)


def test_an_error_while_writing_leaves_nothing(s3: str) -> None:
    target = at(f"{s3}/a")
    with SnapshotWriter(target, INFO, rows_per_shard=40) as writer:
        writer.write(some_rows(50))
        assert names(target) == [UNFINISHED, "part-00000.parquet"]
    assert names(target) == []
    with suppress(KeyError), new_file(target / "scores.parquet") as work:
        work.write_bytes(b"half")
        raise KeyError
    assert names(target) == []


def test_what_a_killed_writer_leaves_does_not_open(s3: str) -> None:
    program = f"""
import os, signal
from tests.storage.test_object_files import *
with SnapshotWriter(at("{s3}/a"), INFO, rows_per_shard=40) as writer:
    writer.write(some_rows(50))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    target = at(f"{s3}/a")
    assert names(target) == [UNFINISHED, "part-00000.parquet"]
    with pytest.raises(SnapshotError, match=r"was not written to its end.*delete all of it"):
        Snapshot.open(target)
    with pytest.raises(SnapshotError, match="already exists"):
        written(target)


def test_an_object_that_is_cut_short_or_replaced_is_found_by_its_checksum(s3: str) -> None:
    target = at(f"{s3}/a")
    written(target)
    opened = Snapshot.open(target)
    shard = target / "part-00001.parquet"
    whole = shard.read_bytes()
    put(whole[:-1], shard)
    with pytest.raises(SnapshotError, match=r"part-00001.parquet': its SHA-256"):
        Snapshot.open(target)
    # After it was opened, too: it is read again for each epoch.
    with pytest.raises(SnapshotError, match=r"part-00001.parquet': its SHA-256"):
        opened.shards()[1]
    shard.unlink()
    with pytest.raises(SnapshotError, match=r"part-00001.parquet': is missing"):
        Snapshot.open(target)


def test_a_second_writer_does_not_replace_what_is_whole(s3: str, tmp_path: Path) -> None:
    with NewFolder(at(f"{s3}/a")) as folder:
        (folder.work / "manifest.json").write_bytes(b"second")
        put(b"first", at(f"{s3}/a/manifest.json"))
        with pytest.raises(InputError, match="was written by another process meanwhile"):
            folder.publish()
    assert at(f"{s3}/a/manifest.json").read_bytes() == b"first"


def test_a_bucket_that_may_not_be_written_is_refused_before_the_work(s3: str) -> None:
    with pytest.raises(InputError, match=r"^--out: 's3://nowhere/a.*no bucket nowhere"):
        NewFolder(at("s3://nowhere/a"))
    with (
        pytest.raises(InputError, match="no bucket nowhere"),
        new_file(at("s3://nowhere/scores.parquet")),
    ):
        raise AssertionError


EVENTS = [
    {"event_id": f"e{i}", "customer_id": f"c{i % 7}", "event_type": "purchase",
     "category_id": "soup", "occurred_at": 1_700_000_000_000 + i}
    for i in range(5000)
]  # fmt: skip


def event_files(folder: Path) -> None:
    folder.mkdir()
    write_events(folder / "a.avro", EVENTS)
    lines = "".join(json.dumps(event) + "\n" for event in EVENTS).encode()
    (folder / "b.jsonl").write_bytes(lines)
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(lines))
    table = pa.Table.from_pylist(EVENTS)
    moments = table["occurred_at"].cast(pa.timestamp("ms", "UTC"))
    columns = table.set_column(table.schema.get_field_index("occurred_at"), "occurred_at", moments)
    pq.write_table(columns, folder / "d.parquet", row_group_size=1000)
    (folder / "_left_out.json").write_text("{}")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_event_files_are_read_as_on_disk(
    scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    event_files(tmp_path / "events")
    root = at(f"{request.getfixturevalue(scheme)}/events")
    for path in (tmp_path / "events").iterdir():
        upload(path, root / path.name)
    there = open_events([root], max_record_bytes=1_000_000, batch_records=3000)
    here = open_events([tmp_path / "events"], max_record_bytes=1_000_000, batch_records=3000)
    assert [path.name for path in there.files] == [path.name for path in here.files]
    assert len(there.files) == 4
    seen = 0
    for one, other in zip(there, here, strict=True):
        assert one.events.customer_id.intern()[1] == other.events.customer_id.intern()[1]
        np.testing.assert_array_equal(one.events.occurred_at_ms, other.events.occurred_at_ms)
        assert all(name.startswith(str(root)) for name, _ in one.events.partitions)
        seen += len(one.events)
    assert seen == 4 * len(EVENTS)
    assert there.expected_records() == seen


def test_a_stream_of_an_object_seeks_and_reads_as_a_file(s3: str) -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    put(content, at(f"{s3}/x"))
    with at(f"{s3}/x").open() as stream:
        assert stream.read(10) == content[:10]
        assert stream.seek(-5, os.SEEK_END) == len(content) - 5
        assert stream.read() == content[-5:]
        stream.seek(1_000_000)
        assert stream.read() == content[1_000_000:]
        stream.seek(0)
        assert stream.read() == content
    with pytest.raises(FileNotFoundError):
        at(f"{s3}/none").open()
