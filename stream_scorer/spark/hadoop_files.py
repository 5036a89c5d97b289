"""Small files and directories on whatever file system Spark reaches: local, HDFS, S3 and so on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError

from stream_scorer.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# What Hadoop itself says names the scheme or the class that it lacks.
_OTHER_FILE_SYSTEM = (
    "Spark reads by the file systems of its Hadoop: S3 is s3a:// with --conf spark.jars.packages="
    "org.apache.spark:spark-hadoop-cloud_2.13:VERSION; one machine (--engine local) takes s3://"
)


class HadoopFiles:
    """Paths are as Spark takes them: with a scheme, or of the cluster's default file system."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark.sparkContext._jvm
        self._configuration: Any = spark.sparkContext._jsc.hadoopConfiguration()

    def refuse_existing(self, field: str, path: str) -> None:
        """Raises InputError where `path` is there."""
        if not self.exists(path):
            return
        remedy = "already exists; choose another path or delete it"
        if not self.exists(f"{path}/_SUCCESS"):
            remedy = "exists, and is not the whole result of a job; delete it"
        raise InputError(field, path, remedy)

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory."""
        system, where = self._at(path)
        return bool(system.exists(where))

    def read(self, path: str) -> bytes:
        """A small file whole."""
        system, where = self._at(path)
        stream = system.open(where)
        try:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()

    def copy_here(self, path: str, target: Path) -> None:
        """A file to the driver's own disk."""
        system, where = self._at(path)
        system.copyToLocalFile(False, where, self._jvm.org.apache.hadoop.fs.Path(str(target)), True)

    def write_new(self, path: str, content: bytes) -> None:
        """A small file, under its name only when it is whole."""
        system, where = self._at(path)
        _, work = self._at(f"{path}.part")
        stream = system.create(work, True)
        try:
            stream.write(content)
        finally:
            stream.close()
        # A reader finds the whole file or none. On object stores rename copies, which is fine for
        # its size.
        system.rename(work, where)

    def missing_parents(self, path: str) -> list[str]:
        """The directories above it that are not there, the deepest first."""
        system, where = self._at(path)
        where = system.makeQualified(where)  # a relative path's last parent has no name
        missing = []
        while (where := where.getParent()) is not None and not self.exists(where.toString()):
            missing.append(str(where.toString()))
        return missing

    def delete_empty(self, path: str) -> None:
        """Delete a directory without anything in it; raises Py4JError for others."""
        system, where = self._at(path)
        system.delete(where, False)

    def delete(self, path: str) -> None:
        """With everything in it; nothing where it is not there."""
        system, where = self._at(path)
        system.delete(where, True)

    def _at(self, path: str) -> tuple[Any, Any]:
        where = self._jvm.org.apache.hadoop.fs.Path(path)
        try:
            return where.getFileSystem(self._configuration), where
        except Py4JJavaError as error:
            reason = str(error.java_exception.getMessage()).partition("\n")[0]
            raise InputError("--engine spark", path, f"{reason}; {_OTHER_FILE_SYSTEM}") from None
