"""Labelled rows, and models trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stream_scorer.api.models import Model, load_model
from stream_scorer.api.moments import Moment, moment_ms
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import MAX_CLASSES, LabelledRows
from stream_scorer.core.trend import TrendTable, contrast_count
from stream_scorer.errors import ArtefactError, InputError
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs import train as train_job
from stream_scorer.model import artefact
from stream_scorer.model.engines.card import card_of, in_memory
from stream_scorer.model.engines.golden import golden_batch_of
from stream_scorer.model.engines.reference import reference_for
from stream_scorer.model.engines.trend_days import days_of
from stream_scorer.reports import model_card
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place, place

SnapshotPaths = str | Path | Sequence[str | Path]


def open_snapshot(path: str | Path) -> Snapshot:
    """The snapshot in a directory, every byte checked against its manifest.

    `snapshot.shards()` is a sequence of `LabelledRows`, each read when it is asked for;
    `snapshot.info` says which features, categories and label rule they have. Raises SnapshotError
    where something is missing or altered.
    """
    return Snapshot.open(place(path, "snapshot"))


def labelled_rows(
    matrix: sparse.spmatrix,
    labels: sparse.spmatrix | npt.NDArray[Any],
    customer_ids: Sequence[str],
    as_of: Moment | Sequence[Moment],
) -> LabelledRows:
    """Rows of one's own to train on.

    matrix: (R, F) features, as `features_at` returns them. labels: (R, V) the class of each row and
    category, 0 for nothing and 1 to C - 1 for the groups of `labels.actions`; V is the length of
    the vocabulary of `labels.by`, in its order. customer_ids: R ids. as_of: the moment of each row,
    or one for all. Raises InputError where these do not fit together.
    """
    rows = matrix.shape[0]
    moments = [as_of] * rows if isinstance(as_of, str) or not isinstance(as_of, Sequence) else as_of
    for name, length in (
        ("labels", labels.shape[0]), ("customer_ids", len(customer_ids)), ("as_of", len(moments)),
    ):  # fmt: skip
        if length != rows:
            raise InputError(name, f"{length} rows", f"give one for each of the {rows} of matrix")
    classes = sparse.csr_matrix(labels)
    classes.eliminate_zeros()
    classes.sort_indices()
    worst = classes.data[(classes.data < 0) | (classes.data > MAX_CLASSES)]
    if len(worst) or (classes.data != classes.data.astype(np.int64)).any():
        wrong = worst[0] if len(worst) else "(not whole)"
        raise InputError("labels", wrong, "give whole class numbers: 0 for nothing, 1 and up")
    features = sparse.csr_matrix(matrix, dtype=np.float32)
    features.sort_indices()
    return LabelledRows(
        [str(customer) for customer in customer_ids],
        np.array([moment_ms(moment, "as_of") for moment in moments], np.int64),
        features,
        classes.indptr.astype(np.int64),
        classes.indices.astype(np.uint32),
        classes.data.astype(np.uint8),
    )


def train(
    settings: Settings,
    data: SnapshotPaths | LabelledRows,
    out: str | Path,
    *,
    validation: SnapshotPaths | LabelledRows | None = None,
    trend: TrendTable | None = None,
) -> Model:
    """Train a model, write it to the new directory `out`, and open it.

    data: labelled snapshots (paths), or rows in memory (`labelled_rows`). validation: later data of
    the same kind; with it training stops early and probabilities are calibrated. Features, label
    rule and network are those of `settings`. trend: of `shop_trend`, on the days of all rows in
    memory, where a feature declares one; snapshots have their own. Needs MXNet.

    Raises InputError where the data do not fit the settings, where label windows of training reach
    into validation, and where `out` exists.
    """
    target = place(out, "out")
    if isinstance(data, LabelledRows):
        if validation is not None and not isinstance(validation, LabelledRows):
            raise InputError("validation", type(validation).__name__, "give rows, as for data")
        _train_rows(settings, data, validation, target, trend)
    else:
        if trend is not None:
            raise InputError("trend", "given", "leave it out: the snapshots have their own")
        if isinstance(validation, LabelledRows):
            raise InputError("validation", "rows", "give paths of snapshots, as for data")
        later = [] if validation is None else _paths(validation)
        train_job.train(settings, _paths(data), target, validation=later)
    return load_model(target)


def _train_rows(
    settings: Settings,
    rows: LabelledRows,
    validation: LabelledRows | None,
    out: Place,
    trend: TrendTable | None,
) -> None:
    from stream_scorer.model import training  # noqa: PLC0415 - imports MXNet

    if out.exists():
        raise ArtefactError("out", out, "already exists; choose another path or delete it")
    space, rule = settings.feature_space(), settings.label_rule()
    for name, given in (("data", rows), ("validation", validation)):
        if given is not None and given.matrix.shape[1] != space.width:
            remedy = f"the settings' features have {space.width}; make the rows with the same ones"
            raise InputError(f"{name}.matrix", f"{given.matrix.shape[1]} columns", remedy)
        top = 0 if given is None else int(given.label_class.max(initial=0))
        if top >= rule.classes:
            remedy = f"labels.actions has classes up to {rule.classes - 1}; add a group or relabel"
            raise InputError(f"{name}.labels", top, remedy)
        words = len(space.vocabularies[rule.by])
        last = 0 if given is None else int(given.label_category.max(initial=0))
        if last >= words:
            remedy = f"the vocabulary of {rule.by} has {words} entries; give as many label columns"
            raise InputError(f"{name}.labels", f"column {last}", remedy)
    if not contrast_count(space):
        trend = None
    elif trend is None:
        remedy = "the settings declare one: give that of the rows' days, as shop_trend returns it"
        raise InputError("trend", "(none)", remedy)
    later = None if validation is None else [validation]
    # As a snapshot has it: with days that no row stands on sums may be rounded otherwise.
    later_trend = None if validation is None else _of_days(space, validation, trend)
    trend = _of_days(space, rows, trend)
    model = training.train(
        [rows], later, space, rule, settings.training, trend=trend, validation_trend=later_trend
    )
    of_training = in_memory([rows], trend)
    of_validation = None if later is None else in_memory(later, later_trend)
    card, prior = card_of(model, of_training, of_validation, settings.training.min_customers)
    golden = golden_batch_of(model, [rows] if later is None else later, later_trend or trend)
    reference = reference_for(model, card, of_training, of_validation)
    about = {"prior": prior.tolist()}
    artefact.save(model, out, about, golden, model_card.writer(card), reference)


def _of_days(
    space: FeatureSpace, rows: LabelledRows, trend: TrendTable | None
) -> TrendTable | None:
    """The trend of the days that the rows stand on, None where none is declared. Raises InputError
    where it is of other features, or has not the day of every row, as its matrix has it."""
    if trend is None:
        return None
    block = next(block for block in space.blocks if block.kind == "trend")
    words = len(space.vocabularies[block.fields[0]])
    if trend.contrasts.shape[1:] != (contrast_count(space), words):
        raise InputError("trend", "of other features", "make it with settings.feature_space()")
    column = block.start
    days = days_of(rows.matrix, column)
    if not len(days):
        return trend
    if not trend.covers(int(days.min()), int(days.max())):
        first, last, given, until = (
            np.datetime64(int(day), "D")
            for day in (days.min(), days.max(), trend.first_day, trend.last_day)
        )
        remedy = f"rows stand on the days {first} to {last}: give shop_trend of all of these"
        raise InputError("trend", f"{given} to {until}", remedy)
    return trend.part(int(days.min()), int(days.max()))


def _paths(given: SnapshotPaths) -> list[Place]:
    return [place(p, "snapshot") for p in ([given] if isinstance(given, str | Path) else given)]
