"""Numbers as a page shows them: short, with their unit, and the same width for the same size."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.core.events.moments import moment_text

UNKNOWN = "–"


def count(number: float | None) -> str:
    """Such as 1,234 or 1.23 M."""
    if number is None:
        return UNKNOWN
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return f"{number:,.0f}"


def rate(number: float | None) -> str:
    """A number a second: with one digit after the point where it is small."""
    if number is None:
        return UNKNOWN
    return f"{number:,.1f}" if 0 < number < 10 else count(number)


def duration(seconds: float | None) -> str:
    """Such as 1.3 s, 4 min or 3 d 4 h."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours and days < 10 else f"{days} d"


def milliseconds(number: float | None) -> str:
    """As `duration`, of milliseconds."""
    return UNKNOWN if number is None else duration(number / 1000)


def size(number: float | None) -> str:
    """Of bytes, such as 1.2 MB."""
    if number is None:
        return UNKNOWN
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f} bytes"


def share(number: float | None) -> str:
    """Such as 12.3 %, and of probabilities 0.04 %."""
    if number is None:
        return UNKNOWN
    percent = 100 * number
    return f"{percent:.2f} %" if 0 < percent < 1 else f"{percent:.1f} %"


def signed(number: float) -> str:
    """With its sign, a true minus, and two digits; without a sign where these are zeros."""
    text = f"{number:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "\u2212")


MEASURES = {
    "feature_psi": "Stability of features (PSI, largest)",
    "feature_mean_shift": "Mean shift of features (largest)",
    "event_psi": "Stability of the event mix (PSI)",
    "unknown_word_share": "Events with an unknown word",
    "score_psi": "Stability of scores (PSI)",
    "worst_category_psi": "Stability of scores, worst category (PSI)",
    "mean_score": "Mean score",
    "mean_score_in_training": "Mean score in training",
    "live_log_loss": "Live log loss",
    "live_calibration_error": "Live calibration error",
}


def measure(name: str) -> str:
    """A measure of drift or of live quality in words."""
    return MEASURES.get(name) or name.replace("_", " ").capitalize()


def clock(moment: str) -> str:
    """Of ISO 8601 in UTC the day, and the time to the second."""
    return moment[:19].replace("T", " ") + " UTC" if moment[10:11] == "T" else moment


def moment_of(ms: int) -> str:
    """Milliseconds since 1970 UTC as `clock` shows them."""
    return clock(moment_text(ms))


def ranges(numbers: Sequence[int]) -> str:
    """Ascending whole numbers, such as 0–3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("–".join(str(n) for n in dict.fromkeys(part)) for part in parts) or "none"
