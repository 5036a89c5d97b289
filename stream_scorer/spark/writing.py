"""Parquet that Spark writes, whole or not at all, with times that other readers take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException

from stream_scorer.errors import InputError
from stream_scorer.spark.hadoop_files import HadoopFiles

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Algorithm 1 gives files their names when the whole job is committed, 2 when their task is.
OPTIONS = {"compression": "zstd", "mapreduce.fileoutputcommitter.algorithm.version": "1"}
TIMES = "spark.sql.parquet.outputTimestampType"


class TargetTaken(InputError):
    """Another job made it meanwhile: it is that one's."""


def write_parquet(frame: DataFrame, out: str, **options: str) -> None:
    """Write the new directory `out`; `_SUCCESS` is there when all is. Raises TargetTaken."""
    conf = frame.sparkSession.conf
    before = conf.get(TIMES)
    # Spark's own default is INT96, which pyarrow reads as nanoseconds.
    conf.set(TIMES, "TIMESTAMP_MILLIS")
    try:
        frame.write.mode("errorifexists").options(**OPTIONS, **options).parquet(out)
    except AnalysisException as error:
        if error.getCondition() != "PATH_ALREADY_EXISTS":
            raise
        raise TargetTaken("--out", out, "another job writes it; choose another path") from None
    finally:
        conf.set(TIMES, before)


@contextmanager
def nothing_left(files: HadoopFiles, out: str) -> Iterator[None]:
    """Leaving this by an error deletes `out`, unless it is another job's, and the directories above
    it that were not there before.
    """
    missing = files.missing_parents(out)
    try:
        yield
    except TargetTaken:
        raise
    except BaseException:
        with suppress(Py4JError, OSError):  # Spark may be gone, and the error says so
            files.delete(out)
            for parent in missing:
                files.delete_empty(parent)
        raise
