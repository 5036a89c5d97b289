"""Past events: event files, or what the input topic holds, for jobs that read to an end.

Where a Parquet row goes: its columns become a row of an EventBatch (io/files/event_rows.py), the
position in its file becomes one in its directory (numbering.py), the window of time lets it pass
(window.py), and `validate` says whether it can be applied; then replay finds the columns it touches
(core/features/preparation.py) and folds it into its customer's record (live/store_fold.py), while
jobs that need all events at once keep the batch. Records of Avro files, lines of JSON and messages
of the topic are decoded first (core/avro/decoder.py) and go the same way; the topic has offsets and
times of its own, so it needs neither numbering nor window. A record that is no event, or no valid
one, leaves this path as a dead letter, which is counted in `Refused`.

The topic is read by assigning partitions, up to where they ended at the start, so neither the live
group nor its offsets are touched. Files and topic come in the same order at each reading.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.refused import Refused, refused_as_cause
from stream_scorer.core.events.validation import judge
from stream_scorer.core.labels.labels import latest_horizon_end_ms
from stream_scorer.errors import InputError
from stream_scorer.io.files.events import open_events
from stream_scorer.io.files.parquet_events import allocate_with_malloc
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.live.consumer import clock_ms, lookup_of
from stream_scorer.past.missing_history import check_history
from stream_scorer.past.numbering import Numbering
from stream_scorer.past.window import in_window
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place, place

# Jobs on the past are in no group, so they may wait for the schema registry.
REGISTRY_PATIENCE_SECONDS = 30.0
log = logging.getLogger(__name__)

TOPIC = "topic"  # in place of files: the input topic; a file of that name is ./topic

MissingHistory = Literal["refuse", "accept", "ignore"]


@dataclass
class PastEvents:
    """batches: the same ones each time they are iterated. ranges: of a topic, by partition the
    first offset and the one after the last; empty for files. most_records: None where not known.
    now_ms: when it was opened; later events of files are refused. numbering: of files, whose
    events name a directory as their source; None for a topic. outside_window: records of a topic
    that are not read because of the window of time; those of files are counted as they are read.
    expected: of files, about how many records there are, as far as what was read tells.
    """

    name: str
    batches: Iterable[DecodedBatch]
    ranges: dict[TopicPartition, tuple[int, int]]
    most_records: int | None
    now_ms: int
    numbering: Numbering | None = None
    outside_window: int = 0
    expected: Callable[[], int | None] | None = None

    def expected_records(self) -> int | None:
        """The total for a progress bar: exact for a topic, about right for files, of which it is
        None before the first were read."""
        return self.most_records if self.expected is None else self.expected()


@contextmanager
def open_past(
    settings: Settings,
    sources: Sequence[str],
    *,
    batch_records: int,
    from_ms: int | None = None,
    to_ms: int | None = None,
    now_ms: int | None = None,
    missing_history: MissingHistory = "refuse",
    from_offsets: Mapping[TopicPartition, int | None] | None = None,
) -> Iterator[PastEvents]:
    """Event files and directories, or [`TOPIC`]; only from from_ms inclusive to to_ms exclusive.

    now_ms: against which times are judged, for work that several processes share; None: the clock.
    missing_history: what to do where the topic no longer holds its oldest events. from_offsets:
    of the topic, as of TopicReader. Raises InputError, BusUnavailable, Halt; so does iteration.
    """
    now = clock_ms() if now_ms is None else now_ms
    if list(sources) != [TOPIC]:
        # Files have no server to close.
        paths = [place(s, "events") for s in sources]
        yield _of_files(settings, paths, batch_records, (from_ms, to_ms), now)
        return
    kafka = settings.kafka
    with (
        closing(lookup_of(settings, REGISTRY_PATIENCE_SECONDS)) as lookup,
        TopicReader(
            kafka.consumer_properties(), kafka.input_topic,
            batch_records=batch_records, from_ms=from_ms, to_ms=to_ms, from_offsets=from_offsets,
        ) as reader,
    ):  # fmt: skip
        if missing_history != "ignore":
            check_history(kafka, reader, from_ms, accepted=missing_history == "accept")
        decoder = Decoder(
            lookup, max_record_bytes=settings.events.max_record_bytes, ahead=lookup.ahead
        )
        batches = _Again(lambda: (DecodedBatch(*decoder.decode(r), r) for r in reader))
        # Offsets without a record, such as marks of transactions, count too: which ones they are is
        # known only to who reads them.
        outside = sum(end - first for first, end in reader.log.values()) - reader.most_records
        yield PastEvents(
            kafka.input_topic, batches, reader.ranges, reader.most_records, now,
            outside_window=outside,
        )  # fmt: skip


def _of_files(
    settings: Settings, paths: Sequence[Place], batch_records: int,
    window: tuple[int | None, int | None], now_ms: int,
) -> PastEvents:  # fmt: skip
    allocate_with_malloc()
    files = open_events(
        paths, batch_records=batch_records, max_record_bytes=settings.events.max_record_bytes,
        max_block_bytes=settings.events.max_block_bytes,
    )  # fmt: skip
    numbering = Numbering.of(files.given_as)
    rules = settings.event_rules()
    batches = _Again(lambda: in_window(numbering.numbered(files), *window, rules, now_ms))
    return PastEvents(
        ", ".join(map(str, files.files)), batches, {}, None, now_ms, numbering,
        expected=files.expected_records,
    )  # fmt: skip


@dataclass(frozen=True)
class _Again:
    """Batches that can be iterated more than once."""

    read: Callable[[], Iterator[DecodedBatch]]

    def __iter__(self) -> Iterator[DecodedBatch]:
        return self.read()


def stopping(settings: Settings) -> Refused:
    """Counts what is refused, and stops where `run` would stop."""
    return Refused(settings.dead_letter_window(live=False))


def valid_batches(
    settings: Settings, past: PastEvents, refused: Refused, *, keep_ignored: bool = False
) -> Iterator[DecodedBatch]:
    """Each batch with only the events that can be applied; other records are added to `refused`.

    keep_ignored: also the events of customers who are to be ignored. Customers of extreme rate are
    logged. Raises TooManyDeadLetters where `refused` says so.
    """
    rules, rates = settings.event_rules(), settings.customer_rates()
    if keep_ignored:
        rules = replace(rules, ignored_customers=frozenset())
    refused.outside_window += past.outside_window
    for batch in past.batches:
        events, dead_letters, ignored, erased = judge(batch, rules, past.now_ms)
        refused.add(
            len(batch), dead_letters, ignored_events=ignored, erased_events=erased,
            outside_window=batch.outside_window,
        )  # fmt: skip
        codes, ids = events.customer_id.intern()
        for extreme in rates.add(ids, codes, events.occurred_at_ms):
            log.warning("%s", extreme)
        yield replace(batch, events=events)


def refuse_without_rows(first_ms: int, last_cutoff_ms: int) -> None:
    """Raises InputError where events that begin at first_ms make no row by the last cut-off."""
    if last_cutoff_ms <= first_ms:
        remedy = (
            f"no customer is known by then: the events begin at {moment_text(first_ms)}; choose a "
            "later one"
        )
        raise InputError("--cutoffs", moment_text(last_cutoff_ms), remedy)


def refuse_unfinished(last_ms: int, last_cutoff_ms: int, horizon_ms: int, refused: Refused) -> None:
    """Raises InputError where events that end at last_ms make too few labels of a cut-off.

    refused: what else was read. The newest events may be among it, and so be the cause.
    """
    if last_cutoff_ms + horizon_ms > latest_horizon_end_ms(last_ms):
        raise InputError(
            "--cutoffs", moment_text(last_cutoff_ms),
            f"its horizon is not over: the events end at {moment_text(last_ms)}; choose an earlier "
            f"one{refused_as_cause(refused)}",
        )  # fmt: skip
