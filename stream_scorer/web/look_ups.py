"""What is asked about one customer, on the threads of `Workers`.

The reader of customers has a model and an engine of its own: the consumer in the same process uses
its engine from its own thread alone. So it is opened when the first look-up comes, and a member
whom nobody asks holds one model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.similar_words import meant
from stream_scorer.customers.explanation import Explanation
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.customers.shown import CustomerShown, ShownPropensity
from stream_scorer.errors import InputError
from stream_scorer.result import Result

ALL = 1_000_000  # more categories than any model has


@dataclass(frozen=True)
class CustomerPropensities(Result):
    """Computed when it was asked, from the record as it was then; most probable first.

    asked_at: ISO 8601 in UTC; propensities are as of then, or of an earlier moment that was asked
    for.
    """

    customer_id: str
    asked_at: str
    model_version: str
    propensities: tuple[ShownPropensity, ...]


class NotKnown(InputError):
    """A customer of whom nothing is stored."""

    def __init__(self, customer_id: str) -> None:
        super().__init__(
            "customer", customer_id,
            "is not known: no event of this customer was read, or the record has expired",
        )  # fmt: skip


class LookUps:
    """open_reader: a reader that follows what is announced. Safe for several threads."""

    def __init__(self, open_reader: Callable[[], CustomerReader]) -> None:
        self._open_reader, self._lock = open_reader, threading.Lock()
        self._reader: CustomerReader | None = None

    def reader(self) -> CustomerReader:
        """The one reader, opened by whoever asks first. Raises as CustomerReader.open."""
        with self._lock:
            if self._reader is None:
                self._reader = self._open_reader()
            return self._reader

    def propensities(
        self, customer_id: str, as_of_ms: int | None, top_k: int | None, categories: Sequence[str]
    ) -> CustomerPropensities:
        """top_k: None for as many as are published. categories: only these, all of them in that
        case. Raises NotKnown, and as CustomerReader.propensities."""
        reader = self.reader()
        asked_at = moment_text(reader.clock_ms())
        wanted = ALL if categories and top_k is None else top_k
        (found,) = reader.propensities([customer_id], as_of_ms, ALL if categories else wanted)
        if found is None:
            raise NotKnown(customer_id)
        entries = found.entries
        if categories:
            known = reader.models.of(customer_id).engine.categories
            for category in categories:
                if category not in known:
                    remedy = "is no category of the model" + meant(category, frozenset(known))
                    raise InputError("category", category, remedy)
            entries = tuple(e for e in entries if e.category_id in categories)[:wanted]
        return CustomerPropensities(customer_id, asked_at, found.model_version, entries)

    def shown(self, customer_id: str, as_of_ms: int | None, top_k: int) -> CustomerShown:
        """Raises NotKnown, and as CustomerReader.show."""
        found = self.reader().show(customer_id, as_of_ms, top_k)
        if not found.found and found.erased_until is None:
            raise NotKnown(customer_id)
        return found

    def explanation(
        self, customer_id: str, as_of_ms: int | None, categories: Sequence[str],
        top_categories: int, top_inputs: int,
    ) -> Explanation:  # fmt: skip
        """Raises NotKnown, and as CustomerReader.explain."""
        found = self.reader().explain(
            customer_id, categories, as_of_ms,
            top_categories=top_categories, top_inputs=top_inputs,
        )  # fmt: skip
        if not found.found:
            raise NotKnown(customer_id)
        return found

    def close(self) -> None:
        """Close the reader, where one was opened."""
        if self._reader is not None:
            self._reader.close()
