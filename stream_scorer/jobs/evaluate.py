"""`stream-scorer evaluate`: how good a model is on labelled snapshots.

Every row is scored by the native engine, whose scores are MXNet's to 1e-5, and held against what
the customer then did. Baselines: "prior" gives every customer each category's share in the training
rows; "logistic" is one logistic regression for each category on that category's own columns, fitted
here on the training snapshots. Intervals are 95 % of a paired bootstrap over customers, of model
minus baseline; the AUC's is linearised. Scores of all rows are held in memory: 4 bytes for each
row, category and model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream_scorer.core.evaluation import logistic_baseline, metrics
from stream_scorer.core.evaluation.intervals import CustomerNumbers, Plain, metric_intervals, plain
from stream_scorer.core.evaluation.training_record import (
    labels_reach,
    recorded_prior,
    training_reaches,
)
from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.errors import FingerprintMismatch, SnapshotError
from stream_scorer.io.files.scores import ScoreWriter
from stream_scorer.io.files.snapshots import Shards, Snapshot
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.progress import progress

BASELINE_ROWS = 200_000  # more rows do not make so small a model better


@dataclass(frozen=True)
class _Scored:
    """R rows: (R, N) probability of acting at all by model, (R, N) whether they did, (R,) whose."""

    by_model: dict[str, Float32]
    acted: Bool
    customer: Int64
    first_ms: int


def evaluate(
    model: Path,
    snapshots: Sequence[Path],
    *,
    baseline: Sequence[Path] = (),
    report_file: Path | None = None,
    scores_file: Path | None = None,
) -> dict[str, Any]:
    """{"rows", "categories", "categories_scored", "metrics", "baselines", "intervals", ...}.

    baseline: what the logistic regression is fitted on; (): the model's own training snapshots,
    where they are still there. categories_scored: those with positives and negatives, which alone
    have an AUC. A metric that is not defined is None. intervals: {baseline: {metric: {"difference",
    "low", "high"}}}. notes: what the reader should know, in words.
    """
    loaded = artefact.load(model)
    if report_file is not None:
        from stream_scorer.reports import page  # noqa: PLC0415 - its matplotlib is an extra

        page.new_figure()  # report a missing matplotlib before the work
    shards = _shards(loaded, snapshots)
    notes: list[str] = []
    first_ms = min(moment for s in shards.snapshots for moment in s.manifest["as_of_ms"])
    logistic = _logistic(loaded, baseline, first_ms, notes)
    scored = _scored(loaded, shards, logistic, scores_file)
    if training_reaches(
        loaded.manifest.training, loaded.manifest.labels.horizon_ms, scored.first_ms
    ):
        notes.append("not held back: training's labels reach into the time of these rows")
    found = {name: metrics.summary(p, scored.acted) for name, p in scored.by_model.items()}
    report = {
        "model": str(model),
        "model_version": loaded.manifest.model_version,
        "rows": len(scored.acted),
        "categories": scored.acted.shape[1],
        "categories_scored": metrics.categories_scored(scored.acted),
        "metrics": plain(found.pop("model")),
        "baselines": {name: plain(values) for name, values in found.items()},
        "intervals": _intervals(scored),
        "per_category": _per_category(loaded.manifest.categories, scored),
        "notes": notes,
    }
    if report_file is not None:
        from stream_scorer.reports import evaluation as html  # noqa: PLC0415

        html.write(report_file, report, scored.by_model, scored.acted)
    return report


def in_words(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    columns = {"model": report["metrics"], **report["baselines"]}
    lines = [
        f"model {report['model_version']}: {report['rows']:,} rows, {report['categories']:,} "
        f"categories, {report['categories_scored']:,} of them with both outcomes",
        "              " + "".join(f"{name:>10}" for name in columns),
    ]
    for metric in report["metrics"]:
        values = (c[metric] for c in columns.values())
        cells = "".join(f"{'-' if v is None else f'{v:.4f}':>10}" for v in values)
        lines.append(f"{metric:14}{cells}")
    for name, differences in report["intervals"].items():
        for metric, found in differences.items():
            if found["difference"] is not None:
                lines.append(
                    f"{metric}, model minus {name}: {found['difference']:+.4f} "
                    f"({found['low']:+.4f} to {found['high']:+.4f})"
                )
    lines += report["notes"]
    return lines


def _shards(loaded: artefact.Artefact, paths: Sequence[Path]) -> Shards:
    opened = [Snapshot.open(path, loaded.fingerprint) for path in paths]
    for snapshot in opened:
        if snapshot.info.labels is None:
            remedy = "has no labels; make one with `stream-scorer replay`"
            raise SnapshotError("snapshot", snapshot.path, remedy)
        if snapshot.info.labels != loaded.manifest.labels:
            remedy = "its labels do not follow the model's rule; replay with the model's config"
            raise SnapshotError("snapshot", snapshot.path, remedy)
    if not sum(s.rows for s in opened):
        raise SnapshotError("snapshots", "no rows", "give snapshots with rows")
    return Shards(opened)


def _logistic(
    loaded: artefact.Artefact, given: Sequence[Path], first_ms: int, notes: list[str]
) -> Callable[[LabelledRows], Float32] | None:
    """The fitted regression's probabilities; None where there is nothing to fit it on."""
    if not loaded.layout.own:
        notes.append("no baseline: the features have no columns of a category's own")
        return None
    recorded = [Path(p) for p in loaded.manifest.training.get("snapshots", [])]
    try:
        if not given and not recorded:
            raise SnapshotError("training snapshots", "(none)", "not recorded in the model")
        shards = _shards(loaded, given or recorded)
        _refuse_overlap(loaded, shards, first_ms)
    except (SnapshotError, FingerprintMismatch) as error:
        if given:
            raise
        notes.append(f"no logistic baseline ({error}); give --baseline SNAPSHOTS to fit it on")
        return None
    fitted = logistic_baseline.fit(_thinned(shards), loaded.layout)
    return lambda rows: logistic_baseline.probabilities(fitted, rows, loaded.layout)


def _refuse_overlap(loaded: artefact.Artefact, shards: Shards, first_ms: int) -> None:
    horizon_ms = loaded.manifest.labels.horizon_ms
    for snapshot in shards.snapshots:
        last_ms = max(snapshot.manifest["as_of_ms"], default=None)
        if last_ms is not None and labels_reach(last_ms, horizon_ms, first_ms):
            end_ms = last_ms + horizon_ms
            remedy = (
                f"its labels reach to {np.datetime64(end_ms, 'ms')}Z, past the first evaluated "
                f"moment {np.datetime64(first_ms, 'ms')}Z; leave out its last cut-offs"
            )
            raise SnapshotError("--baseline", snapshot.path, remedy)


def _thinned(shards: Shards) -> Iterator[LabelledRows]:
    """Evenly spaced rows, about BASELINE_ROWS at most."""
    every = -(-sum(s.rows for s in shards.snapshots) // BASELINE_ROWS)
    with progress("fitting logistic", len(shards)) as meter:
        for rows in shards:
            yield rows.take(np.arange(0, len(rows), every)) if every > 1 else rows
            meter.advance(1)


def _scored(
    loaded: artefact.Artefact,
    shards: Shards,
    logistic: Callable[[LabelledRows], Float32] | None,
    scores_file: Path | None,
) -> _Scored:
    engine = open_engine(loaded, "native")
    index = np.array(loaded.manifest.category_index, np.int64)
    ours, theirs, acted = [], [], []
    numbers = CustomerNumbers()
    owner: list[int] = []
    first_ms = np.iinfo(np.int64).max
    with ExitStack() as stack:
        writer = None
        if scores_file is not None:
            about = (engine.categories, engine.classes, engine.model_version)
            writer = stack.enter_context(ScoreWriter(scores_file, *about))
        meter = stack.enter_context(progress("scoring", len(shards)))
        for rows in shards:
            scores = engine.score(rows.matrix)
            if writer is not None:
                writer.write(rows.customer_ids, rows.as_of_ms, scores)
            ours.append(1 - scores[:, :, 0])
            if logistic is not None:
                theirs.append(logistic(rows))
            acted.append(dense_labels(rows, index) > 0)
            owner += numbers.of(rows.customer_ids)
            first_ms = min(first_ms, int(rows.as_of_ms.min(initial=first_ms)))
            meter.advance(1)
    by_model = {"model": np.concatenate(ours)}
    prior = recorded_prior(loaded.manifest.training, len(index))
    if prior is not None:
        by_model["prior"] = np.broadcast_to(prior, by_model["model"].shape)
    if theirs:
        by_model["logistic"] = np.concatenate(theirs)
    return _Scored(by_model, np.concatenate(acted), np.array(owner, np.int64), first_ms)


def _intervals(scored: _Scored) -> dict[str, dict[str, Plain]]:
    """The model minus each baseline."""
    ours, *others = scored.by_model.values()
    return {
        name: metric_intervals(ours, theirs, scored.acted, scored.customer)
        for name, theirs in zip(list(scored.by_model)[1:], others, strict=True)
    }


def _per_category(categories: Sequence[str], scored: _Scored) -> list[dict[str, Any]]:
    acted = scored.acted
    p = scored.by_model["model"]
    columns = {
        "log_loss": metrics.category_log_loss(p, acted),
        "auc": metrics.category_auc(p, acted),
        "average_precision": metrics.category_ap(p, acted),
        "recall_at_10": metrics.category_recall_at_k(p, acted, metrics.TOP_K),
        "ece": metrics.category_ece(p, acted),
    }
    theirs = {
        name: {
            "log_loss": metrics.category_log_loss(q, acted),
            "auc": metrics.category_auc(q, acted),
        }
        for name, q in scored.by_model.items()
        if name != "model"
    }
    positives = acted.sum(axis=0)
    return [
        {
            "category_id": category,
            "positives": int(positives[n]),
            **plain({name: column[n] for name, column in columns.items()}),
            "baselines": {
                name: plain({m: column[n] for m, column in values.items()})
                for name, values in theirs.items()
            },
        }
        for n, category in enumerate(categories)
    ]
