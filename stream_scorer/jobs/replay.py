"""`stream-scorer replay`: past events through today's code.

Three ways, none of which touches the live group or namespace:
with cut-offs   labelled snapshots. Events are put in order of time and folded by the same code; at
                each cut-off every customer seen so far becomes a row: its vector from the events
                before it, its labels from those at or after it, within the horizon. Customers also
                become rows just after some of their events, and as a refresh scores them, where
                that is asked for. All events are held in memory, about 150 bytes each.
without         propensities. `live/store_fold.py` folds the events into a store in memory; then
                every customer is scored as of its newest event, which is what the compacted output
                topic would hold. Scoring at the end, in the order of customer ids, makes the file
                independent of how the stream was cut into batches. Memory is by customers, and with
                a trend (past/daily_trend.py) by days and categories.
into Redis      a new namespace is built by the same code, with watermarks, so that `run` goes on
                from there. Repeating it is safe: what is stored is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_scorer.core.events.batch import EventBatch, TopicPartition, concatenate_events
from stream_scorer.core.events.refused import Refused
from stream_scorer.core.features import csr
from stream_scorer.core.features.ignored_values import IgnoredValues, ignored_values
from stream_scorer.core.features.keys import EventColumns, event_type_counts
from stream_scorer.core.labels.as_of import KnownEvents
from stream_scorer.core.labels.cutoffs import rows_at_cutoffs
from stream_scorer.core.labels.labels import LabelCollector
from stream_scorer.core.labels.sampled_moments import EVENT, QUIET, MomentCounts, counted
from stream_scorer.core.propensities import published_in_full
from stream_scorer.core.trend import contrast_count, refuse_days
from stream_scorer.errors import EventFileError, InputError
from stream_scorer.io.files.propensities import PropensityWriter
from stream_scorer.io.files.snapshot_info import LeftOut, SnapshotInfo
from stream_scorer.io.files.snapshot_writer import SnapshotWriter, refuse_existing
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.redis_memory import EvictionWatch
from stream_scorer.live.consumer import open_store
from stream_scorer.live.counting_rules import bind_rules
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine, score_chosen
from stream_scorer.past.daily_trend import DailyTrend
from stream_scorer.past.namespaces import build_namespace
from stream_scorer.past.replayed import (
    LabelledSnapshot,
    RebuiltNamespace,
    ReplayedPropensities,
)
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.past.sources import (
    MissingHistory,
    PastEvents,
    open_past,
    refuse_unfinished,
    refuse_without_rows,
    stopping,
    valid_batches,
)
from stream_scorer.past.vectors import BATCH_RECORDS, PastFold
from stream_scorer.past.whole_log import WholeLog
from stream_scorer.progress import progress
from stream_scorer.runtime import Threads, usable_cores
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place

REDIS_BATCH_RECORDS = 10_000
SCORED_ROWS = 4096


@dataclass(frozen=True)
class Window:
    """from_ms inclusive, to_ms exclusive: record time of a topic, occurred_at of files.

    missing_history: what to do where the topic no longer holds all of it.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    missing_history: MissingHistory = "refuse"


EVERYTHING = Window()


def replay(
    settings: Settings,
    sources: Sequence[str | Path],
    out: Place,
    rows: Sequence[int] | RowsAsked,
    window: Window = EVERYTHING,
    threads: int = 0,
) -> LabelledSnapshot:
    """A labelled snapshot in the new directory `out`.

    rows: cut-offs in ms, at each of which every known customer becomes a row, or more than that.
    Raises SnapshotError where `out` exists, and InputError where a kind that is asked for has no
    row, or where the events end before the last row's horizon does: its labels would be too few.
    """
    asked = rows if isinstance(rows, RowsAsked) else RowsAsked.of(rows)
    started = time.monotonic()
    refuse_existing(out)  # before the events are read, which may take long
    space, rule = settings.feature_space(), settings.label_rule()
    span = asked.span_ms()
    if span is not None:
        refuse_days(space, *span)
    refused, ignored = stopping(settings), IgnoredValues()
    with _opened(settings, sources, window, BATCH_RECORDS) as past:
        # All at once, because cut-offs need the events of before and after them in order of time.
        events, log = _read(settings, past, refused, ignored)
        offsets = _source_offsets({tp: end for tp, (_, end) in past.ranges.items()})
    # Of everybody, so that a sample of customers has the moments that the whole has.
    first_event_ms, last_event_ms = log.first_ms or 0, log.last_ms or 0
    if span is not None:
        refuse_without_rows(int(events.occurred_at_ms[0]), span[1])
        refuse_unfinished(last_event_ms, span[1], rule.horizon_ms, refused)
    labels = LabelCollector(rule, space.vocabularies[rule.by])
    labels.add(events)
    left_out = LeftOut.by(refused, ignored.found(space.vocabularies))
    info = SnapshotInfo(
        space, rule.by, rule, offsets, left_out=left_out,
        event_types=event_type_counts(EventColumns(events)),
        customer_sample=settings.customer_sample,
    )  # fmt: skip
    memory, workers = settings.memory(), Threads(threads or usable_cores())
    known, sample = None, None
    if asked.samples:
        known = KnownEvents.of(events, events.occurred_at_ms, memory)
        moments = asked.moments(first_event_ms, last_event_ms, rule.horizon_ms)
        refuse_days(space, moments.from_ms, moments.to_ms)
        sample = asked.sample(moments, counted(known, moments))
    written = MomentCounts(0, 0, 0)
    with SnapshotWriter(out, info) as writer:
        if asked.at_cutoffs:
            weight = sample.weights[0] if sample is not None else 1.0
            with progress("cut-offs", len(asked.cutoffs_ms)) as meter:
                for part in rows_at_cutoffs(
                    events, space, labels, asked.cutoffs_ms,
                    memory=memory, workers=workers, weight=weight,
                ):  # fmt: skip
                    written = written.plus(MomentCounts(len(part), 0, 0))
                    if len(part):
                        writer.write(part)
                    meter.advance(1)
        if known is not None and sample is not None:
            with progress("rows between") as meter:
                for part in sample.rows(known, space, labels):
                    kinds = sample.kinds(part.as_of_ms)
                    of_kinds = ((kinds == kind).sum() for kind in (EVENT, QUIET))
                    written = written.plus(MomentCounts(0, *map(int, of_kinds)))
                    writer.write(part)
                    meter.advance(len(part))
        writer.finish(asked.written(written, sample), log.daily_counts)
    return LabelledSnapshot(
        events=len(events),
        dead_letters=refused.by_reason(),
        refused=tuple(refused.first),
        rows=sum(written),
        cutoffs=len(asked.cutoffs_ms),
        event_rows=written.event_moments,
        quiet_rows=written.quiet_moments,
        out=str(out),
        seconds=round(time.monotonic() - started, 3),
        refusals=left_out.refusals,
        ignored_values=left_out.ignored_values,
        ignored_events=refused.ignored_events,
        erased_events=refused.erased_events,
        outside_window=refused.outside_window,
        sample_customers=settings.customer_sample.in_manifest,
        sampled_out_events=log.left_out,
    )


def propensities(
    settings: Settings,
    sources: Sequence[str | Path],
    out: Place,
    window: Window = EVERYTHING,
    batch_records: int = BATCH_RECORDS,
    threads: int = 0,
) -> ReplayedPropensities:
    """Each customer's newest propensities in the new directory `out`.

    batch_records: how many records are folded at once; the result does not depend on it. Raises
    ArtefactError and FingerprintMismatch for a model that does not fit the settings, and InputError
    where the days of a trend do not fit into memory.
    """
    started = time.monotonic()
    space = settings.feature_space()
    loaded = artefact.load(settings.model.path, space.fingerprint)
    engine = open_engine(loaded, settings.model.engine)
    policy = settings.publish_policy()
    store = MemoryStore(space.fingerprint)
    every = policy.mode == "all"
    per_category = 1 if engine.classes == 2 else engine.classes
    width = per_category * len(engine.categories) if every else None
    with PropensityWriter(out, engine.categories, width) as writer:
        with _opened(settings, sources, window, batch_records) as past:
            days = DailyTrend(space) if contrast_count(space) else None
            fold = PastFold(settings, past, store, threads or usable_cores(), days=days)
            fold.run()
        partitions = fold.sources
        if days is not None:
            newest_ms = [states.arrays.newest_ms for states in store.scan(SCORED_ROWS)]
            first_ms, last_ms = (min(map(np.min, newest_ms)), max(map(np.max, newest_ms)))
            engine.use_trend(days.table(int(first_ms), int(last_ms)))
        with progress("scoring", len(store)) as meter:
            for states in store.scan(SCORED_ROWS):
                matrix = csr.build(states, space, states.arrays.newest_ms)
                if every:
                    writer.write(states, partitions, published_in_full(engine.score(matrix)))
                else:
                    writer.write(states, partitions, score_chosen(engine, matrix, policy))
                meter.advance(len(states))
        writer.finish(
            {
                "model_version": engine.model_version,
                "fingerprint": space.fingerprint_hex,
                "categories": list(engine.categories),
                "classes": engine.classes,
                "mode": policy.mode,
                "source_offsets": _source_offsets(fold.next_offsets),
                **fold.counts().as_json(),
            }
        )
    return ReplayedPropensities(
        counts=fold.counts(),
        dead_letters=fold.refused.by_reason(),
        refused=tuple(fold.refused.first),
        customers=writer.rows,
        bytes_per_customer=round(store.resident_bytes / max(len(store), 1)),
        out=str(out),
        stages=fold.seconds,
        seconds=round(time.monotonic() - started, 3),
        refusals=fold.refused.refusals(),
        ignored_values=fold.ignored.found(space.vocabularies),
    )


def rebuild(
    settings: Settings,
    sources: Sequence[str | Path],
    namespace: str,
    window: Window = EVERYTHING,
    threads: int = 0,
) -> RebuiltNamespace:
    """Build `namespace` in Redis, with watermarks from which `run` goes on.

    Raises InputError where it is the configured one, and FingerprintMismatch where it holds
    vectors of another declaration.
    """
    started = time.monotonic()
    if namespace == settings.store.namespace:
        remedy = "is store.namespace, which the live consumer writes; name a new one"
        raise InputError("--into", namespace, remedy)
    try:
        named = type(settings.store)(**{**settings.store.model_dump(), "namespace": namespace})
    except ValueError:
        remedy = "use letters, digits, dots, dashes and underscores only"
        raise InputError("--into", namespace, remedy) from None
    named_settings = settings.model_copy(update={"store": named})
    store = open_store(named_settings, space := settings.feature_space())
    evictions = EvictionWatch(store.server, allowed=settings.redis.allow_eviction)
    evictions.refuse()
    bind_rules(store, settings)
    if settings.erased_customers:
        # Before any event: the namespace's own records leave these customers out from now on.
        Erasures(store.server, namespace, space.fingerprint).add(settings.erased_customers)
    with _opened(settings, sources, window, REDIS_BATCH_RECORDS) as past:
        fold = build_namespace(named_settings, past, store, threads or usable_cores())
        evictions.evicted()
    return RebuiltNamespace(
        counts=fold.counts(),
        dead_letters=fold.refused.by_reason(),
        refused=tuple(fold.refused.first),
        namespace=namespace,
        fingerprint=space.fingerprint_hex,
        source_offsets=_source_offsets({tp: end for tp, (_, end) in past.ranges.items()}),
        stages=fold.seconds,
        seconds=round(time.monotonic() - started, 3),
        refusals=fold.refused.refusals(),
        ignored_values=fold.ignored.found(space.vocabularies),
    )


def _opened(
    settings: Settings,
    sources: Sequence[str | Path],
    window: Window,
    batch_records: int,
) -> AbstractContextManager[PastEvents]:
    return open_past(
        settings, [str(s) for s in sources], batch_records=batch_records,
        from_ms=window.from_ms, to_ms=window.to_ms, missing_history=window.missing_history,
    )  # fmt: skip


def _source_offsets(ends: dict[TopicPartition, int]) -> dict[str, dict[str, int]]:
    offsets: dict[str, dict[str, int]] = {}
    for (topic, partition), end in sorted(ends.items()):
        offsets.setdefault(topic, {})[str(partition)] = end
    return offsets


def _read(
    settings: Settings, past: PastEvents, refused: Refused, ignored: IgnoredValues
) -> tuple[EventBatch, WholeLog]:
    """All valid events of the sample's customers in order of time, those of one moment as they
    came, and what is known of everybody's."""
    parts = []
    space, also = settings.feature_space(), settings.label_rule().looks_at()
    log = WholeLog(space, settings.customer_sample)
    with progress("reading events", past.most_records) as meter:
        for batch in valid_batches(settings, past, refused):
            events = log.sampled(batch.events)
            ignored.add(ignored_values(space, EventColumns(events), also))
            parts.append(events)
            meter.advance(len(batch), past.expected_records())
    log.refuse_empty_sample()
    if not sum(map(len, parts)):
        raise EventFileError("events", past.name, refused.nothing_left())
    events = concatenate_events(parts)
    return events.take(np.argsort(events.occurred_at_ms, kind="stable")), log
