"""`stream-scorer score`: every row of a snapshot, scored on this machine.

While a piece is scored, the next shard is read and the scores before it are written, each by a
thread of its own. Memory is that of two shards and two pieces, whatever the snapshot's size. The
file gets its name when all is there.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.io.files.scores import ROWS_PER_GROUP, ScoreWriter
from stream_scorer.io.files.snapshots import Shards, Snapshot
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, engine_name, open_engine
from stream_scorer.past.prefetch import read_ahead
from stream_scorer.progress import Meter, progress
from stream_scorer.result import Result
from stream_scorer.runtime import peak_memory_bytes
from stream_scorer.storage.places import Place


@dataclass(frozen=True)
class BulkScores(Result):
    """stages: seconds in each, some of them beside each other. peak_memory_bytes: of a process.
    erased_rows: left out, since their customers were forgotten on request."""

    rows: int
    categories: int
    model_version: str
    model_engine: str
    out: str
    seconds: float
    customers_per_second: int
    stages: Mapping[str, float]
    peak_memory_bytes: int
    erased_rows: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class SparkScores(BulkScores):
    """Adds what all Python workers did: "load", "convert" and "model" in seconds, "tasks", and
    "models_loaded". peak_memory_bytes is the greatest of a Python worker's.
    """

    workers: Mapping[str, float]
    parallelism: int


def score(
    model: Place, snapshot: Place, out: Place, model_engine: str = "native",
    erased_customers: Mapping[str, int] = MappingProxyType({}),
) -> BulkScores:  # fmt: skip
    """Score every row of `snapshot` into the new Parquet file `out`.

    erased_customers: as of `Snapshot.leave_out`; their rows are not written.
    Raises InputError for a model, a snapshot or a target that can't be used.
    """
    started = time.monotonic()
    spent = _Spent()
    with spent("load"):
        engine = open_engine(artefact.load(model), engine_name(model_engine))
    about = (engine.categories, engine.classes, engine.model_version)
    with ScoreWriter(out, *about) as writer:
        with spent("check"):
            opened = Snapshot.open(snapshot, engine.fingerprint)
            opened.leave_out(erased_customers)
            table = opened.trend
        if table is not None:
            engine.use_trend(table)
        # After the check, so that bad input is reported before kernels are compiled.
        with spent("load"):
            # Compiling and binding would otherwise count as scoring.
            engine.warm_up(ROWS_PER_GROUP)
        with progress("scoring", opened.rows) as meter:
            _score_all(opened.shards(labels=False), engine, writer, spent, meter)
    seconds = time.monotonic() - started
    return BulkScores(
        rows=opened.rows - opened.erased_rows,
        categories=len(engine.categories),
        model_version=engine.model_version,
        model_engine=model_engine,
        out=str(out),
        seconds=round(seconds, 3),
        customers_per_second=round(opened.rows / seconds),
        erased_rows=opened.erased_rows,
        stages={stage: round(took, 3) for stage, took in spent.seconds.items()},
        peak_memory_bytes=peak_memory_bytes(),
    )


def in_words(scores: BulkScores) -> list[str]:
    """The result for people."""
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in scores.stages.items())
    return [
        f"{scores.rows:,} rows of {scores.categories:,} categories by model "
        f"{scores.model_version} to {scores.out} in {scores.seconds:.1f} s: "
        f"{scores.customers_per_second:,} a second",
        *(
            [f"{scores.erased_rows:,} rows left out: their customers were forgotten on request"]
            if scores.erased_rows
            else []
        ),
        f"seconds: {stages}; {scores.peak_memory_bytes / 1e6:,.0f} MB of memory at most",
    ]


class _Spent:
    """Seconds by stage; each stage has one thread."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


def _score_all(
    shards: Shards, engine: Engine, writer: ScoreWriter, spent: _Spent, meter: Meter
) -> None:
    def write(rows: LabelledRows, first: int, scores: Float32) -> None:
        last = first + len(scores)
        with spent("write"):
            writer.write(rows.customer_ids[first:last], rows.as_of_ms[first:last], scores)

    with ThreadPoolExecutor(1) as writing, read_ahead(_read(shards, spent), 1) as coming:
        before: Future[None] | None = None
        for rows in coming:
            for first in range(0, len(rows), ROWS_PER_GROUP):
                with spent("model"):
                    scores = engine.score(rows.matrix[first : first + ROWS_PER_GROUP])
                # One write at a time, and at most one waiting: the file is in order, and memory
                # bounded.
                if before is not None:
                    before.result()
                before = writing.submit(write, rows, first, scores)
                meter.advance(len(scores))
        if before is not None:
            before.result()


def _read(shards: Shards, spent: _Spent) -> Iterator[LabelledRows]:
    for number in range(len(shards)):
        with spent("read"):
            rows = shards[number]
        yield rows
