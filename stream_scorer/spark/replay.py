"""Past events into labelled snapshots on Spark, for logs too large for one machine.

One task reads one event file by the code that reads it on one machine. A vector and its labels
depend on that customer's events alone, in order of time and, within one moment, of the log. So
events go to partitions by customer; a task puts its partition's in that order and gives them to
core. Which moments become rows, and with which weights, follows from totals of all partitions,
which a pass before that adds up. The shop's trend needs the events of all customers: the daily
counts of each file, which are whole numbers, reach the driver with what was refused in it, and are
added there. The decoded events are kept on the executors' disks between the two steps, so that the
cut-offs can be checked against the end of the log before any work is done on them. Shards are
written by Spark's commit protocol, the manifest when all are there: without it a directory is no
snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark import StorageLevel
from pyspark.accumulators import Accumulator, AccumulatorParam
from pyspark.sql import functions as sql

from stream_scorer.core.events.dead_letter_window import DeadLetterParts
from stream_scorer.core.events.refused import Refused
from stream_scorer.core.features.ignored_values import IgnoredValues, ignored_values
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.labels.as_of import KnownEvents
from stream_scorer.core.labels.cutoffs import rows_at_cutoffs
from stream_scorer.core.labels.labels import LabelCollector
from stream_scorer.core.labels.sampled_moments import MomentCounts, MomentSample, counted
from stream_scorer.core.trend import DailyCounts, refuse_days
from stream_scorer.errors import EventFileError, InputError
from stream_scorer.io.files import event_tables
from stream_scorer.io.files.event_paths import files_of
from stream_scorer.io.files.row_moments import RowMoments
from stream_scorer.io.files.snapshot_info import LeftOut, SnapshotInfo, manifest_of
from stream_scorer.io.files.snapshot_manifest import MANIFEST_FILE, manifest_content
from stream_scorer.io.files.snapshot_tables import spark_batches
from stream_scorer.io.files.snapshot_trend import TREND_FILE, table_of_rows, trend_content
from stream_scorer.io.files.snapshot_writer import MOST_MOMENTS, ROWS_PER_SHARD
from stream_scorer.live.consumer import clock_ms
from stream_scorer.past.replayed import LabelledSnapshot
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.past.sources import (
    TOPIC,
    open_past,
    refuse_unfinished,
    refuse_without_rows,
    valid_batches,
)
from stream_scorer.past.whole_log import WholeLog
from stream_scorer.settings.tree import Settings
from stream_scorer.spark.hadoop_files import HadoopFiles
from stream_scorer.spark.session import errors_in_one_line
from stream_scorer.spark.snapshots import digests
from stream_scorer.spark.worker import in_worker
from stream_scorer.spark.writing import nothing_left, write_parquet
from stream_scorer.storage.places import place

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BATCH_RECORDS = 10_000
EVENTS_PER_TASK = 1_000_000  # about 600 MB in a worker
EVENT_COLUMNS = "customer_id string, occurred_at bigint, file int, position bigint, event binary"
COUNT_COLUMNS = "cutoff_rows bigint, event_moments bigint, quiet_moments bigint"
ROW_COLUMNS = (
    "customer_id string, as_of timestamp, columns array<int>, values array<float>, "
    "labels array<struct<category: int, class: smallint>>, weight float"
)
Reports = dict[int, tuple[Refused, IgnoredValues, WholeLog]]


class ReportsParam(AccumulatorParam[Reports]):  # type: ignore[misc] # pyspark is not type-checked
    """What was refused, ignored and counted in each file; reading it again replaces its counts."""

    def zero(self, value: Reports) -> Reports:
        """Nothing yet."""
        return {}

    def addInPlace(self, value1: Reports, value2: Reports) -> Reports:  # noqa: N802 - its name
        """The newer of each file."""
        value1.update(value2)
        return value1


def replay(
    spark: SparkSession,
    settings: Settings,
    sources: Sequence[str],
    out: str,
    rows: Sequence[int] | RowsAsked,
    window: tuple[int | None, int | None] = (None, None),
) -> LabelledSnapshot:
    """A labelled snapshot in the new directory `out`, as `jobs.replay.replay` writes it.

    sources: event files or directories of them, under the same path on every worker. window: from
    inclusive, to exclusive, of occurred_at. rows as there. Raises InputError, and Halt
    where the job fails.
    """
    asked = rows if isinstance(rows, RowsAsked) else RowsAsked.of(rows)
    started = time.monotonic()
    space, rule = settings.feature_space(), settings.label_rule()
    span = asked.span_ms()
    if span is not None:
        refuse_days(space, *span)
    files, out = HadoopFiles(spark), out.rstrip("/")
    files.refuse_existing("snapshot", out)
    listed = _listed(sources)
    reports = spark.sparkContext.accumulator({}, ReportsParam())
    events = _events(spark, listed, settings, window, reports)
    try:
        with nothing_left(files, out), errors_in_one_line("replay", out):
            at = sql.col("occurred_at")
            count, first_row = events.agg(sql.count("*"), sql.min(at)).collect()[0]
            refused, ignored, log = _together(reports.value, settings)
            log.refuse_empty_sample()
            if not count:
                raise EventFileError("events", ", ".join(listed), refused.nothing_left())
            moments = None
            # Of everybody, so that a sample of customers has the moments that the whole has.
            first, last = log.first_ms or 0, log.last_ms or 0
            if span is not None:
                refuse_without_rows(first_row, span[1])
                refuse_unfinished(last, span[1], rule.horizon_ms, refused)
            if asked.samples:
                moments = asked.moments(first, last, rule.horizon_ms)
                refuse_days(space, moments.from_ms, moments.to_ms)
            sample = _write(events, count, settings, asked, moments, out)
            left_out = LeftOut.by(refused, ignored.found(space.vocabularies))
            info = SnapshotInfo(
                space, rule.by, rule, left_out=left_out, customer_sample=settings.customer_sample
            )
            written = _finish(spark, files, out, info, asked, sample, log.daily_counts)
    finally:
        events.unpersist()
    return LabelledSnapshot(
        events=count,
        dead_letters=refused.by_reason(),
        refused=tuple(refused.first),
        rows=written.cutoff_rows + written.event_rows + written.quiet_rows,
        cutoffs=len(asked.cutoffs_ms),
        event_rows=written.event_rows,
        quiet_rows=written.quiet_rows,
        out=out,
        seconds=round(time.monotonic() - started, 3),
        refusals=left_out.refusals,
        ignored_values=left_out.ignored_values,
        ignored_events=refused.ignored_events,
        erased_events=refused.erased_events,
        outside_window=refused.outside_window,
        sample_customers=settings.customer_sample.in_manifest,
        sampled_out_events=log.left_out,
    )


def _listed(sources: Sequence[str]) -> list[str]:
    """Absolute paths of the event files, in the order of the log."""
    if list(sources) == [TOPIC]:
        remedy = "Spark reads event files; replay the topic on one machine, or write it to files"
        raise InputError("events", TOPIC, remedy)
    return [str(f.resolve()) for f in files_of([place(s, "events") for s in sources])]


def _events(
    spark: SparkSession,
    listed: Sequence[str],
    settings: Settings,
    window: tuple[int | None, int | None],
    reports: Accumulator[Reports],
) -> DataFrame:
    """All valid events of the sample's customers, kept on disk once read; a task for each file."""
    numbered = spark.sparkContext.parallelize(list(enumerate(listed)), len(listed))
    # The moment is the driver's, or workers might judge one event differently.
    read = partial(_read, settings=settings, window=window, now_ms=clock_ms(), reports=reports)
    # One row for each file, and as many partitions: a task reads one file.
    files = spark.createDataFrame(numbered, "file int, path string")
    return files.mapInArrow(read, EVENT_COLUMNS).persist(StorageLevel.DISK_ONLY)


def _write(
    events: DataFrame, count: int, settings: Settings, asked: RowsAsked,
    moments: MomentSample | None, out: str,
) -> MomentSample | None:  # fmt: skip
    """The shards; which moments between cut-offs became rows, and with which weights."""
    least = events.sparkSession.sparkContext.defaultParallelism
    # By the number of events rather than of files: a task holds all of its customers' events.
    tasks = max(least, -(-count // EVENTS_PER_TASK))
    by_customer = events.repartition(tasks, "customer_id")
    sample = None
    if moments is not None:
        count_moments = partial(_count, settings=settings, moments=moments)
        totals = by_customer.mapInArrow(count_moments, COUNT_COLUMNS)
        sums = totals.agg(*(sql.sum(name) for name in MomentCounts._fields)).collect()[0]
        sample = asked.sample(moments, MomentCounts(*sums))
    cutoffs = asked.cutoffs_ms if asked.at_cutoffs else ()
    fold = partial(_fold, settings=settings, cutoffs=cutoffs, sample=sample)
    rows = by_customer.mapInArrow(fold, ROW_COLUMNS)
    write_parquet(rows, out, maxRecordsPerFile=str(ROWS_PER_SHARD))
    return sample


def _finish(
    spark: SparkSession, files: HadoopFiles, out: str, info: SnapshotInfo, asked: RowsAsked,
    sample: MomentSample | None, daily: DailyCounts,
) -> RowMoments:  # fmt: skip
    """Write the shop's trend and the manifest; what it says of the rows' moments."""
    frame = spark.read.parquet(out)
    as_of = sql.unix_millis("as_of")
    at_cutoff = as_of.isin(list(asked.cutoffs_ms))
    quiet = ~at_cutoff & (as_of % asked.every_ms == 0) if asked.every_ms else sql.lit(False)
    by_file = frame.groupBy(sql.col("_metadata.file_name").alias("name")).agg(
        sql.count("*").alias("rows"), sql.count_if(at_cutoff).alias("at_cutoffs"),
        sql.count_if(quiet).alias("quiet"),
    )  # fmt: skip
    rows, counts = dict[str, int](), MomentCounts(0, 0, 0)
    for found in by_file.collect():
        rows[found["name"]] = all_rows = found["rows"]
        of_events = all_rows - found["at_cutoffs"] - found["quiet"]
        counts = counts.plus(MomentCounts(found["at_cutoffs"], of_events, found["quiet"]))
    # Rows as of events may stand at millions of moments; no more are looked at than are listed.
    distinct = frame.select(as_of.alias("as_of")).distinct().limit(MOST_MOMENTS + 1).collect()
    moments = sorted(row["as_of"] for row in distinct)
    if len(moments) > MOST_MOMENTS:
        moments = list(frame.agg(sql.min(as_of), sql.max(as_of)).collect()[0])
    written = asked.written(counts, sample)
    # A shard without rows is listed too, since its file is there and is checked.
    shards = [
        {"name": name, "rows": rows.get(name, 0), "bytes": of.length, "sha256": of.sha256}
        for name, of in sorted(digests(spark, out).items())
    ]
    table = table_of_rows(info.space, daily, (moments[0], moments[-1]) if moments else None)
    trend = None
    if table is not None:
        content, trend = trend_content(table)
        files.write_new(f"{out}/{TREND_FILE}", content)
    manifest = manifest_of(replace(info, row_moments=written), moments, shards, trend)
    files.write_new(f"{out}/{MANIFEST_FILE}", manifest_content(manifest))
    return written


def _together(reports: Reports, settings: Settings) -> tuple[Refused, IgnoredValues, WholeLog]:
    """In the order of the log, as one reader would have given it. Raises TooManyDeadLetters."""
    whole, ignored = Refused(), IgnoredValues()
    window = settings.dead_letter_window(live=False)
    log = WholeLog(settings.feature_space(), settings.customer_sample)
    for _, (one, values, of_file) in sorted(reports.items()):
        whole.join(one)
        log.join(of_file)
        ignored.add(values.counts.values())
        for part in one.window.parts if isinstance(one.window, DeadLetterParts) else ():
            window.add_part(part)
    return whole, ignored, log


@in_worker
def _read(
    batches: Iterator[Any],
    settings: Settings,
    window: tuple[int | None, int | None],
    now_ms: int,
    reports: Accumulator[Reports],
) -> Iterator[Any]:
    """In a Python worker: the events of one file after the other."""
    space, also = settings.feature_space(), settings.label_rule().looks_at()
    for batch in batches:
        for row in batch.to_pylist():
            # The driver decides, since the records of one window may lie in several files.
            ignored = IgnoredValues()
            part_records = settings.dead_letter_window(live=False).part_records
            refused = Refused(DeadLetterParts(part_records))
            log = WholeLog(space, settings.customer_sample)
            with open_past(
                settings, [row["path"]], batch_records=BATCH_RECORDS,
                from_ms=window[0], to_ms=window[1], now_ms=now_ms,
            ) as past:  # fmt: skip
                for valid in valid_batches(settings, past, refused):
                    kept = log.sampled(valid.events)
                    ignored.add(ignored_values(space, EventColumns(kept), also))
                    yield event_tables.to_batch(kept, row["file"])
            reports.add({row["file"]: (refused, ignored, log)})


@in_worker
def _count(batches: Iterator[Any], settings: Settings, moments: MomentSample) -> Iterator[Any]:
    """In a Python worker: the totals of a partition's customers."""
    events = event_tables.in_order(list(batches))
    if events is not None:
        known = KnownEvents.of(events, events.occurred_at_ms, settings.memory())
        yield event_tables.one_row(counted(known, moments)._asdict())


@in_worker
def _fold(
    batches: Iterator[Any], settings: Settings, cutoffs: Sequence[int], sample: MomentSample | None
) -> Iterator[Any]:
    """In a Python worker: the rows of a partition's customers."""
    events = event_tables.in_order(list(batches))
    if events is None:
        return
    space, rule = settings.feature_space(), settings.label_rule()
    labels = LabelCollector(rule, space.vocabularies[rule.by])
    labels.add(events)
    memory = settings.memory()
    weight = sample.weights[0] if sample is not None else 1.0
    for rows in rows_at_cutoffs(events, space, labels, cutoffs, memory=memory, weight=weight):
        yield from spark_batches(rows)
    if sample is not None:
        known = KnownEvents.of(events, events.occurred_at_ms, memory)
        for rows in sample.rows(known, space, labels):
            yield from spark_batches(rows)
