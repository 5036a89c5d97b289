"""When dead letters say that a schema or a setting is wrong, not the events.

Of the last `window_records` records at most `max_share` may be dead letters. Going on would move a
whole topic into the dead-letter topic, from where it is harder to get back. Before the window is
full nothing is decided.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from stream_scorer.core.events.batch import DeadLetter
from stream_scorer.errors import TooManyDeadLetters


class DeadLetterWindow:
    """The newest batches, whole, that hold `window_records` records or more."""

    def __init__(self, max_share: float, window_records: int) -> None:
        self._max_share, self._window_records = max_share, window_records
        self._batches: deque[tuple[int, Counter[str]]] = deque()
        self._records = 0
        self._reasons: Counter[str] = Counter()

    def add(self, records: int, dead_letters: Sequence[DeadLetter]) -> None:
        """One batch that is done. Raises TooManyDeadLetters."""
        reasons = Counter(dead_letter.reason.value for dead_letter in dead_letters)
        self._batches.append((records, reasons))
        self._records += records
        self._reasons += reasons
        while self._records - self._batches[0][0] >= self._window_records:
            gone, reasons_gone = self._batches.popleft()
            self._records -= gone
            self._reasons -= reasons_gone
        dead = self._reasons.total()
        if self._records >= self._window_records and dead > self._max_share * self._records:
            (reason, count), *_ = self._reasons.most_common(1)
            detail = next((d.detail for d in dead_letters if d.reason.value == reason), "")
            raise TooManyDeadLetters(
                f"{dead:,} of the last {self._records:,} records are dead letters, {count:,} of "
                f"them {reason} ({detail}): fix the producers or the settings, or raise "
                "dead_letters.max_share; the dead-letter topic has them all"
            )
