"""Which events a shop accepts, and the reason why any other becomes a dead letter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import (
    LARGEST_NUMBER,
    NULL,
    Bool,
    DeadLetter,
    EventBatch,
    Int32,
    Int64,
    Origin,
    Reason,
)
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.similar_words import meant
from stream_scorer.core.events.time_units import unit_question

_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class EventRules:
    """What a shop accepts.

    categories: the vocabulary of category_id, or None where any category is accepted. With
    refuse_unknown_category False an event of an unknown category is applied; only the features by
    category do not see it. allowed_skew_ms: how far occurred_at may lie after the moment it is
    judged against. ignored_customers: ids whose events are left out, whatever is in them.
    erased_customers: by id the moment in ms since 1970 UTC up to which events are left out, of
    customers who were forgotten on request; for work that does not have the namespace's records.
    """

    event_types: frozenset[str]
    categories: frozenset[str] | None
    refuse_unknown_category: bool
    allowed_skew_ms: int
    earliest_ms: int = 0
    ignored_customers: frozenset[str] = frozenset()
    erased_customers: Mapping[str, int] = field(default_factory=dict)

    def latest_ms(self, stamps_ms: Int64, now_ms: int) -> Int64:
        """(n,) how late events may have occurred whose records are of the times stamps_ms (n,).

        That is the record's own time or now_ms, whichever is earlier, and the allowed skew. So a
        replay of a topic decides as the live consumer did. Records of files have no time, and a
        record time that is implausible itself is passed over.
        """
        judged_at = np.where(stamps_ms < max(self.earliest_ms, 0), now_ms, stamps_ms)
        return np.minimum(judged_at, now_ms) + self.allowed_skew_ms

    def plausible(self, events: EventBatch, records: Origin, now_ms: int) -> Bool:
        """(n,) which of the events of `records` occurred within the plausible window."""
        latest = self.latest_ms(records.timestamps_ms[events.record_index], now_ms)
        at_ms = events.occurred_at_ms
        return (at_ms >= max(self.earliest_ms, 0)) & (at_ms <= latest)


def without_ignored(events: EventBatch, rules: EventRules) -> tuple[EventBatch, int]:
    """The events but those of ignored customers, and how many these were."""
    if not rules.ignored_customers:
        return events, 0
    codes, ids = events.customer_id.intern()
    ignored = _member(codes, ids, rules.ignored_customers)
    return events.take(~ignored), int(ignored.sum())


def without_erased(events: EventBatch, rules: EventRules) -> tuple[EventBatch, int]:
    """The events but those up to which their customers are erased, and how many these were."""
    if not rules.erased_customers:
        return events, 0
    codes, ids = events.customer_id.intern()
    until = np.array([rules.erased_customers.get(i, _NEVER) for i in ids] + [_NEVER], np.int64)
    erased = events.occurred_at_ms <= until[codes]
    return events.take(~erased), int(erased.sum())


class JudgedEvents(NamedTuple):
    """events: those that can be applied. dead_letters: of all records that are no event or no valid
    one. ignored_events: how many were of ignored customers. erased_events: of customers who were
    forgotten on request, from before that.
    """

    events: EventBatch
    dead_letters: list[DeadLetter]
    ignored_events: int
    erased_events: int = 0


def judge(batch: DecodedBatch, rules: EventRules, now_ms: int) -> JudgedEvents:
    """What becomes of each record of `batch`: the one answer for live, replay and training."""
    events, ignored = without_ignored(batch.events, rules)
    events, erased = without_erased(events, rules)
    events, invalid = validate(events, batch.origin, rules, now_ms)
    return JudgedEvents(events, [*batch.refused, *invalid], ignored, erased)


def validate(
    events: EventBatch, records: Origin, rules: EventRules, now_ms: int
) -> tuple[EventBatch, list[DeadLetter]]:
    """Split `events` (decoded from `records`) into those that can be applied and dead letters.

    An event's time is judged as `EventRules.latest_ms` says. One reason per record, the first in
    the order of `Reason`.
    """
    n = len(events)
    latest_ms = rules.latest_ms(records.timestamps_ms[events.record_index], now_ms)
    type_codes, types = events.event_type.intern()
    known_type = _member(type_codes, types, rules.event_types)
    checks: list[tuple[Bool, Reason]] = [
        (events.customer_id.lengths > 0, Reason.MISSING_CUSTOMER_ID),
        (known_type, Reason.UNKNOWN_EVENT_TYPE),
    ]
    if rules.refuse_unknown_category and rules.categories is not None:
        codes, names = events.category_id.intern()
        known = _member(codes, names, rules.categories) | (codes == NULL)
        checks.append((known, Reason.UNKNOWN_CATEGORY))
    checks += [
        (np.isfinite(events.value) | ~events.has_value, Reason.VALUE_NOT_FINITE),
        ((np.abs(events.value) <= LARGEST_NUMBER) | ~events.has_value, Reason.VALUE_TOO_LARGE),
        (events.occurred_at_ms >= 0, Reason.TIME_NEGATIVE),
        (events.occurred_at_ms >= rules.earliest_ms, Reason.TIME_TOO_EARLY),
        (events.occurred_at_ms <= latest_ms, Reason.TIME_IN_FUTURE),
    ]
    good = np.ones(n, np.bool_)
    dead_letters: list[DeadLetter] = []
    for passed, reason in checks:
        for row in np.flatnonzero(good & ~passed).tolist():
            detail = _detail(events, row, reason, rules, int(latest_ms[row]))
            dead_letters.append(records.dead_letter(int(events.record_index[row]), reason, detail))
        good &= passed
    return (events.take(good) if dead_letters else events), dead_letters


def _member(codes: Int32, names: list[str], allowed: frozenset[str]) -> Bool:
    # The last entry answers code NULL, which is -1.
    table = np.array([name in allowed for name in names] + [False], np.bool_)
    found: Bool = table[codes]
    return found


def _detail(events: EventBatch, row: int, reason: Reason, rules: EventRules, latest_ms: int) -> str:
    if reason is Reason.MISSING_CUSTOMER_ID:
        return "customer_id is empty"
    if reason is Reason.UNKNOWN_EVENT_TYPE:
        word = str(events.event_type[row])
        similar = meant(word, rules.event_types)
        return f"event_type {word!r} is not in events.event_types{similar}"
    if reason is Reason.UNKNOWN_CATEGORY:
        word = str(events.category_id[row])
        similar = meant(word, rules.categories or frozenset())
        return f"category_id {word!r} is not in vocabularies.category_id{similar}"
    if reason is Reason.VALUE_NOT_FINITE:
        return f"value {events.value[row]} is not finite"
    if reason is Reason.VALUE_TOO_LARGE:
        return f"value {events.value[row]} is beyond {LARGEST_NUMBER:g}, the largest accepted"
    at_ms = int(events.occurred_at_ms[row])
    if reason is Reason.TIME_IN_FUTURE:
        beyond = f"after {moment_text(latest_ms)}, the latest that is plausible for its record"
    elif reason is Reason.TIME_TOO_EARLY:
        beyond = f"before events.earliest_occurred_at, {moment_text(rules.earliest_ms)}"
    else:
        beyond = "before 1970"
    question = unit_question(at_ms, rules.earliest_ms, latest_ms)
    return f"occurred_at {at_ms} ms is {moment_text(at_ms)}, {beyond}{question and '; ' + question}"
