"""`stream-scorer verify`: are the vectors in Redis what the events say they should be?

N customers are drawn by a seeded hash of their ids. Watermarks are read first, then the customers'
records, then the topic, so the topic holds all that the records may contain. Its events are folded
by the code that the consumer folds with (past/recomputation.py) and must give the stored record bit
for bit. Where event files were replayed into the namespace before the topic, these are given too,
by the same paths and window, and folded first. Customers whose events are not all there, or no
longer, can't be checked and are counted as unverifiable.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.record_keys import KEY_REMEDY, SPLIT_REMEDY
from stream_scorer.core.features.parity import Difference, differences
from stream_scorer.core.features.state import split_customers, take
from stream_scorer.core.trend_record import TrendPlan, TrendRecord
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.live.consumer import clock_ms, open_store
from stream_scorer.live.counting_rules import changed_rules
from stream_scorer.live.erased_samples import count_samples
from stream_scorer.past.brought_back import brought_back
from stream_scorer.past.recomputation import (
    Extent,
    Recomputation,
    drawn_customers,
    verifiable,
)
from stream_scorer.past.sources import TOPIC, PastEvents, open_past
from stream_scorer.past.trend_recomputation import TrendRecomputation
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings

BATCH_RECORDS = 50_000
LISTED = 1000


@dataclass(frozen=True)
class Verification(Result):
    """ok: something was checked, and nothing differs. Counts are of customers, but for `events`
    and `foreign_keys`.

    absent: they have events but no record, and so are counted in `different` too. unverifiable:
    events of theirs are in neither topic nor files, or no longer. differences: the first `LISTED`.
    foreign_keys: the topic's events with another key than the customer id. split_customers: those
    with events from two partitions. changed_rules: settings that say which events count, where the
    namespace was read with others as well. None of these makes `ok` false, as vectors can still be
    right.
    trends_checked, trends_unverifiable: records of the shop's trend, one a partition, that were
    compared and that could not be; trend_differences: what differs, which makes `ok` false.
    forgotten_on_request: customers of `customer forget`; all of their records were looked at, and
    one that came back is a difference. drift_samples_of_forgotten: scores and actions that were
    sampled of them up to then and are still stored, which makes `ok` false.
    """

    ok: bool
    checked: int
    different: int
    absent: int
    unverifiable: int
    events: int
    foreign_keys: int
    split_customers: int
    seed: int
    differences: tuple[Difference, ...]
    seconds: float
    changed_rules: tuple[str, ...] = ()
    trends_checked: int = 0
    trends_unverifiable: int = 0
    trend_differences: tuple[str, ...] = ()
    forgotten_on_request: int = 0
    drift_samples_of_forgotten: int = 0


def verify(
    settings: Settings,
    sample: int,
    seed: int | None,
    files: Sequence[str | Path] = (),
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> Verification:
    """Compare `sample` customers (0: all) of the store with the topic, and `files` before it.

    seed: draws the same customers again; None: by the clock. files, from_ms, to_ms: as they were
    given to the replay that began the namespace. Raises Unavailable where a server is away,
    FingerprintMismatch where the store is of another declaration, EventFileError.
    """
    started = time.monotonic()
    seed = clock_ms() if seed is None else seed
    space = settings.feature_space()
    store = open_store(settings, space)
    store.claim()
    with _topic(settings) as past:
        partitions = list(past.ranges)
        # Before the records: a record may be ahead of the mark, and never behind it.
        marks, starts = store.watermarks(partitions), store.starts(partitions)
        trends = _trends(settings, store)
        # What is stored of ignored customers is from before they were ignored.
        ignored = set(settings.events.ignored_customer_ids)
        ids = [i for page in store.customer_ids() for i in page if i not in ignored]
    drawn = drawn_customers(ids, sample, seed)
    stored = store.load(drawn.ids)
    # Opened again: what the records hold by now lies before the ends of now.
    with _topic(settings) as topic, _files(settings, files, from_ms, to_ms) as replayed:
        pasts = [*replayed, topic]
        extent = Extent.of(pasts, starts, marks)
        known, unverifiable = verifiable(stored, extent)
        counting = TrendRecomputation(space, trends, starts)
        recompute = Recomputation(
            settings, space, take(stored, known), extent, pasts, drawn, counting
        )
        recompute.run()
    forgets = settings.memory().time_to_live_ms > 0
    found = differences(recompute.stored, recompute.states(), space, forgets=forgets)
    absent = recompute.absent(clock_ms())
    found += absent
    listed = Erasures(store.server, settings.store.namespace, space.fingerprint).listed()
    found += brought_back(store, listed)
    drift = DriftStore(store.server, settings.store.namespace)
    samples = count_samples(drift, settings, listed, clock_ms()).samples
    different = {d.customer_id for d in found}
    compared = counting.compared(extent.firsts)
    return Verification(
        ok=bool(len(known)) and not found and not compared.differences and not samples,
        checked=len(known),
        different=len(different),
        absent=len(absent),
        unverifiable=unverifiable,
        events=recompute.events,
        foreign_keys=recompute.foreign_keys,
        split_customers=split_customers(stored),
        seed=seed,
        differences=tuple(found[:LISTED]),
        seconds=round(time.monotonic() - started, 3),
        changed_rules=changed_rules(store, settings),
        trends_checked=compared.checked,
        trends_unverifiable=compared.unverifiable,
        trend_differences=compared.differences,
        forgotten_on_request=len(listed),
        drift_samples_of_forgotten=samples,
    )


def _trends(settings: Settings, store: RedisStore) -> dict[TopicPartition, TrendRecord]:
    """The stored records of the shop's trend; none where the declaration has none."""
    plan = TrendPlan.of(settings.feature_space())
    if plan is None:
        return {}
    trends = TrendStore(store.server, settings.store.namespace, plan)
    return trends.load(trends.partitions())


@contextmanager
def _files(
    settings: Settings, files: Sequence[str | Path], from_ms: int | None, to_ms: int | None
) -> Iterator[list[PastEvents]]:
    """The event files, as a replay with this window reads them; nothing where none are given."""
    if not files:
        yield []
        return
    paths = [str(file) for file in files]
    with open_past(
        settings, paths, batch_records=BATCH_RECORDS, from_ms=from_ms, to_ms=to_ms
    ) as past:
        yield [past]


def _topic(settings: Settings) -> AbstractContextManager[PastEvents]:
    # Customers whose events are gone are counted as unverifiable, so the rest may be read.
    return open_past(settings, [TOPIC], batch_records=BATCH_RECORDS, missing_history="ignore")


def in_words(result: Verification, shown: int = 20) -> list[str]:
    """The result for people, with the first `shown` differences."""
    lines = [
        f"{d.customer_id}: {d.what}: {d.stored} stored, {d.recomputed} recomputed"
        for d in result.differences[:shown]
    ]
    if len(result.differences) > shown:
        lines.append("... and more; --json lists them")
    lines.append(
        f"{result.checked:,} customers recomputed from {result.events:,} events in "
        f"{result.seconds:.1f} s: {result.different:,} differ"
    )
    if result.trends_checked or result.trends_unverifiable:
        lines.append(
            f"the shop's trend: records of {result.trends_checked:,} partitions recomputed, "
            f"{len(result.trend_differences):,} differ"
        )
        lines += result.trend_differences
    if result.trends_unverifiable:
        lines.append(
            f"{result.trends_unverifiable:,} records of the trend could not be checked: some of "
            "their events are not, or no longer, in the topic"
        )
    lines += result.changed_rules
    if result.forgotten_on_request:
        lines.append(
            f"{result.forgotten_on_request:,} customers were forgotten on request; all of their "
            "records were looked at"
        )
    if result.drift_samples_of_forgotten:
        lines.append(
            f"{result.drift_samples_of_forgotten:,} samples for drift of them are still stored: "
            "make the request again"
        )
    if result.absent:
        lines.append(f"{result.absent:,} of them have events but no record in the store")
    if result.unverifiable:
        lines.append(
            f"{result.unverifiable:,} could not be checked: some of their events are not, or no "
            "longer, in the topic; name the event files that were replayed into the namespace"
        )
    if result.foreign_keys:
        lines.append(
            f"{result.foreign_keys:,} events of the topic have another key than the customer id: "
            f"{KEY_REMEDY}"
        )
    if result.split_customers:
        lines.append(
            f"{result.split_customers:,} customers have events in two partitions: {SPLIT_REMEDY}"
        )
    return lines
