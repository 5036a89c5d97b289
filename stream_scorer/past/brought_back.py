"""Customers who were forgotten on request, but whose records are not as that left them."""

from __future__ import annotations

from collections.abc import Mapping

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features.erasure import erased_ms
from stream_scorer.core.features.parity import Difference
from stream_scorer.core.features.state import NEVER
from stream_scorer.io.stores.redis import RedisStore

PAGE = 1000


def brought_back(store: RedisStore, listed: Mapping[str, int]) -> list[Difference]:
    """Customers of the list whose record lacks the boundary, or has an earlier one: by a restored
    record, or one that somebody deleted. listed: boundaries in ms since 1970 UTC.
    """
    found = []
    ids = sorted(listed)
    for first in range(0, len(ids), PAGE):
        states = store.load(ids[first : first + PAGE])
        newest = states.arrays.newest_ms.tolist()
        for customer, boundary, at in zip(
            states.customer_ids, erased_ms(states).tolist(), newest, strict=True
        ):
            if boundary >= listed[customer]:
                continue
            stored = "no record" if at == NEVER and boundary == NEVER else "a record of before"
            wanted = f"nothing up to {moment_text(listed[customer])}"
            found.append(Difference(customer, "forgotten on request", stored, wanted))
    return found
