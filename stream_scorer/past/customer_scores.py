"""What a model says of one customer after each of its past events.

Only that customer's events are kept, so memory does not grow with the others'. Where the shop's
trend is declared, a score depends on everybody's events, and this way is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import Int64, concatenate_events
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.as_of import KnownEvents, Moments, after_events
from stream_scorer.core.trend import contrast_count
from stream_scorer.errors import InputError
from stream_scorer.past.scores import load_models, score
from stream_scorer.past.sources import MissingHistory, open_past, stopping, valid_batches
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place

BATCH_RECORDS = 50_000


@dataclass(frozen=True)
class CustomerScores:
    """scores (M, N) float32: the probability of acting on each of N categories at all, as of the
    moments as_of_ms (M,), which ascend. events: of the customer."""

    model_version: str
    categories: tuple[str, ...]
    as_of_ms: Int64
    scores: Float32
    events: int


def customer_scores(
    settings: Settings,
    sources: Sequence[str],
    customer_id: str,
    model: Place,
    window: tuple[int | None, int | None] = (None, None),
    missing_history: MissingHistory = "refuse",
) -> CustomerScores:
    """window: moments from the first on, before the second, in ms since 1970 UTC; None: no limit.

    Raises InputError where the customer has no event there, or a trend is declared; ArtefactError
    for the model, and what `open_past` raises.
    """
    models, categories = load_models([model])
    loaded = models["model"].loaded
    if contrast_count(loaded.feature_space()):
        remedy = (
            "has a feature of kind trend, which depends on all customers' events; read what was "
            "published (without --replay), or backtest"
        )
        raise InputError("--model", model, remedy)
    refused, parts = stopping(settings), []
    with (
        open_past(
            settings, sources, batch_records=BATCH_RECORDS, missing_history=missing_history
        ) as past,
        progress("reading events", past.most_records) as meter,
    ):
        for batch in valid_batches(settings, past, refused):
            codes, ids = batch.events.customer_id.intern()
            if customer_id in ids:
                parts.append(batch.events.take(np.flatnonzero(codes == ids.index(customer_id))))
            meter.advance(len(batch))
        name = past.name
    if not parts:
        raise InputError("ID", customer_id, f"has no event that counts in {name}")
    events = concatenate_events(parts)
    known = KnownEvents.of(events, events.occurred_at_ms, settings.memory())
    last_ms = int(known.known_at_ms[-1])
    from_ms = 0 if window[0] is None else window[0]
    to_ms = last_ms + 2 if window[1] is None else window[1]
    moments = after_events(known, from_ms, to_ms)
    if not len(moments.as_of_ms):
        raise InputError(
            "--from", "no moment", f"{customer_id} has no event within --from and --to"
        )
    order = np.argsort(moments.as_of_ms, kind="stable")
    moments = Moments(moments.customer[order], moments.as_of_ms[order])
    fresh = score(models, known, moments, {})["model"].fresh
    version = loaded.manifest.model_version
    return CustomerScores(version, categories, moments.as_of_ms, fresh, len(events))
