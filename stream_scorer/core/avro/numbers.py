"""Compiled readers of decimals and of moments as text."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_scorer.jit import kernel

# Powers that a double holds exactly, so that the quotient of a whole number of up to 53 bits is the
# nearest double to the decimal.
EXACT_POWERS_OF_TEN = np.array([10.0**i for i in range(23)])
DAY_MS = 86_400_000
FRACTION_DIGITS = 3  # of a second, to milliseconds


@kernel
def decimal_value(data: Any, at: Any, size: Any, scale: Any) -> Any:
    """The double of a decimal: `size` bytes at `at`, big-endian two's complement, by 10^scale.

    The nearest one up to 15 digits and a scale of 22; beyond that it may be off in its last bits.
    """
    if size == 0:
        return 0.0
    negative = data[at] >= 128
    fill = 255 if negative else 0
    # Bytes that only repeat the sign, as a `fixed` of 16 bytes has of a small number.
    while size > 8 and data[at] == fill and (data[at + 1] >= 128) == negative:
        at += 1
        size -= 1
    if size <= 8:
        whole = np.int64(-1) if negative else np.int64(0)
        for i in range(size):
            whole = (whole << 8) | np.int64(data[at + i])
        number = np.float64(whole)
    else:
        # The magnitude, because sums of both signs would cancel: of a negative number the inverted
        # bytes, plus 1.
        number = np.float64(0.0)
        for i in range(size):
            byte = np.int64(data[at + i])
            number = number * 256.0 + np.float64(255 - byte if negative else byte)
        if negative:
            number = -(number + 1.0)
    places = abs(scale)
    power = EXACT_POWERS_OF_TEN[min(places, 22)]
    for _ in range(places - 22):
        power *= 10.0
    return number / power if scale >= 0 else number * power


@kernel
def _digits(data: Any, at: Any, end: Any, count: Any) -> Any:
    """The number of exactly `count` digits at `at`, -1 where there are none."""
    if end - at < count:
        return np.int64(-1)
    number = np.int64(0)
    for i in range(count):
        digit = np.int64(data[at + i]) - 48
        if digit < 0 or digit > 9:
            return np.int64(-1)
        number = number * 10 + digit
    return number


@kernel
def _days(year: Any, month: Any, day: Any) -> Any:
    """(days since 1970-01-01 in the Gregorian calendar, whether there is such a day).

    By years that begin in March, so that the leap day is the last one (Hinnant, "chrono-Compatible
    Low-Level Date Algorithms", days_from_civil).
    """
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last = 31
    if month in (4, 6, 9, 11):
        last = 30
    elif month == 2:
        last = 29 if leap else 28
    if year < 1 or month < 1 or month > 12 or day < 1 or day > last:
        return np.int64(0), False
    if month <= 2:
        year -= 1
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468, True


@kernel
def get_moment(data: Any, at: Any, end: Any) -> Any:  # noqa: PLR0911
    """(ms since 1970 UTC rounded down, whether it is one) of ISO 8601 text with a zone.

    YYYY-MM-DD, T or a blank, hh:mm, maybe :ss and a fraction of any length, then Z or an offset
    (+hh, +hhmm, +hh:mm).
    """
    no = np.int64(0), False
    if end - at < 17 or data[at + 4] != 45 or data[at + 7] != 45 or data[at + 13] != 58:
        return no
    if data[at + 10] not in (84, 116, 32):  # T, t, blank
        return no
    year, month = _digits(data, at, end, 4), _digits(data, at + 5, end, 2)
    day, hour = _digits(data, at + 8, end, 2), _digits(data, at + 11, end, 2)
    minute, second = _digits(data, at + 14, end, 2), np.int64(0)
    days, exists = _days(year, month, day)
    if not exists or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return no
    at += 16
    fraction_ms = np.int64(0)
    if at < end and data[at] == 58:
        second = _digits(data, at + 1, end, 2)
        if second < 0 or second > 59:
            return no
        at += 3
        if at < end and data[at] in (46, 44):  # point, comma
            at += 1
            first = at
            while at < end and 48 <= data[at] <= 57:
                if at - first < FRACTION_DIGITS:
                    fraction_ms = fraction_ms * 10 + (np.int64(data[at]) - 48)
                at += 1
            if at == first:
                return no
            for _ in range(FRACTION_DIGITS - (at - first)):
                fraction_ms *= 10
    if at >= end:
        return no  # no zone
    offset_minutes = np.int64(0)
    sign = data[at]
    at += 1
    if sign in (43, 45):  # plus, minus
        zone_hours, zone_minutes = _digits(data, at, end, 2), np.int64(0)
        at += 2
        if at < end and data[at] == 58:
            at += 1
            zone_minutes = _digits(data, at, end, 2)
            at += 2
        elif at < end:
            zone_minutes = _digits(data, at, end, 2)
            at += 2
        if zone_hours < 0 or zone_hours > 23 or zone_minutes < 0 or zone_minutes > 59:
            return no
        offset_minutes = zone_hours * 60 + zone_minutes
        if sign == 45:
            offset_minutes = -offset_minutes
    elif sign not in (90, 122):  # Z, z
        return no
    if at != end:
        return no
    minutes = hour * 60 + minute - offset_minutes
    return days * DAY_MS + (minutes * 60 + second) * 1000 + fraction_ms, True
