"""`stream-scorer customer explain`: why a customer has its propensities."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.customers.explanation import Explanation
from stream_scorer.customers.explanation_in_words import explanation_in_words
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.settings.tree import Settings


def explain(
    settings: Settings,
    customer_id: str,
    categories: Sequence[str] = (),
    as_of_ms: int | None = None,
    top_inputs: int = 10,
) -> Explanation:
    """Of these categories, or of the three most probable; as_of_ms: None for now.

    Raises InputError and StoreUnavailable as `CustomerReader.explain`.
    """
    with CustomerReader.open(settings) as reader:
        return reader.explain(customer_id, categories, as_of_ms, top_inputs=top_inputs)


def in_words(found: Explanation) -> list[str]:
    """The explanation for people."""
    return explanation_in_words(found)
