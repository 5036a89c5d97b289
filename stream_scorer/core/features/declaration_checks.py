"""What a declared feature must be; all that is wrong is a ConfigError that names the feature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from stream_scorer.core.features.calendar import CALENDAR_WIDTHS, zone_problem
from stream_scorer.core.features.durations import parse_duration_ms
from stream_scorer.errors import ConfigError

if TYPE_CHECKING:
    from stream_scorer.core.features.space import Feature

EVENT_FIELDS = ("category_id", "product_id", "event_type")
ATTRIBUTE = "attributes."
# A longer half-life would need years of counts: `WINDOW_HALF_LIVES` of it in core/trend.py.
LONGEST_TREND = "400d"
SHORTEST_TREND_MS, LONGEST_TREND_MS = 86_400_000, 400 * 86_400_000
# Kinds that may be declared with several half-lives, and those whose value no half-life changes.
SEVERAL_HALF_LIVES = "decayed", "recency", "first", "trend"
NO_HALF_LIFE = "gap", "overdue"
ONLY_MOMENTS = "first", "gap", "overdue"  # kinds that look at no value


def repeated(names: Iterable[str]) -> str | None:
    """The first name that stands there for the second time."""
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def check_feature(
    feature: Feature,
    vocabularies: Mapping[str, tuple[str, ...]],
    event_types: Sequence[str] | None,
) -> None:
    """Refuse a feature that means nothing. event_types: those that may be declared, None for any.

    Raises ConfigError.
    """
    at = f"features.{feature.name}"
    for event_type in feature.on:
        if event_types is not None and event_type not in event_types:
            raise ConfigError(f"{at}.on", event_type, "declare it in events.event_types")
    wrong_zone = zone_problem(feature.time_zone)
    if wrong_zone:
        raise ConfigError(f"{at}.time_zone", feature.time_zone, wrong_zone)
    if not feature.half_lives:
        raise ConfigError(f"{at}.half_lives", "[]", 'give at least one, such as "14d" or "inf"')
    half_lives = ", ".join(feature.half_lives)
    if feature.kind in NO_HALF_LIFE and half_lives != "inf":
        remedy = f"{feature.kind} does not fade: leave half_lives out"
        raise ConfigError(f"{at}.half_lives", half_lives, remedy)
    if len(feature.half_lives) > 1 and feature.kind not in SEVERAL_HALF_LIVES:
        choices = ", ".join(SEVERAL_HALF_LIVES)
        remedy = f"{feature.kind} takes one; kinds that take several: {choices}"
        raise ConfigError(f"{at}.half_lives", half_lives, remedy)
    twice = repeated(feature.half_lives)
    if twice is not None and feature.kind in ("recency", "first"):
        raise ConfigError(f"{at}.half_lives", twice, "list each half-life once")
    if feature.kind in ONLY_MOMENTS and feature.value != 1.0:
        remedy = f"{feature.kind} looks only at the moments of events: leave value out"
        raise ConfigError(f"{at}.value", feature.value, remedy)
    if feature.buckets < 0 or (feature.buckets and not feature.by):
        raise ConfigError(f"{at}.buckets", feature.buckets, "needs `by` fields and 0 or more")
    if feature.kind == "calendar":
        wrong = [f for f in feature.by if f not in CALENDAR_WIDTHS]
        if wrong or not feature.by or feature.buckets:
            choices = " or ".join(CALENDAR_WIDTHS)
            raise ConfigError(f"{at}.by", wrong or feature.by, f"a calendar feature is {choices}")
        return
    for field in (*feature.by, *([feature.value] if isinstance(feature.value, str) else [])):
        if field not in EVENT_FIELDS and not field.startswith(ATTRIBUTE) and field != "value":
            choices = ", ".join((*EVENT_FIELDS, "attributes.NAME"))
            raise ConfigError(f"{at}", field, f"is not an event field; use {choices}")
    for field in feature.by:
        if field == "value":
            raise ConfigError(f"{at}.by", field, "a number can't be a key; use it as `value`")
        if not feature.buckets and field not in vocabularies:
            remedy = f"list its values in vocabularies.{field!r}, or set buckets to hash them"
            raise ConfigError(f"{at}.by", field, remedy)
    if feature.kind == "trend":
        _check_trend(feature, at)


def _check_trend(feature: Feature, at: str) -> None:
    """What only a trend must be. Raises ConfigError."""
    if len(feature.by) != 1 or feature.buckets:
        remedy = "a trend is of the values of one field with a vocabulary, without buckets"
        raise ConfigError(f"{at}.by", feature.by if not feature.buckets else "buckets", remedy)
    if feature.value != 1.0:
        raise ConfigError(f"{at}.value", feature.value, "a trend counts events; leave value out")
    if feature.transform != "none" or feature.scale != 1.0:
        changed = feature.transform if feature.transform != "none" else feature.scale
        remedy = "the column of a trend holds the day; leave transform and scale out"
        raise ConfigError(f"{at}.transform", changed, remedy)
    half_lives_ms = [parse_duration_ms(half_life) for half_life in feature.half_lives]
    for half_life, ms in zip(feature.half_lives, half_lives_ms, strict=True):
        if ms is None or not SHORTEST_TREND_MS <= ms <= LONGEST_TREND_MS:
            remedy = f"events of a trend are counted by day; choose from 1d to {LONGEST_TREND}"
            raise ConfigError(f"{at}.half_lives", half_life, remedy)
    ascending = [ms for ms in half_lives_ms if ms is not None]
    if len(ascending) < 2 or ascending != sorted(set(ascending)):
        remedy = 'a trend compares each half-life with the next; give two or more, as "2d", "14d"'
        raise ConfigError(f"{at}.half_lives", feature.half_lives, remedy)


def check_trends(features: Sequence[Feature]) -> None:
    """All trends are of one field, that of the labels. Raises ConfigError."""
    fields_of = {feature.by for feature in features if feature.kind == "trend"}
    if len(fields_of) > 1:
        named = sorted(by[0] for by in fields_of)
        raise ConfigError("features.by", named, "all trends must be of the field in labels.by")
