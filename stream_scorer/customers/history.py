"""One customer's scores over time, as they were published: what the output topic still holds.

A customer's records are all in one partition, the one that our producers choose by the key, so only
that one is read; where the topic was given partitions since, older records lie elsewhere, and all
are read on request. Which of two records is the newer one is decided as everywhere
(core/freshness.py). A record that was published again after a crash, with the same source position,
moment and model, counts once. A compacted topic keeps the newest record of each customer for ever
and older ones for a while; what was before a tombstone was deleted, and is shown as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from stream_scorer.core.avro.propensity_encoder import PublishedPropensities, decode_propensities
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.partitioners import partition_of_key
from stream_scorer.core.freshness import newest_rows
from stream_scorer.errors import Halt, InputError, Unavailable
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings

BATCH_RECORDS = 10_000
SETTINGS_SECONDS = 2.0  # only a note depends on the answer
MOST_POINTS = 100_000  # of one customer


class Names(NamedTuple):
    """What a model's probabilities are of, for records that hold all of them by their order."""

    categories: tuple[str, ...]
    classes: int


@dataclass(frozen=True)
class HistoryEntry(Result):
    """class_index, in JSON `class`: 1 and up."""

    category_id: str
    class_index: int
    probability: float

    def as_json(self) -> dict[str, Any]:
        """`class` is no name of a field in Python."""
        found = super().as_json()
        return {"class" if key == "class_index" else key: value for key, value in found.items()}


@dataclass(frozen=True)
class HistoryPoint(Result):
    """One score. scored_at, partition and offset: None in a replay. newest: this is what readers
    take. deleted: a tombstone came after it."""

    as_of: str
    scored_at: str | None
    model_version: str
    partition: int | None
    offset: int | None
    newest: bool
    deleted: bool
    propensities: tuple[HistoryEntry, ...]


@dataclass(frozen=True)
class CustomerHistory(Result):
    """points: by moment. source: the topic, or what was replayed. records: of the customer, repeats
    and tombstones included. notes: what a reader has to know about what is missing."""

    customer_id: str
    source: str
    records: int
    repeats: int
    tombstones: int
    points: tuple[HistoryPoint, ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    """Records of the customer in the order of the topic; a tombstone has no value."""

    values: list[bytes | None] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)


def published_history(
    settings: Settings,
    customer_id: str,
    names: Mapping[str, Names],
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    categories: Sequence[str] = (),
    all_partitions: bool = False,
) -> CustomerHistory:
    """The customer's records of the output topic as of from_ms and later, before to_ms.

    names: by model version. categories: only these; (): all. Raises InputError where there is no
    such topic, BusUnavailable and Halt.
    """
    kafka, topic = settings.kafka, settings.kafka.output_topic
    admin = KafkaAdmin(kafka.client_properties())
    count = admin.partitions(topic)
    if not count:
        remedy = "there is no such topic; create it with `stream-scorer topics create`"
        raise InputError("kafka.output_topic", topic, remedy)
    partition = partition_of_key(kafka.partitioner, customer_id.encode(), count)
    if all_partitions:
        partition = None
    numbers = range(count) if partition is None else [partition]
    found = _read(settings, customer_id, numbers)
    points, repeats, unnamed = _points(found, names, (from_ms, to_ms), categories)
    notes = []
    if _may_be_compacted(admin, topic):
        notes.append(
            "the topic is compacted, or its settings are not known: of older scores it may hold "
            "only a part, and of a quiet customer only the newest; --replay EVENTS computes them "
            "from events"
        )
    if partition is not None and count > 1:
        notes.append(
            f"only partition {partition} was read, where the customer's records are; "
            "--all-partitions reads those of before partitions were added, too"
        )
    if unnamed:
        versions = ", ".join(sorted(unnamed))
        notes.append(
            f"the categories of model {versions} are not known here, so its probabilities have no "
            "names: give its artefact with --model"
        )
    tombstones = found.values.count(None)
    where = topic if partition is None else f"{topic}[{partition}]"
    return CustomerHistory(
        customer_id, where, len(found.values), repeats, tombstones, tuple(points), tuple(notes)
    )


def _may_be_compacted(admin: KafkaAdmin, topic: str) -> bool:
    """Whether the topic's settings say so, or can't be read."""
    try:
        config = admin.topics([topic], SETTINGS_SECONDS)[topic].config
    except (Unavailable, Halt, KeyError):
        return True
    return config is None or "compact" in config.get("cleanup.policy", "")


def _read(settings: Settings, customer_id: str, partitions: Sequence[int]) -> _Found:
    """Raises InputError where the customer has too many records."""
    kafka, key, found = settings.kafka, customer_id.encode(), _Found()
    with closing(
        TopicReader(
            kafka.consumer_properties(), kafka.output_topic, batch_records=BATCH_RECORDS,
            from_offsets={(kafka.output_topic, p): None for p in partitions},
        )
    ) as reader, progress("reading scores", reader.most_records) as meter:  # fmt: skip
        for batch in reader:
            for row in [row for row, other in enumerate(batch.keys) if other == key]:
                found.values.append(batch.values[row])
                found.times_ms.append(int(batch.timestamps_ms[row]))
            if len(found.values) > MOST_POINTS:
                remedy = f"has more than {MOST_POINTS:,} records in {kafka.output_topic}"
                raise InputError("ID", customer_id, remedy)
            meter.advance(len(batch))
    return found


def _points(
    found: _Found, names: Mapping[str, Names], window: tuple[int | None, int | None],
    categories: Sequence[str],
) -> tuple[list[HistoryPoint], int, set[str]]:  # fmt: skip
    """The points by moment, how many repeats were left out, and model versions without names."""
    last_tombstone = max((i for i, v in enumerate(found.values) if v is None), default=-1)
    rows = [(i, decode_propensities([v])) for i, v in enumerate(found.values) if v is not None]
    newest = _newest([one for i, one in rows if i > last_tombstone])
    points: dict[_Identity, tuple[int, HistoryPoint]] = {}
    unnamed = set[str]()
    # A score that was published again, also after a tombstone, is there as the last one left it.
    last = {_identity(one): (i, one) for i, one in rows}
    for identity, (i, one) in last.items():
        as_of_ms = identity.as_of_ms
        if not ((window[0] is None or as_of_ms >= window[0]) and _before(as_of_ms, window[1])):
            continue
        entries = _entries(one, names)
        unnamed |= {identity.model_version} if entries is None else set()
        chosen = tuple(e for e in entries or () if not categories or e.category_id in categories)
        points[identity] = as_of_ms, HistoryPoint(
            moment_text(as_of_ms), moment_text(int(one.scored_at_ms[0])), identity.model_version,
            identity.partition, identity.offset, identity == newest, i < last_tombstone, chosen,
        )  # fmt: skip
    ordered = sorted(points.values(), key=lambda point: point[0])
    return [point for _, point in ordered], len(rows) - len(last), unnamed


class _Identity(NamedTuple):
    """What two records have in common where the second is a repeat."""

    partition: int
    offset: int
    as_of_ms: int
    model_version: str


def _identity(one: PublishedPropensities) -> _Identity:
    return _Identity(
        int(one.partition[0]), int(one.offset[0]), int(one.as_of_ms[0]), one.model_versions[0]
    )


def _newest(live: Sequence[PublishedPropensities]) -> _Identity | None:
    """Of the records of one customer in the order of the topic; None where there is none."""
    if not live:
        return None
    partition, offset, as_of_ms = (
        np.concatenate([getattr(one, name) for one in live])
        for name in ("partition", "offset", "as_of_ms")
    )
    (at,) = newest_rows([""] * len(live), partition, offset, as_of_ms).values()
    return _identity(live[at])


def _before(as_of_ms: int, to_ms: int | None) -> bool:
    return to_ms is None or as_of_ms < to_ms


def _entries(one: PublishedPropensities, names: Mapping[str, Names]) -> list[HistoryEntry] | None:
    """The propensities of a record, most probable first; None where they have no names."""
    if one.probabilities is None:
        return [HistoryEntry(c, k, round(float(p), 6)) for c, k, p in one.entries[0]]
    known = names.get(one.model_versions[0])
    return None if known is None else entries_of(one.probabilities[0], known)


def entries_of(values: np.ndarray, names: Names) -> list[HistoryEntry]:  # type: ignore[type-arg]
    """values: of class 1 of each category (N,), or of all classes, category by category (N * C,);
    the most probable first, without class 0."""
    count = len(names.categories)
    if len(values) == count:
        found = [(c, 1, float(p)) for c, p in zip(names.categories, values.tolist(), strict=True)]
    else:
        table = values.reshape(count, -1).tolist()
        found = [
            (category, k, float(p))
            for category, row in zip(names.categories, table, strict=True)
            for k, p in enumerate(row)
            if k
        ]
    found.sort(key=lambda entry: (-entry[2], entry[0], entry[1]))
    return [HistoryEntry(c, k, round(p, 6)) for c, k, p in found]
