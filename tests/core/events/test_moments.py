"""Reading ISO 8601, and milliseconds since 1970 UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601

EIGHT = datetime(2026, 11, 24, 8, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T08:00:00Z", "2026-11-24T08:00Z", "2026-11-24 08:00:00.000+00:00",
        "2026-11-24T10:00:00+02:00", "2026-11-23T23:30:00-08:30",
    ],
)  # fmt: skip
def test_one_moment_in_several_notations(text: str) -> None:
    assert parse_iso_8601(text) == EIGHT


@pytest.mark.parametrize("text", ["2026-11-24", "2026-11-24T08:00:00"])
def test_text_without_a_zone_gives_a_datetime_without_one(text: str) -> None:
    assert parse_iso_8601(text).tzinfo is None


@pytest.mark.parametrize(
    "text", ["", "Z", "yesterday", "2026-11-31T08:00Z", "2026-11-24T08:00ZZ", "2026-11-24T25:00Z"]
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|day|hour"):
        parse_iso_8601(text)


@pytest.mark.parametrize(("microseconds", "ms"), [(400, 0), (600, 1), (-400, 0), (-600, -1)])
def test_milliseconds_are_rounded_to_the_nearest(microseconds: int, ms: int) -> None:
    start = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert nearest_ms(start + timedelta(microseconds=microseconds)) == ms
    assert nearest_ms(EIGHT + timedelta(microseconds=microseconds)) == 1_795_507_200_000 + ms
