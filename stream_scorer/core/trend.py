"""The shop's trend: which categories all customers together turn to more, or less, than before.

A feature of kind "trend" counts the shop's events by UTC day and category (`DailyCounts`). Counts
are whole numbers, so those of batches, partitions and machines are added in any order. From them
alone follows, for each day, what was known when it began (`TrendTable`); an event changes no day
up to its own. A customer's vector holds only the day of its as-of time.

For a half-life h the rate of a category on day d is the weighted mean of its counts on the days
before d,
    rate_h = sum of weight_h(age) * count(d - 1 - age) / sum of weight_h(age),
    weight_h(age) = 2^-(age / h), ages from 0 up to `WINDOW_HALF_LIVES` of the feature's longest
half-life. Both sums begin at the first day with events of the feature, so that a log that has just
begun is not taken for a shop that has just opened. Contrast g of a category compares the g-th
half-life with the next, longer one:
    contrast = log((rate_short * s + c) / (rate_long * s + c)),
where s is the sum of the short one's weights, in days, and c is `SMOOTHING_EVENTS`: the number of
events that were seen of late, over the number that the longer rate would let expect. It is 0 for a
category without events, and on days before which nothing is known.

Weights are whole multiples of 2^-20. So all sums are whole numbers of float64 as long as a category
has fewer than 2^33 events within the ages, and rounding depends on no order of adding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import NULL, EventBatch, Float64, Int32, Int64
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.features.space import DAY_MS, Feature, FeatureSpace, parse_duration_ms
from stream_scorer.core.features.state import Float32
from stream_scorer.core.features.trend_events import TrendEvents
from stream_scorer.errors import InputError

# A thousandth of all weight lies beyond. The live consumer's sums (core/trend_record.py) have no
# such end, so a narrower window would let live contrasts differ from those of a replay.
WINDOW_HALF_LIVES = 10
# The logarithm of a rate from n events is off by about 1 / sqrt(n). With so many added, a rate from
# fewer events moves the contrast by less than half of what it seems to say.
SMOOTHING_EVENTS = 10.0
WEIGHT_BITS = 20
MOST_TABLE_BYTES = 1 << 29
NO_DAY = np.iinfo(np.int64).max  # the first day of counts that have no events

# Days and categories of one matrix product; they bound its memory, and change no result.
_PIECE_DAYS = 256
_PIECE_CATEGORIES = 4096


def trend_features(space: FeatureSpace) -> tuple[Feature, ...]:
    """The T features of kind "trend", in the order of the declaration."""
    return tuple(feature for feature in space.features if feature.kind == "trend")


def contrast_count(space: FeatureSpace) -> int:
    """G: for each trend one less than its half-lives; 0 where none is declared."""
    return sum(len(feature.half_lives) - 1 for feature in trend_features(space))


def window_days(feature: Feature) -> int:
    """How many days before a day count towards it: W."""
    longest_ms = max(half_lives_ms(feature))
    return -(-WINDOW_HALF_LIVES * longest_ms // DAY_MS)


def day_of(moment_ms: int) -> int:
    """The UTC day of a moment, in days since 1970."""
    return moment_ms // DAY_MS


@dataclass(frozen=True, slots=True)
class DailyCounts:
    """E counts of events, by trend, UTC day and category; each of these triples stands once.

    feature (E,) int32: which of `trend_features`; day (E,) int32 since 1970; category (E,) int32
    into the vocabulary; count (E,) int64, above 0. first_day (T,) int64: the first day with events
    of each trend, also where the counts of that day are no longer kept; `NO_DAY` where it has none.
    """

    feature: Int32
    day: Int32
    category: Int32
    count: Int64
    first_day: Int64

    def __len__(self) -> int:
        return len(self.count)

    @classmethod
    def none(cls, space: FeatureSpace) -> DailyCounts:
        """Of no events."""
        empty = np.zeros(0, np.int32)
        first_day = np.full(len(trend_features(space)), NO_DAY, np.int64)
        return cls(empty, empty, empty, np.zeros(0, np.int64), first_day)

    @classmethod
    def of(
        cls,
        space: FeatureSpace,
        events: EventBatch,
        columns: EventColumns | None = None,
        at_ms: Int64 | None = None,
    ) -> DailyCounts:
        """Of the events whose type is in a trend's `on` and whose field is in its vocabulary.

        columns: of the same events, where they were made already. at_ms (n,): the moments whose
        days they count for; None: when they occurred.
        """
        columns = EventColumns(events) if columns is None else columns
        found = TrendEvents.of(space, events, columns) if len(events) else None
        if found is None:
            return cls.none(space)
        return cls.of_categories(found.category, events.occurred_at_ms if at_ms is None else at_ms)

    @classmethod
    def of_categories(cls, category: Int32, at_ms: Int64) -> DailyCounts:
        """Of n events: category (n, T) as in TrendEvents, at_ms (n,) the moments they are of."""
        days = (at_ms // DAY_MS).astype(np.int32)
        rows, of_trend = np.nonzero(category != NULL)
        day, word = days[rows], category[rows, of_trend]
        first_day = np.full(category.shape[1], NO_DAY, np.int64)
        np.minimum.at(first_day, of_trend, day.astype(np.int64))
        ones = np.ones(len(day), np.int64)
        return _added(of_trend.astype(np.int32), day, word, ones, first_day)

    @classmethod
    def sum(cls, parts: Iterable[DailyCounts]) -> DailyCounts:
        """Of all `parts` together, of which there is at least one; their order does not matter."""
        found = list(parts)
        if len(found) == 1:
            return found[0]
        return _added(
            np.concatenate([part.feature for part in found]),
            np.concatenate([part.day for part in found]),
            np.concatenate([part.category for part in found]),
            np.concatenate([part.count for part in found]),
            np.min([part.first_day for part in found], axis=0),
        )

    def since(self, day: int) -> DailyCounts:
        """Without the counts of days before `day`; first_day stays what it was."""
        kept = self.day >= day
        return DailyCounts(
            self.feature[kept], self.day[kept], self.category[kept], self.count[kept],
            self.first_day,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class TrendTable:
    """The contrasts of D days, from first_day on, without a gap: contrasts (D, G, V) float32.

    G: of all trends, in the order of the declaration. V: the vocabulary, in its order.
    """

    first_day: int
    contrasts: Float32

    @property
    def last_day(self) -> int:
        """The last day that it has; before first_day where it has none."""
        return self.first_day + len(self.contrasts) - 1

    def covers(self, first_day: int, last_day: int) -> bool:
        """Whether it has both days and all between them."""
        return self.first_day <= first_day and last_day <= self.last_day

    def part(self, first_day: int, last_day: int) -> TrendTable:
        """Only the days from first_day to last_day, both of which it has; nothing is copied."""
        start = first_day - self.first_day
        return TrendTable(first_day, self.contrasts[start : last_day - self.first_day + 1])

    @classmethod
    def of(
        cls, space: FeatureSpace, counts: DailyCounts, first_day: int, last_day: int
    ) -> TrendTable:
        """Of the days from first_day to last_day, by the counts of the days before each.

        A function of the counts within the window of a day and of first_day alone. Raises
        InputError where the table would be larger than `MOST_TABLE_BYTES`.
        """
        trends = trend_features(space)
        words = len(space.vocabularies[trends[0].by[0]]) if trends else 0
        refuse_large_table(first_day, last_day, contrast_count(space), words)
        days = last_day - first_day + 1
        contrasts = np.zeros((days, contrast_count(space), words), np.float32)
        at = 0
        for number, feature in enumerate(trends):
            width = len(feature.half_lives) - 1
            of_feature = counts.feature == number
            columns = counts.day[of_feature], counts.category[of_feature], counts.count[of_feature]
            began = int(counts.first_day[number])
            for start in range(0, days, _PIECE_DAYS):
                stop = min(start + _PIECE_DAYS, days)
                for word in range(0, words, _PIECE_CATEGORIES):
                    words_stop = min(word + _PIECE_CATEGORIES, words)
                    contrasts[start:stop, at : at + width, word:words_stop] = _piece(
                        feature, columns, began,
                        range(first_day + start, first_day + stop), range(word, words_stop),
                    )  # fmt: skip
            at += width
        return cls(first_day, contrasts)

    def differs_from(self, other: TrendTable) -> int | None:
        """The first day that both have with other contrasts; None where there is none."""
        first, last = max(self.first_day, other.first_day), min(self.last_day, other.last_day)
        if first > last:
            return None
        ours, theirs = self.part(first, last).contrasts, other.part(first, last).contrasts
        different = np.flatnonzero((ours != theirs).any(axis=(1, 2)))
        return first + int(different[0]) if len(different) else None


def joined_tables(tables: Sequence[TrendTable]) -> TrendTable:
    """The days of all `tables`, of which there is at least one; where two have a day they agree.

    Days between them that none has are 0. Raises InputError where it would be too large.
    """
    filled = [table for table in tables if len(table.contrasts)]
    if len(filled) <= 1:
        return (filled or tables)[0]
    first = min(table.first_day for table in filled)
    last = max(table.last_day for table in filled)
    contrasts, words = filled[0].contrasts.shape[1:]
    refuse_large_table(first, last, contrasts, words)
    joined = np.zeros((last - first + 1, contrasts, words), np.float32)
    for table in filled:
        joined[table.first_day - first : table.last_day - first + 1] = table.contrasts
    return TrendTable(first, joined)


def refuse_days(space: FeatureSpace, first_ms: int, last_ms: int) -> None:
    """Raises InputError where the table for rows between two moments would be too large."""
    trends = trend_features(space)
    if trends:
        words = len(space.vocabularies[trends[0].by[0]])
        refuse_large_table(day_of(first_ms), day_of(last_ms), contrast_count(space), words)


def refuse_large_table(first_day: int, last_day: int, contrasts: int, words: int) -> None:
    """Raises InputError where a table of these days would be larger than `MOST_TABLE_BYTES`."""
    days = last_day - first_day + 1
    table_bytes = 4 * days * contrasts * words
    if table_bytes > MOST_TABLE_BYTES:
        remedy = (
            f"the rows lie {days:,} days apart, for which the trends of {words:,} categories take "
            f"{table_bytes:,} bytes, more than {MOST_TABLE_BYTES:,}; take rows of a shorter time, "
            "or fewer half-lives"
        )
        raise InputError("features of kind trend", f"{days:,} days", remedy)


def half_lives_ms(feature: Feature) -> list[int]:
    """A trend's half-lives in ms."""
    # The declaration was checked: none is without end.
    return [parse_duration_ms(half_life) or 0 for half_life in feature.half_lives]


def _added(
    feature: Int32, day: Int32, category: Int32, count: Int64, first_day: Int64
) -> DailyCounts:
    """The counts of equal (feature, day, category) added up, in ascending order of these."""
    order = np.lexsort((category, day, feature))
    feature, day, category = feature[order], day[order], category[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(feature) != 0) | (np.diff(day) != 0) | (np.diff(category) != 0)
    starts = np.flatnonzero(new)
    total = np.add.reduceat(count[order], starts) if len(starts) else count[order]
    return DailyCounts(feature[starts], day[starts], category[starts], total, first_day)


def _weights(half_life_ms: int, ages: int) -> Float64:
    """(ages,) the weight of each age in days, in units of 2^-`WEIGHT_BITS`."""
    halvings = np.arange(ages) * (DAY_MS / half_life_ms)
    weights: Float64 = np.round(np.exp2(WEIGHT_BITS - halvings))
    return weights


def _piece(
    feature: Feature, counts: tuple[Int32, Int32, Int64], began: int, days: range, words: range
) -> Float32:
    """(days, g, words) contrasts of one trend; counts: its days, categories and counts."""
    window = window_days(feature)
    first = days.start - window  # the first day whose events count
    day, category, count = counts
    chosen = (day >= first) & (day < days.stop - 1)
    chosen &= (category >= words.start) & (category < words.stop)
    known = np.zeros((window + len(days) - 1, len(words)))
    known[day[chosen] - first, category[chosen] - words.start] = count[chosen]
    # Age of each day's events (columns of `known`) on each of `days`.
    age = np.arange(days.start, days.stop)[:, None] - 1 - np.arange(first, days.stop - 1)[None, :]
    inside = (age >= 0) & (age < window)
    # How many days were known on each of `days`.
    ages = np.clip(np.arange(days.start, days.stop) - began, 0, window) if began != NO_DAY else None
    sums, reach = [], []
    for half_life_ms in half_lives_ms(feature):
        weights = _weights(half_life_ms, window)
        sums.append(np.where(inside, weights[np.where(inside, age, 0)], 0.0) @ known)
        cumulated = np.concatenate([[0.0], np.cumsum(weights)])
        reach.append(np.zeros(len(days)) if ages is None else cumulated[ages])
    return contrasts_of(sums, reach)


def contrasts_of(sums: Sequence[Float64], reach: Sequence[Float64]) -> Float32:
    """(days, g, words) contrasts of a trend: of each half-life the weighted sums (days, words) and
    the sums of the weights (days,), both in units of 2^-`WEIGHT_BITS`.
    """
    smoothing = SMOOTHING_EVENTS * 2.0**WEIGHT_BITS
    found = np.zeros((len(reach[0]), len(sums) - 1, sums[0].shape[1]), np.float32)
    for g in range(len(sums) - 1):
        known = reach[g] > 0
        share = reach[g][known] / reach[g + 1][known]
        expected = sums[g + 1][known] * share[:, None]
        found[known, g] = np.log((sums[g][known] + smoothing) / (expected + smoothing))
    return found
