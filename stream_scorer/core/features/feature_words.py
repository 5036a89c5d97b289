"""A declared feature as a sentence, for people who have not read the settings."""

from __future__ import annotations

from stream_scorer.core.features.space import Feature


def feature_in_words(feature: Feature) -> str:
    """What its columns hold: "number of purchase events, for each category_id; each counts half
    after 2d, 14d; log1p"."""
    parts = [_what(feature), *_fading(feature)]
    if feature.buckets:
        parts.append(f"hashed into {feature.buckets:,} columns")
    if feature.transform != "none":
        parts.append("as 0 or 1" if feature.transform == "binary" else feature.transform)
    if feature.scale != 1.0:
        parts.append(f"times {feature.scale:g}")
    return "; ".join(parts)


def _what(feature: Feature) -> str:
    fields = " and ".join(feature.by)
    event = f"{' or '.join(feature.on)} event" if feature.on else "event"
    of_field = isinstance(feature.value, str)
    words = {
        "decayed": f"sum of {feature.value} of {event}s" if of_field else f"number of {event}s",
        "recency": f"time since the newest {event}",
        "first": f"time since the first {event}",
        "gap": f"mean time between {event}s, in days",
        "overdue": f"time since the newest {event}, over the mean time between them",
        "latest": f"{feature.value} of the newest {event}",
    }
    whole = {
        "calendar": f"{fields} of the moment that is scored, in {feature.time_zone}",
        "trend": f"which {fields} all customers together have {event}s of more often than before",
    }
    if feature.kind == "latest" and not of_field:
        return f"{fields} of the newest {event}" if fields else f"whether there was any {event}"
    if feature.kind in whole:
        return whole[feature.kind]
    each = f", for each {fields}" if feature.by else ""
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
