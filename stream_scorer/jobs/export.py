"""`stream-scorer export`: a snapshot of all vectors in the live store.

How it works, in two passes, neither of which blocks the server:
1. SCAN lists the customers' ids, partitioned by hash into lists on disk, one part for each shard. A
   customer that SCAN gives twice is twice in one part, and once in its shard. Of a sample of
   customers only those are listed, and so no other record is read.
2. Several threads write shards: a part's records are read in pages of `PAGE` (MGET) in order of
   the ids, and become rows. On one server SCAN can't be split, but reading and packing can.
Memory is one flush of ids, then one part's ids and one row group for each thread, however many
customers there are. What is done is kept beside OUT (resumable_snapshot.py): after an
interruption the same command resumes from there.

A customer is written as its record stands when its page is read, which is whole and exact as of the
record's own offsets. `source_offsets`, the watermarks before the first record was read, are what
every record has; `source_offsets_end` is past what any has. A row's as-of time is the one asked
for, or 1 ms after the customer's newest event. A customer with an event at or after the time asked
for can't be shown as of then, and is left out and counted; so is one whose time to live was over by
then, whether Redis has removed the record or not. No labels are known yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xxhash

from stream_scorer.core.customer_sample import CustomerSample
from stream_scorer.core.features import csr
from stream_scorer.core.features.erasure import erased_and_gone
from stream_scorer.core.features.fold_plan import Memory
from stream_scorer.core.features.forgetting import is_forgotten
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates, take, topic_hash
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import TrendTable, contrast_count, day_of, refuse_days
from stream_scorer.core.trend_record import TrendPlan, oldest_day, shop_table
from stream_scorer.errors import SnapshotError, StoreUnavailable
from stream_scorer.io.files.customer_lists import CustomerLists, Part
from stream_scorer.io.files.resumable_snapshot import UnfinishedSnapshot
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_writer import ROWS_PER_SHARD
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.live.consumer import open_store
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.runtime import usable_cores
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place

MOST_PARTITIONS = 1024  # of the input topic, whose watermarks are asked for
PAGE = 1_000  # records of one MGET: about 2 ms of the server
THREADS = min(usable_cores(), 4)
MOST_BUCKETS = 1_024
Offsets = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Exported(Result):
    """later: customers left out because of later events. forgotten: customers left out because
    their time to live was over by then. ignored_customers: whose events are to be ignored, with
    vectors from before. shards_before: those of earlier runs. erased_customers: left out, since
    they were forgotten on request and did nothing since. sample_customers: the share of customers
    that was asked for, null where it is everybody."""

    rows: int
    later: int
    forgotten: int
    ignored_customers: int
    shards: int
    shards_before: int
    out: str
    seconds: float
    early_trend_days: int = 0
    erased_customers: int = 0
    sample_customers: str | None = None


def export(
    settings: Settings, out: Place, as_of_ms: int | None, *, rows_per_shard: int = ROWS_PER_SHARD
) -> Exported:
    """Write the new snapshot `out` of all customers, or resume an interrupted one.

    as_of_ms: the moment of every row; None: 1 ms after each customer's newest event. Raises
    SnapshotError where an unfinished export can't be resumed, and StoreUnavailable.
    """
    started = time.monotonic()
    space = settings.feature_space()
    store = open_store(settings, space)
    store.claim()
    topic = settings.kafka.input_topic
    asked = {
        "fingerprint": space.fingerprint_hex, "store": settings.redis.shown_url,
        "namespace": settings.store.namespace, "input_topic": topic,
        "label_field": settings.labels.by, "as_of_ms": as_of_ms,
        # Both decide which customers are left out, so the shards of two runs would not agree.
        "time_to_live_seconds": settings.store.time_to_live_seconds,
        "ignored_customer_ids": _digest(settings.events.ignored_customer_ids),
        "sample_customers": settings.customer_sample.in_manifest,
    }  # fmt: skip
    sample = settings.customer_sample
    count, run = store.count(), store.server_run()
    # Before anything is read: what is written later holds at least these offsets.
    now = _watermarks(store, topic)
    found = {"source_offsets": now, "server_run": run}
    with UnfinishedSnapshot(out, asked, found) as unfinished:
        # The shards before would hold events that the store has lost since.
        _refuse_older_store(out, unfinished.found["source_offsets"][topic], now[topic])
        # Eight lists for each shard, so that parts of about equal size can be put together.
        buckets = min(max(8 * int(count * sample.share) // rows_per_shard, 1), MOST_BUCKETS)
        lists = CustomerLists(unfinished.lists, buckets)
        if lists.cursor is not None:
            # A cursor means nothing to another server, and without an id each may be another.
            if not run or unfinished.found["server_run"] != run:
                lists.begin_again()
            _list(store, lists, count, sample)
        parts = lists.parts(rows_per_shard)
        with progress("exporting", len(lists)) as meter:
            advancing = threading.Lock()

            def advance(customers: int) -> None:
                with advancing:
                    meter.advance(customers)

            memory = settings.memory()
            ignored = frozenset(settings.events.ignored_customer_ids)
            shards = _Shards(
                store, space, topic, as_of_ms, memory, ignored, unfinished, lists, advance
            )
            _in_threads([partial(shards.write, number, part) for number, part in enumerate(parts)])
        # Shards read from a store that went back meanwhile would lack events.
        _refuse_older_store(out, now[topic], _watermarks(store, topic)[topic])
        notes = [unfinished.done[number]["notes"] for number in range(len(parts))]
        info = SnapshotInfo(
            space, settings.labels.by, None, unfinished.found["source_offsets"],
            {topic: _ends(notes)}, customer_sample=sample,
        )  # fmt: skip
        found_ms = [moment for n in notes for moment in n["as_of_ms"]]
        moments = sorted({min(found_ms), max(found_ms)} if found_ms else [])
        table, early_days = _trend(settings, store, moments)
        rows = unfinished.finish(info, moments, table)
    return Exported(
        rows=rows,
        later=sum(n["later"] for n in notes),
        forgotten=sum(n.get("forgotten", 0) for n in notes),
        ignored_customers=sum(n.get("ignored", 0) for n in notes),
        shards=len(parts),
        shards_before=unfinished.shards_before,
        out=str(out),
        seconds=round(time.monotonic() - started, 3),
        early_trend_days=early_days,
        erased_customers=sum(n.get("erased", 0) for n in notes),
        sample_customers=sample.in_manifest,
    )


def _trend(
    settings: Settings, store: RedisStore, moments: Sequence[int]
) -> tuple[TrendTable | None, int]:
    """The shop's trend of the days from the first of these moments (ascending) to the last, as the
    store's records know it; and how many of these days lie before the oldest that they know, and
    have its trend. None and 0 where none is declared. Raises StoreUnavailable and InputError."""
    space = settings.feature_space()
    plan = TrendPlan.of(space)
    if plan is None:
        return None, 0
    if not moments:
        return TrendTable(0, np.zeros((0, contrast_count(space), plan.words), np.float32)), 0
    refuse_days(space, moments[0], moments[-1])
    trends = TrendStore(store.server, settings.store.namespace, plan)
    records = list(trends.load(trends.partitions()).values())
    first, last = day_of(moments[0]), day_of(moments[-1])
    early = min(max(oldest_day(records) - first, 0), last - first + 1)
    return shop_table(plan, records, first, last), early


def in_words(done: Exported) -> list[str]:
    """The result for people."""
    lines = [f"{done.rows:,} customers to {done.out} in {done.seconds:.1f} s"]
    if done.sample_customers is not None:
        lines.append(f"these are {done.sample_customers} of customers, chosen by a hash of the id")
    if done.shards_before:
        lines.append(
            f"{done.shards_before} of {done.shards} shards were there from an interrupted export"
        )
    if done.early_trend_days:
        lines.append(
            f"the rows of {done.early_trend_days:,} days have the shop's trend of the oldest day "
            "that the store knows, a week before its newest events; --as-of makes rows of one "
            "moment"
        )
    if done.later:
        lines.append(f"{done.later:,} left out: they have events at or after --as-of")
    if done.ignored_customers:
        lines.append(
            f"{done.ignored_customers:,} left out: they are in events.ignored_customer_ids"
        )
    if done.erased_customers:
        lines.append(f"{done.erased_customers:,} left out: they were forgotten on request")
    if done.forgotten:
        lines.append(
            f"{done.forgotten:,} left out: forgotten by --as-of (store.time_to_live_seconds)"
        )
    return lines


class _Shards:
    """Writes the shards of one export; `write` may be called from several threads."""

    def __init__(
        self, store: RedisStore, space: FeatureSpace, topic: str, as_of_ms: int | None,
        memory: Memory, ignored: frozenset[str], unfinished: UnfinishedSnapshot,
        lists: CustomerLists, advance: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._store, self._space, self._as_of_ms, self._memory = store, space, as_of_ms, memory
        self._topic, self._unfinished, self._lists = topic_hash(topic), unfinished, lists
        self._advance, self._ignored = advance, ignored

    def write(self, number: int, part: Part, stopped: threading.Event) -> None:
        """Shard `number` from the customers of `part`, unless it is there already."""
        if number in self._unfinished.done:
            self._advance(self._lists.count(part))
            return
        ids = self._lists.ids(part)
        notes = _Notes()
        shard = self._unfinished.new_shard(number)
        try:
            for start in range(0, len(ids), PAGE):
                if stopped.is_set():
                    return
                page = ids[start : start + PAGE]
                there = [i for i in page if i not in self._ignored]
                notes.ignored += len(page) - len(there)
                states = self._store.load(there)
                notes.erased += int(erased_and_gone(states).sum())
                states = _present(states)
                if self._as_of_ms is not None:
                    newest_ms = states.arrays.newest_ms
                    gone = is_forgotten(newest_ms, self._as_of_ms, self._memory)
                    notes.forgotten += int(gone.sum())
                    states = take(states, np.flatnonzero(~gone))
                rows = _rows(states, self._space, self._as_of_ms)
                notes.take_in(states, rows, self._topic)
                shard.write(rows)
                self._advance(len(page))
            self._unfinished.keep(number, shard, notes.plain())
        except OSError as error:
            raise self._unfinished.unwritable(error) from None
        finally:
            shard.abandon()


class _Notes:
    """What the manifest needs to know of a shard's rows."""

    def __init__(self) -> None:
        self._later = self.forgotten = self.ignored = self.erased = 0
        self._as_of: set[int] = set()
        self._ends: dict[int, int] = {}

    def take_in(self, states: CustomerStates, rows: LabelledRows, topic: int) -> None:
        """A page: all its states, and the rows made of those that are not too new."""
        self._later += len(states) - len(rows)
        if len(rows):
            self._as_of |= {int(rows.as_of_ms.min()), int(rows.as_of_ms.max())}
            # Only the ends are needed: millions of customers have millions of moments of their own.
            self._as_of = {min(self._as_of), max(self._as_of)}
        a = states.arrays
        ours = a.source_topic == topic
        for partition in np.unique(a.source_partition[ours]).tolist():
            newest = int(a.source_offset[ours & (a.source_partition == partition)].max())
            self._ends[partition] = max(self._ends.get(partition, 0), newest + 1)

    def plain(self) -> dict[str, Any]:
        """JSON-able."""
        ends = {str(p): offset for p, offset in self._ends.items()}
        moments = sorted(self._as_of)
        return {
            "later": self._later, "forgotten": self.forgotten, "ignored": self.ignored,
            "erased": self.erased, "as_of_ms": moments, "ends": ends,
        }  # fmt: skip


def _present(states: CustomerStates) -> CustomerStates:
    """Without those that were erased, or deleted since they were listed."""
    # SCAN may list an id whose record has reached its time to live since.
    return take(states, np.flatnonzero(states.arrays.newest_ms != NEVER))


def _rows(states: CustomerStates, space: FeatureSpace, as_of_ms: int | None) -> LabelledRows:
    """Rows without labels of those customers that have no event at or after `as_of_ms`."""
    if as_of_ms is not None:
        states = take(states, np.flatnonzero(states.arrays.newest_ms < as_of_ms))
        as_of = np.full(len(states), as_of_ms, np.int64)
    else:
        as_of = states.arrays.newest_ms + 1
    nothing = np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    indptr = np.zeros(len(states) + 1, np.int64)
    matrix = csr.build(states, space, as_of)
    return LabelledRows(states.customer_ids, as_of, matrix, indptr, *nothing)


def _digest(ids: Iterable[str]) -> str:
    """A few characters that change where the ids do; there may be a great many."""
    return xxhash.xxh64_hexdigest("\n".join(sorted(ids)).encode())


def _watermarks(store: RedisStore, topic: str) -> Offsets:
    marks = store.watermarks([(topic, p) for p in range(MOST_PARTITIONS)])
    return {topic: {str(p): offset for (_, p), offset in marks.items()}}


def _ends(notes: Iterable[dict[str, Any]]) -> dict[str, int]:
    """For each partition, past the newest event in any shard."""
    ends: dict[str, int] = {}
    for one in notes:
        for partition, end in one["ends"].items():
            ends[partition] = max(ends.get(partition, 0), end)
    return dict(sorted(ends.items(), key=lambda item: int(item[0])))


def _refuse_older_store(out: Place, then: dict[str, int], now: dict[str, int]) -> None:
    """Raises SnapshotError where the store has less than the first run saw: it was replaced."""
    for partition, offset in then.items():
        if now.get(partition, -1) < offset:
            remedy = (
                f"an unfinished export is there, begun when the store had partition {partition} up "
                f"to offset {offset}, and now it has it up to {now.get(partition)}: the store was "
                "restored or built anew since; "
                f"delete {out.parent / f'.{out.name}.unfinished'} to start over"
            )
            raise SnapshotError("snapshot", out, remedy)


def _list(store: RedisStore, lists: CustomerLists, expected: int, sample: CustomerSample) -> None:
    with progress("listing", int(expected * sample.share)) as meter:
        for ids, cursor in store.customer_pages(lists.cursor or 0, PAGE):
            lists.add(
                [i for i, there in zip(ids, sample.contains(ids), strict=True) if there], cursor
            )
            meter.at(len(lists))
        meter.at(len(lists), len(lists))


def _in_threads(tasks: list[Callable[[threading.Event], None]]) -> None:
    """All of them; the first error stops the others at their next page and is raised."""
    stopped = threading.Event()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for done in as_completed([pool.submit(task, stopped) for task in tasks]):
                done.result()
        except StoreUnavailable as error:
            remedy = "the same command goes on where this one stopped"
            raise StoreUnavailable(f"{error}; {remedy}") from error
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
