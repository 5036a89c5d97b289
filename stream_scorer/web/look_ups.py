"""What is asked about one customer, on the threads of `Workers`.

The reader of customers has a model and an engine of its own: the consumer in the same process uses
its engine from its own thread alone. So it is opened when the first look-up comes, and a member
whom nobody asks holds one model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.similar_words import meant
from stream_scorer.customers.current_model import OpenModel
from stream_scorer.customers.explanation import Explanation
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.customers.shown import ChosenPropensities, CustomerShown, ShownPropensity
from stream_scorer.errors import InputError
from stream_scorer.result import Result
from stream_scorer.web.answers import PropensityTexts

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
        self._texts: WeakKeyDictionary[OpenModel, PropensityTexts] = WeakKeyDictionary()

    def reader(self) -> CustomerReader:
        """The one reader, opened by whoever asks first. Raises as CustomerReader.open."""
        with self._lock:
            if self._reader is None:
                self._reader = self._open_reader()
            return self._reader

    def propensities(
        self, customer_id: str, as_of_ms: int | None, top_k: int | None, categories: Sequence[str]
    ) -> bytes:
        """CustomerPropensities as JSON. top_k: None for as many as are published. categories: only
        these, all of them in that case. Raises NotKnown, and as CustomerReader.propensities."""
        reader = self.reader()
        asked_at = moment_text(reader.clock_ms())
        wanted = ALL if categories and top_k is None else top_k
        (found,) = reader.chosen([customer_id], as_of_ms, ALL if categories else wanted)
        if found is None:
            raise NotKnown(customer_id)
        model, chosen = found
        texts = self._texts_of(model)
        if categories:
            chosen = _only(chosen, _numbers(texts, categories), wanted)
        return texts.answer(customer_id, asked_at, chosen)

    def _texts_of(self, model: OpenModel) -> PropensityTexts:
        texts = self._texts.get(model)
        if texts is None:
            texts = self._texts[model] = PropensityTexts(model)
        return texts

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


def _numbers(texts: PropensityTexts, categories: Sequence[str]) -> set[int]:
    """Raises InputError for a category that the model has not."""
    for category in categories:
        if category not in texts.number:
            remedy = "is no category of the model" + meant(category, frozenset(texts.number))
            raise InputError("category", category, remedy)
    return {texts.number[category] for category in categories}


def _only(chosen: ChosenPropensities, numbers: set[int], most: int | None) -> ChosenPropensities:
    """Those of these categories, `most` of them at most."""
    at = [i for i, n in enumerate(chosen.category) if n in numbers][:most]
    return ChosenPropensities(
        [chosen.category[i] for i in at], [chosen.class_index[i] for i in at],
        [chosen.probability[i] for i in at],
    )  # fmt: skip
