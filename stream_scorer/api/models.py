"""Models: scores, propensities in words, and how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from stream_scorer.core.evaluation.evaluation import Evaluation
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import InputError
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs import evaluate as evaluate_job
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import engine_name, open_engine, score_chosen
from stream_scorer.storage.places import Place, place


class Model:
    """A checked model that scores rows of features. Open one with `load_model`."""

    def __init__(self, loaded: artefact.Artefact, engine: str) -> None:
        self._artefact = loaded
        self._engine = open_engine(loaded, engine_name(engine))

    def __repr__(self) -> str:
        return (
            f"Model({str(self.path)!r}, version {self.model_version}, "
            f"{len(self.categories)} categories, {self.classes} classes)"
        )

    @property
    def path(self) -> Place:
        """The directory that it was read from."""
        return self._artefact.path

    @property
    def model_version(self) -> str:
        """16 hexadecimal digits: a hash of all that changes a score or its meaning."""
        return self._engine.model_version

    @property
    def categories(self) -> tuple[str, ...]:
        """The N categories, in the order of the scores."""
        return self._engine.categories

    @property
    def classes(self) -> int:
        """C: nothing, and the groups of `labels.actions`."""
        return self._engine.classes

    @cached_property
    def card(self) -> dict[str, Any] | None:
        """What training wrote about the model, as `card.json` has it: its rows, categories in and
        out, quality, cost; None of a model that has no card. Raises ArtefactError where a file of
        it is missing or altered.
        """
        return artefact.card(self._artefact)

    @cached_property
    def feature_space(self) -> FeatureSpace:
        """The features that it was trained on; `features_at` makes rows of them."""
        return self._artefact.feature_space()

    def use_trend(self, trend: Snapshot | TrendTable) -> None:
        """Give the shop's trend, for a model whose features have one; `score` needs it first.

        trend: on the days of all rows that are scored from now on: a snapshot with these rows, or
        what `shop_trend` returns. Raises InputError where it is of another declaration.
        """
        table = trend.trend if isinstance(trend, Snapshot) else trend
        layout = self._artefact.layout
        if table is None or table.contrasts.shape[1:] != (layout.contrasts, layout.vocabulary):
            remedy = "is not of the model's features: make it with model.feature_space"
            raise InputError("trend", "of other features", remedy)
        self._engine.use_trend(table)

    def score(self, matrix: sparse.csr_matrix) -> Float32:
        """Probabilities (B, N, C) float32 of rows (B, F) float32 CSR.

        [b, n, k] is the probability that customer b does class k with category n within the
        horizon; the C classes of one category add up to 1. Raises InputError where the matrix does
        not have F columns, and where the model needs the shop's trend of a day and has it not
        (`use_trend`).
        """
        return self._engine.score(self._rows(matrix))

    def propensities(self, matrix: sparse.csr_matrix, top_k: int = 10) -> pa.Table:
        """The top_k most probable (category, class) of each row, as the consumer publishes them.

        Columns: row int64, the row of the matrix; category_id string; class int32, 1 and up;
        probability float32. Rows ascend; within a row the most probable comes first. Raises
        InputError for a top_k below 1, and as `score`.
        """
        if top_k < 1:
            raise InputError(
                "top_k", top_k, "give 1 or more: how many categories to keep of each customer"
            )
        policy = PublishPolicy("top_k", top_k)
        chosen = score_chosen(self._engine, self._rows(matrix), policy)
        return pa.table(
            {
                "row": np.repeat(np.arange(matrix.shape[0]), np.diff(chosen.indptr)),
                "category_id": pa.array(self.categories, pa.string()).take(
                    pa.array(chosen.category)
                ),
                "class": chosen.class_index,
                "probability": chosen.probability,
            }
        )

    def _rows(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """As engines take it. Raises InputError where it has not F columns."""
        if matrix.shape[1] != self.feature_space.width:
            remedy = f"the model has {self.feature_space.width}: make rows of model.feature_space"
            raise InputError("matrix", f"{matrix.shape[1]} columns", remedy)
        rows = sparse.csr_matrix(matrix, dtype=np.float32)
        rows.sort_indices()
        return rows


def load_model(path: str | Place, engine: str = "native") -> Model:
    """The model in a directory that `train` wrote, every byte checked against its manifest.

    engine: "native"; or, where they are installed, "mxnet", the reference, or "onnx"; they agree to
    1e-5. Raises ArtefactError where something is missing or altered, and InputError for another
    engine.
    """
    return Model(artefact.load(place(path, "model")), engine)


def evaluate(
    model: Model | str | Path,
    snapshots: str | Path | Sequence[str | Path],
    *,
    baseline: Sequence[str | Path] = (),
) -> Evaluation:
    """How good a model is on labelled snapshots, against simple baselines.

    `found.metrics.log_loss`, and likewise macro_auc, micro_auc, macro_ap, recall_at_10, ndcg_at_10
    and ece, are the model's; `found.baselines["logistic"].log_loss` is a baseline's, and
    `found.intervals["logistic"].log_loss` is the model minus it: difference, low and high of the
    95 % interval. What is not defined is None. rows, categories, per_category and notes say more,
    and `found.as_json()` is what `stream-scorer evaluate --json` prints.

    baseline: snapshots to fit the logistic baseline on; without them the model's training
    snapshots, where they are still there. Raises InputError where model and snapshots do not fit
    together.
    """
    path = model.path if isinstance(model, Model) else place(model, "model")
    given = [snapshots] if isinstance(snapshots, str | Path) else snapshots
    return evaluate_job.evaluate(
        path,
        [place(s, "snapshot") for s in given],
        baseline=[place(b, "baseline") for b in baseline],
    )
