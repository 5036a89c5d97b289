"""Which events a shop accepts, and the reason why any other becomes a dead letter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import (
    NO_TIMESTAMP,
    NULL,
    Bool,
    DeadLetter,
    EventBatch,
    Int32,
    Origin,
    Reason,
)


@dataclass(frozen=True, slots=True)
class EventRules:
    """What a shop accepts.

    categories: the vocabulary of category_id, or None where any category is accepted. With
    refuse_unknown_category False an event of an unknown category is applied; only the features by
    category do not see it. allowed_skew_ms: how far occurred_at may lie after the moment it is
    judged against.
    """

    event_types: frozenset[str]
    categories: frozenset[str] | None
    refuse_unknown_category: bool
    allowed_skew_ms: int


def validate(
    events: EventBatch, records: Origin, rules: EventRules, now_ms: int
) -> tuple[EventBatch, list[DeadLetter]]:
    """Split `events` (decoded from `records`) into those that can be applied and dead letters.

    An event's time is judged against its record's timestamp or `now_ms`, whichever is earlier, so
    that a replay of the log decides as the live consumer did. One reason per record, the first in
    the order of `Reason`.
    """
    n = len(events)
    stamps = records.timestamps_ms[events.record_index]
    judged_at = np.where(stamps == NO_TIMESTAMP, now_ms, np.minimum(stamps, now_ms))
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
        (events.occurred_at_ms >= 0, Reason.TIME_NEGATIVE),
        (events.occurred_at_ms <= judged_at + rules.allowed_skew_ms, Reason.TIME_IN_FUTURE),
    ]
    good = np.ones(n, np.bool_)
    dead_letters: list[DeadLetter] = []
    for passed, reason in checks:
        for row in np.flatnonzero(good & ~passed).tolist():
            detail = _detail(events, row, reason)
            dead_letters.append(records.dead_letter(int(events.record_index[row]), reason, detail))
        good &= passed
    return (events.take(good) if dead_letters else events), dead_letters


def _member(codes: Int32, names: list[str], allowed: frozenset[str]) -> Bool:
    # The last entry answers code NULL, which is -1.
    table = np.array([name in allowed for name in names] + [False], np.bool_)
    found: Bool = table[codes]
    return found


def _detail(events: EventBatch, row: int, reason: Reason) -> str:
    if reason is Reason.MISSING_CUSTOMER_ID:
        return "customer_id is empty"
    if reason is Reason.UNKNOWN_EVENT_TYPE:
        return f"event_type {events.event_type[row]!r} is not in events.event_types"
    if reason is Reason.UNKNOWN_CATEGORY:
        return f"category_id {events.category_id[row]!r} is not in vocabularies.category_id"
    if reason is Reason.VALUE_NOT_FINITE:
        return f"value {events.value[row]} is not finite"
    return f"occurred_at {events.occurred_at_ms[row]} ms"
