"""Moments as text, and as the milliseconds since 1970 UTC that everything else counts in."""

from __future__ import annotations

from datetime import datetime, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def parse_iso_8601(text: str) -> datetime:
    """The moment that ISO 8601 text names. Raises ValueError for any other text.

    Text without a zone gives a datetime without one. What a moment without a zone would mean is a
    guess, so every caller refuses it, with the name of the option or field that it came from.
    """
    # Python 3.10 does not read "Z", the usual way to write UTC.
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


def nearest_ms(moment: datetime) -> int:
    """Milliseconds since 1970 UTC of a datetime with a zone, rounded to the nearest."""
    return round((moment - EPOCH).total_seconds() * 1000)


def moment_text(ms: int) -> str:
    """Milliseconds since 1970 UTC as ISO 8601, such as 2026-01-01T00:00:00Z; years as they are."""
    import numpy as np  # noqa: PLC0415 - `stream-scorer --help` reads this module and loads no numpy

    if ms == np.iinfo(np.int64).min:  # numpy's number for no time
        return "no time"
    return f"{str(np.datetime64(ms, 'ms')).removesuffix('.000')}Z"
