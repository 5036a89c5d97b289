"""`stream-scorer customer show`: what is stored of customers, and their propensities now."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.customers.reader import CustomerReader
from stream_scorer.customers.shown import ShownCustomers
from stream_scorer.customers.shown_in_words import shown_in_words
from stream_scorer.settings.tree import Settings


def show(
    settings: Settings, customer_ids: Sequence[str], as_of_ms: int | None = None, top_k: int = 10
) -> ShownCustomers:
    """These customers, in their order; as_of_ms: None for now.

    Raises InputError and StoreUnavailable as `CustomerReader.show_all`.
    """
    with CustomerReader.open(settings) as reader:
        return reader.show_all(customer_ids, as_of_ms, top_k)


def in_words(found: ShownCustomers) -> list[str]:
    """The customers for people."""
    return shown_in_words(found)


def all_well(found: ShownCustomers) -> bool:
    """Whether every customer is known and the model that should serve computed propensities."""
    return not found.not_found and not found.model_problem
