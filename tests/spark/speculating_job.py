"""A job of one's own, for spark-submit: a task is slow, its copy overtakes it, both end.

MODEL SNAPSHOT OUT FOLDER. The first attempt of one task waits until its copy runs, so that both
write and ask to be committed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pyspark import TaskContext
from pyspark.sql import SparkSession

from stream_scorer.spark.scoring import scores, write
from stream_scorer.spark.shipped_model import ship

SLOW = 1
PATIENCE_SECONDS = 120


def slow_once(batches: Iterator[Any], folder: str) -> Iterator[Any]:
    """Rows as they are; each attempt of task `SLOW` leaves a file with its number."""
    task = TaskContext.get()
    if task.partitionId() == SLOW:
        Path(folder, f"attempt-{task.attemptNumber()}").touch()
    for number, batch in enumerate(batches):
        if number == 0 and task.partitionId() == SLOW and task.attemptNumber() == 0:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not Path(folder, "attempt-1").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        yield batch


def main(model: str, snapshot: str, out: str, folder: str) -> None:
    """Score as `stream_scorer.spark.scoring.score` does."""
    spark = SparkSession.builder.appName("speculating").getOrCreate()
    frame = spark.read.parquet(f"{snapshot}/*.parquet").drop("labels")
    slow = frame.mapInArrow(partial(slow_once, folder=folder), frame.schema)
    write(scores(slow, ship(spark, model)), out)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
