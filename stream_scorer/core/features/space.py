"""Declared features, compiled to columns, and the fingerprint of that declaration.

Every (feature, half-life) owns one contiguous block of columns, so a column's half-life, kind and
transform follow from its range. Within a block the column is the key: the mixed radix number of the
vocabulary indices of the `by` fields, or a stable 64-bit hash of their text modulo `buckets`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, TypeVar

import xxhash

from stream_scorer.core.events.similar_words import undeclared
from stream_scorer.core.features.calendar import zone_problem
from stream_scorer.errors import ConfigError, InputError

T = TypeVar("T")

Kind = Literal["decayed", "recency", "latest", "calendar", "trend", "first", "gap", "overdue"]
Transform = Literal["none", "log1p", "binary"]

CALENDAR_WIDTHS = {"hour_of_day": 24, "day_of_week": 7}
DAY_MS = 86_400_000
# A longer half-life would need years of counts: `WINDOW_HALF_LIVES` of it in core/trend.py.
LONGEST_TREND = "400d"
LONGEST_TREND_MS = 400 * DAY_MS
EVENT_FIELDS = ("category_id", "product_id", "event_type")
ATTRIBUTE = "attributes."
# Indices of the CSR matrix are int32.
MAX_COLUMNS = 2**31 - 1
# Kinds that may be declared with several half-lives, and those whose value no half-life changes.
SEVERAL_HALF_LIVES = "decayed", "recency", "first", "trend"
NO_HALF_LIFE = "gap", "overdue"
ONLY_MOMENTS = "first", "gap", "overdue"  # kinds that look at no value
# Values of a vocabulary may contain commas or brackets, so two columns can read the same.
SEVERAL = -1  # in place of a column: its name is not unique
MOST_COMPARED_NAMES = 10_000  # when a name is wrong and one like it is looked for

# What reading a declaration raises where its values are of other types than `declaration` writes;
# reading the other parts of a manifest raises the same.
MALFORMED = (ConfigError, LookupError, TypeError, ValueError, AttributeError, OverflowError)

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


@dataclass(frozen=True)
class Feature:
    """One declared feature; see design notes in deploy/stream_scorer.toml.

    kind "decayed": the sum of `value` over events, each halved every half-life; "recency": with a
    half-life 2^-(age / half-life) of the newest such event, without one its age in days; "first":
    the same of the earliest such event; "gap": the mean time between two such events in days, from
    the second moment on; "overdue": the time since the newest over that gap, at most
    csr.MOST_OVERDUE; "latest": the key (one-hot) or, where `value` is a field, the number last
    seen; "calendar": hour_of_day or day_of_week of the as-of time in `time_zone`; "trend": which of
    the `by` field's values the whole shop sees more often than before, by two or more half-lives
    (core/trend.py). A customer's vector holds only the UTC day of its as-of time, in one column.
    on: event types, () for any. by: category_id, product_id, event_type, attributes.NAME; () is one
    column for the customer. value: a constant, "value" or attributes.NAME. buckets 0: the fields'
    vocabularies, exact; n: hashed into n columns. transform is applied at CSR time, then scale.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, not a field

    name: str
    kind: Kind = "decayed"
    on: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    value: float | str = 1.0
    half_lives: tuple[str, ...] = ("inf",)
    buckets: int = 0
    transform: Transform = "none"
    scale: float = 1.0
    time_zone: str = "UTC"


@dataclass(frozen=True)
class Block:
    """Columns [start, stop) of one (feature, half-life); key k is column start + k."""

    name: str
    feature: int
    kind: Kind
    start: int
    stop: int
    half_life_ms: int | None
    fields: tuple[str, ...]
    buckets: int
    transform: Transform
    scale: float


class FeatureSpace:
    """All blocks of a declaration. Build with `compile` or `from_declaration`."""

    def __init__(
        self,
        features: Sequence[Feature],
        vocabularies: Mapping[str, tuple[str, ...]],
        blocks: tuple[Block, ...],
    ) -> None:
        self.features = tuple(features)
        self.vocabularies = dict(vocabularies)
        self.blocks = blocks
        self.index = {
            field: {word: i for i, word in enumerate(words)}
            for field, words in self.vocabularies.items()
        }
        self._derived: dict[Callable[[FeatureSpace], Any], Any] = {}

    @classmethod
    def compile(
        cls,
        features: Sequence[Feature],
        vocabularies: Mapping[str, Sequence[str]],
        event_types: Sequence[str] | None = None,
    ) -> FeatureSpace:
        """Check the declaration and lay out its columns. Raises ConfigError naming the feature."""
        words = {field: _vocabulary(field, entries) for field, entries in vocabularies.items()}
        if not features:
            raise ConfigError(
                "features",
                "(none)",
                "none is declared; name your config with --config FILE, and add [[features]] to "
                "it, as the config that `init` writes shows",
            )
        names = [f.name for f in features]
        twice = _repeated(names)
        if twice is not None:
            raise ConfigError(
                "features.name", twice, "is the name of two features; give each a name of its own"
            )
        blocks: list[Block] = []
        start = 0
        for number, feature in enumerate(features):
            for problem in feature_problems(feature, words, event_types):
                raise problem
            width = _width(feature, words)
            # A trend's half-lives share the one column that holds the day.
            half_lives = ("inf",) if feature.kind == "trend" else feature.half_lives
            for half_life in half_lives:
                suffix = f"@{half_life}" if len(half_lives) > 1 else ""
                stop = start + width
                blocks.append(
                    Block(
                        feature.name + suffix, number, feature.kind, start, stop,
                        parse_duration_ms(half_life), feature.by, feature.buckets,
                        feature.transform, feature.scale,
                    )
                )  # fmt: skip
                start = stop
        _check_trends(features)
        if start > MAX_COLUMNS:
            raise ConfigError(
                "features",
                f"{start} columns",
                f"at most {MAX_COLUMNS:,} fit; set buckets for the features by several fields",
            )
        return cls(features, words, tuple(blocks))

    @classmethod
    def from_declaration(cls, declaration: Mapping[str, Any]) -> FeatureSpace:
        """The space that `declaration()` described. Raises `MALFORMED` for anything else."""
        known = {f.name for f in fields(Feature)}
        features = []
        for raw in declaration["features"]:
            unknown = set(raw) - known
            if unknown:
                raise ConfigError("features", sorted(unknown), "not a field of a feature")
            lists: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()
            }
            features.append(Feature(**lists))
        return cls.compile(features, declaration["vocabularies"])

    def declaration(self) -> dict[str, Any]:
        """What was compiled, as JSON-able data; its hash is the fingerprint."""
        # A vocabulary that no feature uses must not change the fingerprint.
        used = {f for b in self.blocks if b.kind != "calendar" for f in b.fields}
        return {
            "features": [
                {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(f).items()}
                for f in self.features
            ],
            "vocabularies": {k: list(v) for k, v in sorted(self.vocabularies.items()) if k in used},
        }

    def derived(self, make: Callable[[FeatureSpace], T]) -> T:
        """make(self), made once and kept with the space: tables that every micro-batch needs."""
        if make not in self._derived:
            self._derived[make] = make(self)
        made: T = self._derived[make]
        return made

    @property
    def width(self) -> int:
        """F, the number of columns."""
        return self.blocks[-1].stop

    @cached_property
    def fingerprint(self) -> int:
        """64-bit xxHash of the canonical JSON of the declaration."""
        text = json.dumps(self.declaration(), sort_keys=True, separators=(",", ":"))
        return xxhash.xxh64_intdigest(text.encode())

    @property
    def fingerprint_hex(self) -> str:
        """The fingerprint as 16 hexadecimal digits."""
        return f"{self.fingerprint:016x}"

    def names(self) -> tuple[str, ...]:
        """All F columns in words, in order: names()[c] is `column_name(c)`; `column` goes back."""
        return self._names

    def column(self, name: str) -> int:
        """The column of this name, as `names` has it. Raises InputError where there is none."""
        column = self._column_of.get(name)
        if column is None:
            # Comparing with millions of names would take long.
            near = difflib.get_close_matches(name, self._names[:MOST_COMPARED_NAMES], n=1)
            remedy = f"is no column; did you mean {near[0]!r}?" if near else "is no column"
            raise InputError("column", name, f"{remedy}; names() lists all")
        if column == SEVERAL:
            remedy = "is the name of several columns; give the features or values other names"
            raise InputError("column", name, remedy)
        return column

    def column_name(self, column: int) -> str:
        """A column in words, for people: "purchases@14d[category_id=SOUP]"."""
        block = next(b for b in self.blocks if b.start <= column < b.stop)
        return self._name_in(block, column - block.start)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._name_in(b, key) for b in self.blocks for key in range(b.stop - b.start))

    @cached_property
    def _column_of(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for column, name in enumerate(self._names):
            found[name] = SEVERAL if name in found else column
        return found

    def _name_in(self, block: Block, key: int) -> str:
        """Key `key` of a block in words."""
        if not block.fields or block.kind == "trend":
            return block.name
        if block.buckets:
            return f"{block.name}[{','.join(block.fields)} in bucket {key}]"
        parts = [f"{field}={value}" for field, value in self.by_values(block, key)]
        return f"{block.name}[{','.join(parts)}]"

    def by_values(self, block: Block, key: int) -> tuple[tuple[str, str], ...]:
        """Each `by` field of key `key` of a block with its value; nothing where keys are hashed,
        or where the column holds a day.
        """
        if block.buckets or block.kind == "trend":
            return ()
        found = []
        for field in reversed(block.fields):  # the last field is the lowest digit of the key
            if block.kind == "calendar":
                key, digit = divmod(key, CALENDAR_WIDTHS[field])
                found.append((field, str(digit)))
            else:
                words = self.vocabularies[field]
                key, digit = divmod(key, len(words))
                found.append((field, words[digit]))
        return tuple(reversed(found))


def _vocabulary(field: str, entries: Sequence[str]) -> tuple[str, ...]:
    words = tuple(entries)
    if not words:
        raise ConfigError(
            f"vocabularies.{field}",
            "(empty)",
            "has no value; list at least one, or name a file with one value a line",
        )
    twice = _repeated(words)
    if twice is not None:
        raise ConfigError(f"vocabularies.{field}", twice, "is listed twice; list each value once")
    return words


def as_key(name: str) -> str:
    """A name as TOML takes it for a key: in quotes where it has a dot or the like."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _repeated(names: Iterable[str]) -> str | None:
    """The first name that stands there for the second time."""
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _width(feature: Feature, vocabularies: Mapping[str, tuple[str, ...]]) -> int:
    if feature.kind == "calendar":
        return math.prod(CALENDAR_WIDTHS[field] for field in feature.by)
    if feature.kind == "trend":
        return 1
    if feature.buckets:
        return feature.buckets
    return math.prod(len(vocabularies[field]) for field in feature.by)


def feature_problems(
    feature: Feature,
    vocabularies: Mapping[str, tuple[str, ...]],
    event_types: Sequence[str] | None,
) -> Iterator[ConfigError]:
    """All that is wrong with one feature, whatever the others are; nothing where it is right."""
    at = f"features.{feature.name}"
    for event_type in feature.on:
        if event_types is not None and event_type not in event_types:
            yield ConfigError(f"{at}.on", event_type, undeclared(event_type, event_types))
    wrong_zone = zone_problem(feature.time_zone)
    if wrong_zone:
        yield ConfigError(f"{at}.time_zone", feature.time_zone, wrong_zone)
    yield from _half_life_problems(feature, f"{at}.half_lives")
    if feature.kind in ONLY_MOMENTS and feature.value != 1.0:
        remedy = f"{feature.kind} looks only at the moments of events: leave value out"
        yield ConfigError(f"{at}.value", feature.value, remedy)
    if feature.buckets < 0 or (feature.buckets and not feature.by):
        yield ConfigError(
            f"{at}.buckets",
            feature.buckets,
            "must be 0 or more, and above 0 only with fields to hash in `by`",
        )
    if feature.kind == "calendar":
        wrong = [f for f in feature.by if f not in CALENDAR_WIDTHS]
        if wrong or not feature.by or feature.buckets:
            choices = " or ".join(CALENDAR_WIDTHS)
            yield ConfigError(
                f"{at}.by",
                ", ".join(wrong or feature.by) or "(none)",
                f"a calendar feature is by {choices}, without buckets",
            )
        return
    if isinstance(feature.value, str) and not _is_event_field(feature.value):
        choices = 'a number, "value" or "attributes.NAME"'
        yield ConfigError(f"{at}.value", feature.value, f"is no field of an event; write {choices}")
    for field in feature.by:
        if field == "value":
            yield ConfigError(
                f"{at}.by",
                field,
                'is a number, which can\'t be a key; to sum it, set value = "value"',
            )
        elif not _is_event_field(field):
            near = difflib.get_close_matches(field, EVENT_FIELDS, n=1)
            choices = ", ".join((*EVENT_FIELDS, "attributes.NAME"))
            meant = f"; is {near[0]!r} meant?" if near else ""
            yield ConfigError(
                f"{at}.by", field, f"is no field of an event; use one of {choices}{meant}"
            )
        elif not feature.buckets and field not in vocabularies:
            remedy = (
                f"has no vocabulary: list its values in vocabularies.{as_key(field)}, or set "
                "buckets to hash them"
            )
            yield ConfigError(f"{at}.by", field, remedy)
    if feature.kind == "trend":
        yield from _trend_problems(feature, at)


def _is_event_field(field: str) -> bool:
    return field in EVENT_FIELDS or field.startswith(ATTRIBUTE) or field == "value"


def _half_life_problems(feature: Feature, at: str) -> Iterator[ConfigError]:
    if not feature.half_lives:
        yield ConfigError(at, "(none)", 'give at least one, such as "14d" or "inf"')
        return
    half_lives = ", ".join(feature.half_lives)
    for half_life in feature.half_lives:
        try:
            parse_duration_ms(half_life)
        except ConfigError as error:
            yield ConfigError(at, half_life, error.remedy)
    if feature.kind in NO_HALF_LIFE and half_lives != "inf":
        yield ConfigError(at, half_lives, f"{feature.kind} does not fade: leave half_lives out")
    elif len(feature.half_lives) > 1 and feature.kind not in SEVERAL_HALF_LIVES:
        choices = ", ".join(SEVERAL_HALF_LIVES)
        remedy = f"{feature.kind} takes one; kinds that take several: {choices}"
        yield ConfigError(at, half_lives, remedy)
    twice = _repeated(feature.half_lives)
    if twice is not None and feature.kind in ("recency", "first"):
        yield ConfigError(at, twice, "is listed twice; list each half-life once")


def _trend_problems(feature: Feature, at: str) -> Iterator[ConfigError]:
    """What only a trend must be."""
    if len(feature.by) != 1 or feature.buckets:
        remedy = "a trend is of the values of one field with a vocabulary, without buckets"
        given = "buckets" if feature.buckets else ", ".join(feature.by) or "(none)"
        yield ConfigError(f"{at}.by", given, remedy)
    if feature.value != 1.0:
        yield ConfigError(f"{at}.value", feature.value, "a trend counts events; leave value out")
    if feature.transform != "none" or feature.scale != 1.0:
        changed = feature.transform if feature.transform != "none" else feature.scale
        remedy = "the column of a trend holds the day; leave transform and scale out"
        yield ConfigError(f"{at}.transform", changed, remedy)
    try:
        half_lives_ms = [parse_duration_ms(half_life) for half_life in feature.half_lives]
    except ConfigError:
        return  # reported as of any kind
    for half_life, ms in zip(feature.half_lives, half_lives_ms, strict=True):
        if ms is None or not DAY_MS <= ms <= LONGEST_TREND_MS:
            remedy = f"events of a trend are counted by day; choose from 1d to {LONGEST_TREND}"
            yield ConfigError(f"{at}.half_lives", half_life, remedy)
    ascending = [ms for ms in half_lives_ms if ms is not None]
    if len(half_lives_ms) < 2 or ascending != sorted(set(ascending)):
        remedy = 'a trend compares each half-life with the next; give two or more, as "2d", "14d"'
        yield ConfigError(f"{at}.half_lives", ", ".join(feature.half_lives), remedy)


def _check_trends(features: Sequence[Feature]) -> None:
    """All trends are of one field: that whose values the model's categories are."""
    fields_of = {feature.by for feature in features if feature.kind == "trend"}
    if len(fields_of) > 1:
        named = sorted(by[0] for by in fields_of)
        raise ConfigError("features.by", named, "all trends must be of the field in labels.by")
