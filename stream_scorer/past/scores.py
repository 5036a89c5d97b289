"""What models would have said at past moments.

Rows are scored by the native engine in pieces of one size, so that a score does not depend on who
else is scored. Models of one feature declaration share their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import sparse

from stream_scorer.core.evaluation.training_record import recorded_prior, training_reaches
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.as_of import KnownEvents, Moments, distinct, rows_at
from stream_scorer.errors import InputError
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, open_engine
from stream_scorer.progress import progress

PIECE_ROWS = 256
AGES_MS = {"1h": 3_600_000, "1d": 86_400_000, "7d": 7 * 86_400_000}
MOST_STALE_ROWS = 20_000  # judged rows for which older scores are computed, evenly spaced
MOST_SCORES = 1_000_000_000  # 4 GB
NAMES = ("model", "model 2")


@dataclass
class PastModel:
    """columns (N,): which of the model's categories are the common ones. scores (rows, N) and, by
    age, stale (rows of that age, N): filled in by `score`.
    """

    loaded: artefact.Artefact
    engine: Engine
    columns: Int64  # of the common categories
    scores: Float32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    stale: dict[str, Float32] = field(default_factory=dict)


def load_models(paths: Sequence[Path]) -> tuple[list[PastModel], tuple[str, ...]]:
    """One or two models, and the categories that both have, in the order of the first."""
    if not 1 <= len(paths) <= len(NAMES):
        raise InputError("--model", ", ".join(map(str, paths)) or "(none)", "give one or two")
    loaded = [artefact.load(path) for path in paths]
    for other in loaded[1:]:
        if other.manifest.labels != loaded[0].manifest.labels:
            remedy = "its labels are not those of the first model; they can't be compared"
            raise InputError("--model", other.path, remedy)
    common = set.intersection(*(set(m.manifest.categories) for m in loaded))
    categories = tuple(c for c in loaded[0].manifest.categories if c in common)
    if not categories:
        raise InputError("--model", paths[-1], "has no category of the first model")
    made = []
    for one in loaded:
        place = {c: i for i, c in enumerate(one.manifest.categories)}
        columns = np.array([place[c] for c in categories], np.int64)
        made.append(PastModel(one, open_engine(one, "native"), columns))
    return made, categories


def stale_moments(
    known: KnownEvents, base: Moments, judged: Int64
) -> dict[str, tuple[Int64, Moments]]:
    """By age: judged positions of `base` whose customers were known so much earlier, and when."""
    some = judged[:: -(-len(judged) // MOST_STALE_ROWS)]
    first = known.first_ms[base.customer[some]]
    found = {}
    for age, age_ms in AGES_MS.items():
        rows = some[first < base.as_of_ms[some] - age_ms]
        if len(rows):
            found[age] = rows, Moments(base.customer[rows], base.as_of_ms[rows] - age_ms)
    return found


def score(
    models: Sequence[PastModel], known: KnownEvents, base: Moments,
    stale: Mapping[str, tuple[Int64, Moments]], categories: int,
) -> None:  # fmt: skip
    """Fill in every model's scores (rows, N) of class 1 and up, and the older ones."""
    sets = [base, *(moments for _, moments in stale.values())]
    everything = distinct(
        np.concatenate([m.customer for m in sets]), np.concatenate([m.as_of_ms for m in sets])
    )
    total = len(everything.as_of_ms)
    if total * categories * len(models) > MOST_SCORES:
        remedy = f"would be {total:,} rows of {categories} categories; score less often"
        raise InputError("--every", total, remedy)
    spaces: dict[int, tuple[FeatureSpace, list[PastModel]]] = {}
    for model in models:
        space = model.loaded.feature_space()
        spaces.setdefault(space.fingerprint, (space, []))[1].append(model)
        model.scores = np.empty((total, categories), np.float32)
    with progress("scoring", total * len(spaces)) as meter:
        for space, users in spaces.values():
            for at, matrix in rows_at(known, everything, space):
                for model in users:
                    model.scores[at] = _scores(model, matrix)
                meter.advance(len(at))
    for model in models:
        whole = model.scores
        model.scores = whole[everything.find(*base)]
        model.stale = {a: whole[everything.find(*moments)] for a, (_, moments) in stale.items()}


def _scores(model: PastModel, matrix: sparse.csr_matrix) -> Float32:
    """(k, N): probability of acting at all, piece by piece of the same size."""
    out = np.empty((matrix.shape[0], len(model.columns)), np.float32)
    for first in range(0, len(out), PIECE_ROWS):
        piece = matrix[first : first + PIECE_ROWS]
        rows = piece.shape[0]
        piece.resize(PIECE_ROWS, matrix.shape[1])
        scores = 1 - model.engine.score(piece)[:rows, :, 0]
        out[first : first + rows] = scores[:, model.columns]
    return out


def prior_scores(model: PastModel, shape: tuple[int, ...]) -> dict[str, Float32]:
    """The share of training rows that acted, for everybody; nothing where it is not recorded."""
    manifest = model.loaded.manifest
    prior = recorded_prior(manifest.training, len(manifest.categories))
    return {} if prior is None else {"prior": np.broadcast_to(prior[model.columns], shape)}


def overlaps(model: PastModel, first_ms: int) -> bool:
    """Whether training's labels reach into the scored time: then the figures flatter."""
    manifest = model.loaded.manifest
    return training_reaches(manifest.training, manifest.labels.horizon_ms, first_ms)
