"""Hour of day and day of week of moments, on a shop's own clock.

Pure: the moments are arguments, zone rules come from the time zone database. Zones change offset on
whole quarter hours, so the rules are asked once for each distinct quarter hour.
"""

from __future__ import annotations

import difflib
from datetime import datetime, timezone
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

from stream_scorer.core.events.batch import Int64

QUARTER_MS = 900_000
# A name of the database, but of whatever zone the machine is set to.
_OF_THE_MACHINE = "localtime"


def zone_problem(time_zone: str) -> str | None:
    """What is wrong with the name of a time zone; None where the database has it."""
    try:
        ZoneInfo(time_zone)
    # "Europe" is a directory of the database, and "../x" no name that it can have.
    except (KeyError, ValueError, OSError):
        near = difflib.get_close_matches(time_zone, available_timezones(), n=1)
        meant = f"did you mean {near[0]!r}?" if near else 'write such as "Europe/Berlin"'
        return f"is no time zone; {meant}"
    if time_zone == _OF_THE_MACHINE:
        return 'differs from machine to machine; write such as "Europe/Berlin"'
    return None


def local_fields(moments_ms: Int64, time_zone: str) -> dict[str, Int64]:
    """hour_of_day (n,) 0..23 and day_of_week (n,) 0..6, Monday is 0, of moments_ms (n,) int64."""
    quarters, inverse = np.unique(moments_ms // QUARTER_MS, return_inverse=True)
    zone = ZoneInfo(time_zone)
    local = [
        datetime.fromtimestamp(q * QUARTER_MS / 1000, timezone.utc).astimezone(zone)
        for q in quarters.tolist()
    ]
    hours = np.array([m.hour for m in local], np.int64)
    days = np.array([m.weekday() for m in local], np.int64)
    return {"hour_of_day": hours[inverse], "day_of_week": days[inverse]}
