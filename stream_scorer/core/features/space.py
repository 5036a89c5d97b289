"""Declared features, compiled to columns, and the fingerprint of that declaration.

Every (feature, half-life) owns one contiguous block of columns, so a column's half-life, kind and
transform follow from its range. Within a block the column is the key: the mixed radix number of the
vocabulary indices of the `by` fields, or a stable 64-bit hash of their text modulo `buckets`.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, TypeVar

import xxhash

from stream_scorer.core.features.calendar import CALENDAR_WIDTHS
from stream_scorer.core.features.declaration_checks import check_feature, check_trends, repeated
from stream_scorer.core.features.durations import parse_duration_ms
from stream_scorer.errors import ConfigError, InputError

T = TypeVar("T")

Kind = Literal["decayed", "recency", "latest", "calendar", "trend", "first", "gap", "overdue"]
Transform = Literal["none", "log1p", "binary"]

DAY_MS = 86_400_000
# Indices of the CSR matrix are int32.
MAX_COLUMNS = 2**31 - 1
# Values of a vocabulary may contain commas or brackets, so two columns can read the same.
SEVERAL = -1  # in place of a column: its name is not unique
MOST_COMPARED_NAMES = 10_000  # when a name is wrong and one like it is looked for

# What reading a declaration raises where its values are of other types than `declaration` writes;
# reading the other parts of a manifest raises the same.
MALFORMED = (ConfigError, LookupError, TypeError, ValueError, AttributeError, OverflowError)


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
            raise ConfigError("features", "(none)", "declare at least one feature")
        names = [f.name for f in features]
        twice = repeated(names)
        if twice is not None:
            raise ConfigError("features.name", twice, "use each name once")
        blocks: list[Block] = []
        start = 0
        for number, feature in enumerate(features):
            check_feature(feature, words, event_types)
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
        check_trends(features)
        if start > MAX_COLUMNS:
            raise ConfigError("features", f"{start} columns", "use buckets for the widest crosses")
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
        raise ConfigError(f"vocabularies.{field}", "(empty)", "list at least one value")
    twice = repeated(words)
    if twice is not None:
        raise ConfigError(f"vocabularies.{field}", twice, "list each value once")
    return words


def _width(feature: Feature, vocabularies: Mapping[str, tuple[str, ...]]) -> int:
    if feature.kind == "calendar":
        return math.prod(CALENDAR_WIDTHS[field] for field in feature.by)
    if feature.kind == "trend":
        return 1
    if feature.buckets:
        return feature.buckets
    return math.prod(len(vocabularies[field]) for field in feature.by)
