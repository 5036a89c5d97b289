"""What a snapshot is of: features, categories, label rule, offsets and what its events lacked, and
how its manifest says so (the keys are listed in snapshots.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stream_scorer.core.customer_sample import EVERYBODY, CustomerSample
from stream_scorer.core.events.refused import (
    Refusal,
    Refused,
    RefusedRecord,
    ignored_events_in_words,
    outside_window_in_words,
    refused_in_words,
)
from stream_scorer.core.features.ignored_values import IgnoredValue, ignored_in_words
from stream_scorer.core.features.space import MALFORMED, FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.core.trend import contrast_count
from stream_scorer.errors import FingerprintMismatch, SnapshotError
from stream_scorer.io.files.row_moments import RowMoments
from stream_scorer.io.files.snapshot_manifest import FORMAT
from stream_scorer.io.files.snapshot_shards import WRITE_AGAIN
from stream_scorer.io.files.snapshot_trend import check_days
from stream_scorer.result import Result


@dataclass(frozen=True)
class LeftOut(Result):
    """What the events of a snapshot lacked when it was made: records that were refused, by reason,
    and values of events that features and labels could not use, by field.

    ignored_events: of customers who were to be ignored. outside_window: events of files, or records
    of the topic, outside --from and --to. Older snapshots do not have these two.
    """

    refusals: tuple[Refusal, ...] = ()
    ignored_values: tuple[IgnoredValue, ...] = ()
    ignored_events: int = 0
    outside_window: int = 0

    @classmethod
    def by(cls, refused: Refused, ignored_values: tuple[IgnoredValue, ...]) -> LeftOut:
        """What a job that has read all events counted."""
        return cls(
            refused.refusals(), ignored_values, refused.ignored_events, refused.outside_window
        )

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> LeftOut:
        """From its `as_json`. Raises KeyError, TypeError and ValueError."""
        found = cls(
            tuple(
                Refusal(**{**given, "example": RefusedRecord(**given["example"])})
                for given in manifest["refusals"]
            ),
            tuple(IgnoredValue(**given) for given in manifest["ignored_values"]),
            manifest.get("ignored_events", 0),
            manifest.get("outside_window", 0),
        )
        found.in_words()  # a number that is none, or a text that is none, fails here
        if found.as_json() != {"ignored_events": 0, "outside_window": 0, **manifest}:
            raise ValueError("left_out has other keys")
        return found

    def in_words(self) -> list[str]:
        """A line of text for each reason and field, and for each example."""
        return [
            *refused_in_words(self.refusals, ()),
            *ignored_events_in_words(self.ignored_events),
            *outside_window_in_words(self.outside_window),
            *ignored_in_words(self.ignored_values),
        ]


@dataclass(frozen=True)
class SnapshotInfo:
    """What a snapshot is of.

    labels: the rule that its labels follow, None where they are not known yet. label_field: whose
    vocabulary the label categories are. source_offsets: for each topic and partition, every event
    before this offset went in. source_offsets_end: no event from this offset on went in; empty
    where that is the same offset, or not known. left_out: nothing, where that is not known.
    row_moments: of which kind each row's moment is, None where that is not known. event_types: how
    many events of each type were read, None where that is not known. customer_sample: whose rows it
    has; everybody's, where it is not a sample of customers.
    """

    space: FeatureSpace
    label_field: str
    labels: LabelRule | None
    source_offsets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    source_offsets_end: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    left_out: LeftOut = LeftOut()
    row_moments: RowMoments | None = None
    event_types: Mapping[str, int] | None = None
    customer_sample: CustomerSample = EVERYBODY

    @property
    def categories(self) -> tuple[str, ...]:
        """The vocabulary of the label field."""
        return self.space.vocabularies[self.label_field]


def manifest_of(
    info: SnapshotInfo,
    as_of_ms: Sequence[int],
    shards: Sequence[Mapping[str, Any]],
    trend: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest, without its checksum; shards: what `ShardFile.finish` returned for each, trend:
    what `trend_content` did.
    """
    return {
        "format": FORMAT,
        "fingerprint": info.space.fingerprint_hex,
        "features": info.space.declaration(),
        "label_field": info.label_field,
        "categories": list(info.categories),
        "labels": None if info.labels is None else asdict(info.labels),
        "as_of_ms": list(as_of_ms),
        "row_moments": None if info.row_moments is None else info.row_moments.as_json(),
        "trend": None if trend is None else dict(trend),
        "source_offsets": {t: dict(p) for t, p in info.source_offsets.items()},
        "source_offsets_end": {t: dict(p) for t, p in info.source_offsets_end.items()},
        "left_out": info.left_out.as_json(),
        "event_types": None if info.event_types is None else dict(info.event_types),
        "sample_customers": info.customer_sample.in_manifest,
        "rows": sum(s["rows"] for s in shards),
        "shards": list(shards),
    }


def info_of(manifest: Mapping[str, Any], where: object) -> SnapshotInfo:
    """What a manifest says; `where` names it in the SnapshotError where it contradicts itself."""
    try:
        space = FeatureSpace.from_declaration(manifest["features"])
        rule = manifest["labels"]
        labels = None
        if rule is not None:
            actions = tuple(tuple(group) for group in rule["actions"])
            labels = LabelRule(str(rule["by"]), actions, int(rule["horizon_ms"]))
        info = SnapshotInfo(
            space, manifest["label_field"], labels, manifest["source_offsets"],
            manifest.get("source_offsets_end", {}),
            LeftOut.of(manifest["left_out"]) if "left_out" in manifest else LeftOut(),
            RowMoments.of(manifest.get("row_moments"), manifest["rows"]),
            _event_types(manifest.get("event_types")), _sample(manifest.get("sample_customers")),
        )  # fmt: skip
        agrees = info.categories == tuple(manifest["categories"])
    except MALFORMED as error:
        reason = f"contradicts itself: {error}; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", where, reason) from None
    if not agrees or space.fingerprint_hex != manifest["fingerprint"]:
        remedy = f"features, categories and fingerprint do not belong together; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", where, remedy)
    return info


def _event_types(given: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Raises AttributeError, TypeError and ValueError."""
    if given is None:
        return None
    found = {str(name): int(events) for name, events in given.items()}
    if min(found.values(), default=0) < 0:
        raise ValueError("event_types has a number below 0")
    return found


def _sample(given: str | None) -> CustomerSample:
    """Raises AttributeError, TypeError and ValueError."""
    if given is None:
        return EVERYBODY
    found = CustomerSample.parse(given)
    if found.in_manifest != given:
        raise ValueError(f"sample_customers is {given!r}, not in lowest terms")
    return found


def check_fingerprint(manifest: Mapping[str, Any], path: object, expected: int) -> None:
    """Raises FingerprintMismatch where the snapshot `path` has other features."""
    wanted, found = f"{expected:016x}", manifest["fingerprint"]
    if wanted != found:
        remedy = f"the model's or configuration's features have {wanted}: replay or export again"
        raise FingerprintMismatch(f"snapshot {path}: fingerprint", found, remedy)


def trend_entry(
    manifest: Mapping[str, Any], space: FeatureSpace, path: object
) -> dict[str, Any] | None:
    """What a manifest says of its table; None where no trend is declared.

    Raises SnapshotError where one is declared and there is none, or one of other days.
    """
    if not contrast_count(space):
        return None
    entry: dict[str, Any] | None = manifest.get("trend")
    if entry is None:
        raise SnapshotError("snapshot", path, f"has no table of the shop's trend; {WRITE_AGAIN}")
    check_days(entry, manifest["as_of_ms"], path)
    return entry
