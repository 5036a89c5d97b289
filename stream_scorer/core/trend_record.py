"""The shop's trend as the live consumer keeps it: one record for each partition of its input.

A record is what a partition's events below `next_offset` add to the shop's counts (core/trend.py).
Counts of days that are over become decayed sums, so that it stays small: for each trend, half-life
h and category the sum of count(d) * 2^-((D - 1 - d) / h) over all days d before `base_day` D. Days
from D on are kept as counts. D lies `KEPT_DAYS` before the day of the newest event that the
partition has had, so a member that reads several partitions at different speeds finds the same
days in all of their records.

An event counts on its own day, as in a replay; one that comes more than `KEPT_DAYS` late counts on
day D of then. A record is a function of the partition's events in the order of the log, bit for
bit, however they were cut into batches: sums move by one day at a time. So of two owners of one
partition the one with the higher `next_offset` knows more, and nothing else need be compared.

The sum of all partitions' records is the shop's. Sums go back to the first day with events, where a
replay's end at the window of core/trend.py: by then a day's weight is below 2^-10.

Bytes, little-endian, as `encode` writes them:
  0   "STR1"
  4   uint32: CRC-32 of all that follows
  8   int64 next_offset; int64 newest_ms; int64 missed; uint64 fingerprint
  40  uint32 T trends, S sums (half-lives of all trends), V categories, K kept days
  56  int64 (T,) first_day; float64 (S, V) sums; then int64 (K, T, V) counts, compressed (zlib)
For 5,000 categories and one trend of three half-lives that is about 140 kB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stream_scorer.core.events.batch import NULL, Float64, Int32, Int64
from stream_scorer.core.features.space import DAY_MS, FeatureSpace
from stream_scorer.core.features.state import NEVER, Float32
from stream_scorer.core.trend import (
    NO_DAY,
    WEIGHT_BITS,
    TrendTable,
    contrasts_of,
    half_lives_ms,
    trend_features,
)
from stream_scorer.errors import InputError

# A micro-batch of a consumer that catches up may be of an earlier day than another partition's.
KEPT_DAYS = 7
MAGIC = b"STR1"
_HEAD = struct.Struct("<qqqQIIII")
_HEAD_AT = 8
_UNIT = 2.0**WEIGHT_BITS  # of weights in core/trend.py


@dataclass(frozen=True)
class TrendPlan:
    """A declaration's trends. half_lives: of each of the T trends its half-lives in ms. words: V,
    the field's vocabulary. fingerprint: of the declaration."""

    half_lives: tuple[tuple[int, ...], ...]
    words: int
    fingerprint: int

    @classmethod
    def of(cls, space: FeatureSpace) -> TrendPlan | None:
        """None where the declaration has no trend."""
        trends = trend_features(space)
        if not trends:
            return None
        return cls(
            tuple(tuple(half_lives_ms(feature)) for feature in trends),
            len(space.vocabularies[trends[0].by[0]]),
            space.fingerprint,
        )

    @property
    def trend_of_sum(self) -> Int64:
        """(S,) which trend each sum is of."""
        return np.repeat(np.arange(len(self.half_lives)), [len(h) for h in self.half_lives])

    @property
    def factors(self) -> Float64:
        """(S, 1) what is left of each sum after a day."""
        flat = np.array([h for halves in self.half_lives for h in halves], np.float64)
        return np.asarray(np.exp2(-DAY_MS / flat)[:, None])


@dataclass(eq=False)
class TrendRecord:
    """What the events of one partition below next_offset add to the shop's trend.

    newest_ms: when the newest of them occurred, `NEVER` for none. missed: how many offsets below
    next_offset were not counted, because they could not be read any more. sums (S, V) float64 as of
    `base_day`; counts: of days from base_day on, (T, V) int64 each, days without events left out.
    first_day (T,) int64: the first day with events of each trend, `NO_DAY` for none.
    """

    plan: TrendPlan
    next_offset: int
    newest_ms: int = NEVER
    missed: int = 0
    sums: Float64 = field(default_factory=lambda: np.zeros((0, 0)))
    counts: dict[int, Int64] = field(default_factory=dict)
    first_day: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def empty(cls, plan: TrendPlan, next_offset: int) -> TrendRecord:
        """Of a partition of which nothing below next_offset counts."""
        halves = sum(map(len, plan.half_lives))
        return cls(
            plan, next_offset, sums=np.zeros((halves, plan.words)),
            first_day=np.full(len(plan.half_lives), NO_DAY, np.int64),
        )  # fmt: skip

    @property
    def base_day(self) -> int:
        """The day of which the sums are; of no meaning without events."""
        return self.newest_ms // DAY_MS - KEPT_DAYS

    def add(self, offset: Int64, occurred_ms: Int64, category: Int32, next_offset: int) -> None:
        """Count n events, in the order of their offsets; those below next_offset count already.

        offset, occurred_ms (n,), category (n, T) as in TrendEvents. next_offset: from now on.
        """
        if next_offset <= self.next_offset:
            return
        new = offset >= self.next_offset
        occurred_ms, category = occurred_ms[new], category[new]
        self.next_offset = next_offset
        if not len(occurred_ms):
            return
        # One after the other: an event that is late for the newest one before it counts on the
        # oldest day that is still open then.
        newest = np.maximum(np.maximum.accumulate(occurred_ms), self.newest_ms)
        day = np.maximum(occurred_ms // DAY_MS, newest // DAY_MS - KEPT_DAYS)
        base_day = self.base_day if self.newest_ms != NEVER else int(day.min())
        self._count(day, category)
        self.newest_ms = int(newest[-1])
        for today in range(base_day, self.base_day):
            self._end(today)

    def _count(self, day: Int64, category: Int32) -> None:
        days, row = np.unique(day, return_inverse=True)
        words = self.plan.words
        for t in range(category.shape[1]):
            seen = np.flatnonzero(category[:, t] != NULL)
            if not len(seen):
                continue
            key = row[seen] * words + category[seen, t]
            found = np.bincount(key, minlength=len(days) * words).reshape(len(days), words)
            for number in np.flatnonzero(found.any(axis=1)).tolist():
                counts = self.counts.setdefault(
                    int(days[number]), np.zeros((category.shape[1], words), np.int64)
                )
                counts[t] += found[number]
            self.first_day[t] = min(int(self.first_day[t]), int(day[seen].min()))

    def _end(self, today: int) -> None:
        """Move the sums from `today` to the day after, with what was counted today."""
        self.sums = _day_later(self.plan, self.sums, self.counts.pop(today, None))

    # Bytes.

    def encode(self) -> bytes:
        """As the module's head says."""
        days = range(self.base_day, self.base_day + KEPT_DAYS + 1) if self.counts else range(0)
        nothing = np.zeros((len(self.plan.half_lives), self.plan.words), np.int64)
        counts = b"".join(self.counts.get(day, nothing).astype("<i8").tobytes() for day in days)
        head = _HEAD.pack(
            self.next_offset, self.newest_ms, self.missed, self.plan.fingerprint,
            len(self.plan.half_lives), len(self.sums), self.plan.words, len(days),
        )  # fmt: skip
        # Sums hardly become smaller by compression, and counts become a tenth or less.
        body = (
            head + self.first_day.astype("<i8").tobytes() + self.sums.astype("<f8").tobytes()
            + zlib.compress(counts, 1)
        )  # fmt: skip
        return MAGIC + struct.pack("<I", zlib.crc32(body)) + body

    @classmethod
    def decode(cls, data: bytes, plan: TrendPlan, where: str) -> TrendRecord:
        """What `encode` wrote; `where` names it in the InputError for anything else."""
        try:
            return cls._decoded(data, plan)
        except (struct.error, zlib.error, ValueError) as error:
            raise InputError(
                "stored trend", where,
                f"is not what this release writes for this declaration ({error}); upgrade "
                "stream-scorer, or build a new namespace (`stream-scorer rollout`)",
            ) from None  # fmt: skip

    @classmethod
    def _decoded(cls, data: bytes, plan: TrendPlan) -> TrendRecord:
        if data[: len(MAGIC)] != MAGIC:
            raise ValueError(f"it does not begin with {MAGIC.decode()}")
        body = data[_HEAD_AT:]
        if struct.unpack_from("<I", data, len(MAGIC)) != (zlib.crc32(body),):
            raise ValueError("its checksum is wrong")
        head = _HEAD.unpack_from(body)
        next_offset, newest_ms, missed, fingerprint, trends, sums, words, kept = head
        if fingerprint != plan.fingerprint:
            raise ValueError(f"it is of the declaration {fingerprint:016x}")
        at = _HEAD.size
        first_day = np.frombuffer(body, "<i8", trends, at).astype(np.int64)
        at += 8 * trends
        found = np.frombuffer(body, "<f8", sums * words, at).reshape(sums, words)
        counts = np.frombuffer(zlib.decompress(body[at + 8 * sums * words :]), "<i8")
        by_day = counts.reshape(kept, trends, words).astype(np.int64)
        record = cls(plan, next_offset, newest_ms, missed, found.astype(np.float64), {}, first_day)
        record.counts = {
            record.base_day + k: of_day for k, of_day in enumerate(by_day) if of_day.any()
        }
        return record


def shop_table(
    plan: TrendPlan, records: Iterable[TrendRecord], first_day: int, last_day: int
) -> TrendTable:
    """The contrasts of the shop, whose partitions have these records, from first_day to last_day.

    Days before the oldest that the records know (`oldest_day`) have the contrasts of that one.
    """
    some = [record for record in records if record.newest_ms != NEVER]
    oldest = max(oldest_day(some), first_day)
    sums = sum(
        (sums_at(record, oldest) for record in some), np.zeros((len(plan.factors), plan.words))
    )
    began = np.min([record.first_day for record in some], axis=0) if some else None
    contrasts = []
    for day in range(oldest, max(last_day, oldest) + 1):
        contrasts.append(_contrasts(plan, sums, began, day))
        today = [record.counts[day] for record in some if day in record.counts]
        sums = _day_later(plan, sums, sum(today[1:], today[0]) if today else None)
    before = max(min(oldest, last_day + 1) - first_day, 0)
    rows = [contrasts[0]] * before + contrasts[: last_day + 1 - first_day - before]
    return TrendTable(first_day, np.stack(rows))


def oldest_day(records: Sequence[TrendRecord]) -> int:
    """The oldest day whose contrasts all the records know; a day before 1970 without events."""
    days = [record.base_day for record in records if record.newest_ms != NEVER]
    return max(days, default=-1)


def sums_at(record: TrendRecord, day: int) -> Float64:
    """(S, V) the record's sums as of a day; as of its base_day where that is later."""
    found = record.sums
    for today in range(record.base_day, day):
        found = _day_later(record.plan, found, record.counts.get(today))
    return found


def _day_later(plan: TrendPlan, sums: Float64, counts: Int64 | None) -> Float64:
    moved: Float64 = sums * plan.factors
    return moved if counts is None else moved + counts[plan.trend_of_sum]


def _contrasts(plan: TrendPlan, sums: Float64, began: Int64 | None, day: int) -> Float32:
    """(G, V) of one day."""
    found, at = [], 0
    for number, halves in enumerate(plan.half_lives):
        known = 0 if began is None else max(day - int(began[number]), 0)
        reach = [np.array([_reach(half, known) * _UNIT]) for half in halves]
        (of_day,) = contrasts_of(
            [row[None, :] * _UNIT for row in sums[at : at + len(halves)]], reach
        )
        found.append(of_day)
        at += len(halves)
    return np.concatenate(found)


def _reach(half_life_ms: int, days: int) -> float:
    """The sum of the weights of so many days."""
    factor = float(np.exp2(-DAY_MS / half_life_ms))
    return (1 - factor**days) / (1 - factor)
