"""Which unit a time that can't be right seems to be in.

A time in seconds, taken for milliseconds, is a day of January 1970; one in microseconds is tens of
thousands of years ahead. Another unit is proposed only where it gives a plausible time.
"""

from __future__ import annotations

from stream_scorer.core.events.moments import moment_text

# (unit, multiplier, divisor) to milliseconds; for one number at most one of them is plausible.
UNITS = (
    ("seconds", 1_000, 1),
    ("microseconds", 1, 1_000),
    ("nanoseconds", 1, 1_000_000),
    ("days", 86_400_000, 1),
    ("milliseconds in a field of nanoseconds", 1_000_000, 1),
)


def unit_question(number: int, earliest_ms: int, latest_ms: int) -> str:
    """Such as "divided by 1,000 it would be 2026-01-01T00:00:00Z: microseconds?".

    "" where no unit makes a time from earliest_ms to latest_ms of the number.
    """
    for unit, multiplier, divisor in UNITS:
        ms = number * multiplier // divisor
        if earliest_ms <= ms <= latest_ms:
            factor = f"times {multiplier:,}" if divisor == 1 else f"divided by {divisor:,}"
            return f"{factor} it would be {moment_text(ms)}: {unit}?"
    return ""
