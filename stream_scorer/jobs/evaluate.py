"""`stream-scorer evaluate`: how good a model is on labelled snapshots.

Every row is scored by the native engine, whose scores are MXNet's to 1e-5, and held against what
the customer then did. Baselines: "prior" gives every customer each category's share in the training
rows; "logistic" is one logistic regression for each category on that category's own columns, fitted
here on the training snapshots. Intervals are 95 % of a paired bootstrap over customers, of model
minus baseline; the AUC's is linearised. Scores of all rows are held in memory: 4 bytes for each
row, category and model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType

import numpy as np

from stream_scorer.core.evaluation import logistic_baseline
from stream_scorer.core.evaluation.evaluation import MODEL, Evaluation, ScoredRows
from stream_scorer.core.evaluation.intervals import CustomerNumbers
from stream_scorer.core.evaluation.judged_task import JudgedTask
from stream_scorer.core.evaluation.training_record import (
    labels_reach,
    recorded_prior,
    training_reaches,
)
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.core.labels.overlap import first_overlap
from stream_scorer.errors import FingerprintMismatch, SnapshotError
from stream_scorer.io.files.labelled_snapshots import (
    erased_rows_in_words,
    open_labelled,
    samples_in_words,
)
from stream_scorer.io.files.scores import ScoreWriter
from stream_scorer.io.files.snapshots import Shards
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.past.scores import trained_on
from stream_scorer.progress import progress
from stream_scorer.reports import evaluation as evaluation_page
from stream_scorer.reports import plots
from stream_scorer.reports.task import task_in_words
from stream_scorer.reports.words import difference_in_words, metrics_in_words
from stream_scorer.storage.places import Place, place

# Of the result's notes. People are told so before the figures, in more words.
NOT_HELD_BACK = "not held back: training's labels reach into the time of these rows"
BASELINE_ROWS = 200_000  # more rows do not make so small a model better, and it holds them all


def evaluate(
    model: Place,
    snapshots: Sequence[Place],
    *,
    baseline: Sequence[Place] = (),
    report_file: Place | None = None,
    scores_file: Place | None = None,
    erased_customers: Mapping[str, int] = MappingProxyType({}),
) -> Evaluation:
    """Score every row of labelled `snapshots` and compare with what the customer then did.

    baseline: what the logistic regression is fitted on; (): the model's own training snapshots,
    where they are still there. report_file, scores_file: a page and a Parquet file to write.
    erased_customers: of whom rows are left out (`Snapshot.leave_out`). Raises SnapshotError or
    FingerprintMismatch where model, snapshots and baseline do not fit together, ArtefactError, and
    InputError where a file can't be written.
    """
    loaded = artefact.load(model)
    if report_file is not None:
        plots.new_figure()  # report a missing matplotlib before the work
    shards = _shards(loaded, snapshots, erased_customers)
    notes: list[str] = []
    # By the manifests, since the baseline must be ready before the first row is read.
    first_ms = min(moment for s in shards.snapshots for moment in s.manifest["as_of_ms"])
    logistic = _logistic(loaded, baseline, shards, first_ms, notes, erased_customers)
    scored = _scored(loaded, shards, logistic, scores_file)
    held_back = _held_back(loaded, shards, scored.first_ms)
    if not held_back:
        notes.append(NOT_HELD_BACK)
    notes += [*erased_rows_in_words(shards), *samples_in_words(shards)]
    found = Evaluation.of(
        scored,
        loaded.manifest.categories,
        model=str(model),
        model_version=loaded.manifest.model_version,
        notes=notes,
        task=JudgedTask.of(
            loaded.manifest.labels,
            (scored.first_ms, scored.last_ms),
            scored.customer,
            scored.acted,
            scored.weight,
        ),
        trained=trained_on(loaded),
        not_held_back=not held_back,
    )
    if report_file is not None:
        evaluation_page.write(report_file, found, scored)
    return found


def in_words(found: Evaluation) -> list[str]:
    """The result for people."""
    names = evaluation_page.names_of(found)
    lines = [
        *evaluation_page.verdict(found),
        *(f"warning: {line}" for line in evaluation_page.warnings(found)),
        f"model {found.model_version}: {found.rows:,} rows, {found.categories:,} "
        f"categories, {found.categories_scored:,} of them with both outcomes",
        f"judged: {task_in_words(found.task, found.rows, found.categories)}",
        *metrics_in_words(
            [(names.get(n, n), m) for n, m in evaluation_page.metrics_of(found).items()]
        ),
    ]
    for name, differences in found.intervals.items():
        for metric, difference in differences.by_metric().items():
            if difference.difference is not None:
                text = difference_in_words(metric, difference, 4)
                lines.append(f"{metric}, {names[MODEL]} minus {name}: {text}")
    return [*lines, *(note for note in found.notes if note != NOT_HELD_BACK)]


def _shards(
    loaded: artefact.Artefact, paths: Sequence[Place], erased_customers: Mapping[str, int]
) -> Shards:
    """Raises SnapshotError, also where there is no row to score."""
    remedy = "its labels do not follow the model's rule; replay with the model's config"
    shards = open_labelled(
        paths, loaded.fingerprint, loaded.manifest.labels, remedy, erased_customers
    )
    if not sum(s.rows for s in shards.snapshots):
        raise SnapshotError(
            "snapshots",
            "(no rows)",
            "the snapshots are empty; replay with cut-offs by which customers were known",
        )
    return shards


def _logistic(
    loaded: artefact.Artefact,
    given: Sequence[Place],
    evaluated: Shards,
    first_ms: int,
    notes: list[str],
    erased_customers: Mapping[str, int],
) -> Callable[[LabelledRows], Float32] | None:
    """The fitted regression's probabilities; None where there is nothing to fit it on."""
    if not loaded.layout.own:
        notes.append("no baseline: the features have no columns of a category's own")
        return None
    recorded = [place(p, "--baseline") for p in loaded.manifest.training.get("snapshots", [])]
    try:
        if not given and not recorded:
            raise SnapshotError("training snapshots", "(none)", "not recorded in the model")
        shards = _shards(loaded, given or recorded, erased_customers)
        _refuse_overlap(loaded, shards, evaluated, first_ms)
    except (SnapshotError, FingerprintMismatch) as error:
        if given:
            raise  # what was asked for must work; what the model recorded may be gone by now
        notes.append(f"no logistic baseline ({error}); give --baseline SNAPSHOTS to fit it on")
        return None
    fitted = logistic_baseline.fit(_thinned(shards), loaded.layout)
    return lambda rows: logistic_baseline.probabilities(fitted, rows, loaded.layout)


def _refuse_overlap(
    loaded: artefact.Artefact, shards: Shards, evaluated: Shards, first_ms: int
) -> None:
    """Raises SnapshotError where the baseline would have seen an outcome that it is measured by."""
    horizon_ms = loaded.manifest.labels.horizon_ms
    for snapshot in shards.snapshots:
        last_ms = max(snapshot.manifest["as_of_ms"], default=None)
        if last_ms is None or not labels_reach(last_ms, horizon_ms, first_ms):
            continue
        found = first_overlap(snapshot.shards(), evaluated, horizon_ms, first_ms)
        if found is not None:
            remedy = (
                f"its labels reach to {np.datetime64(found.reaches_ms, 'ms')}Z, past the evaluated "
                f"moment {np.datetime64(found.row_ms, 'ms')}Z, and customer "
                f"{found.customer_id!r} is in both; leave out its last rows"
            )
            raise SnapshotError("--baseline", snapshot.path, remedy)


def _held_back(loaded: artefact.Artefact, shards: Shards, first_ms: int) -> bool:
    """Whether training has not seen the outcomes of these rows, as far as can be known.

    Where its labels reach into their time, they may still be of other customers.
    """
    training, horizon_ms = loaded.manifest.training, loaded.manifest.labels.horizon_ms
    if not training_reaches(training, horizon_ms, first_ms):
        return True
    try:
        seen = _shards(loaded, [place(p, "--baseline") for p in training.get("snapshots", [])], {})
    except (SnapshotError, FingerprintMismatch):
        return False  # the training snapshots may be gone by now
    return first_overlap(seen, shards, horizon_ms, first_ms) is None


def _thinned(shards: Shards) -> Iterator[LabelledRows]:
    """Evenly spaced rows, about BASELINE_ROWS at most."""
    every = -(-sum(s.rows for s in shards.snapshots) // BASELINE_ROWS)
    with progress("fitting logistic", sum(s.rows for s in shards.snapshots)) as meter:
        for rows in shards:
            yield rows.take(np.arange(0, len(rows), every)) if every > 1 else rows
            meter.advance(len(rows))


def _scored(
    loaded: artefact.Artefact,
    shards: Shards,
    logistic: Callable[[LabelledRows], Float32] | None,
    scores_file: Place | None,
) -> ScoredRows:
    """All rows, by the model, the prior if it is recorded, and `logistic` if there is one."""
    engine = open_engine(loaded, "native")
    table = shards.trend()
    if table is not None:
        engine.use_trend(table)
    index = np.array(loaded.manifest.category_index, np.int64)
    ours, theirs, acted, weight = [], [], [], []
    numbers = CustomerNumbers()
    owner: list[int] = []
    first_ms, last_ms = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    with ExitStack() as stack:
        writer = None
        if scores_file is not None:
            about = (engine.categories, engine.classes, engine.model_version)
            writer = stack.enter_context(ScoreWriter(scores_file, *about))
        meter = stack.enter_context(progress("scoring", sum(s.rows for s in shards.snapshots)))
        for rows in shards:
            scores = engine.score(rows.matrix)
            if writer is not None:
                writer.write(rows.customer_ids, rows.as_of_ms, scores)
            ours.append(1 - scores[:, :, 0])  # class 0 is nothing, so this is acting at all
            if logistic is not None:
                theirs.append(logistic(rows))
            acted.append(dense_labels(rows, index) > 0)
            weight.append(rows.weight)
            owner += numbers.of(rows.customer_ids)
            first_ms = min(first_ms, int(rows.as_of_ms.min(initial=first_ms)))
            last_ms = max(last_ms, int(rows.as_of_ms.max(initial=last_ms)))
            meter.advance(len(rows))
    by_model = {MODEL: np.concatenate(ours)}
    prior = recorded_prior(loaded.manifest.training, len(index))
    if prior is not None:
        by_model["prior"] = np.broadcast_to(prior, by_model[MODEL].shape)
    if theirs:
        by_model["logistic"] = np.concatenate(theirs)
    return ScoredRows(
        by_model, np.concatenate(acted), np.array(owner, np.int64), first_ms, last_ms,
        _unequal(weight),
    )  # fmt: skip


def _unequal(weights: Sequence[Float32]) -> Float32 | None:
    """(R,) of all shards; None where all are 1, whose measures cost less."""
    found = np.concatenate(weights)
    return None if (found == 1).all() else found
