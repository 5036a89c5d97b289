"""What happened lately, from counts that were read now and then. Pure: times are arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Generic, TypeVar

Sample = TypeVar("Sample")


class Recent(Generic[Sample]):
    """Samples of the last `kept_ms`, oldest first, and the last one before them."""

    def __init__(self, kept_ms: int) -> None:
        self._kept_ms = kept_ms
        self.samples: deque[tuple[int, Sample]] = deque()

    def add(self, at_ms: int, sample: Sample) -> None:
        """at_ms: later than before; a clock that was set back begins anew."""
        if self.samples and at_ms <= self.samples[-1][0]:
            self.samples.clear()
        self.samples.append((at_ms, sample))
        while len(self.samples) > 1 and self.samples[1][0] <= at_ms - self._kept_ms:
            self.samples.popleft()

    def before(self, ms: int) -> tuple[int, Sample] | None:
        """The newest sample that is at least `ms` older than the last one, else the oldest of all;
        None where there is only one."""
        if len(self.samples) < 2:
            return None
        until = self.samples[-1][0] - ms
        older = [sample for sample in self.samples if sample[0] <= until]
        return older[-1] if older else self.samples[0]


def steps_of_counter(
    samples: Sequence[tuple[int, float]], until_ms: int, step_ms: int, steps: int
) -> list[float]:
    """By how much a counter grew in each step before until_ms, a second; oldest step first.

    samples: (moment in ms, count), ascending. Between two of them the count is taken to have grown
    evenly, and not at all outside. A count that fell began anew, at 0.
    """
    grown = [0.0] * steps
    begin_ms = until_ms - steps * step_ms
    for (from_ms, before), (to_ms, after) in pairwise(samples):
        growth = after - before if after >= before else after
        if not growth or to_ms <= begin_ms or from_ms >= until_ms:
            continue
        first, last = (
            max(from_ms - begin_ms, 0) // step_ms,
            min(to_ms - begin_ms - 1, steps * step_ms - 1) // step_ms,
        )
        for step in range(first, last + 1):
            start_ms = begin_ms + step * step_ms
            share = min(to_ms, start_ms + step_ms) - max(from_ms, start_ms)
            grown[step] += growth * share / (to_ms - from_ms)
    return [1000 * growth / step_ms for growth in grown]


def steps_of_level(
    samples: Sequence[tuple[int, float]], until_ms: int, step_ms: int, steps: int
) -> list[float]:
    """The last level that was read before the end of each step before until_ms, oldest step first;
    0 before the first."""
    found, at, level = [], 0, 0.0
    for step in range(steps):
        end_ms = until_ms - (steps - 1 - step) * step_ms
        while at < len(samples) and samples[at][0] < end_ms:
            level = samples[at][1]
            at += 1
        found.append(level)
    return found


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """The value below which this share of observations lies; None where there is none.

    buckets: (upper bound, number of observations up to it), ascending, the last bound infinite.
    Within a bucket observations are taken to lie evenly, as Prometheus's `histogram_quantile` does;
    beyond the last finite bound that bound is given.
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower
