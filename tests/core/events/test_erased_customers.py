"""Lists of customers who were forgotten on request, and the events that they leave out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream_scorer.core.events.erased_customers import erased_line, parse_erased
from stream_scorer.core.events.validation import EventRules, without_erased
from stream_scorer.errors import InputError

AT = "2026-11-30T02:40:00Z"
AT_MS = 1_796_006_400_000


def rules(**erased: int) -> EventRules:
    return EventRules(frozenset({"view"}), None, False, 0, erased_customers=erased)


def test_a_list_is_read_as_it_was_written() -> None:
    lines = [erased_line("ann", AT), "", erased_line('b\n"ob', "2026-11-30T02:40:00.5Z")]
    found = parse_erased("--forgotten", "file", "\n".join(lines))
    assert found == {"ann": AT_MS, 'b\n"ob': AT_MS + 500}


def test_a_receipt_is_read_by_the_same_keys() -> None:
    receipt = {"done": True, "customers": [{"customer_id": "ann", "forgotten_at": AT, "known": 1}]}
    text = json.dumps(receipt, indent=2)
    assert parse_erased("--again", "file", text) == {"ann": AT_MS}


def test_of_two_moments_the_later_counts() -> None:
    lines = erased_line("ann", AT) + "\n" + erased_line("ann", "2026-11-29T02:40:00Z") + "\n"
    assert parse_erased("--forgotten", "file", lines) == {"ann": AT_MS}


@pytest.mark.parametrize(
    "line",
    [
        "ann", "{}", '{"customer_id": "", "forgotten_at": "2026-11-30T02:40:00Z"}', "[1]", "7",
        '{"customer_id": "ann", "forgotten_at": "2026-11-30T02:40:00"}',
        '{"customer_id": "ann", "forgotten_at": 7}', '{"customers": 7}',
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(InputError, match=r"line 2 .*customer forget --list"):
        parse_erased("--forgotten", "file", erased_line("eve", AT) + "\n" + line)


def test_events_up_to_the_moment_are_left_out(make_events: Any) -> None:
    events = make_events(
        [{"customer": c, "at": at} for c, at in (("ann", 9), ("bob", 9), ("ann", 10), ("ann", 11))]
    )
    left, erased = without_erased(events, rules(ann=10))
    assert erased == 2
    assert [str(left.customer_id[i]) for i in range(len(left))] == ["bob", "ann"]
    assert without_erased(events, rules()) == (events, 0)
