"""When dead letters say that a schema or a setting is wrong, not the events.

Of the last `window_records` records at most `max_share` may be dead letters. Going on would move a
whole topic into the dead-letter topic, from where it is harder to get back, or would make vectors
of a fraction of a file. Before the window is full nothing is decided.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stream_scorer.core.events.batch import DeadLetter
from stream_scorer.errors import TooManyDeadLetters

# Batches are cut into so many parts of a window, so that large ones are judged like small ones.
PARTS = 10


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive records: counts of dead letters by reason, and the first detail of each."""

    records: int
    counts: Counter[str]
    details: dict[str, str]


class DeadLetterWindow:
    """The newest parts of batches, whole, that hold `window_records` records or more.

    live: the consumer's, whose dead letters are in the dead-letter topic.
    """

    def __init__(self, max_share: float, window_records: int, *, live: bool = True) -> None:
        self._max_share, self._window_records, self._live = max_share, window_records, live
        self.part_records = max(1, window_records // PARTS)
        self._parts: deque[Part] = deque()
        self._records = 0
        self._reasons: Counter[str] = Counter()

    def add(self, records: int, dead_letters: Sequence[DeadLetter]) -> None:
        """One batch of so many records that is done. Raises TooManyDeadLetters."""
        for part in parts_of(records, dead_letters, self.part_records):
            self.add_part(part)

    def add_part(self, part: Part) -> None:
        """The records after those that were added before. Raises TooManyDeadLetters."""
        self._parts.append(part)
        self._records += part.records
        self._reasons += part.counts
        self._forget_old()
        dead = self._reasons.total()
        if self._records >= self._window_records and dead > self._max_share * self._records:
            (reason, count), *_ = self._reasons.most_common(1)
            detail = next((p.details[reason] for p in self._parts if reason in p.details), "")
            raise TooManyDeadLetters(self._words(dead, count, reason, detail))

    def _forget_old(self) -> None:
        while (beyond := self._records - self._window_records) > 0:
            oldest = self._parts[0]
            if oldest.records <= beyond:
                self._parts.popleft()
                self._records -= oldest.records
                self._reasons -= oldest.counts
            elif not oldest.counts:
                # A long part without a dead letter would hide what comes after it.
                self._parts[0] = Part(oldest.records - beyond, Counter(), {})
                self._records -= beyond
            else:
                return

    def _words(self, dead: int, count: int, reason: str, detail: str) -> str:
        of_them = f"of the last {self._records:,} records are"
        why = f"{count:,} of them {reason} ({detail})"
        if self._live:
            return (
                f"{dead:,} {of_them} dead letters, {why}: fix the producers or the settings, or "
                "raise dead_letters.max_share; the dead-letter topic has them all"
            )
        return (
            f"{dead:,} {of_them} refused, {why}: fix the events or the settings, or raise "
            "dead_letters.max_share, the share above which `run` stops too"
        )


class DeadLetterParts:
    """What a window is to be given later, by another process: all parts, in order."""

    def __init__(self, part_records: int) -> None:
        self._part_records = part_records
        self.parts: list[Part] = []

    def add(self, records: int, dead_letters: Sequence[DeadLetter]) -> None:
        """One batch of so many records."""
        for part in parts_of(records, dead_letters, self._part_records):
            if self.parts and not part.counts and not self.parts[-1].counts:
                # A file may have very many parts without a dead letter.
                together = self.parts.pop().records + part.records
                self.parts.append(Part(together, Counter(), {}))
            else:
                self.parts.append(part)


def parts_of(records: int, dead_letters: Sequence[DeadLetter], part_records: int) -> Iterator[Part]:
    """A batch as parts of at most part_records records, where it is known which record is which."""
    if not dead_letters or records <= part_records or any(d.record < 0 for d in dead_letters):
        yield _part(records, dead_letters)
        return
    of_part: dict[int, list[DeadLetter]] = {}
    for dead_letter in dead_letters:
        of_part.setdefault(dead_letter.record // part_records, []).append(dead_letter)
    for number, first in enumerate(range(0, records, part_records)):
        yield _part(min(part_records, records - first), of_part.get(number, []))


def _part(records: int, dead_letters: Sequence[DeadLetter]) -> Part:
    details: dict[str, str] = {}
    for dead_letter in dead_letters:
        details.setdefault(dead_letter.reason.value, dead_letter.detail)
    return Part(records, Counter(d.reason.value for d in dead_letters), details)
