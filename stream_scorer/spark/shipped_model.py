"""A model artefact that travels with a Spark job.

The driver reads and checks the artefact, from a directory of its own or of any file system that
Spark reaches, and packs it into one archive, which Spark copies to each executor once and unpacks.
A Python worker loads it, checked again, for the first batch that it gets, and keeps it for the
tasks that follow: Spark reuses its workers.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark import SparkFiles

from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, EngineName, engine_name, open_engine
from stream_scorer.spark.hadoop_files import HadoopFiles
from stream_scorer.spark.session import errors_in_one_line

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KEPT = 2  # engines in one worker: that of the model before may still have tasks


@dataclass(frozen=True)
class ShippedModel:
    """name: of its directory among Spark's files. columns: F. fingerprint: of its features."""

    name: str
    model_version: str
    fingerprint: int
    columns: int
    categories: tuple[str, ...]
    classes: int
    engine: EngineName


def ship(spark: SparkSession, model: str, engine: str = "native") -> ShippedModel:
    """Have the model on every executor.

    model: a directory of the driver, or the URI of one (`s3a://bucket/models/2026-11-24`). Raises
    ArtefactError, and InputError where there is no such engine.
    """
    chosen = engine_name(engine)
    # A path of the driver's own is read as it is: a pipe in place of a file would be copied without
    # end.
    here = model.removeprefix("file://") if model.startswith(("file:///", "/")) else model
    loaded = artefact.load(_fetched(spark, here) if "://" in here else Path(here))
    name = f"model-{loaded.manifest.model_version}"
    archive = f"{_packed(loaded.path, name)}#{name}"
    if not any(added.endswith(f"{name}.zip") for added in spark.sparkContext.listArchives):
        spark.sparkContext.addArchive(archive)
    return ShippedModel(
        name, loaded.manifest.model_version, loaded.fingerprint, loaded.layout.columns,
        loaded.manifest.categories, loaded.manifest.classes, chosen,
    )  # fmt: skip


# A worker serves many tasks; without the cache each would load and bind the model again.
@lru_cache(maxsize=KEPT)
def engine_of(model: ShippedModel, threads: int) -> Engine:
    """In a Python worker: the engine, loaded once. Raises ArtefactError, ConfigError."""
    loaded = artefact.load(Path(SparkFiles.get(model.name)), model.fingerprint)
    if loaded.manifest.model_version != model.model_version:
        remedy = f"the driver has {model.model_version}; start the job again"
        raise ArtefactError("model version", loaded.manifest.model_version, remedy)
    return open_engine(loaded, model.engine, threads)


@lru_cache(maxsize=KEPT)
def _packed(path: Path, name: str) -> str:
    """The URI of an archive of the model's files in `path`, there until this process ends.

    They are packed by the names that an artefact's files have, never by what a manifest lists: that
    may be the path of any file of the driver.
    """
    archive = Path(_own_folder()) / f"{name}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in artefact.FILES:
            packed.write(path / file, file)
    return archive.as_uri()


def _fetched(spark: SparkSession, uri: str) -> Path:
    """A copy on the driver's disk, there until this process ends."""
    folder = Path(_own_folder())
    with errors_in_one_line("model", uri):
        files = HadoopFiles(spark)
        for name in artefact.FILES:
            if not files.exists(f"{uri}/{name}"):
                remedy = "is missing; copy or train the model again"
                raise ArtefactError("model", f"{uri}/{name}", remedy)
            files.copy_here(f"{uri}/{name}", folder / name)
    return folder


def _own_folder() -> str:
    folder = tempfile.mkdtemp(prefix="stream-scorer-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
