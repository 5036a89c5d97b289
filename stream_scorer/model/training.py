"""Training: from shards of labelled rows to a model that can be saved.

One pass over the training shards counts what starting values need: priors, and the size of each
block's values. Adam then follows a cosine schedule (training_loop.py), which ends with the
parameters of the best epoch. They are calibrated on validation where that helps, and the scale of
columns is folded into them, so that scoring needs no scaling. All random numbers come from one
seed. Where several seeds are averaged, each is trained so, and what is calibrated and saved is the
mean of their logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from stream_scorer.core.evaluation.intervals import CustomerNumbers
from stream_scorer.core.evaluation.training_record import labels_reach
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, LabelRule, choose_categories
from stream_scorer.core.labels.overlap import first_overlap
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import ConfigError, InputError
from stream_scorer.model import averaging, inference_network
from stream_scorer.model import calibration as calibrations
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.calibration import Calibration
from stream_scorer.model.column_statistics import ColumnStatistics
from stream_scorer.model.inputs import TrendRows, trend_rows
from stream_scorer.model.spec import Layout, TrainingOptions
from stream_scorer.model.training_loop import Progress, Scored, TrainingLoop

CALIBRATION_LOGITS = 50_000_000  # kept in memory for calibration: 200 MB


def train(
    shards: Sequence[LabelledRows],
    validation: Sequence[LabelledRows] | None,
    space: FeatureSpace,
    rule: LabelRule,
    options: TrainingOptions,
    progress: Callable[[Progress], None] = lambda _: None,
    *,
    trend: TrendTable | None = None,
    validation_trend: TrendTable | None = None,
) -> TrainedModel:
    """The model of these rows. Shards are read one at a time: twice, and once for each epoch of
    each seed.

    trend, validation_trend: those of the rows' days, where the features have a trend. Categories
    are chosen on `shards` alone. Without `validation` there is neither early stopping nor
    calibration. Raises InputError where label windows of training reach past validation rows of the
    same customer, where there are no rows, or where training diverges.
    """
    if options.class_weights and len(options.class_weights) != rule.classes:
        remedy = f"give {rule.classes} weights, one for each class, or none"
        raise ConfigError("training.class_weights", options.class_weights, remedy)
    averaging.wider(options.network, max(options.average_seeds, 1))  # refused before the work
    # On the training rows alone: a choice that had seen validation would make its losses too good.
    category_index = choose_categories(shards, space, rule, options.min_customers)
    layout = Layout.of(space, rule, category_index)
    statistics = ColumnStatistics.of(shards, space, layout)
    options = replace(
        options,
        batch_rows=options.rows_of_step(statistics.rows),
        average_seeds=options.seeds_of(statistics.rows * layout.categories),
    )
    if validation is not None:
        _refuse_overlap(shards, statistics.last_ms, validation, rule.horizon_ms)
    parts = _trend_rows(layout, trend, validation_trend, validation)
    loops, history = list[TrainingLoop](), list[float]()
    for i in range(options.average_seeds):
        loops.append(
            TrainingLoop(layout, replace(options, seed=options.seed + i), statistics, parts)
        )
        report = _as_part(progress, i, options.average_seeds)
        history += loops[-1].run(shards, validation, report)
    loss = min(history, default=None)
    if validation is not None and len(loops) > 1:
        loss = loops[0].log_loss(_mean_scored(loops, validation))
    found = calibrations.identity(layout.categories, layout.actions)
    if validation is not None and options.calibrate:
        found = _calibrated(_mean_scored(loops, validation), layout, options)
    network, parameters = averaging.averaged(
        layout, options.network, [loop.parameters(found) for loop in loops]
    )
    return TrainedModel(
        space=space,
        labels=rule,
        category_index=category_index,
        network=network,
        parameters=parameters,
        symbol_json=inference_network.inference_symbol(layout, network).tojson(),
        calibration={"kind": found.kind},
        metrics={
            "validation_log_loss": loss,
            "validation_log_loss_by_epoch": history,
        },
        training={
            "rows": statistics.rows,
            "first_as_of_ms": statistics.first_ms,
            "last_as_of_ms": statistics.last_ms,
            "averaged_seeds": options.average_seeds,
        },
    )


def _trend_rows(
    layout: Layout,
    trend: TrendTable | None,
    validation_trend: TrendTable | None,
    validation: Sequence[LabelledRows] | None,
) -> tuple[TrendRows, ...]:
    """Of the training rows and, where there are any, of the validation rows; nothing without a
    trend."""
    if not layout.contrasts:
        return ()
    if trend is None or (validation is not None and validation_trend is None):
        remedy = (
            "they have no table of the shop's trend, which the features declare; write them again"
        )
        raise InputError("training snapshots", "trend", remedy)
    first = trend_rows(trend, layout, 0)
    if validation_trend is None:
        return (first,)
    return first, trend_rows(validation_trend, layout, len(first.contrasts))


def _refuse_overlap(
    shards: Sequence[LabelledRows], last_ms: int, validation: Sequence[LabelledRows],
    horizon_ms: int,
) -> None:  # fmt: skip
    """Raises InputError where validation has no rows, or one whose outcome training has seen."""
    first = min((int(s.as_of_ms.min()) for s in validation if len(s)), default=None)
    if first is None:
        raise InputError(
            "validation snapshots", "they have no rows", "give snapshots that have rows, or none"
        )
    if not labels_reach(last_ms, horizon_ms, first):
        return  # without reading training's shards again
    found = first_overlap(shards, validation, horizon_ms, first)
    if found is not None:
        remedy = (
            f"training labels reach to {np.datetime64(found.reaches_ms, 'ms')}Z, past this moment "
            f"of validation, and customer {found.customer_id!r} is in both: leave out the training "
            "rows less than one horizon before it, or give validation of other customers"
        )
        raise InputError("validation as_of", f"{np.datetime64(found.row_ms, 'ms')}Z", remedy)


def _as_part(
    progress: Callable[[Progress], None], part: int, parts: int
) -> Callable[[Progress], None]:
    """Reports of one of several trainings as those of all, one after the other."""

    def report(p: Progress) -> None:
        epoch, step = p.epoch + part * p.epochs, p.step + part * p.steps
        losses = p.training_log_loss, p.validation_log_loss
        progress(Progress(epoch, parts * p.epochs, step, parts * p.steps, *losses))

    return report


def _mean_scored(loops: Sequence[TrainingLoop], shards: Sequence[LabelledRows]) -> Iterator[Scored]:
    """Every row once, in order, with the mean of the logits, until the next is read."""
    if len(loops) == 1:
        yield from loops[0].scored(shards)
        return
    for parts in zip(*(loop.scored(shards) for loop in loops), strict=True):
        yield parts[0]._replace(logits=np.mean([part.logits for part in parts], axis=0))


def _calibrated(
    validation: Iterable[Scored], layout: Layout, options: TrainingOptions
) -> Calibration:
    """The calibration of the best parameters, judged on as many rows as fit in memory."""
    shape = layout.categories, layout.actions
    # One more batch than are needed may come. Memory that nothing is written to takes no room.
    most = CALIBRATION_LOGITS // (layout.categories * layout.actions) + options.batch_rows
    logits = np.empty((most, *shape), np.float32)
    classes, weight = np.empty((most, layout.categories), np.uint8), np.empty(most, np.float32)
    owner: list[int] = []
    numbers = CustomerNumbers()
    for scored in validation:
        to = slice(len(owner), len(owner) + len(scored.customer_ids))
        logits[to], classes[to], weight[to] = scored.logits, scored.classes, scored.weight
        owner += numbers.of(scored.customer_ids)
        if len(owner) + options.batch_rows > most:
            break
    rows = slice(0, len(owner))
    return calibrations.choose(logits[rows], classes[rows], np.array(owner, np.int64), weight[rows])
