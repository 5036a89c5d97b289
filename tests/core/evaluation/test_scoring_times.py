"""Which customers a backtest scores at which moments, and which of its scores can be judged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stream_scorer.core.evaluation.outcomes import acted_within_horizon, rows_to_judge
from stream_scorer.core.evaluation.scoring_times import ScoringTimes
from stream_scorer.core.events.batch import EventBatch
from stream_scorer.core.labels.as_of import KnownEvents, Moments
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import InputError

DAY = 86_400_000
Log = Callable[..., EventBatch]


def known(make_events: Log) -> KnownEvents:
    """Customer a from day 0 on, b from day 3 on."""
    events = make_events(
        [
            {"customer": "a", "category": "soup", "at": 0},
            {"customer": "b", "category": "tea", "at": 3 * DAY},
            {"customer": "a", "category": "tea", "at": 5 * DAY},
        ]
    )
    return KnownEvents.of(events, events.occurred_at_ms)


def pairs(moments: Moments) -> list[tuple[int, int]]:
    return list(zip(moments.customer.tolist(), moments.as_of_ms.tolist(), strict=True))


def test_every_duration_scores_whoever_is_known_by_then(make_events: Log) -> None:
    found = ScoringTimes(2 * DAY, 6 * DAY, "2d").moments(known(make_events))
    assert pairs(found) == [(0, 2 * DAY), (0, 4 * DAY), (1, 4 * DAY)]


def test_given_cutoffs_take_the_place_of_every(make_events: Log) -> None:
    times = ScoringTimes(0, 9 * DAY, "1d", (5 * DAY, 2 * DAY, 5 * DAY))
    assert pairs(times.moments(known(make_events))) == [(0, 2 * DAY), (0, 5 * DAY), (1, 5 * DAY)]
    assert times.every_in_words == "given cut-offs"


def test_after_every_event_is_just_after_it(make_events: Log) -> None:
    times = ScoringTimes(3 * DAY, 5 * DAY + 1, "event")
    assert pairs(times.moments(known(make_events))) == [(0, 5 * DAY + 1), (1, 3 * DAY + 1)]
    assert times.every_in_words == "event"


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (ScoringTimes(0, 9 * DAY, "inf"), r"--every.*give a duration"),
        (ScoringTimes(0, 9 * DAY, "often"), "duration.*often"),
        (ScoringTimes(-DAY, 0, "1h"), r"--from.*no customer is known"),
    ],
    ids=["endless", "no duration", "before all events"],
)
def test_times_without_a_score_are_refused(
    make_events: Log, times: ScoringTimes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        times.moments(known(make_events))


def test_a_horizon_may_end_within_a_day_of_the_last_event(make_events: Log) -> None:
    moments = Moments(np.zeros(2, np.int32), np.array([4 * DAY, 4 * DAY + 1]))
    assert rows_to_judge(known(make_events), moments, 2 * DAY).tolist() == [0]


def test_who_acted_within_the_horizon_by_category(make_events: Log) -> None:
    moments = Moments(np.array([0, 0, 1], np.int32), np.array([0, 3 * DAY + 1, 3 * DAY]))
    rule = LabelRule("category_id", (("purchase",),), 2 * DAY)
    acted = acted_within_horizon(rule, known(make_events), moments, ("soup", "tea"))
    # At a moment what happens in that millisecond is still to come; the horizon's end is outside.
    assert acted.tolist() == [[True, False], [False, True], [False, True]]
