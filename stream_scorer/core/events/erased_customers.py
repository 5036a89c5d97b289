"""Lists of customers who were forgotten on request, as text: `customer forget --list` writes one,
and whatever reads events or snapshots without the namespace in Redis is given it.

A line for each customer, JSON with customer_id and forgotten_at, a moment in ISO 8601 with a zone:
nothing that the customer did at or before that moment counts. A receipt of `customer forget --json`
or `--receipt` is read as well: it has the same two keys for each of its customers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.errors import InputError


def erased_line(customer_id: str, forgotten_at: str) -> str:
    """The line of a customer who is forgotten up to a moment in ISO 8601 with a zone."""
    return json.dumps({"customer_id": customer_id, "forgotten_at": forgotten_at})


def parse_erased(field: str, value: object, text: str) -> dict[str, int]:
    """The moment in ms since 1970 UTC of each customer of a list, or of a receipt.

    Of several moments of one customer the latest. field, value: of the InputError that is raised
    where it is neither.
    """
    found: dict[str, int] = {}
    for where, entry in _entries(text):
        try:
            customer, at = entry["customer_id"], entry["forgotten_at"]
            moment = parse_iso_8601(at)
            if not isinstance(customer, str) or not customer or moment.tzinfo is None:
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            remedy = (
                f'{where} is not such as {{"customer_id": "c1", "forgotten_at": '
                '"2026-11-30T02:40:00Z"}; give a file of `customer forget --list`, or a receipt'
            )
            raise InputError(field, value, remedy) from None
        ms = nearest_ms(moment)
        found[customer] = max(ms, found.get(customer, ms))
    return found


def _entries(text: str) -> Iterable[tuple[str, Any]]:
    """Where each customer's entry stands, and the entry; None where it is no JSON."""
    try:
        receipt = json.loads(text)
        if isinstance(receipt, dict) and isinstance(receipt.get("customers"), list):
            for number, entry in enumerate(receipt["customers"], 1):
                yield f"customer {number} of the receipt", entry
            return
    except (ValueError, RecursionError):
        pass  # a list of more than one line is no JSON as a whole
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            yield f"line {number}", entry
