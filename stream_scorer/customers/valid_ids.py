"""Which texts can be a customer's id."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.errors import InputError

MOST_CUSTOMERS = 10_000  # of one look-up: about 20 MB of records


def require_ids(
    customer_ids: Sequence[str], most_bytes: int, most: int = MOST_CUSTOMERS
) -> None:  # fmt: skip
    """Raises InputError where one can't be an event's customer id, or where there are too many.

    most_bytes: events.max_record_bytes, which an id can't exceed. most: so many ids are allowed.
    """
    if len(customer_ids) > most:
        remedy = f"divide the list: {most:,} customers at most at a time"
        raise InputError("customer ids", f"{len(customer_ids):,} ids", remedy)
    for customer_id in customer_ids:
        try:
            length = len(customer_id.encode())
        except UnicodeEncodeError:
            remedy = "is not text that UTF-8 can write, so no event has it"
            raise InputError("customer id", ascii(customer_id), remedy) from None
        if not length:
            raise InputError("customer id", customer_id, "is empty, and no event's is")
        if length > most_bytes:
            remedy = "is longer than events.max_record_bytes, so no event has it"
            raise InputError("customer id", f"{customer_id[:40]}...", remedy)
