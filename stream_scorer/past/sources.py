"""Past events: event files, or what the input topic holds, for jobs that read to an end.

A topic is read by partition assignment up to where it ended at the start, so neither the live group
nor its offsets are touched. Both kinds come in the same order each time. The window is by record
time for a topic, whose records have one, and by occurred_at for files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import (
    DeadLetter,
    EventBatch,
    RecordBatch,
    TopicPartition,
)
from stream_scorer.core.events.validation import validate
from stream_scorer.errors import InputError
from stream_scorer.io.files.events import EventFiles, open_events
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.live.consumer import lookup_of
from stream_scorer.settings.tree import Settings

TOPIC = "topic"  # in place of files: the input topic; a file of that name is ./topic
LATEST_MS = int(np.iinfo(np.int64).max // 2)  # no clock: nothing in a file lies in the future
LISTED = 1000


@dataclass
class Refused:
    """Records that could not be applied: all counted by reason, the first `LISTED` kept."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Count and list; position is the record's place in its file (from 0), or its offset."""
        self.counts.update(letter.reason.value for letter in letters)
        for letter in letters[: LISTED - len(self.first)]:
            self.first.append(
                {
                    "source": letter.topic,
                    "partition": letter.partition,
                    "position": letter.offset,
                    "reason": letter.reason.value,
                    "detail": letter.detail,
                }
            )

    def join(self, other: Refused) -> None:
        """Add what was refused after it."""
        self.counts.update(other.counts)
        self.first += other.first[: LISTED - len(self.first)]

    def as_report(self) -> dict[str, Any]:
        """{"dead_letters" {reason: count}, "refused" [the first of them]}."""
        return {"dead_letters": dict(sorted(self.counts.items())), "refused": self.first}


def refused_in_words(report: dict[str, Any], shown: int = 10) -> list[str]:
    """`Refused.as_report` for people."""
    lines = [f"{n:,} records left out: {reason}" for reason, n in report["dead_letters"].items()]
    for row in report["refused"][:shown]:
        where = f"{row['source']}[{row['partition']}] at {row['position']}"
        lines.append(f"  {where}: {row['reason']}: {row['detail']}")
    return lines


@dataclass
class PastEvents:
    """records: batches, again each time they are iterated. ranges: of a topic, by partition the
    first offset and the one after the last; empty for files. most_records: None where not known.
    source_of: of each file, what its events name as their source (see `FileDecoder`).
    """

    name: str
    records: Iterable[RecordBatch]
    decoder: Decoder
    ranges: dict[TopicPartition, tuple[int, int]]
    most_records: int | None
    source_of: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def open_past(
    settings: Settings,
    sources: Sequence[str],
    *,
    batch_records: int,
    from_ms: int | None = None,
    to_ms: int | None = None,
    on_file: Callable[[str, int], None] = lambda _file, _place: None,
) -> Iterator[PastEvents]:
    """Event files and directories, or [`TOPIC`]; only from from_ms inclusive to to_ms exclusive.

    on_file is told each file of a directory, and its place there, before its first event comes.
    Raises InputError, BusUnavailable, Halt; so does iteration.
    """
    most = settings.events.max_record_bytes
    if list(sources) != [TOPIC]:
        files = open_events([Path(s) for s in sources], batch_records=batch_records)
        name = ", ".join(str(f) for f in files.files)
        by_file = FileDecoder(files, from_ms, to_ms, max_record_bytes=most, on_file=on_file)
        yield PastEvents(name, files, by_file, {}, None, by_file.source_of)
        return
    kafka = settings.kafka
    lookup = lookup_of(settings)
    try:
        with TopicReader(
            kafka.consumer_properties(), kafka.input_topic,
            batch_records=batch_records, from_ms=from_ms, to_ms=to_ms,
        ) as reader:  # fmt: skip
            decoder = Decoder(lookup, max_record_bytes=most)
            yield PastEvents(kafka.input_topic, reader, decoder, reader.ranges, reader.most_records)
    finally:
        lookup.close()


def valid_events(settings: Settings, past: PastEvents, refused: Refused) -> Iterator[EventBatch]:
    """Each batch's events that can be applied, as they came; the other records go to `refused`."""
    rules = settings.event_rules()
    for records in past.records:
        events, undecodable = past.decoder.decode(records)
        events, invalid = validate(events, records, rules, LATEST_MS)
        refused.add([*undecodable, *invalid])
        yield events


def refuse_unfinished(last_ms: int, last_cutoff_ms: int, horizon_ms: int) -> None:
    """Raises InputError where events that end at last_ms make too few labels of a cut-off."""
    # The last day may be cut short; a window that ends on it is as good as full.
    if last_cutoff_ms + horizon_ms > last_ms + 86_400_000:
        raise InputError(
            "--cutoffs", np.datetime64(last_cutoff_ms, "ms"),
            f"its horizon is not over: the events end at {np.datetime64(last_ms, 'ms')}Z; choose "
            "an earlier one",
        )  # fmt: skip


class FileDecoder(Decoder):
    """A decoder that passes over events outside a window of occurred_at.

    A directory is one source of its events, whose positions count on from file to file: a record
    keeps an offset for each source, and there may be thousands of files. Dead letters name the
    file. Batches come in the order of reading.
    """

    def __init__(
        self, files: EventFiles, from_ms: int | None, to_ms: int | None, *, max_record_bytes: int,
        on_file: Callable[[str, int], None] = lambda _file, _place: None,
    ) -> None:  # fmt: skip
        super().__init__(files.lookup, max_record_bytes=max_record_bytes)
        self._from_ms, self._to_ms, self._on_file = from_ms, to_ms, on_file
        self.source_of = {str(file): str(path) for file, path in files.given_as.items()}
        self._place: dict[str, int] = {}  # by file: where it begins in its source
        self._ends: dict[str, int] = {}  # by source

    def decode(self, records: RecordBatch) -> tuple[EventBatch, list[DeadLetter]]:
        """As `Decoder.decode`."""
        events, letters = super().decode(records)
        events = self._counted_on(events, records.next_offsets())
        if self._from_ms is None and self._to_ms is None:
            return events, letters
        inside = np.ones(len(events), np.bool_)
        if self._from_ms is not None:
            inside &= events.occurred_at_ms >= self._from_ms
        if self._to_ms is not None:
            inside &= events.occurred_at_ms < self._to_ms
        return events.take(inside), letters

    def _counted_on(self, events: EventBatch, ends: dict[TopicPartition, int]) -> EventBatch:
        places = []
        for file, _ in events.partitions:
            source = self.source_of[file]
            if file not in self._place:
                self._place[file] = self._ends.get(source, 0)
                if file != source:
                    self._on_file(file, self._place[file])
            end = self._place[file] + ends.get((file, 0), 0)
            self._ends[source] = max(self._ends.get(source, 0), end)
            places.append(self._place[file])
        sources = [self.source_of[file] for file, _ in events.partitions]
        distinct = list(dict.fromkeys(sources))
        number = np.array([distinct.index(source) for source in sources], np.int32)
        return replace(
            events, partitions=[(source, 0) for source in distinct],
            partition_index=number[events.partition_index],
            offsets=events.offsets + np.array(places, np.int64)[events.partition_index],
        )  # fmt: skip
