"""Snapshots where Spark finds them.

The driver reads the manifest. Each shard's SHA-256 is computed where the cluster
reads it, one shard in memory at a time and core, before any row is used: a damaged shard is found
in the driver, by name, with nothing written, and no task fails and is tried again in vain. It costs
reading the snapshot twice. (A Parquet file is read in parts, by several tasks, so the task that
reads a part can't check the whole.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as sql
from pyspark.sql.types import (
    ArrayType,
    ByteType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructType,
    TimestampType,
)

from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import Halt, InputError, SnapshotError
from stream_scorer.io.files.snapshot_info import check_fingerprint, info_of, trend_entry
from stream_scorer.io.files.snapshot_manifest import (
    MANIFEST_FILE,
    OLD_MANIFEST_FILE,
    parse_manifest,
    without_manifest,
)
from stream_scorer.io.files.snapshot_shards import UNREADABLE, WRITE_AGAIN
from stream_scorer.io.files.snapshot_tables import (
    SCORED,
    no_column,
    problems,
    wrong_kind,
)
from stream_scorer.io.files.snapshot_trend import TREND_FILE, parse_trend
from stream_scorer.spark.hadoop_files import HadoopFiles
from stream_scorer.spark.session import errors_in_one_line

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


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
        return spark.read.parquet(*self._files())

    def trend(self, spark: SparkSession) -> TrendTable | None:
        """The shop's trend on the days of its rows; None where none is declared. In the driver.

        Raises SnapshotError where the file is missing or not as the manifest says.
        """
        space = FeatureSpace.from_declaration(self.manifest["features"])
        entry = trend_entry(self.manifest, space, self.path)
        if entry is None:
            return None
        file = f"{self.path}/{TREND_FILE}"
        with errors_in_one_line("snapshot", file):
            files = HadoopFiles(spark)
            if not files.exists(file):
                raise SnapshotError("snapshot", file, f"is missing; {WRITE_AGAIN}")
            content = files.read(file)
        if Digest(len(content), sha256(content).hexdigest()) != Digest(
            entry["bytes"], entry["sha256"]
        ):
            remedy = f"its SHA-256 is not the manifest's; {WRITE_AGAIN}"
            raise SnapshotError("snapshot", file, remedy)
        try:
            return parse_trend(content, entry, space)
        except ValueError as error:
            raise SnapshotError("snapshot", file, f"{error}; {WRITE_AGAIN}") from None

    def fault(self, spark: SparkSession) -> SnapshotError | None:
        """What is wrong with the first shard that is not what the format promises.

        A job that reads all shards at once can't say which of them its row was in, so this is asked
        when one has failed.
        """
        width = FeatureSpace.from_declaration(self.manifest["features"]).width
        for file, shard in zip(self._files(), self.manifest["shards"], strict=True):
            problem = _problem(spark, file, shard["rows"], width)
            if problem is not None:
                return SnapshotError("snapshot", file, f"{problem}; {WRITE_AGAIN}")
        return None

    def _files(self) -> list[str]:
        return [f"{self.path}/{shard['name']}" for shard in self.manifest["shards"]]


def open_snapshot(spark: SparkSession, path: str, fingerprint: int) -> CheckedSnapshot:
    """The snapshot in the directory `path`, checked byte by byte.

    Raises SnapshotError where something is missing or altered, and FingerprintMismatch where it has
    other features than `fingerprint`.
    """
    path = path.rstrip("/")
    _refuse_pipes(path)
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
    if not manifest["shards"]:
        raise SnapshotError("snapshot", where, f"lists no shard; {WRITE_AGAIN}")
    checked = CheckedSnapshot(path, manifest)
    try:
        with errors_in_one_line("snapshot", path):
            # Spark counts from the footers of the files.
            rows = checked.frame(spark).count()
    except (InputError, Halt) as error:
        raise checked.fault(spark) or error from None
    if rows != checked.rows:
        remedy = f"has {rows} rows, its manifest says {checked.rows}; {WRITE_AGAIN}"
        raise checked.fault(spark) or SnapshotError("snapshot", path, remedy)
    return checked


def _refuse_pipes(path: str) -> None:
    """Raises SnapshotError where a file of a local directory is none: Spark would wait."""
    folder = Path(path.removeprefix("file:"))
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.suffix in (".parquet", ".json") and file.exists() and not file.is_file():
            raise SnapshotError("snapshot", f"{path}/{file.name}", f"is not a file; {WRITE_AGAIN}")


def _problem(spark: SparkSession, file: str, rows: int, width: int) -> str | None:
    """What is wrong with a shard, in the words of snapshot_tables; None where nothing is."""
    try:
        frame = spark.read.parquet(file)
        wrong = _wrong_column(frame.schema)
        if wrong is not None:
            return wrong
        needed = frame.select(*SCORED)
        found = needed.mapInArrow(partial(_problems, width=width), "problem string").take(1)
        if found:
            return str(found[0]["problem"])
        count = frame.count()
    except (PySparkException, Py4JError):
        return UNREADABLE
    return None if count == rows else f"has {count} rows, its manifest says {rows}"


def _problems(batches: Iterator[Any], width: int) -> Iterator[Any]:
    """In a Python worker: what is wrong with each batch."""
    return (problems(batch, width) for batch in batches)


def _wrong_column(schema: StructType) -> str | None:
    """As snapshot_tables.check_schema, of Spark's types."""
    whole = (ByteType, ShortType, IntegerType, LongType)
    fits: dict[str, Callable[[Any], bool]] = {
        "customer_id": lambda kind: isinstance(kind, StringType),
        "as_of": lambda kind: isinstance(kind, TimestampType),
        "columns": lambda k: isinstance(k, ArrayType) and isinstance(k.elementType, whole),
        "values": lambda k: isinstance(k, ArrayType) and isinstance(k.elementType, FloatType),
    }
    for name, is_right in fits.items():
        if schema.names.count(name) != 1:
            return no_column(name)
        if not is_right(schema[name].dataType):
            return wrong_kind(name)
    return None


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
