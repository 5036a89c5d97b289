"""What scores models would have given at past moments.

Rows are scored by the native engine in pieces of one size, so that a score does not depend on who
else is scored. Models of one feature declaration share their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.evaluation.judged_task import TrainedOn
from stream_scorer.core.evaluation.training_record import recorded_prior, training_reaches
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.as_of import KnownEvents, Moments, distinct, rows_at
from stream_scorer.core.trend import DailyCounts, TrendTable, contrast_count, day_of
from stream_scorer.errors import InputError
from stream_scorer.io.files.scores import ScoreWriter
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, open_engine
from stream_scorer.progress import progress
from stream_scorer.storage.places import Place

PIECE_ROWS = 256
AGES_MS = {"1h": 3_600_000, "1d": 86_400_000, "7d": 7 * 86_400_000}
MOST_STALE_ROWS = 20_000  # judged rows for which older scores are computed, evenly spaced
MOST_SCORES = 1_000_000_000  # 4 GB
NAMES = ("model", "model 2")


@dataclass(frozen=True)
class PastModel:
    """columns (N,) int64: where the common categories are among the model's own."""

    loaded: artefact.Artefact
    engine: Engine
    columns: Int64


@dataclass(frozen=True)
class PastScores:
    """Of one model, by common category: probability of acting at all.

    fresh (M, N) float32: at each of the M moments. older: by age, the (K,) judged rows of that
    age's `OlderMoments` and their older scores (K, N).
    """

    fresh: Float32
    older: dict[str, tuple[Int64, Float32]]


class OlderMoments(NamedTuple):
    """rows (K,) int64: positions of judged rows; moments: their customers, so much earlier."""

    rows: Int64
    moments: Moments


def load_models(paths: Sequence[Place]) -> tuple[dict[str, PastModel], tuple[str, ...]]:
    """One or two models by `NAMES`, and the N categories that both have, in the first one's order.

    Raises InputError where there are more, or where two can't be compared; and ArtefactError.
    """
    if not 1 <= len(paths) <= len(NAMES):
        raise InputError(
            "--model",
            ", ".join(map(str, paths)) or "(none)",
            "give --model once, or twice to compare two models",
        )
    loaded = [artefact.load(path) for path in paths]
    for other in loaded[1:]:
        if other.manifest.labels != loaded[0].manifest.labels:
            remedy = "its labels are not those of the first model; they can't be compared"
            raise InputError("--model", other.path, remedy)
    common = set.intersection(*(set(m.manifest.categories) for m in loaded))
    categories = tuple(c for c in loaded[0].manifest.categories if c in common)
    if not categories:
        raise InputError("--model", paths[-1], "has no category of the first model")
    models = {}
    for name, one in zip(NAMES, loaded, strict=False):
        position = {c: i for i, c in enumerate(one.manifest.categories)}
        columns = np.array([position[c] for c in categories], np.int64)
        models[name] = PastModel(one, open_engine(one, "native"), columns)
    return models, categories


def older_moments(known: KnownEvents, judged: Moments) -> dict[str, OlderMoments]:
    """By age of `AGES_MS`: the judged rows whose customers were known so much earlier already.

    Of many judged rows only about `MOST_STALE_ROWS`, evenly spaced. Ages without rows are left out.
    """
    step = -(-len(judged.as_of_ms) // MOST_STALE_ROWS)
    some = np.arange(0, len(judged.as_of_ms), step)
    first_ms = known.first_ms[judged.customer[some]]
    found = {}
    for age, age_ms in AGES_MS.items():
        rows = some[first_ms < judged.as_of_ms[some] - age_ms]
        if len(rows):
            earlier = Moments(judged.customer[rows], judged.as_of_ms[rows] - age_ms)
            found[age] = OlderMoments(rows, earlier)
    return found


def score(
    models: Mapping[str, PastModel], known: KnownEvents, moments: Moments,
    older: Mapping[str, OlderMoments],
) -> dict[str, PastScores]:  # fmt: skip
    """Every model's scores at `moments`, and the older ones. `moments` are distinct and in order.

    Raises InputError where they would not fit into `MOST_SCORES`.
    """
    # Moments of one kind may be those of another: at a weekly rhythm the score that is 7 days older
    # is the one before. So all are scored as one set, each customer being folded only once.
    sets = [moments, *(earlier for _, earlier in older.values())]
    everything = distinct(
        np.concatenate([m.customer for m in sets]), np.concatenate([m.as_of_ms for m in sets])
    )
    scores = _score_distinct(models, known, everything)
    return {
        name: PastScores(
            fresh=whole[everything.find(*moments)],
            older={
                age: (rows, whole[everything.find(*earlier)])
                for age, (rows, earlier) in older.items()
            },
        )
        for name, whole in scores.items()
    }


def _score_distinct(
    models: Mapping[str, PastModel], known: KnownEvents, moments: Moments
) -> dict[str, Float32]:
    """(M, N) by model."""
    total = len(moments.as_of_ms)
    categories = len(next(iter(models.values())).columns)
    if total * categories * len(models) > MOST_SCORES:
        remedy = (
            f"that would be {total:,} rows of {categories} categories; score less often, or a "
            "shorter time"
        )
        raise InputError("--every", total, remedy)
    # Vectors depend on the declared features alone, so models of one declaration share them.
    spaces: dict[int, tuple[FeatureSpace, list[str]]] = {}
    for name, model in models.items():
        space = model.loaded.feature_space()
        spaces.setdefault(space.fingerprint, (space, []))[1].append(name)
    scores = {name: np.empty((total, categories), np.float32) for name in models}
    with progress("scoring", total * len(spaces)) as meter:
        for space, users in spaces.values():
            table = _trend(space, known, moments)
            if table is not None:
                for name in users:
                    models[name].engine.use_trend(table)
            for rows, matrix in rows_at(known, moments, space):
                for name in users:
                    scores[name][rows] = _scores(models[name], matrix)
                meter.advance(len(rows))
    return scores


def _trend(space: FeatureSpace, known: KnownEvents, moments: Moments) -> TrendTable | None:
    """The shop's trend on the days of `moments`; None where none is declared.

    An event counts for the day on which it became known, so that none is looked at before that.
    """
    if not contrast_count(space) or not len(moments.as_of_ms):
        return None
    counts = DailyCounts.of(space, known.events, at_ms=known.known_at_ms)
    first_ms, last_ms = int(moments.as_of_ms.min()), int(moments.as_of_ms.max())
    return TrendTable.of(space, counts, day_of(first_ms), day_of(last_ms))


def _scores(model: PastModel, matrix: sparse.csr_matrix) -> Float32:
    """(k, N): probability of acting at all, piece by piece of the same size."""
    out = np.empty((matrix.shape[0], len(model.columns)), np.float32)
    for first in range(0, len(out), PIECE_ROWS):
        piece = matrix[first : first + PIECE_ROWS]
        rows = piece.shape[0]
        # The last piece is filled up with empty rows: a product of another shape may round
        # differently.
        piece.resize(PIECE_ROWS, matrix.shape[1])
        scores = 1 - model.engine.score(piece)[:rows, :, 0]
        out[first : first + rows] = scores[:, model.columns]
    return out


def write_scores(
    path: Path, model: PastModel, categories: tuple[str, ...], known: KnownEvents,
    moments: Moments, scores: PastScores,
) -> None:  # fmt: skip
    """The new Parquet file of the scores at `moments`, by time and then by customer."""
    order = np.lexsort((moments.customer, moments.as_of_ms))
    ids = [known.customer_ids[c] for c in moments.customer[order].tolist()]
    acting = scores.fresh[order]
    with ScoreWriter(path, categories, 2, model.loaded.manifest.model_version) as writer:
        writer.write(ids, moments.as_of_ms[order], np.stack([1 - acting, acting], axis=2))


def prior_scores(models: Mapping[str, PastModel], shape: tuple[int, ...]) -> dict[str, Float32]:
    """{"prior": the share of training rows that acted, for everybody}, of the first model that
    records it; {} where none does.

    shape: (J, N). Nothing is copied: every row is the same memory.
    """
    for model in models.values():
        manifest = model.loaded.manifest
        prior = recorded_prior(manifest.training, len(manifest.categories))
        if prior is not None:
            return {"prior": np.broadcast_to(prior[model.columns], shape)}
    return {}


def trained_on(model: artefact.Artefact) -> TrainedOn:
    """What its manifest says of its training."""
    manifest = model.manifest
    return TrainedOn.of(model.feature_space(), manifest.training, manifest.labels.horizon_ms)


def overlaps(model: PastModel, first_ms: int) -> bool:
    """Whether training's labels reach into the scored time: then the figures flatter."""
    manifest = model.loaded.manifest
    return training_reaches(manifest.training, manifest.labels.horizon_ms, first_ms)
