"""Customers forgotten for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stream_scorer import __version__
from stream_scorer.api.moments import Moment, moment_ms
from stream_scorer.customers.erasure_receipt import ErasureReceipt
from stream_scorer.jobs import customer_forget
from stream_scorer.settings.tree import Settings


def forget_customers(
    settings: Settings,
    customers: Sequence[str] | Mapping[str, Moment],
    *,
    scan_dead_letters: bool = False,
) -> ErasureReceipt:
    """Delete customers for good, as `stream-scorer customer forget --yes` does, and the receipt.

    customers: ids, of whom nothing up to now counts from now on; or by id the moment up to which
    nothing counts. `receipt.done` is False where something is open, and `receipt.problem` says
    what. Raises InputError for what can't be a customer's id, and StoreUnavailable or
    BusUnavailable before anything was deleted.
    """
    moments = customers if isinstance(customers, Mapping) else {}
    wanted: dict[str, int | None] = dict.fromkeys(customers)
    wanted |= {i: moment_ms(at, "customers") for i, at in moments.items()}
    return customer_forget.forget(
        settings, wanted, version=__version__, scan_dead_letters=scan_dead_letters
    )


def forgotten_customers(settings: Settings) -> dict[str, str]:
    """Who was forgotten in the namespace that the settings name: by id the moment, in ISO 8601, up
    to which nothing counts. Raises StoreUnavailable where Redis does not answer."""
    found = customer_forget.listing(settings)
    return dict(found.customers)
