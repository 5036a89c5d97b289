"""A declared feature, or one of its columns, as a sentence, for people who have not read the
settings."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features.space import DAY_MS, Block, Feature, FeatureSpace

DAYS = "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"


def feature_in_words(feature: Feature) -> str:
    """What its columns hold: "number of purchase events, for each category_id; each counts half
    after 2d, 14d; log1p"."""
    each = f", for each {' and '.join(feature.by)}" if feature.by else ""
    parts = [_what(feature, each=each), *_fading(feature)]
    if feature.buckets:
        parts.append(f"hashed into {feature.buckets:,} columns")
    if feature.transform != "none":
        parts.append("as 0 or 1" if feature.transform == "binary" else feature.transform)
    if feature.scale != 1.0:
        parts.append(f"times {feature.scale:g}")
    return "; ".join(parts)


def column_in_words(space: FeatureSpace, column: int) -> str:
    """What one column holds, before transform and scale: "number of purchase events with
    category_id SOUP; each counts half after 14d"."""
    block = next(b for b in space.blocks if b.start <= column < b.stop)
    feature = space.features[block.feature]
    if feature.kind == "trend":
        return "the UTC day of the moment, by which the shop's trend is looked up"
    key = column - block.start
    values = " and ".join(f"{field} {value}" for field, value in space.by_values(block, key))
    if block.buckets:
        fields = " and ".join(block.fields)
        values = f"{fields} hashed to {key:,} of {block.buckets:,}"
    if feature.kind == "calendar":
        said = " and ".join(_of_clock(field, int(v)) for field, v in space.by_values(block, key))
        return f"the moment that is scored is {said}, in {feature.time_zone}"
    if feature.kind == "latest" and block.fields and not isinstance(feature.value, str):
        return f"the newest {_event(feature)} has {values}"
    one = replace(feature, half_lives=(_half_life(space, block),))
    return "; ".join([_what(one, key=f" with {values}" if values else ""), *_fading(one)])


def value_in_words(block: Block, value: float) -> str:
    """A column's value before transform and scale, in a unit that people know: "76.2 days" also
    where it stands in the vector as 2^-(age / half-life)."""
    if block.kind in ("recency", "first") and block.half_life_ms is not None:
        # CSR rows leave out what has faded to 0.
        age_ms = -math.log2(value) * block.half_life_ms if value > 0 else math.inf
        return f"{age_ms / DAY_MS:,.1f} days"
    words = {
        "recency": f"{value:,.1f} days",
        "first": f"{value:,.1f} days",
        "gap": f"{value:,.1f} days",
        "overdue": f"{value:,.2f} times",
        "calendar": "yes",
    }
    if block.kind == "trend":
        return moment_text(int(value) * DAY_MS)[:10]
    return words.get(block.kind, f"{value:,.4g}")


def contrasts_in_words(space: FeatureSpace, value: str) -> list[tuple[str, str]]:
    """Name and meaning of each of the G contrasts of the shop's trend, for one value of its field,
    in their order: "trend@2d/14d[category_id=SOUP]", and "how many events with category_id SOUP
    all customers together had, the last 2d against 14d (half-lives), as a logarithm"."""
    found = []
    for feature in space.features:
        if feature.kind != "trend":
            continue
        (field,) = feature.by
        for short, long in pairwise(feature.half_lives):
            words = (
                f"how many {_event(feature)}s with {field} {value} all customers together had, the "
                f"last {short} against {long} (half-lives), as a logarithm"
            )
            found.append((f"{feature.name}@{short}/{long}[{field}={value}]", words))
    return found


def _half_life(space: FeatureSpace, block: Block) -> str:
    """As it is declared; a feature has a block for each, in order."""
    blocks = [b for b in space.blocks if b.feature == block.feature]
    return space.features[block.feature].half_lives[blocks.index(block)]


def _of_clock(field: str, value: int) -> str:
    if field == "day_of_week":
        return f"a {DAYS[value]}"
    return f"from {value:02}:00 to {value + 1:02}:00"


def _event(feature: Feature) -> str:
    return f"{' or '.join(feature.on)} event" if feature.on else "event"


def _what(feature: Feature, *, each: str = "", key: str = "") -> str:
    """Which values of the `by` fields are meant: each, at the end, or key, of the events."""
    fields = " and ".join(feature.by)
    event, events = f"{_event(feature)}{key}", f"{_event(feature)}s{key}"
    of_field = isinstance(feature.value, str)
    words = {
        "decayed": f"sum of {feature.value} of {events}" if of_field else f"number of {events}",
        "recency": f"time since the newest {event}",
        "first": f"time since the first {event}",
        "gap": f"mean time between {events}, in days",
        "overdue": f"time since the newest {event}, over the mean time between them",
        "latest": f"{feature.value} of the newest {event}",
    }
    whole = {
        "calendar": f"{fields} of the moment that is scored, in {feature.time_zone}",
        "trend": f"which {fields} all customers together have {events} of more often than before",
    }
    if feature.kind == "latest" and not of_field:
        return f"{fields} of the newest {event}" if fields else f"whether there was any {event}"
    if feature.kind in whole:
        return whole[feature.kind]
    times = feature.kind == "decayed" and not of_field and feature.value != 1.0
    return f"{f'{feature.value} times the ' if times else ''}{words[feature.kind]}{each}"


def _fading(feature: Feature) -> list[str]:
    """How the half-lives show in the value."""
    if feature.kind == "trend":
        return [f"the last {' against '.join(feature.half_lives)} (half-lives)"]
    lives = ", ".join(h for h in feature.half_lives if h != "inf")
    for_ever = "inf" in feature.half_lives
    if feature.kind == "decayed":
        return [*([f"each counts half after {lives}"] if lives else []),
                *(["each counts for ever"] if for_ever else [])]  # fmt: skip
    if feature.kind in ("recency", "first"):
        return [*([f"1 then, halved every {lives}"] if lives else []),
                *(["in days"] if for_ever else [])]  # fmt: skip
    return []
