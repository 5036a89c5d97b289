"""Snapshots where Spark finds them.

The driver reads the manifest. Each shard's SHA-256 is computed where the cluster
reads it, one shard in memory at a time and core, before any row is used: a damaged shard is found
in the driver, by name, with nothing written, and no task fails and is tried again in vain. It costs
reading the snapshot twice. (A Parquet file is read in parts, by several tasks, so the task that
reads a part can't check the whole.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import functions as sql

from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.snapshot_manifest import (
    MANIFEST_FILE,
    OLD_MANIFEST_FILE,
    parse_manifest,
    without_manifest,
)
from stream_scorer.io.files.snapshots import check_fingerprint, info_of
from stream_scorer.spark.hadoop_files import HadoopFiles
from stream_scorer.spark.session import errors_in_one_line

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

WRITE_AGAIN = "copy or write the snapshot again"


class Digest(NamedTuple):
    """Of one file: its length in bytes, its SHA-256 in hexadecimal digits."""

    length: int
    sha256: str


@dataclass(frozen=True)
class CheckedSnapshot:
    """A snapshot whose every byte is as its manifest says."""

    path: str
    manifest: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.manifest["rows"])

    def frame(self, spark: SparkSession) -> DataFrame:
        """Its rows."""
        names = [shard["name"] for shard in self.manifest["shards"]]
        return spark.read.parquet(*(f"{self.path}/{name}" for name in names))


def open_snapshot(spark: SparkSession, path: str, fingerprint: int) -> CheckedSnapshot:
    """The snapshot in the directory `path`, checked byte by byte.

    Raises SnapshotError where something is missing or altered, and FingerprintMismatch where it has
    other features than `fingerprint`.
    """
    path = path.rstrip("/")
    with errors_in_one_line("snapshot", path):
        files = HadoopFiles(spark)
        where = manifest_path(files, path)
        content = files.read(where)
    manifest = parse_manifest(content, where)
    info_of(manifest, where)
    check_fingerprint(manifest, path, fingerprint)
    with errors_in_one_line("snapshot", path):
        found = digests(spark, path)
    for shard in manifest["shards"]:
        name, recorded = shard["name"], Digest(shard["bytes"], shard["sha256"])
        if name not in found:
            raise SnapshotError("snapshot", f"{path}/{name}", f"is missing; {WRITE_AGAIN}")
        if found[name] != recorded:
            remedy = f"its SHA-256 is not the manifest's; {WRITE_AGAIN}"
            raise SnapshotError("snapshot", f"{path}/{name}", remedy)
    checked = CheckedSnapshot(path, manifest)
    with errors_in_one_line("snapshot", path):
        # Spark counts from the footers of the files.
        rows = checked.frame(spark).count() if manifest["shards"] else 0
    if rows != checked.rows:
        remedy = f"has {rows} rows, its manifest says {checked.rows}; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", path, remedy)
    return checked


def manifest_path(files: HadoopFiles, path: str) -> str:
    """Where the manifest of the snapshot `path` stands, under its new or its old name."""
    for name in (MANIFEST_FILE, OLD_MANIFEST_FILE):
        if files.exists(f"{path}/{name}"):
            return f"{path}/{name}"
    raise without_manifest(path)


def digests(spark: SparkSession, path: str) -> dict[str, Digest]:
    """Of each Parquet file in the directory, by name; computed on the cluster."""
    files = spark.read.format("binaryFile").option("pathGlobFilter", "*.parquet").load(path)
    name = sql.element_at(sql.split("path", "/"), -1)
    rows = files.select(name.alias("name"), "length", sql.sha2("content", 256).alias("sha256"))
    return {row["name"]: Digest(row["length"], row["sha256"]) for row in rows.collect()}
