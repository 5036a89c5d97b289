"""Training rows that lie too close together for the shop's trend are noticed."""

from __future__ import annotations

import pytest

from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace
from stream_scorer.model.trend_span import trend_span_warning

WORDS = {"category_id": ("a", "b")}
BOUGHT = Feature("bought", by=("category_id",), half_lives=("14d",))
TREND = Feature("trend", kind="trend", by=("category_id",), half_lives=("2d", "60d"))
SPACE = FeatureSpace.compile([BOUGHT, TREND], WORDS)


def _weekly(weeks: int) -> list[int]:
    return [(17_000 + 7 * week) * DAY_MS for week in range(weeks)]


@pytest.mark.parametrize(
    ("moments", "said"),
    [
        (_weekly(3), "lie in 3 different weeks, 14 days apart"),
        (_weekly(8), "lie in 8 different weeks, 49 days apart"),  # less than 60 days
        ([*_weekly(3), 17_500 * DAY_MS], "lie in 4 different weeks, 500 days apart"),
    ],
)
def test_rows_of_too_few_weeks_or_too_short_a_time_are_warned_of(
    moments: list[int], said: str
) -> None:
    warning = trend_span_warning(SPACE, moments)
    assert warning is not None
    assert said in warning
    assert "8 weeks or more, at least 60d apart: replay with cut-offs" in warning


@pytest.mark.parametrize("moments", [_weekly(10), [*_weekly(8), 17_060 * DAY_MS], []])
def test_rows_spread_over_months_are_not_warned_of(moments: list[int]) -> None:
    assert trend_span_warning(SPACE, moments) is None


def test_a_model_without_a_trend_is_not_warned_of_its_weeks() -> None:
    assert trend_span_warning(FeatureSpace.compile([BOUGHT], WORDS), _weekly(1)) is None
