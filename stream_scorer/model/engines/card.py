"""The card of a model that was just trained: its rows are counted, and the held-out ones scored.

What scoring costs is measured by the clock on the way, so two trainings give the same model and
cards that differ in it; the card is no part of the model's version.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

import numpy as np
from scipy import sparse

from stream_scorer.core.evaluation.intervals import CustomerNumbers
from stream_scorer.core.evaluation.model_card import (
    CHOSEN_ON_VALIDATION,
    FORMAT,
    KINDS_NOT_KNOWN,
    MEAN_OF_SEEDS,
    NO_VALIDATION,
    CardCategory,
    CardLabels,
    CardRows,
    CardSource,
    ModelCard,
    ScoringCost,
    card_features,
    card_rows,
    sample_notes,
)
from stream_scorer.core.evaluation.quality_by_part import MeasuredRows, quality_of
from stream_scorer.core.evaluation.training_data import KindedRows, RowCounts
from stream_scorer.core.events.batch import Float64, Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.core.trend import TrendTable
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, EngineName, open_engine
from stream_scorer.runtime import processor_name, usable_cores

ENGINE: EngineName = "native"
# Pairs of row and category that are measured: 40 MB of scores, and twice 10 MB of bits. At 5,000
# categories measuring them took 10 s of one busy core, most of it for the AUC of the parts.
MOST_PAIRS = 10_000_000
BATCH_ROWS = 1_000
TIMED_TRAINING_ROWS = 10_000  # where there are no validation rows: enough to say what scoring costs


@dataclass(frozen=True)
class RowsOfCard:
    """Rows of training or of validation. shards: gives them anew each time that it is called.
    trend: of the rows' days, for a model that has one.
    """

    shards: Callable[[], Iterable[KindedRows]]
    sources: Sequence[CardSource] = ()
    cutoffs_ms: Sequence[int] = ()
    trend: TrendTable | None = None


def in_memory(rows: Sequence[LabelledRows], trend: TrendTable | None = None) -> RowsOfCard:
    """Rows that are no snapshot, so that of which kind their moments are is not known."""
    return RowsOfCard(lambda: [KindedRows(part, None) for part in rows], trend=trend)


def card_of(
    model: artefact.TrainedModel,
    training: RowsOfCard,
    validation: RowsOfCard | None,
    min_customers: int,
) -> tuple[ModelCard, Float64]:
    """The card, without the model's version, and the prior: (N,) the share of training rows, by
    their weights, that acted on each category.

    min_customers: so many training customers acted on each of the model's categories.
    """
    space, rule, index = model.space, model.labels, model.category_index
    counts = RowCounts.of(training.shards(), space, rule, min_customers)
    prior = counts.prior(index)
    held_out, quality, notes = None, None, [NO_VALIDATION]
    most = max(1, MOST_PAIRS // len(index))
    if validation is None:
        few = min(most, TIMED_TRAINING_ROWS)
        measured, cost = _scored(model, training, counts.rows, few, "training")
    else:
        found = RowCounts.of(validation.shards(), space, rule, min_customers)
        held_out = _rows(found, validation, model)
        measured, cost = _scored(model, validation, found.rows, most, "validation")
        notes = [CHOSEN_ON_VALIDATION]
        if measured is not None:
            quality = quality_of(measured, prior, counts.acted[index], found.rows)
            notes += [] if found.moments else [KINDS_NOT_KNOWN]
    notes += sample_notes("training", training.sources)
    notes += [] if validation is None else sample_notes("validation", validation.sources)
    averaged = int(model.training.get("averaged_seeds", 1))
    if averaged > 1:
        notes.append(MEAN_OF_SEEDS.format(seeds=averaged))
    words = space.vocabularies[rule.by]
    features = card_features(space, counts.column_rows)
    card = ModelCard(
        format=FORMAT,
        model_version="",
        written=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        fingerprint=space.fingerprint_hex,
        labels=CardLabels.of(rule),
        network=asdict(model.network),
        calibration=str(model.calibration.get("kind", "none")),
        training=_rows(counts, training, model),
        validation=held_out,
        min_customers=min_customers,
        features=features,
        columns=space.width,
        columns_without_value=sum(f.without_value for f in features),
        categories=tuple(
            CardCategory(words[i], int(counts.acted[i]), float(share))
            for i, share in zip(index.tolist(), prior.tolist(), strict=True)
        ),
        left_out=counts.left_out(words, index),
        labels_left_out=counts.labels_left_out(index),
        quality=quality,
        scoring=cost,
        notes=tuple(notes),
    )
    return card, prior


def _rows(counts: RowCounts, of: RowsOfCard, model: artefact.TrainedModel) -> CardRows:
    return card_rows(counts, of.sources, of.cutoffs_ms, model.labels)


def _scored(
    model: artefact.TrainedModel, of: RowsOfCard, rows: int, most: int, name: str
) -> tuple[MeasuredRows | None, ScoringCost | None]:
    """At most `most` of the rows, drawn evenly, with what scoring them cost; nothing of no rows."""
    engine = open_engine(artefact.unsaved(model), ENGINE)
    if of.trend is not None:
        engine.use_trend(of.trend)
    engine.warm_up(BATCH_ROWS)
    numbers, seconds = CustomerNumbers(), 0.0
    parts: list[MeasuredRows] = []
    for shard, kinds in drawn_rows(of.shards(), rows, most):
        scores, spent = _timed(engine, shard.matrix)
        seconds += spent
        parts.append(
            MeasuredRows(
                scores, dense_labels(shard, model.category_index) > 0,
                np.array(numbers.of(shard.customer_ids), np.int64), shard.weight, kinds,
                _history(shard.matrix, model.space),
            )
        )  # fmt: skip
    if not parts:
        return None, None
    known = [part.kinds for part in parts if part.kinds is not None]
    measured = MeasuredRows(
        np.concatenate([part.p for part in parts]),
        np.concatenate([part.acted for part in parts]),
        np.concatenate([part.customer for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate(known) if len(known) == len(parts) else None,
        np.concatenate([part.history for part in parts]),
    )
    scored = len(measured.p)
    machine = f"{processor_name()}, {usable_cores()} cores, {platform.system()}"
    per_second = round(scored / max(seconds, 1e-9), 1)
    cost = ScoringCost(ENGINE, scored, BATCH_ROWS, name, round(seconds, 6), per_second, machine)
    return measured, cost


def _timed(engine: Engine, matrix: sparse.csr_matrix) -> tuple[Float32, float]:
    """(R, N) the probability of acting at all, and how many seconds the engine scored."""
    parts, seconds = [], 0.0
    for first in range(0, matrix.shape[0], BATCH_ROWS):
        batch = matrix[first : first + BATCH_ROWS]
        started = time.perf_counter()
        scores = engine.score(batch)
        seconds += time.perf_counter() - started
        parts.append(1 - scores[:, :, 0])  # class 0 is nothing, so this is acting at all
    return np.concatenate(parts), seconds


def drawn_rows(shards: Iterable[KindedRows], rows: int, most: int) -> Iterator[KindedRows]:
    """At most `most` of all `rows`, each as probable, of those that do not weigh 0."""
    chosen = None
    if rows > most:
        chosen = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    first = 0
    for shard, kinds in shards:
        kept = np.arange(len(shard))
        if chosen is not None:
            low, high = np.searchsorted(chosen, [first, first + len(shard)])
            kept = chosen[low:high] - first
        first += len(shard)
        kept = kept[shard.weight[kept] > 0]
        if not len(kept):
            continue
        if len(kept) == len(shard):
            yield KindedRows(shard, kinds)
        else:
            yield KindedRows(shard.take(kept), None if kinds is None else kinds[kept])


def _history(matrix: sparse.csr_matrix, space: FeatureSpace) -> Int64:
    """(R,) how many columns of each row have a value that comes of the customer's events."""
    of_events = np.ones(space.width, np.bool_)
    for block in space.blocks:
        # These have a value in every row.
        of_events[block.start : block.stop] = block.kind not in ("calendar", "trend")
    filled = of_events[matrix.indices] & (matrix.data != 0)
    sums = np.concatenate([[0], np.cumsum(filled)])
    counts: Int64 = (sums[matrix.indptr[1:]] - sums[matrix.indptr[:-1]]).astype(np.int64)
    return counts
