"""What a model that was just trained is compared with once it serves: its rows and scores, counted.

Features are those of training rows. Scores are of validation rows where there are any: a model is
surer of the rows that it was fitted to than of any that it will meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.drift.reference import (
    AFTER_EVENTS,
    ALL_ROWS,
    DriftReference,
    reference_of,
)
from stream_scorer.core.drift.stability import LEAST_ROWS
from stream_scorer.core.evaluation.model_card import ModelCard
from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.sampled_moments import EVENT
from stream_scorer.model import artefact
from stream_scorer.model.engines.card import BATCH_ROWS, ENGINE, RowsOfCard, drawn_rows
from stream_scorer.model.engines.engine import open_engine

# By chance 20,000 rows move the index of 25 bins by 0.001; of 500 entries each they are 80 MB.
MOST_ROWS = 20_000
MOST_PAIRS = 5_000_000  # of row and category, 40 MB as float64


def reference_for(
    model: artefact.TrainedModel,
    card: ModelCard,
    training: RowsOfCard,
    validation: RowsOfCard | None,
    event_types: Mapping[str, float] | None = None,
    unknown_words: Mapping[str, float] | None = None,
) -> DriftReference | None:
    """What is stored in the artefact; None where no row weighs anything.

    card: of the same rows. event_types, unknown_words: as the reference has them.
    """
    rows = _rows(training, card.training.rows, MOST_ROWS)
    if rows is None:
        return None
    most = max(1, min(MOST_ROWS, MOST_PAIRS // len(model.category_index)))
    held_out, scores_of, trend = None, "training", training.trend
    if validation is not None and card.validation is not None:
        held_out = _rows(validation, card.validation.rows, most)
    if validation is not None and held_out is not None:
        scores_of, trend = "validation", validation.trend
    engine = open_engine(artefact.unsaved(model), ENGINE)
    if trend is not None:
        engine.use_trend(trend)
    rows, rows_of = rows.after_events()
    scored, scored_rows_of = (held_out or rows).evenly(most).after_events()
    parts = [
        1 - engine.score(scored.matrix[first : first + BATCH_ROWS])[:, :, 0]  # class 0 is nothing
        for first in range(0, scored.matrix.shape[0], BATCH_ROWS)
    ]
    return reference_of(
        model.space, (rows.matrix, rows.weight, rows_of),
        (np.concatenate(parts), scored.weight, scored_rows_of, scores_of),
        event_types, unknown_words,
    )  # fmt: skip


class _Rows(NamedTuple):
    """matrix (R, F) float32 CSR, weight (R,) float32, event (R,): whether a row stands just after
    an event."""

    matrix: sparse.csr_matrix
    weight: Float32
    event: Bool

    def take(self, rows: Int64) -> _Rows:
        """Only `rows` (k,)."""
        return _Rows(self.matrix[rows], self.weight[rows], self.event[rows])

    def evenly(self, most: int) -> _Rows:
        """At most so many of them."""
        rows = len(self.weight)
        if rows <= most:
            return self
        return self.take(np.linspace(0, rows - 1, most).astype(np.int64))

    def after_events(self) -> tuple[_Rows, str]:
        """Those just after events and "event", where there are enough of them; else all and "all".

        The live rows that they are compared with stand just after events, too.
        """
        found = np.flatnonzero(self.event)
        if len(found) < LEAST_ROWS:
            return self, ALL_ROWS
        return self.take(found), AFTER_EVENTS


def _rows(of: RowsOfCard, rows: int, most: int) -> _Rows | None:
    """At most `most` of the rows, each as probable, of those that do not weigh 0; None of none."""
    parts = [
        _Rows(
            shard.matrix, shard.weight,
            np.zeros(len(shard), np.bool_) if kinds is None else kinds == EVENT,
        )
        for shard, kinds in drawn_rows(of.shards(), rows, most)
    ]  # fmt: skip
    if not parts:
        return None
    return _Rows(
        sparse.vstack([part.matrix for part in parts], format="csr", dtype=np.float32),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.event for part in parts]),
    )
