"""Whether rows to be measured by are held back: not of a time whose outcomes training has seen.

Labels of other customers say nothing of a customer's own outcomes. So the same period may be used
for both where the customers differ; of one customer training must not have seen what comes after.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from stream_scorer.core.labels.labels import LabelledRows


class Overlap(NamedTuple):
    """Training labels of this customer reach to reaches_ms, past its held-back row at row_ms."""

    customer_id: str
    reaches_ms: int
    row_ms: int


def first_overlap(
    training: Iterable[LabelledRows], held_back: Iterable[LabelledRows], horizon_ms: int,
    first_ms: int,
) -> Overlap | None:  # fmt: skip
    """The first held-back row that lies within training labels of the same customer.

    first_ms: the earliest moment of held_back. Each is read once; memory is by the customers whose
    training labels reach past first_ms.
    """
    reaches: dict[str, int] = {}
    for rows in training:
        ends = (rows.as_of_ms + horizon_ms).tolist()
        for customer, end in zip(rows.customer_ids, ends, strict=True):
            if end > first_ms:
                reaches[customer] = max(end, reaches.get(customer, end))
    if not reaches:
        return None
    for rows in held_back:
        for customer, at in zip(rows.customer_ids, rows.as_of_ms.tolist(), strict=True):
            end = reaches.get(customer, at)
            # The window ends before `end`, so a row may stand at that very moment.
            if end > at:
                return Overlap(customer, end, at)
    return None
