"""An engine's scores of an artefact's golden batch: stored by training, compared before serving."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, engines_here, open_engine
from stream_scorer.model.engines.trend_days import table_rows
from stream_scorer.model.golden_batch import GoldenBatch, rows_of

TOLERANCE = 1e-5  # of a probability: so closely do the engines agree with each other

NO_GOLDEN_BATCH = (
    "it has no golden batch, since an earlier release or a program of your own made it: whether it "
    "is scored here as where it was trained was not checked; `train` stores one"
)


def golden_batch_of(
    model: artefact.TrainedModel,
    shards: Sequence[LabelledRows],
    trend: TrendTable | None = None,
) -> GoldenBatch | None:
    """A few rows of `shards` with the model's scores, by the reference engine where it is here.

    trend: of all days of `shards`, for a model that has one. None where no row has an entry, or the
    model has more columns than the file can hold. Raises InputError where the trend is missing.
    """
    whole = artefact.unsaved(model)
    layout = whole.layout
    rows = rows_of(shards, layout.categories * layout.classes, layout.contrasts * layout.vocabulary)
    if rows is None:
        return None
    engine = open_engine(whole, engines_here()[0])
    if not layout.contrasts:
        return GoldenBatch(rows, engine.score(rows))
    at = table_rows(layout, rows, trend)
    assert trend is not None  # table_rows refuses None
    part = trend.part(trend.first_day + int(at.min()), trend.first_day + int(at.max()))
    engine.use_trend(part)
    return GoldenBatch(rows, engine.score(rows), part)


def check_golden_batch(engine: Engine, loaded: artefact.Artefact) -> bool:
    """Whether there is a golden batch; if so, the engine's scores of it are those of training.

    The engine keeps the golden batch's trend until it is given another by `use_trend`. Raises
    ArtefactError where they are not, or where the file is missing or altered.
    """
    batch = artefact.golden_batch(loaded)
    if batch is None:
        return False
    if batch.trend is not None:
        engine.use_trend(batch.trend)
    scores = engine.score(batch.matrix)
    worst = float(np.abs(scores - batch.scores).max(initial=0.0))
    if not worst <= TOLERANCE:
        raise ArtefactError(
            "model", loaded.path / artefact.GOLDEN_FILE,
            f"this machine scores its rows differently than training did, by up to {worst:.2g} "
            f"(allowed: {TOLERANCE:g}); copy or train the model again, or use the other "
            "model.engine",
        )  # fmt: skip
    return True


def check_on_engines_here(loaded: artefact.Artefact) -> bool:
    """As `check_golden_batch`, with every engine that is installed, since members may run any."""
    checked = False
    for name in engines_here():
        engine = open_engine(loaded, name)
        engine.warm_up(1)
        checked = check_golden_batch(engine, loaded)
    return checked
