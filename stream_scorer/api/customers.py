"""Customers as they are now: what is stored of them, their propensities, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from stream_scorer.api.moments import Moment, moment_ms
from stream_scorer.customers.explanation import Explanation
from stream_scorer.customers.history import CustomerHistory
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.customers.shown import CustomerShown
from stream_scorer.jobs import customer_history as job
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import place


class Customers:
    """Looks at customers of a namespace; it changes nothing. Open one with `open_customers`.

    A context manager, which closes its connections. While it is open it follows the model that is
    announced to the members. Safe for several threads.
    """

    def __init__(self, settings: Settings) -> None:
        self._reader = CustomerReader.open(settings, follow=True)

    @property
    def problem(self) -> str:
        """Why no propensities can be computed here, or not by the model that is announced; "" where
        all is well."""
        return self._reader.problem

    def show(
        self, customer_id: str, as_of: Moment | None = None, *, top_k: int = 10
    ) -> CustomerShown:
        """One customer: vector in words, positions, age, expiry, and the top_k propensities.

        `found` is False for one who is not known. as_of: the moment of vector and propensities, now
        where it is None. Raises InputError for a moment before the newest event, whose vector is
        not stored any more, and for one that lies in the future; StoreUnavailable where Redis does
        not answer, and FingerprintMismatch where the namespace holds vectors of other features.
        """
        return self._reader.show(customer_id, _ms(as_of), top_k)

    def show_all(
        self, ids: Sequence[str], as_of: Moment | None = None, *, top_k: int = 10
    ) -> list[CustomerShown]:
        """As `show`, of up to 10,000 customers, in their order; few round trips to Redis."""
        return list(self._reader.show_all(ids, _ms(as_of), top_k).customers)

    def propensities(
        self, ids: Sequence[str], as_of: Moment | None = None, *, top_k: int | None = None
    ) -> pa.Table:
        """The propensities of these customers, computed now; the most probable of each first.

        Columns: customer_id, category_id, action and model_version string; class int32, 1 and up;
        probability float32. Customers who are not known, or who are forgotten, have no row. top_k:
        None for as many as are published. Raises as `show`, and InputError where no model can be
        served here.
        """
        found = self._reader.propensities(ids, _ms(as_of), top_k)
        rows = [
            (customer_id, of_one.model_version, entry)
            for customer_id, of_one in zip(ids, found, strict=True)
            if of_one is not None
            for entry in of_one.entries
        ]
        return pa.table(
            {
                "customer_id": pa.array([row[0] for row in rows], pa.string()),
                "category_id": pa.array([row[2].category_id for row in rows], pa.string()),
                "class": pa.array([row[2].class_index for row in rows], pa.int32()),
                "action": pa.array([row[2].action for row in rows], pa.string()),
                "probability": pa.array([row[2].probability for row in rows], pa.float32()),
                "model_version": pa.array([row[1] for row in rows], pa.string()),
            }
        )

    def explain(
        self,
        customer_id: str,
        categories: str | Sequence[str] = (),
        as_of: Moment | None = None,
        *,
        top_inputs: int | None = 10,
    ) -> Explanation:
        """Why the customer has the propensities of these categories; without any of the three most
        probable.

        Each of `found.explained` is a sum of amounts that is the logit: base, history, those of the
        top_inputs that matter most (None: of all), and one of all others. `found.ok` says whether
        the sums and the engine's own scores agree. Raises as `propensities`, and InputError for a
        category that the model has not.
        """
        wanted = [categories] if isinstance(categories, str) else categories
        return self._reader.explain(customer_id, wanted, _ms(as_of), top_inputs=top_inputs)

    def close(self) -> None:
        """Close the connections to Redis."""
        self._reader.close()

    def __enter__(self) -> Customers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_customers(settings: Settings) -> Customers:
    """The customers of the namespace that the settings name, with the model that its members serve.

    Raises StoreUnavailable where Redis does not answer, and ConfigError. Where no model can be
    served here, `Customers.problem` says why: vectors can be looked at all the same.
    """
    return Customers(settings)


def customer_history(
    settings: Settings,
    customer_id: str,
    *,
    start: Moment | None = None,
    end: Moment | None = None,
    categories: Sequence[str] = (),
    events: str | Path | Sequence[str | Path] = (),
    model: str | Path | None = None,
) -> CustomerHistory:
    """The customer's scores as of start and later, before end, by moment: `found.points`.

    Without events those that the output topic still holds; with events (files, or "topic") those
    that a model gives after each of them. categories: only these; (): all that were published.
    model: an artefact in place of that of model.path. Raises InputError, BusUnavailable where Kafka
    does not answer, and ArtefactError.
    """
    from_ms = None if start is None else moment_ms(start, "start")
    to_ms = None if end is None else moment_ms(end, "end")
    paths = [events] if isinstance(events, str | Path) else list(events)
    if paths:
        return job.replayed(
            settings, customer_id, [str(path) for path in paths], from_ms=from_ms, to_ms=to_ms,
            categories=categories, model=None if model is None else place(model, "model"),
        )  # fmt: skip
    models = [] if model is None else [place(model, "model")]
    return job.published(
        settings, customer_id, from_ms=from_ms, to_ms=to_ms, categories=categories, models=models
    )


def _ms(as_of: Moment | None) -> int | None:
    return None if as_of is None else moment_ms(as_of, "as_of")
