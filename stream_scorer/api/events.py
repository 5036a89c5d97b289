"""Events for a notebook: files to an Arrow table, and back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stream_scorer.core.events.batch import DeadLetter, EventBatch
from stream_scorer.core.events.refused import Refused, ignored_events_in_words, refused_in_words
from stream_scorer.core.events.validation import EventRules, judge
from stream_scorer.errors import EventFileError, cannot_write
from stream_scorer.io.files import events as event_files
from stream_scorer.io.files.arrow_events import MOST_RECORD_BYTES, SCHEMA, events_of, table_of
from stream_scorer.io.files.limits import DEFAULT_BLOCK_BYTES
from stream_scorer.live.consumer import clock_ms
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import place

log = logging.getLogger(__name__)

EventPaths = str | Path | Sequence[str | Path]

# Rows of a table are judged without settings. They may be simulated, so they may lie in the future,
# but not where only a time in another unit would.
TABLE_SKEW_MS = 100 * 365 * 86_400_000


def read_events(
    files: EventPaths, settings: Settings | None = None, *, strict: bool = True
) -> pa.Table:
    """The events of files and directories as one Arrow table, in the order of reading.

    files: one path or several; Avro containers, Parquet or JSON lines. A directory stands for its
    files in the order of their names.
    settings: leave out the events that `replay` with these settings refuses, such as those of an
    event type that is not declared. Without settings every event type is accepted.
    strict: raise EventFileError at the first record that is not an event at all (it can't be
    decoded, or a required field is null); False leaves such records out.

    Columns: event_id, customer_id, event_type, category_id and product_id string; value float64;
    occurred_at timestamp[ms, UTC]; attributes map of string to string. category_id, product_id and
    value may be null. What is left out is logged, with reasons and remedies. Raises EventFileError
    where a file can't be read, and where every record is refused.
    """
    paths = [files] if isinstance(files, str | Path) else list(files)
    most = MOST_RECORD_BYTES if settings is None else settings.events.max_record_bytes
    block = DEFAULT_BLOCK_BYTES if settings is None else settings.events.max_block_bytes
    opened = event_files.open_events(
        [place(path, "events") for path in paths], max_record_bytes=most, max_block_bytes=block
    )
    tables = []
    now_ms, refused = clock_ms(), Refused()
    for batch in opened:
        if strict:
            _refuse(batch.refused)
        rules = _any_type(batch.events) if settings is None else settings.event_rules()
        judged = judge(batch, rules, now_ms)
        if strict and settings is None:
            _refuse(judged.dead_letters)
        refused.add(len(batch), judged.dead_letters, ignored_events=judged.ignored_events)
        tables.append(table_of(judged.events))
    if refused.counts and not any(table.num_rows for table in tables):
        raise EventFileError("events", ", ".join(map(str, opened.files)), refused.nothing_left())
    left_out = refused_in_words(refused.refusals(), refused.first)
    for line in left_out + ignored_events_in_words(refused.ignored_events):
        log.warning("%s", line)
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def write_events(events: pa.Table, path: str | Path) -> int:
    """Write a table of events as an event file that the command line reads; how many there are.

    path: ending in .parquet or .avro, in a folder that exists; the file appears whole, in place of
    one of that name, or not at all. events: as `read_events` returns them; any table with columns
    of those names will do where Arrow can read them as those types. Raises EventFileError for a row
    that is no event and for a file that can't be written.
    """
    target = Path(path)
    table = table_of(valid_batch(events))
    if target.suffix == ".parquet":
        try:
            with event_files.new_event_file(target) as work:
                pq.write_table(table, work)
        except OSError as error:
            raise EventFileError("events", target, cannot_write(error)) from error
        return int(table.num_rows)
    if target.suffix == ".avro":
        return event_files.write_events(target, _rows(table))
    raise EventFileError("events", target, "end the file's name in .parquet or .avro")


def valid_batch(events: pa.Table) -> EventBatch:
    """The table's events as columns of numpy. Raises EventFileError for a row that is no event."""
    batch = events_of(events)
    _refuse(batch.refused)
    rules = replace(_any_type(batch.events), allowed_skew_ms=TABLE_SKEW_MS)
    judged = judge(batch, rules, clock_ms())
    _refuse(judged.dead_letters)
    return judged.events


def _any_type(events: EventBatch) -> EventRules:
    """Rules that accept every event type, and judge the rest as the default settings do."""
    types = frozenset(events.event_type.intern()[1])
    return replace(Settings().event_rules(), event_types=types)


def _refuse(dead_letters: Sequence[DeadLetter]) -> None:
    if dead_letters:
        first = dead_letters[0]
        where = f"{first.topic}, record {first.offset}"
        more = f", and {len(dead_letters) - 1} more" if len(dead_letters) > 1 else ""
        remedy = f"{first.detail} ({first.reason.value}){more}; correct the record or leave it out"
        raise EventFileError("events", where, remedy)


def _rows(table: pa.Table) -> Iterator[dict[str, object]]:
    for batch in table.to_batches():
        for row in batch.to_pylist():
            yield {**row, "attributes": dict(row["attributes"])}
