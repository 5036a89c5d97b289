"""One pass of a refresh over all customers of some partitions, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from stream_scorer.core.freshness import PartitionFreshness


@dataclass
class Round:
    """One pass over all customers of some partitions.

    before_ms: scores as of earlier moments are due. as_of_ms: to score as of, None for now.
    request: the name of who asked for it, "" where it was due. everyone: they are published also
    where they hardly move. cursor: the next page of the namespace, None after the last one. found:
    customers that are not looked at yet. customers: how many the pages so far had, of all
    partitions.
    """

    partitions: set[int]
    before_ms: int
    as_of_ms: int | None
    request: str
    began_ms: int
    everyone: bool = False
    cursor: int | None = 0
    found: list[str] = field(default_factory=list)
    customers: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    by_partition: dict[int, Counter[str]] = field(default_factory=dict)
    models: Counter[str] = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        """Whether all customers were looked at."""
        return self.cursor is None and not self.found

    def count(self, outcome: str, partition: int, model: str) -> None:
        """One customer more, whose newest score is of `model` now."""
        self.outcomes[outcome] += 1
        self.by_partition.setdefault(partition, Counter())[outcome] += 1
        self.models[model] += 1

    def share(self, of: int) -> float:
        """About how much of it is done, 0 to 1, where the namespace has `of` customers."""
        return 1.0 if self.cursor is None else min(self.customers / max(of, 1), 0.99)

    def progress(self, known: PartitionFreshness, partition: int, of: int) -> PartitionFreshness:
        """`known` of one partition, with how far this round is."""
        done = self.by_partition.get(partition, Counter())
        return replace(
            known, began_ms=self.began_ms, finished=False, share=round(self.share(of), 4),
            read=done.total(), refreshed=done["refreshed"], unmoved=done["unmoved"],
        )  # fmt: skip

    def finished(
        self, known: PartitionFreshness, partition: int, of: int, model: str
    ) -> PartitionFreshness:
        """`known` of one partition, all of whose scores are of `model` now."""
        found = replace(
            self.progress(known, partition, of), finished=True, model=model,
            until_ms=max(known.until_ms, self.before_ms),
        )  # fmt: skip
        if not self.request:
            return found
        answer = found.read, found.refreshed, found.unmoved
        return replace(found, answered=self.request, answer=answer)

    def in_words(self) -> str:
        """What came of it so far."""
        found = sorted(self.outcomes.items())
        return ", ".join(f"{n:,} {what}" for what, n in found) or "no customers"
