"""What one micro-batch did: counts, dead letters, and seconds by stage.

The pipeline and replays fill it in; metrics, the loop and `bench` read it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from stream_scorer.core.drift.followed import WatchedEvents
from stream_scorer.core.drift.sampler import SampledRows
from stream_scorer.core.events.batch import DeadLetter, Float64, TopicPartition
from stream_scorer.core.events.customer_rates import ExtremeRate
from stream_scorer.core.features.ignored_values import IgnoredCount


@dataclass
class BatchReport:
    """records: read from the source. applied, duplicates: events that changed a customer's record,
    and events that the record already held. too_old: events that were not applied because they lie
    more than the time to live before the customer's newest one. ignored_events: events of customers
    who are to be ignored. erased_events: those of customers who were forgotten on request, from
    before that. extreme_customers: who passed the rate that is reported. refused_writes:
    records that the store did not take because another consumer had written newer ones, or because
    they were deleted meanwhile.
    foreign_keys: events whose record has another key than the customer id. split_customers:
    customers with events from two partitions of the topic. next_offsets: of each partition the
    offset after its last record. ignored: values of events that features can't use.
    waited_seconds: (k,) of each event that was published for, from its record's time until Kafka
    had confirmed the propensities. watched, sampled: what drift is measured by, None where it is
    not. seconds: by stage. intervals: each stage with its begin and end, by the clock that only
    grows, in the order of their ends.
    """

    records: int = 0
    applied: int = 0
    duplicates: int = 0
    too_old: int = 0
    ignored_events: int = 0
    erased_events: int = 0
    refused_writes: int = 0
    foreign_keys: int = 0
    split_customers: int = 0
    customers: int = 0
    propensities: int = 0
    extreme_customers: list[ExtremeRate] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    ignored: Sequence[IgnoredCount] = ()
    waited_seconds: Float64 = field(default_factory=lambda: np.zeros(0))
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    watched: WatchedEvents | None = None
    sampled: SampledRows | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    intervals: list[tuple[str, float, float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside this context to `seconds[name]`."""
        start = time.perf_counter()
        yield
        self.took(name, start, time.perf_counter())

    def took(self, name: str, start: float, end: float) -> None:
        """Add an interval of the clock that only grows to a stage."""
        self.seconds[name] = self.seconds.get(name, 0.0) + end - start
        self.intervals.append((name, start, end))
