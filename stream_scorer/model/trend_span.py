"""Whether training rows lie far enough apart for a model to learn from the shop's trend.

All rows of one day share one trend. So what counts is not how many rows there are, but how many
different states of the shop: in a few weeks the trend stands for whatever else those weeks had.
"""

from __future__ import annotations

from collections.abc import Iterable

from stream_scorer.core.features.space import DAY_MS, FeatureSpace, parse_duration_ms
from stream_scorer.core.trend import trend_features

LEAST_WEEKS = 8
WEEK_MS = 7 * DAY_MS


def trend_span_warning(space: FeatureSpace, moments_ms: Iterable[int]) -> str | None:
    """What to warn of, with the remedy; None where no trend is declared or the rows suffice.

    moments_ms: of the training rows; enough that each of their weeks is there. Rows suffice in
    `LEAST_WEEKS` different weeks or more, whose first and last are the longest half-life apart.
    """
    trends = trend_features(space)
    moments = sorted(set(moments_ms))
    if not trends or not moments:
        return None
    longest = max(
        (parse_duration_ms(half_life) or 0, half_life)
        for feature in trends
        for half_life in feature.half_lives
    )
    weeks = len({moment // WEEK_MS for moment in moments})
    span_ms = moments[-1] - moments[0]
    if weeks >= LEAST_WEEKS and span_ms >= longest[0]:
        return None
    return (
        f"the training rows lie in {weeks} different weeks, {span_ms / DAY_MS:.0f} days apart; to "
        f"learn from the shop's trend a model needs rows of {LEAST_WEEKS} weeks or more, at least "
        f"{longest[1]} apart: replay with cut-offs that are spread over months, or leave out the "
        "features of kind trend"
    )
