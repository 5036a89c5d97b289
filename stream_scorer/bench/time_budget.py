"""How many turns of a measurement fit into the time that the whole may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator


class TimeBudget:
    """seconds: from now on, for all parts together."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock, self._began = seconds, clock, clock()

    @property
    def spent_seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._began

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self.spent_seconds >= self._seconds

    def turns(self, most: int, share: float) -> Iterator[int]:
        """The numbers of up to `most` turns, at least of one. None begins that would end after this
        share of the budget if it took as long as the longest before it."""
        longest = 0.0
        for turn in range(most):
            before = self.spent_seconds
            if turn and before + longest > self._seconds * share:
                return
            yield turn
            longest = max(longest, self.spent_seconds - before)
