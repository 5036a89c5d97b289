"""`stream-scorer customer explain`: why customers have their propensities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream_scorer.customers.current_model import OpenModel
from stream_scorer.customers.explanation import ExplainedCustomers
from stream_scorer.customers.explanation_in_words import explanation_in_words
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.customers.valid_ids import require_ids
from stream_scorer.live.served_model import open_model
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings


def explain(
    settings: Settings,
    customer_ids: Sequence[str],
    categories: Sequence[str] = (),
    as_of_ms: int | None = None,
    top_inputs: int = 10,
    model: Path | None = None,
) -> ExplainedCustomers:
    """Of these categories, or of each customer's three most probable; as_of_ms: None for now.

    model: an artefact in place of the one that members serve. Raises InputError and
    StoreUnavailable as `CustomerReader.explain`; ArtefactError and FingerprintMismatch for `model`.
    """
    # All of them, before the first is explained.
    require_ids(customer_ids, settings.events.max_record_bytes)
    found = []
    several = len(customer_ids) > 1
    with CustomerReader.open(settings) as reader:
        opened = None
        if model is not None:
            wanted = open_model(settings, reader.space, model)
            opened = OpenModel(wanted.model, wanted.engine)
        with progress("explaining", len(customer_ids), quiet=not several) as bar:
            for customer_id in customer_ids:
                found.append(
                    reader.explain(
                        customer_id, categories, as_of_ms, top_inputs=top_inputs, model=opened
                    )
                )
                bar.advance(1)
    return ExplainedCustomers(tuple(found), sum(not one.ok for one in found))


def in_words(found: ExplainedCustomers) -> list[str]:
    """The explanations for people, with two empty lines between customers."""
    lines: list[str] = []
    for one in found.customers:
        lines += [*(["", ""] if lines else []), *explanation_in_words(one)]
    return lines
