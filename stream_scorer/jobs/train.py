"""`stream-scorer train`: labelled snapshots into a model artefact.

Snapshots are checked byte by byte and against the config before training starts; they are then read
a shard at a time. The share of rows that acted on each category, the prior, goes into the manifest:
`evaluate` measures the model against it. A few rows and their scores go into the artefact's golden
batch: whoever is about to serve the model compares them with scores of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stream_scorer.core.events.batch import Float64, Int64
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.errors import ArtefactError
from stream_scorer.io.files.labelled_snapshots import open_labelled
from stream_scorer.io.files.snapshots import LeftOut
from stream_scorer.model import artefact
from stream_scorer.model.engines.golden import golden_batch_of
from stream_scorer.model.trained_moments import REMEDY, moments_it_lacks, trained_moments
from stream_scorer.model.trend_span import trend_span_warning
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings

OTHER_RULE = "its labels follow another rule than [labels] in the config; replay again"


@dataclass(frozen=True)
class Trained(Result):
    """The new artefact. validation_log_loss: None without validation snapshots. left_out: by
    snapshot, what its events lacked when it was made; only of snapshots that lacked any.
    event_rows, quiet_rows: of `rows`, those just after events and those where a refresh scores; the
    others stand at cut-offs. warning: what will be scored although no row was like it, with the
    remedy. trend_warning: that the rows lie too close together for the shop's trend, with the
    remedy.
    """

    model: str
    model_version: str
    rows: int
    categories: int
    validation_log_loss: float | None
    seconds: float
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    event_rows: int = 0
    warning: str | None = None
    trend_warning: str | None = None
    quiet_rows: int = 0


def train(
    settings: Settings, snapshots: Sequence[Path], out: Path, *, validation: Sequence[Path] = ()
) -> Trained:
    """Train on `snapshots` and write the new directory `out`.

    validation: later snapshots, to stop by and to calibrate on. Raises ArtefactError where `out`
    exists or can't be written, SnapshotError and FingerprintMismatch for unfit snapshots.
    """
    from stream_scorer.model import training  # noqa: PLC0415 - imports MXNet

    started = time.monotonic()
    # Before the work, which may take long.
    if out.exists():
        raise ArtefactError("--out", out, "already exists; choose another path or delete it")
    space, rule = settings.feature_space(), settings.label_rule()
    shards = open_labelled(snapshots, space.fingerprint, rule, OTHER_RULE)
    held_out = None
    if validation:
        held_out = open_labelled(validation, space.fingerprint, rule, OTHER_RULE)
    trend = shards.trend()
    validation_trend = None if held_out is None else held_out.trend()
    steps = 0
    with progress("training") as meter:

        def report_step(step: training.Progress) -> None:
            nonlocal steps
            steps = step.step
            meter.at(steps, step.steps)

        model = training.train(
            shards, held_out, space, rule, settings.training, report_step,
            trend=trend, validation_trend=validation_trend,
        )  # fmt: skip
        meter.at(steps, steps)  # fewer than planned where it stopped early
    # Snapshots that do not say it are of a version that wrote rows as of cut-offs alone.
    found = [m for m in (snapshot.info.row_moments for snapshot in shards.snapshots) if m]
    event_rows = sum(moments.event_rows for moments in found)
    quiet_rows = sum(moments.quiet_rows for moments in found)
    rows = int(model.training["rows"])
    about = {
        **trained_moments(rows - event_rows - quiet_rows, event_rows, quiet_rows),
        "snapshots": [str(path.resolve()) for path in snapshots],
        "validation_snapshots": [str(path.resolve()) for path in validation],
        "prior": prior(shards, model.category_index).tolist(),
    }
    # Of validation where there is any: rows that the parameters were not fitted to.
    golden = golden_batch_of(model, held_out or shards, validation_trend or trend)
    manifest = artefact.save(model, out, about, golden)
    loss = model.metrics.get("validation_log_loss")
    lacks = moments_it_lacks(about, refreshes=settings.refresh.every_ms > 0)
    return Trained(
        model=str(out),
        model_version=manifest.model_version,
        rows=rows,
        categories=len(model.category_index),
        validation_log_loss=None if loss is None or math.isnan(loss) else float(loss),
        seconds=round(time.monotonic() - started, 3),
        left_out={
            str(snapshot.path): snapshot.info.left_out
            for one in (shards, held_out)
            for snapshot in (one.snapshots if one else ())
            if snapshot.info.left_out != LeftOut()
        },
        event_rows=event_rows,
        warning=None if lacks is None else f"{lacks}; {REMEDY}",
        trend_warning=trend_span_warning(space, shards.weeks_ms()),
        quiet_rows=quiet_rows,
    )


def in_words(trained: Trained) -> list[str]:
    """The result for people."""
    loss = trained.validation_log_loss
    words = (
        f"model {trained.model_version} to {trained.model}: {trained.categories:,} "
        f"categories from {trained.rows:,} rows in {trained.seconds:.0f} s"
    )
    left_out = [
        f"{snapshot}: {line.strip()}"
        for snapshot, lacking in trained.left_out.items()
        for line in lacking.in_words()
    ]
    return [
        words if loss is None else f"{words}, validation log loss {loss:.4f}",
        *left_out,
        *(f"warning: {text}" for text in (trained.warning, trained.trend_warning) if text),
    ]


def prior(shards: Sequence[LabelledRows], category_index: Int64) -> Float64:
    """(N,) the share of rows, by their weights, that acted on each category, smoothed by half a
    row."""
    rows = 0.0
    acted = np.zeros(int(category_index.max(initial=-1)) + 1)
    for shard in shards:
        rows += float(shard.weight.sum(dtype=np.float64))
        weight = np.repeat(shard.weight, np.diff(shard.label_indptr))
        found = np.bincount(shard.label_category, weight, minlength=len(acted))
        acted += found[: len(acted)]
    # Half a row, so that a category nobody acted on does not have a prior of 0, whose log is
    # infinite.
    share: Float64 = (acted[category_index] + 0.5) / (rows + 1)
    return share
