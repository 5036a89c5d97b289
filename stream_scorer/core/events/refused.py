"""Records that could not be applied: counted by reason, each with an example and a remedy.

Every job that reads events counts with `Refused`, so that all of them say the same of the same
records: in results, in the error where nothing can be applied, and in the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.core.events.dead_letter_window import DeadLetterParts, DeadLetterWindow
from stream_scorer.result import Result

LISTED = 1000
IN_WORDS = 10  # records that reports for people show

_TIME = "write occurred_at in milliseconds since 1970 UTC, or as ISO 8601 with a zone"
REMEDIES = {
    Reason.UNDECODABLE: "correct the field that is named in what writes the records",
    Reason.UNKNOWN_SCHEMA: "register the writer's schema, or add it to events.schema_directory",
    Reason.EMPTY_VALUE: "an event is never empty; write no records without a value",
    Reason.OVERSIZED: "shorten the records, or raise the limit",
    Reason.MISSING_CUSTOMER_ID: "give every event the id of its customer",
    Reason.UNKNOWN_EVENT_TYPE: "write a declared type, or declare this one in events.event_types",
    Reason.UNKNOWN_CATEGORY: "add the category to vocabularies.category_id, or set "
    "events.refuse_unknown_category to false",
    Reason.VALUE_NOT_FINITE: "write a finite number, or null where there is none",
    Reason.VALUE_TOO_LARGE: "correct the value, or its unit where the event is made",
    Reason.TIME_NEGATIVE: _TIME,
    Reason.TIME_TOO_EARLY: f"{_TIME}; for older events lower events.earliest_occurred_at",
    Reason.TIME_IN_FUTURE: f"{_TIME}; for clocks that are ahead raise events.allowed_skew_seconds",
}


@dataclass(frozen=True)
class RefusedRecord(Result):
    """position: of the record in its file, from 0, or its offset. detail: the reason in words."""

    source: str
    partition: int
    position: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Refusal(Result):
    """All records that were refused for one reason. example: the first. remedy: what to change."""

    reason: str
    records: int
    example: RefusedRecord
    remedy: str


@dataclass
class Refused:
    """Records that could not be applied: all counted by reason, the first `LISTED` listed.

    window: stops the job where too many are refused, or collects what another process will judge;
    None never stops it. ignored_events: of customers who are to be ignored; they are not refused.
    erased_events: of customers who were forgotten on request, from before that.
    outside_window: events of files, or records of a topic, that were left out by --from and --to.
    """

    window: DeadLetterWindow | DeadLetterParts | None = None
    counts: Counter[str] = field(default_factory=Counter)
    first: list[RefusedRecord] = field(default_factory=list)
    examples: dict[str, RefusedRecord] = field(default_factory=dict)
    records: int = 0
    ignored_events: int = 0
    erased_events: int = 0
    outside_window: int = 0

    def add(
        self, records: int, dead_letters: Sequence[DeadLetter], *,
        ignored_events: int = 0, erased_events: int = 0, outside_window: int = 0,
    ) -> None:  # fmt: skip
        """Count those of a batch of so many records. Raises TooManyDeadLetters."""
        self.records += records
        self.ignored_events += ignored_events
        self.erased_events += erased_events
        self.outside_window += outside_window
        for dead_letter in sorted(dead_letters, key=lambda d: d.record):
            reason = dead_letter.reason.value
            self.counts[reason] += 1
            if reason not in self.examples or len(self.first) < LISTED:
                record = _record(dead_letter)
                self.examples.setdefault(reason, record)
                if len(self.first) < LISTED:
                    self.first.append(record)
        if self.window is not None:
            self.window.add(records, dead_letters)

    def join(self, other: Refused) -> None:
        """Add `other`, which was refused after this. The window is left as it is."""
        self.records += other.records
        self.ignored_events += other.ignored_events
        self.erased_events += other.erased_events
        self.outside_window += other.outside_window
        self.counts.update(other.counts)
        self.first += other.first[: LISTED - len(self.first)]
        self.examples = other.examples | self.examples

    def by_reason(self) -> dict[str, int]:
        """How many of each reason, in the order of the alphabet."""
        return dict(sorted(self.counts.items()))

    def refusals(self) -> tuple[Refusal, ...]:
        """By reason, the most frequent first."""
        return tuple(
            Refusal(reason, count, self.examples[reason], REMEDIES[Reason(reason)])
            for reason, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        )

    def nothing_left(self) -> str:
        """What is said of events of which none can be applied, in one line."""
        words, count = "has no event that can be applied", self.counts.total()
        others = []
        if self.ignored_events:
            others.append(
                f"{self.ignored_events:,} are of customers in events.ignored_customer_ids"
            )
        if self.erased_events:
            others.append(f"{self.erased_events:,} are of customers who were forgotten on request")
        if self.outside_window:
            others.append(f"{self.outside_window:,} are outside --from and --to")
        if not self.counts:
            return f"{words}: {'; '.join(others) or 'there is no record'}"
        reasons = "; ".join(
            f"{r.reason}: {r.records:,}, such as {_where(r.example)}: {r.example.detail} "
            f"(remedy: {r.remedy})"
            for r in self.refusals()
        )
        refused = f"{count:,} of {self.records:,} records are refused: {reasons}"
        return f"{words}: {'; '.join([*others, refused])}"


def refused_as_cause(refused: Refused) -> str:
    """What to append to an error that refused records may have caused; "" where there are none."""
    found = refused.refusals()
    if not found:
        return ""
    first = found[0].example
    return (
        f"; {refused.counts.total():,} of {refused.records:,} records are refused, such as "
        f"{_where(first)}: {first.detail}"
    )


def refused_in_words(refusals: Sequence[Refusal], first: Sequence[RefusedRecord]) -> list[str]:
    """Counts by reason with remedies, then the first records, as lines of text."""
    lines = [f"{r.records:,} records left out: {r.reason}; {r.remedy}" for r in refusals]
    shown = list(first[:IN_WORDS])
    seen = {record.reason for record in shown}
    # A reason whose first record comes late is shown too.
    shown += [r.example for r in refusals if r.reason not in seen]
    return lines + [f"  {_where(r)}: {r.reason}: {r.detail}" for r in shown]


def ignored_events_in_words(ignored: int) -> list[str]:
    """One line where there were any."""
    if not ignored:
        return []
    return [f"{ignored:,} events left out: their customers are in events.ignored_customer_ids"]


def erased_events_in_words(erased: int) -> list[str]:
    """One line where there were any."""
    if not erased:
        return []
    return [f"{erased:,} events left out: their customers were forgotten on request"]


def outside_window_in_words(outside: int) -> list[str]:
    """One line where there were any."""
    return [f"{outside:,} left out: they are outside --from and --to"] if outside else []


def _record(d: DeadLetter) -> RefusedRecord:
    return RefusedRecord(d.topic, d.partition, d.offset, d.reason.value, d.detail)


def _where(record: RefusedRecord) -> str:
    return f"{record.source}[{record.partition}] at {record.position}"
