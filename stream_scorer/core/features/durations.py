"""Durations as text: half-lives, horizons and intervals of settings."""

from __future__ import annotations

import re

from stream_scorer.errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def parse_duration_ms(text: str) -> int | None:
    """Milliseconds of "90s", "12h", "14d", "2w"; None for "inf". Raises ConfigError."""
    if text.strip() == "inf":
        return None
    match = _DURATION.fullmatch(text.strip())
    milliseconds = round(float(match[1]) * _UNIT_MS[match[2]]) if match else 0
    if milliseconds <= 0:
        raise ConfigError(
            "duration", text, 'write a number above zero and a unit, such as "90s", "14d", "inf"'
        )
    return milliseconds
