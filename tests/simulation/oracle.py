"""A customer's vector, counted one event after another in plain Python.

It shares nothing with the fold, so that a fault of the fold itself shows, too. Times are whole days
and there is one half-life of a day, so all numbers are exact.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from shop import CATEGORIES, DAY_MS, REMEMBERED_IDS, Event


def vector_of(events: Iterable[Event]) -> npt.NDArray[np.float32]:
    """(4,) float32: by category the weight of purchases under a half-life of a day, then how many
    there were, as of the newest event. `events` in the order of the log."""
    ids: list[str] = []
    counted: list[tuple[int, int]] = []  # day and category
    for event in events:
        if event.row["event_id"] in ids:
            continue
        ids = [*ids, event.row["event_id"]][-REMEMBERED_IDS:]
        category = CATEGORIES.index(event.row["category_id"])
        counted.append((event.row["occurred_at"] // DAY_MS, category))
    newest = max(day for day, _ in counted)
    width = len(CATEGORIES)
    vector = np.zeros(2 * width, np.float32)
    for day, category in counted:
        vector[category] += 2.0 ** (day - newest)
        vector[width + category] += 1
    return vector
