"""What is asked about one customer, on the threads of `Workers`.

The reader of customers has a model and an engine of its own: the consumer in the same process uses
its engine from its own thread alone. So it is opened when the first look-up comes, and a member
whom nobody asks holds one model. That takes seconds, and minutes where kernels are compiled first:
it has a thread of its own, and whoever would wait for too long is told to come again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.similar_words import meant
from stream_scorer.customers.current_model import OpenModel
from stream_scorer.customers.explanation import Explanation
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.customers.shown import ChosenPropensities, CustomerShown, ShownPropensity
from stream_scorer.errors import InputError, Unavailable
from stream_scorer.result import Result
from stream_scorer.web.answers import PropensityTexts

ALL = 1_000_000  # more categories than any model has
OPEN_SECONDS = 25.0  # so long a look-up waits for the reader: less than an answer may take


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
            "is not known: no event of this customer was read, the record has expired, or its "
            "newest event is older than store.time_to_live_seconds",
        )  # fmt: skip


class LookUps:
    """open_reader: a reader that follows what is announced. Safe for several threads."""

    def __init__(self, open_reader: Callable[[], CustomerReader]) -> None:
        self._open_reader, self._lock = open_reader, threading.Lock()
        self._opening: Future[CustomerReader] | None = None
        self._reader: CustomerReader | None = None
        self._closed = False
        self._texts: WeakKeyDictionary[OpenModel, PropensityTexts] = WeakKeyDictionary()

    def reader(self) -> CustomerReader:
        """The one reader, opened for whoever asks first. Raises as CustomerReader.open, and
        Unavailable where it takes long to open."""
        if self._reader is not None:
            return self._reader
        opening = self.begin()
        if not _is_done(opening, OPEN_SECONDS):
            raise Unavailable("the model is still being opened", "ask again in a moment")
        return opening.result()

    def begin(self) -> Future[CustomerReader]:
        """Open the reader, where nobody does yet, and wait for nothing."""
        with self._lock:
            if self._opening is None:
                self._opening = Future()
                threading.Thread(
                    target=self._open, args=(self._opening,), name="customer reader", daemon=True
                ).start()
            return self._opening

    def _open(self, opening: Future[CustomerReader]) -> None:
        try:
            reader = self._open_reader()
        except BaseException as error:
            with self._lock:
                self._opening = None  # whoever asks next tries again
            opening.set_exception(error)
            return
        with self._lock:
            self._reader, closed = reader, self._closed
        if closed:
            reader.close()
        opening.set_result(reader)

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
        """Close the reader, where one was opened, or will be."""
        with self._lock:
            self._closed, reader = True, self._reader
        if reader is not None:
            reader.close()


def _is_done(opening: Future[CustomerReader], seconds: float) -> bool:
    return bool(wait([opening], seconds).done)


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
