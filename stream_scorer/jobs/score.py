"""`stream-scorer score`: every row of a snapshot, scored on this machine.

While a piece is scored, the next shard is read and the scores before it are written, each by a
thread of its own. Memory is that of two shards and two pieces, whatever the snapshot's size. The
file gets its name when all is there.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.io.files.scores import ROWS_PER_GROUP, ScoreWriter
from stream_scorer.io.files.snapshots import Shards, Snapshot
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, engine_name, open_engine
from stream_scorer.past.prefetch import read_ahead
from stream_scorer.progress import Meter, progress


def score(model: Path, snapshot: Path, out: Path, model_engine: str = "native") -> dict[str, Any]:
    """{"rows", "model_version", "out", "seconds", "stages", "peak_memory_bytes", ...}.

    stages: seconds in each; reading, model and writing run beside each other. Raises InputError
    for a model, a snapshot or a target that can't be used.
    """
    started = time.monotonic()
    spent = _Spent()
    with spent("load"):
        engine = open_engine(artefact.load(model), engine_name(model_engine))
    about = (engine.categories, engine.classes, engine.model_version)
    with ScoreWriter(out, *about) as writer:
        with spent("load"):
            engine.warm_up(ROWS_PER_GROUP)
        with spent("check"):
            opened = Snapshot.open(snapshot, engine.fingerprint)
        with progress("scoring", opened.rows) as meter:
            _score_all(opened.shards(), engine, writer, spent, meter)
    seconds = time.monotonic() - started
    return {
        "rows": opened.rows,
        "categories": len(engine.categories),
        "model_version": engine.model_version,
        "model_engine": model_engine,
        "out": str(out),
        "seconds": round(seconds, 3),
        "customers_per_second": round(opened.rows / seconds),
        "stages": {stage: round(took, 3) for stage, took in spent.seconds.items()},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def in_words(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report["stages"].items())
    return [
        f"{report['rows']:,} rows of {report['categories']:,} categories by model "
        f"{report['model_version']} to {report['out']} in {report['seconds']:.1f} s: "
        f"{report['customers_per_second']:,} a second",
        f"seconds: {stages}; {report['peak_memory_bytes'] / 1e6:,.0f} MB of memory at most",
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
