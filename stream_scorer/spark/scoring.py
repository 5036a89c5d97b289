"""Scoring in bulk on Spark.

`score` scores a whole snapshot. Its parts are there for a job of your own: `scores` of any frame
with a snapshot's columns, and `write`.

Arrow batches of rows go to the Python workers, become CSR as on one machine, and come back as
batches of scores, a piece at a time. Spark writes them by its commit protocol: each attempt of a
task has its own file, one attempt of each task is committed, and names are given when all are
(algorithm 1, whatever the cluster's default), `_SUCCESS` last. The rows are then counted against
the manifest. A job that fails leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pyspark import TaskContext
from pyspark.accumulators import Accumulator, AccumulatorParam
from pyspark.sql import functions as sql
from pyspark.sql.types import (
    ArrayType,
    FloatType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import Halt, InputError, SnapshotError
from stream_scorer.io.files.scores import described, scored
from stream_scorer.io.files.snapshot_shards import WRITE_AGAIN
from stream_scorer.io.files.snapshot_tables import customers, vectors
from stream_scorer.jobs.score import SparkScores
from stream_scorer.runtime import peak_memory_bytes
from stream_scorer.spark.hadoop_files import HadoopFiles
from stream_scorer.spark.session import errors_in_one_line
from stream_scorer.spark.shipped_model import ShippedModel, engine_of, ship
from stream_scorer.spark.snapshots import open_snapshot
from stream_scorer.spark.worker import in_worker
from stream_scorer.spark.writing import TargetTaken, nothing_left, write_parquet

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import DataFrame, SparkSession

PIECE_ROWS = 2048
PEAK_MEMORY = "peak_memory_bytes"  # the one figure of a tally that is not a sum
Tally = dict[str, float]


class TallyParam(AccumulatorParam[Tally]):  # type: ignore[misc] # pyspark is not type-checked
    """Adds what tasks report; attempts that failed count too."""

    def zero(self, value: Tally) -> Tally:
        """Nothing yet."""
        return {}

    def addInPlace(self, value1: Tally, value2: Tally) -> Tally:  # noqa: N802 - pyspark's name
        """Sums, and the greatest memory."""
        for name, amount in value2.items():
            before = value1.get(name, 0)
            value1[name] = max(before, amount) if name == PEAK_MEMORY else before + amount
        return value1


def score(
    spark: SparkSession, model: str, snapshot: str, out: str, model_engine: str = "native",
    erased_customers: Mapping[str, int] = MappingProxyType({}),
) -> SparkScores:  # fmt: skip
    """Score every row of `snapshot` into the new directory `out`.

    model: see `ship`. erased_customers: by id the moment in ms since 1970 UTC up to which rows are
    left out. Raises InputError for what can't be used and Halt where the job fails.
    """
    started = time.monotonic()
    files = HadoopFiles(spark)
    out = out.rstrip("/")
    files.refuse_existing("scores", out)
    shipped = ship(spark, model, model_engine)
    loaded = time.monotonic()
    checked = open_snapshot(spark, snapshot, shipped.fingerprint)
    trend = checked.trend(spark)
    begun = time.monotonic()
    tally = spark.sparkContext.accumulator({}, TallyParam())
    try:
        with nothing_left(files, out), errors_in_one_line("scores", out):
            frame = checked.frame(spark)
            due = checked.rows
            if erased_customers:
                frame = without_erased(spark, frame, erased_customers)
                due = frame.count()
            write(scores(frame, shipped, tally, trend), out)
            written = spark.read.parquet(out).count()
            # Counted from what is stored: a reader of the scores would not notice that rows are
            # missing.
            if written != due:
                raise Halt(
                    f"scores {out}: only {written:,} of {due:,} rows were written, "
                    "so all of it was deleted; see Spark's log, and run it again"
                )
    except TargetTaken:
        raise
    except (InputError, Halt) as error:
        raise checked.fault(spark) or error from None
    ended = time.monotonic()
    workers = dict(tally.value)
    peak_memory_bytes = int(workers.pop(PEAK_MEMORY, 0))
    return SparkScores(
        rows=written,
        categories=len(shipped.categories),
        model_version=shipped.model_version,
        model_engine=shipped.engine,
        out=out,
        seconds=round(ended - started, 3),
        customers_per_second=round(written / (ended - started)),
        stages={
            "load": round(loaded - started, 3),
            "check": round(begun - loaded, 3),
            "score": round(ended - begun, 3),
        },
        peak_memory_bytes=peak_memory_bytes,
        workers={name: round(amount, 3) for name, amount in workers.items()},
        parallelism=spark.sparkContext.defaultParallelism,
        erased_rows=checked.rows - written,
    )


def without_erased(
    spark: SparkSession, frame: DataFrame, erased_customers: Mapping[str, int]
) -> DataFrame:
    """The rows of a frame with a snapshot's columns whose as_of lies after the moment, in ms since
    1970 UTC, up to which their customer was forgotten; of other customers, all."""
    rows = [(customer, ms) for customer, ms in erased_customers.items()]
    erased = sql.broadcast(spark.createDataFrame(rows, "erased_id string, erased_ms long"))
    same = frame["customer_id"] == erased["erased_id"]
    up_to = sql.unix_millis(frame["as_of"]) <= erased["erased_ms"]
    return frame.join(erased, same & up_to, "left_anti")


def scores(
    frame: DataFrame,
    model: ShippedModel,
    tally: Accumulator[Tally] | None = None,
    trend: TrendTable | None = None,
) -> DataFrame:
    """customer_id, as_of and probabilities of each row of a frame with a snapshot's columns.

    trend: the shop's, on the days of all rows, for a model that was trained with one
    (`CheckedSnapshot.trend`). The order of probabilities is in the metadata of that column.
    """
    metadata = described(model.categories, model.classes, model.model_version)
    schema = StructType(
        [
            StructField("customer_id", StringType(), False),
            StructField("as_of", TimestampType(), False),
            StructField("probabilities", ArrayType(FloatType(), False), False, metadata),
        ]
    )
    needed = frame.select("customer_id", "as_of", "columns", "values")
    # Broadcast, so that each executor gets it once rather than with each task.
    shared = None if trend is None else frame.sparkSession.sparkContext.broadcast(trend)
    work = partial(_score_batches, model=model, tally=tally, trend=shared)
    return needed.mapInArrow(work, schema)


def write(frame: DataFrame, out: str) -> None:
    """Scores as Parquet files in the new directory `out`."""
    # Hardly two probabilities are equal.
    no_dictionary = {"parquet.enable.dictionary#probabilities.list.element": "false"}
    write_parquet(frame, out, **no_dictionary)


@in_worker
def _score_batches(
    batches: Iterator[Any],
    model: ShippedModel,
    tally: Accumulator[Tally] | None,
    trend: Broadcast[TrendTable] | None,
) -> Iterator[Any]:
    """In a Python worker."""
    started, loaded_before = time.perf_counter(), engine_of.cache_info().misses
    task = TaskContext.get()
    # The cores of a task are Spark's to share out; all of the machine's would be taken by each
    # task.
    engine = engine_of(model, task.cpus() if task is not None else 1)
    if trend is not None:
        # Each time: the engine stays for tasks of other snapshots.
        engine.use_trend(trend.value)
    seconds = {"load": time.perf_counter() - started, "convert": 0.0, "model": 0.0}
    for batch in batches:
        for first in range(0, batch.num_rows, PIECE_ROWS):
            began = time.perf_counter()
            piece = batch.slice(first, PIECE_ROWS)
            try:
                customers(piece)
                matrix = vectors(piece, model.columns)
            except ValueError as error:
                # Of a snapshot, `CheckedSnapshot.fault` names the shard.
                raise SnapshotError("snapshot", "rows", f"{error}; {WRITE_AGAIN}") from None
            converted = time.perf_counter()
            found = engine.score(matrix)
            modelled = time.perf_counter()
            answer = scored(piece, found)
            seconds["model"] += modelled - converted
            seconds["convert"] += converted - began + time.perf_counter() - modelled
            yield answer
    if tally is not None:
        peak = peak_memory_bytes()
        loads = engine_of.cache_info().misses - loaded_before
        tally.add({**seconds, "tasks": 1, "models_loaded": loads, PEAK_MEMORY: peak})
