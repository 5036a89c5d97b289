"""One training run of one seed: the loop over batches, its learning rates, and the best parameters.

MXNet computes on its own threads, so the next batch is made between a step's backward pass and its
update. After each epoch the validation log loss decides whether its parameters are the best so far;
where they are not, the run goes on from the best at a lower rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Int64, UInt8
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.errors import InputError
from stream_scorer.model import calibration as calibrations
from stream_scorer.model import network_parameters, training_network
from stream_scorer.model.batches import LabelledBatches
from stream_scorer.model.calibration import Calibration
from stream_scorer.model.column_statistics import ColumnStatistics
from stream_scorer.model.inputs import NetworkInputs, TrendRows, symbol_table
from stream_scorer.model.loss import Loss
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.mxnet_memory import memory_to_read, memory_to_write
from stream_scorer.model.spec import Layout, TrainingOptions
from stream_scorer.model.training_module import TrainingModule

WARM_UP_STEPS = 50
# At 0 the last steps would change nothing; a larger share leaves the last parameters noisier.
LAST_RATE_SHARE = 0.02
LOWERED_SHARE = 0.3  # after an epoch that made the validation log loss no better
REPORT_STEPS = 20


@dataclass(frozen=True)
class Progress:
    """How far training is. Log losses are means over rows and categories, None where not known."""

    epoch: int
    epochs: int
    step: int
    steps: int
    training_log_loss: float | None = None
    validation_log_loss: float | None = None


class Scored(NamedTuple):
    """Rows with their logits (R, N, M) float32, classes (R, N) uint8 and weights (R,) float32."""

    customer_ids: list[str]
    logits: Float32
    classes: UInt8
    weight: Float32


class _Cosine(mx.lr_scheduler.LRScheduler):  # type: ignore[misc]
    """A linear warm-up to the top rate, then a cosine down to `LAST_RATE_SHARE` of it.

    How many steps are too many differs widely between data sets, so the plan is long, and `lower`
    shortens it where validation says that it is too long.
    """

    def __init__(self, top: float, steps: int) -> None:
        super().__init__(base_lr=top)
        self._steps = steps
        self._share = 1.0

    def __call__(self, step: int) -> float:
        # MXNet counts a step before it asks for the rate, so the first step is 1 and not at rate 0.
        rise = min(1.0, step / min(WARM_UP_STEPS, self._steps))
        fall = 0.5 * (1 + math.cos(math.pi * min(step / self._steps, 1.0)))
        share = LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * fall
        return float(self.base_lr * rise * share * self._share)

    def lower(self) -> None:
        """From now on at `LOWERED_SHARE` of the rate that it would have been."""
        self._share *= LOWERED_SHARE


class TrainingLoop:
    """One training run: a bound Module and the best parameters so far."""

    def __init__(
        self, layout: Layout, options: TrainingOptions, statistics: ColumnStatistics,
        trend: tuple[TrendRows, ...],
    ) -> None:  # fmt: skip
        self._layout, self._options = layout, options
        self._category_index: Int64 = np.array(layout.category_index, np.int64)
        per_epoch = math.ceil(statistics.rows / options.batch_rows)
        # The number of steps must be known before the first one, because the cosine ends at the
        # last.
        self._epochs = max(options.epochs, math.ceil(options.min_steps / per_epoch))
        self._steps = self._epochs * per_epoch
        self._statistics = statistics
        trend_days = sum(len(part.contrasts) for part in trend)
        symbol = training_network.training_symbol(layout, options, trend_days=trend_days)
        names = symbol.list_arguments()
        # Those of training, and of validation, which has another trend.
        found = [
            NetworkInputs(layout, options.network, statistics, names, part)
            for part in trend or (None,)
        ]
        self._inputs, self._others = found[0], found[-1]
        # Dropout draws from MXNet's own generator, everything else from numpy's.
        mx.random.seed(options.seed)
        start = network_parameters.initial_parameters(
            layout, options.network, head_bias=statistics.prior_logits,
            entries_per_row=statistics.entries_per_row, seed=options.seed,
        )  # fmt: skip
        if trend:
            start[training_network.TREND_TABLE] = symbol_table(trend)
        self._schedule = _Cosine(options.learning_rate, self._steps)
        self._module = TrainingModule(
            symbol, self._inputs, options, start, self._schedule,
            row_decay(layout, options, statistics),
        )  # fmt: skip
        self._loss = Loss(
            self._category_index, layout.vocabulary, layout.classes, options.class_weights
        )
        # By shape: the gradients of the network's outputs.
        self._gradients: dict[tuple[int, ...], Any] = {}
        self._best = self._module.parameters()

    def run(
        self,
        shards: Sequence[LabelledRows],
        validation: Sequence[LabelledRows] | None,
        progress: Callable[[Progress], None],
    ) -> list[float]:
        """Train, and end with the best parameters; the validation log loss of each epoch."""
        worse = 0  # epochs
        history = list[float]()
        batches = self._batches(shards, self._inputs, seed=self._options.seed)
        step = 0
        for epoch in range(1, self._epochs + 1):
            following = next(batches, None)
            while (batch := following) is not None:
                self._module.forward(batch, is_train=True)
                logits = self._logits(batch)
                self._backward(batch, logits)
                following = next(batches, None)  # MXNet computes on its own threads meanwhile
                self._module.update()
                step += 1
                if step % REPORT_STEPS == 0:
                    loss = self.log_loss([self._scored(batch, logits)])
                    progress(Progress(epoch, self._epochs, step, self._steps, loss))
            batches.reset()
            if validation is not None:
                history.append(self.log_loss(self.scored(validation)))
                progress(Progress(epoch, self._epochs, step, self._steps, None, history[-1]))
            if validation is None and epoch < self._epochs:
                continue  # without validation only the last epoch's parameters are used
            if not history or int(np.argmin(history)) + 1 == epoch:
                self._best = self._module.parameters()
                continue
            worse += 1
            if worse == self._options.patience:
                break
            self._module.restore(self._best)
            self._schedule.lower()
        # Calibration is fitted to the parameters that are saved, which may not be the last ones.
        self._module.restore(self._best)
        self._module.finish()
        return history

    def scored(self, shards: Sequence[LabelledRows]) -> Iterator[Scored]:
        """Every row once, in order, with the current parameters' logits, until the next is read."""
        for batch in self._batches(shards, self._others, seed=None):
            self._module.forward(batch, is_train=False)
            yield self._scored(batch, self._logits(batch))

    def parameters(self, calibration: Calibration) -> network_parameters.Parameters:
        """The best parameters with the calibration, for columns as they come."""
        values = dict(self._best)
        # The loss is read every REPORT_STEPS steps, so a short training without validation gets
        # here without ever having shown one.
        self._refuse_divergence(all(np.isfinite(v).all() for v in values.values()))
        if self._layout.customer:
            values["customer_mean"] = self._statistics.customer_mean[None]
            values["customer_scale"] = self._statistics.customer_scale[None]
        if "category_index" in self._layout.shapes(self._options.network):
            # Parameter files hold float32 alone; whole numbers are exact in it up to 2^24.
            values["category_index"] = self._category_index.astype(np.float32)
        values.pop(training_network.TREND_TABLE, None)
        values["calibration_scale"] = calibration.scale.reshape(1, -1, 1)
        values["calibration_shift"] = calibration.shift[None]
        return network_parameters.fold_column_scale(
            self._layout, values, self._statistics.column_scale
        )

    def _logits(self, batch: Any) -> Float32:
        """(B, N * M) of what was computed last: the dense output, in place, with the pairs."""
        outputs = self._module.outputs()
        logits = memory_to_read(outputs[0])
        if batch.pairs is not None:
            self._loss.add_pairs(logits, memory_to_read(outputs[1]), batch.pairs)
        return logits

    def _backward(self, batch: Any, logits: Float32) -> None:
        gradients = []
        for output in self._module.outputs():
            if output.shape not in self._gradients:
                self._gradients[output.shape] = mx.nd.empty(output.shape)
            gradients.append(self._gradients[output.shape])
        written = [memory_to_write(gradient) for gradient in gradients]
        of_pair = written[1] if batch.pairs is not None else None
        self._loss.gradients(logits, batch.rows, batch.pairs, written[0], of_pair)
        self._module.backward(gradients)

    def _scored(self, batch: Any, logits: Float32) -> Scored:
        # The rows that fill up the last batch are repeats, which must not count twice.
        rows = batch.rows.take(np.arange(len(batch.rows) - batch.pad))
        shaped = logits.reshape(-1, self._layout.categories, self._layout.actions)
        classes = dense_labels(rows, self._category_index)
        return Scored(rows.customer_ids, shaped[: len(rows)], classes, rows.weight)

    def log_loss(self, parts: Iterable[Scored]) -> float:
        """Mean log loss over rows, each counted as its weight, and categories."""
        total = counted = 0.0
        for part in parts:
            losses = calibrations.cross_entropy(part.logits, part.classes)
            total += float(losses @ part.weight.astype(np.float64))
            counted += float(part.weight.sum(dtype=np.float64))
        loss = total / counted if counted else math.nan
        self._refuse_divergence(math.isfinite(loss))
        return loss

    def _refuse_divergence(self, finite: bool) -> None:
        if not finite:
            remedy = "training diverged: lower the rate, or give the largest features a transform"
            raise InputError("training.learning_rate", self._options.learning_rate, remedy)

    def _batches(
        self, shards: Sequence[LabelledRows], inputs: NetworkInputs, seed: int | None
    ) -> LabelledBatches:
        return LabelledBatches(
            shards, self._category_index, columns=self._layout.columns, seed=seed,
            batch_rows=self._options.batch_rows, shuffle_rows=self._options.shuffle_rows,
            inputs=inputs,
        )  # fmt: skip


def row_decay(
    layout: Layout, options: TrainingOptions, statistics: ColumnStatistics
) -> dict[str, Float32]:
    """By name of a weight, how strongly each of its rows is pulled towards 0 when it changes.

    A row changes only in steps that have its column, so where that is a share of the steps, each of
    them pulls by the inverse of it: the penalty is that of a step that changes every row.
    """
    without = 1 - statistics.rows_of_column / statistics.rows
    share = np.maximum(1 - without**options.batch_rows, 1 / statistics.rows)
    penalty = options.linear_penalty / (statistics.rows * share)
    every = np.full(layout.columns, options.weight_decay)
    return {
        "input_weight": every.astype(np.float32),
        "linear_weight": (every + penalty).astype(np.float32),
    }
