"""The shop's trend as this member scores with it: the sum of all partitions' records, as a table.

All members read all records: when a batch is of a later day than any before, again half a minute
later, by when members that were behind have saved theirs, and every few minutes. Records of the
partitions that this member reads itself are taken from its memory. Between two readings a partition
of another member is as it was then, which moves a contrast by little: a whole day's age costs
nothing that could be measured.

Records say nothing of days before their oldest one (`oldest_day`), a week before their newest.
Customers scored as of an earlier day, such as those whose only event came very late, get the
contrasts of the oldest day; they are counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Int64, TopicPartition
from stream_scorer.core.features.space import DAY_MS, FeatureSpace
from stream_scorer.core.features.state import NEVER
from stream_scorer.core.trend import TrendTable
from stream_scorer.core.trend_record import TrendPlan, TrendRecord, oldest_day, shop_table
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.trend_keeper import TrendKeeper

READ_SECONDS = 300.0  # from one reading of all records to the next
NEW_DAY_SECONDS = 30.0  # and after the first batch of a new day
LEAST_SECONDS = 5.0  # not more often, where a consumer that catches up goes through days in seconds
RECORDS_AT_ONCE = 16  # about 10 ms; events wait
BEHIND_DAYS = 3  # a partition so far behind the newest one is logged
# Events of years ago are read while the clock says today: a table need not have all days between.
MOST_DAYS = 1_000

log = logging.getLogger(__name__)


class ShopTrend:
    """Tables for one consumer. Not thread-safe.

    keeper: of the partitions that it reads. topic: the input topic. clock_ms: now, in ms since 1970
    UTC. early_rows: rows that were published as of a day before the oldest known one.
    """

    def __init__(
        self, store: TrendStore, keeper: TrendKeeper, topic: str, clock_ms: Callable[[], int]
    ) -> None:
        self._store, self.keeper, self._topic = store, keeper, topic
        self._clock_ms = clock_ms
        self._stored: dict[TopicPartition, TrendRecord] = {}
        self._table: TrendTable | None = None
        self._is_cut = False  # whether the table lacks days that the records know
        self._made_of = -1  # the newest day with events then, of this member's partitions
        self._wanted: list[TopicPartition] = []  # still to be read, of a reading that has begun
        self._found: dict[TopicPartition, TrendRecord] = {}
        self._read_at = self._read_last = float("-inf")
        self._complaint, self._behind = "", frozenset[TopicPartition]()
        self.early_rows = 0
        self._early_rows_shown = 0

    def read(self) -> None:
        """Read all records. Raises StoreUnavailable and InputError."""
        self._wanted, self._found = self._store.partitions(), {}
        while self._wanted:
            self._read_some()
        self._take()

    def table(self, as_of_ms: Int64, *, published: bool = True) -> TrendTable:
        """One that has the days of as_of_ms (B,), but for those before the oldest known day.

        published: whether what is scored with it as of these moments is. Where Redis does not
        answer, from what was read last.
        """
        days = as_of_ms // DAY_MS if len(as_of_ms) else np.array([self._clock_ms() // DAY_MS])
        last = int(days.max())
        table = self._table
        if (
            table is None
            or last > table.last_day
            or (self._is_cut and last < table.first_day)
            or self._newest_day() > self._made_of
        ):
            now = time.monotonic()
            if now >= self._read_last + LEAST_SECONDS:
                self._quietly(self.read)
            self._table = self._made(last, last if table is None else table.last_day)
            self._read_at = min(self._read_at, now + NEW_DAY_SECONDS)
        assert self._table is not None
        if published:
            self.early_rows += int((days < self._table.first_day).sum())
        return self._table

    def check(self, metrics: Metrics) -> None:
        """Between two micro-batches: save and read what is due, some milliseconds of it, and say
        how the records are. Never raises."""
        self.keeper.save_due()
        if self._wanted or time.monotonic() >= self._read_at:
            self._quietly(self._go_on)
        metrics.trend_early_rows.inc(self.early_rows - self._early_rows_shown)
        self._early_rows_shown = self.early_rows
        records = self._records()
        metrics.trend_missed.set(sum(record.missed for record in records.values()))
        newest = [r.newest_ms for tp, r in records.items() if self._is_counted(tp, r)]
        age = (self._clock_ms() - min(newest)) / 1000 if newest else float("nan")
        metrics.trend_age.set(age)

    def _go_on(self) -> None:
        if not self._wanted:
            self._wanted, self._found = self._store.partitions(), {}
        self._read_some()
        if not self._wanted:
            self._take()
            if self._table is not None:
                last = self._table.last_day
                self._table = self._made(last, last)

    def _read_some(self) -> None:
        some = self._wanted[:RECORDS_AT_ONCE]
        self._found |= self._store.load(some)
        del self._wanted[: len(some)]

    def _take(self) -> None:
        self._stored, self._found = self._found, {}
        self.keeper.compare(self._stored)
        self._read_last = time.monotonic()
        self._read_at = self._read_last + READ_SECONDS
        self._log_behind()

    def _records(self) -> dict[TopicPartition, TrendRecord]:
        return self._stored | self.keeper.records

    def _newest_day(self) -> int:
        return max((r.newest_ms // DAY_MS for r in self.keeper.records.values()), default=-1)

    def _made(self, last: int, also: int) -> TrendTable:
        """Up to the day `last`, and up to `also` where that is no more than `MOST_DAYS`."""
        self._made_of = self._newest_day()
        records = list(self._records().values())
        oldest = oldest_day(records)
        if max(last, also) - oldest <= MOST_DAYS:
            last = max(last, also)
        # Without any record, and for days before all of them, one day will do.
        first = min(max(oldest, last - MOST_DAYS), last)
        self._is_cut = first > oldest
        return shop_table(self._store.plan, records, first, last)

    def _is_counted(self, tp: TopicPartition, record: TrendRecord) -> bool:
        """Whether its newest event should be a new one: those of event files stay what they are."""
        return tp[0] == self._topic and record.newest_ms != NEVER

    def _log_behind(self) -> None:
        behind = behind_partitions(self._records(), self._topic)
        if behind and behind != self._behind:
            numbers = ", ".join(str(p) for _, p in sorted(behind))
            log.warning(
                "the shop's trend: the newest events that were counted of partitions %s are more "
                "than %d days older than those of others, so the trend lacks what is newer; see "
                "whether these partitions are read (consumer lag), and get events",
                numbers, BEHIND_DAYS,
            )  # fmt: skip
        self._behind = behind

    def _quietly(self, ask: Callable[[], None]) -> None:
        """Ask Redis; where that fails, later again. The same complaint is logged once."""
        try:
            ask()
        except StreamScorerError as error:
            self._wanted = []
            self._read_last = time.monotonic()
            self._read_at = self._read_last + NEW_DAY_SECONDS
            if f"{error}" != self._complaint:
                log.warning(
                    "the shop's trend can't be read, scores go on with that of before: %s", error
                )
            self._complaint = f"{error}"
        else:
            self._complaint = ""


class TrendPositions:
    """The store's watermarks, as KafkaSource takes them, with `keeper` told what is released."""

    def __init__(self, store: RedisStore, keeper: TrendKeeper) -> None:
        self._store, self._keeper = store, keeper
        self.watermarks, self.watermark_epochs = store.watermarks, store.watermark_epochs
        self.begin = store.begin

    def release(self, partitions: list[TopicPartition]) -> None:
        """This owner no longer reads these partitions."""
        self._keeper.release(partitions)
        self._store.release(partitions)


def open_keeper(
    server: RedisServer, store: RedisStore, namespace: str, space: FeatureSpace,
    every_seconds: float,
) -> tuple[TrendStore, TrendKeeper] | None:  # fmt: skip
    """The trend's records in Redis and their keeper; None where the declaration has no trend."""
    plan = TrendPlan.of(space)
    if plan is None:
        return None
    trends = TrendStore(server, namespace, plan)
    return trends, TrendKeeper(trends, store.starts, every_seconds)


def behind_partitions(
    records: Mapping[TopicPartition, TrendRecord], topic: str
) -> frozenset[TopicPartition]:
    """Partitions of the topic whose newest event is days older than that of another."""
    newest = {tp: r.newest_ms for tp, r in records.items() if tp[0] == topic}
    known = {tp: ms for tp, ms in newest.items() if ms != NEVER}
    limit = max(known.values(), default=0) - BEHIND_DAYS * DAY_MS
    return frozenset(tp for tp, ms in known.items() if ms < limit)


def clip_days(
    matrix: sparse.csr_matrix, columns: Int64, as_of_ms: Int64, table: TrendTable
) -> None:
    """Change `matrix` (B, F), whose `columns` hold each row's day: no day is before the table's
    first. as_of_ms: (B,), where these days are from."""
    if len(as_of_ms) and as_of_ms.min() // DAY_MS < table.first_day:
        is_day = np.isin(matrix.indices, columns)
        matrix.data[is_day] = np.maximum(matrix.data[is_day], np.float32(table.first_day))
