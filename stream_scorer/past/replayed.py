"""What `stream-scorer replay` returns, and how it says it to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stream_scorer.core.events.refused import (
    Refusal,
    RefusedRecord,
    erased_events_in_words,
    ignored_events_in_words,
    outside_window_in_words,
    refused_in_words,
)
from stream_scorer.core.features.ignored_values import IgnoredValue, ignored_in_words
from stream_scorer.past.vectors import FoldCounts
from stream_scorer.result import Result


@dataclass(frozen=True)
class LabelledSnapshot(Result):
    """events: valid ones. rows: all, of which event_rows stand just after events, quiet_rows where
    a refresh scores, and the others at cut-offs. refused: the first of those left out.
    refusals: by reason, with an example and the remedy. ignored_values: values of valid events that
    features and labels can't use, by field. ignored_events: of customers who are to be ignored.
    erased_events: of customers who were forgotten on request, from before that.
    outside_window: events of files, or records of the topic, outside --from and --to.
    sample_customers: the share of customers whose rows these are, null where it is everybody.
    sampled_out_events: valid ones of other customers, which `events` does not count.
    """

    events: int
    dead_letters: Mapping[str, int]
    refused: tuple[RefusedRecord, ...]
    rows: int
    cutoffs: int
    out: str
    seconds: float
    refusals: tuple[Refusal, ...] = ()
    ignored_values: tuple[IgnoredValue, ...] = ()
    ignored_events: int = 0
    outside_window: int = 0
    event_rows: int = 0
    quiet_rows: int = 0
    erased_events: int = 0
    sample_customers: str | None = None
    sampled_out_events: int = 0


@dataclass(frozen=True)
class _Folded(Result):
    """Past events that were folded into a store. refusals: by reason, with example and remedy.
    ignored_values: values of valid events that features can't use, by field.
    """

    counts: FoldCounts
    dead_letters: Mapping[str, int]
    refused: tuple[RefusedRecord, ...]

    def as_json(self) -> dict[str, Any]:
        """The keys of the counts stand beside the others."""
        found = super().as_json()
        counts: dict[str, Any] = found.pop("counts")
        return counts | found


@dataclass(frozen=True)
class ReplayedPropensities(_Folded):
    """bytes_per_customer: of memory, of a vector in the store. stages: seconds in each."""

    customers: int
    bytes_per_customer: int
    out: str
    stages: Mapping[str, float]
    seconds: float
    refusals: tuple[Refusal, ...] = ()
    ignored_values: tuple[IgnoredValue, ...] = ()


@dataclass(frozen=True)
class RebuiltNamespace(_Folded):
    """source_offsets: where `run` will go on, {topic: {partition: offset}}."""

    namespace: str
    fingerprint: str
    source_offsets: Mapping[str, Mapping[str, int]]
    stages: Mapping[str, float]
    seconds: float
    refusals: tuple[Refusal, ...] = ()
    ignored_values: tuple[IgnoredValue, ...] = ()


def in_words(done: LabelledSnapshot | ReplayedPropensities | RebuiltNamespace) -> list[str]:
    """Any of the three results for people."""
    took = f"in {done.seconds:.1f} s"
    if isinstance(done, LabelledSnapshot):
        events = done.events
        kinds = [
            f"{rows:,} of them {stand}"
            for rows, stand in ((done.event_rows, "as of events"), (done.quiet_rows, "quiet"))
            if rows
        ]
        rows = ", ".join([f"{done.rows:,} rows", *kinds]) + ("," if kinds else "")
        cutoffs = "1 cut-off" if done.cutoffs == 1 else f"{done.cutoffs} cut-offs"
        words = f"{cutoffs}: {rows} to {done.out} {took}"
        if done.sample_customers is not None:
            words += (
                f"; of {done.sample_customers} of customers, {done.sampled_out_events:,} events of "
                "others passed over"
            )
    elif isinstance(done, RebuiltNamespace):
        events = done.counts.events
        words = f"{done.counts.applied:,} applied to namespace {done.namespace} {took}"
        if done.counts.duplicates:
            words += f"; {done.counts.duplicates:,} were there already"
    else:
        events = done.counts.events
        words = (
            f"{done.customers:,} customers' propensities to {done.out} {took}; "
            f"{done.bytes_per_customer:,} bytes of memory for each"
        )
    counts = done if isinstance(done, LabelledSnapshot) else done.counts
    left_out = refused_in_words(done.refusals, done.refused)
    left_out += ignored_events_in_words(counts.ignored_events)
    left_out += erased_events_in_words(counts.erased_events)
    left_out += outside_window_in_words(counts.outside_window)
    return [f"{events:,} events, {words}", *left_out, *ignored_in_words(done.ignored_values)]
