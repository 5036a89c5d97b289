"""`stream-scorer customer history`: one customer's scores over time, published or replayed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from stream_scorer.core.events.moments import moment_text
from stream_scorer.customers.history import (
    CustomerHistory,
    HistoryPoint,
    Names,
    entries_of,
    published_history,
)
from stream_scorer.customers.history_in_words import history_in_words
from stream_scorer.customers.valid_ids import require_ids
from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact
from stream_scorer.past.customer_scores import customer_scores
from stream_scorer.past.forgotten_customers import leaving_out
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place


def published(
    settings: Settings,
    customer_id: str,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    categories: Sequence[str] = (),
    models: Sequence[Place] = (),
    all_partitions: bool = False,
) -> CustomerHistory:
    """What the output topic holds. models: artefacts whose categories name the probabilities of
    records that were published in full; that of model.path is looked at anyhow. Raises as
    `customers.history.published_history`, and ArtefactError for `models`."""
    require_ids([customer_id], settings.events.max_record_bytes)
    loaded = [artefact.load(path) for path in models]
    with suppress(ArtefactError):  # nothing is scored here, and versions without names are told
        loaded.append(artefact.load(settings.model.path))
    names = {
        one.manifest.model_version: Names(one.manifest.categories, one.manifest.classes)
        for one in loaded
    }
    return published_history(
        settings, customer_id, names, from_ms=from_ms, to_ms=to_ms, categories=categories,
        all_partitions=all_partitions,
    )  # fmt: skip


def replayed(
    settings: Settings,
    customer_id: str,
    sources: Sequence[str],
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    categories: Sequence[str] = (),
    model: Place | None = None,
) -> CustomerHistory:
    """What a model says after each past event; what was forgotten on request is left out. model:
    None for that of model.path. Raises as `past.customer_scores.customer_scores`."""
    require_ids([customer_id], settings.events.max_record_bytes)
    path = settings.model.path if model is None else model
    found = customer_scores(
        leaving_out(settings, None), sources, customer_id, path, (from_ms, to_ms)
    )
    names = Names(found.categories, 2)
    points = tuple(
        HistoryPoint(
            moment_text(at), None, found.model_version, None, None, newest=False, deleted=False,
            propensities=tuple(
                e for e in entries_of(row, names) if not categories or e.category_id in categories
            ),
        )
        for at, row in zip(found.as_of_ms.tolist(), found.scores, strict=True)
    )  # fmt: skip
    source = f"a replay of {', '.join(sources)}"
    return CustomerHistory(customer_id, source, found.events, 0, 0, points)


def in_words(found: CustomerHistory) -> list[str]:
    """The history for people."""
    return history_in_words(found)
