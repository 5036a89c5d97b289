"""What customers did after a moment: point-in-time labels, and rows of features with their labels.

A label of (customer, cut-off) is read from the window [cut-off, cut-off + horizon) alone. Events
are sorted once by customer and time; each window is then one range, found by binary search, and the
best class of each (row, category) is the last of a sorted key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stream_scorer.core.events.batch import NULL, EventBatch, Int32, Int64, UInt8
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32, UInt32
from stream_scorer.errors import ConfigError, InputError

MAX_CLASSES = 255  # a class is stored as uint8
DAY_MS = 86_400_000
ROWS_TOGETHER = 4096  # whose customers are counted at a time


def latest_horizon_end_ms(last_event_ms: int) -> int:
    """The latest end of a horizon that counts as over, where the last event is at last_event_ms.

    Events end with a day that may be cut short anywhere in it, so a horizon would seldom be over by
    the very last event. One that ends within a day of it is as good as over.
    """
    return last_event_ms + DAY_MS


@dataclass(frozen=True)
class LabelRule:
    """What counts as acting on a category, and until when.

    by: the event field that names the category. actions: groups of event types from the least to
    the most wanted; class k is 1 + the index of the best group seen in the window, class 0 is
    nothing. horizon_ms: length of the window that starts at the cut-off.
    """

    by: str
    actions: tuple[tuple[str, ...], ...]
    horizon_ms: int

    def __post_init__(self) -> None:
        if not self.actions or not all(self.actions) or len(self.actions) >= MAX_CLASSES:
            raise ConfigError(
                "labels.actions",
                self.actions,
                'give groups of event types, none empty, such as [["cart"], ["purchase"]]',
            )
        named = [event_type for group in self.actions for event_type in group]
        twice = sorted({t for t in named if named.count(t) > 1})
        if twice:
            raise ConfigError(
                "labels.actions", twice[0], "stands in two groups; put each event type in one"
            )
        if self.horizon_ms <= 0:
            raise ConfigError("labels.horizon", self.horizon_ms, 'must end, such as "14d"')

    @property
    def classes(self) -> int:
        """C: the groups, and nothing."""
        return len(self.actions) + 1

    def looks_at(self) -> dict[str, frozenset[str]]:
        """The field whose words labels need, of events of these types."""
        return {self.by: frozenset(t for group in self.actions for t in group)}

    def class_of(self, event_type: str) -> int:
        """The class that one event of this type makes; 0 for none."""
        return next((k for k, g in enumerate(self.actions, start=1) if event_type in g), 0)


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """R rows of a snapshot: a customer at a moment, its features and what it did next.

    as_of_ms (R,) int64; matrix (R, F) float32 CSR; row r has labels label_indptr[r] to
    label_indptr[r + 1]: label_category (L,) uint32, ascending index into the vocabulary of the
    label field, and label_class (L,) uint8, never 0. weight (R,) float32: how many rows each stands
    for in training and in measures; None becomes 1 for every row.
    """

    customer_ids: list[str]
    as_of_ms: Int64
    matrix: sparse.csr_matrix
    label_indptr: Int64
    label_category: UInt32
    label_class: UInt8
    weight: Float32 = None  # type: ignore[assignment] # filled in below, so nobody ever reads None

    def __post_init__(self) -> None:
        if self.weight is None:
            object.__setattr__(self, "weight", np.ones(len(self.customer_ids), np.float32))

    def __len__(self) -> int:
        return len(self.customer_ids)

    def take(self, rows: Int64) -> LabelledRows:
        """Only `rows` (k,) int64, in that order."""
        lengths = self.label_indptr[rows + 1] - self.label_indptr[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.arange(indptr[-1]) + np.repeat(self.label_indptr[rows] - indptr[:-1], lengths)
        return LabelledRows(
            [self.customer_ids[r] for r in rows.tolist()], self.as_of_ms[rows], self.matrix[rows],
            indptr, self.label_category[at], self.label_class[at], self.weight[rows],
        )  # fmt: skip


def concatenate_rows(parts: list[LabelledRows]) -> LabelledRows:
    """The rows of all `parts`, of which there is at least one, in order."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([p.label_indptr[-1] for p in parts])
    shifts = [0, *ends[:-1].tolist()]
    pieces = [p.label_indptr[:-1] + shift for p, shift in zip(parts, shifts, strict=True)]
    return LabelledRows(
        [c for p in parts for c in p.customer_ids],
        np.concatenate([p.as_of_ms for p in parts]),
        sparse.vstack([p.matrix for p in parts], format="csr", dtype=np.float32),
        np.concatenate([*pieces, ends[-1:]]).astype(np.int64),
        np.concatenate([p.label_category for p in parts]),
        np.concatenate([p.label_class for p in parts]),
        np.concatenate([p.weight for p in parts]),
    )


class LabelEvents(NamedTuple):
    """E events that can make labels, as columns.

    customer (E,) int64, any numbering that the rows share; at_ms (E,) int64; category (E,) int32
    into the vocabulary; action_class (E,) uint8, never 0.
    """

    customer: Int64
    at_ms: Int64
    category: Int32
    action_class: UInt8


class Labels(NamedTuple):
    """Labels of R rows, laid out as in `LabelledRows`."""

    indptr: Int64
    category: UInt32
    action_class: UInt8


class LabelCollector:
    """Keeps what labels need of an event stream: 21 bytes for each event of a label type."""

    def __init__(self, rule: LabelRule, vocabulary: tuple[str, ...]) -> None:
        self._rule = rule
        self._index = {word: i for i, word in enumerate(vocabulary)}
        self._customers: dict[str, int] = {}
        self._parts: list[LabelEvents] = []

    def add(self, events: EventBatch) -> None:
        """Remember the events of this batch that can make a label. Order does not matter."""
        columns = EventColumns(events)
        codes, types = columns.coded("event_type")
        action_class = _table([self._rule.class_of(t) for t in types], 0)[codes]
        words, texts = columns.coded(self._rule.by)
        category = _table([self._index.get(t, NULL) for t in texts], NULL)[words]
        kept = np.flatnonzero((action_class > 0) & (category != NULL))
        names, ids = events.customer_id.take(kept).intern()
        numbers = _table([self._customers.setdefault(i, len(self._customers)) for i in ids], NULL)
        self._parts.append(
            LabelEvents(
                numbers[names],
                events.occurred_at_ms[kept],
                category[kept].astype(np.int32),
                action_class[kept].astype(np.uint8),
            )
        )

    def labels(self, customer_ids: list[str], as_of_ms: Int64) -> Labels:
        """Labels of the rows (customer_ids[r], as_of_ms[r]) from all that was added."""
        # Joined once, because labels are asked for at every cut-off.
        self._parts = [_joined(self._parts)]
        # A customer without such events is NULL, whose keys are below all others: its windows are
        # empty.
        rows = np.array([self._customers.get(c, NULL) for c in customer_ids], np.int64)
        return point_in_time_labels(rows, as_of_ms, self._parts[0], self._rule.horizon_ms)


def point_in_time_labels(
    customer: Int64, as_of_ms: Int64, events: LabelEvents, horizon_ms: int
) -> Labels:
    """The best class of each category in [as_of_ms, as_of_ms + horizon_ms), for R rows.

    customer (R,) int64 in the numbering of `events`; as_of_ms (R,) int64.
    """
    order = np.lexsort((events.at_ms, events.customer))
    # Ranks in place of milliseconds, so that customer and time fit into one int64.
    moments = np.unique(events.at_ms)
    key = events.customer[order] * (len(moments) + 1) + np.searchsorted(
        moments, events.at_ms[order]
    )

    def position(times: Int64) -> Int64:
        return np.searchsorted(key, customer * (len(moments) + 1) + np.searchsorted(moments, times))

    first, last = position(as_of_ms), position(as_of_ms + horizon_ms)
    lengths = last - first
    ends = np.cumsum(lengths)
    row = np.repeat(np.arange(len(customer)), lengths)
    at = order[np.arange(len(row)) + np.repeat(first - (ends - lengths), lengths)]
    span = int(events.category.max(initial=0)) + 1
    ranked = np.sort(
        (row * span + events.category[at]) * (MAX_CLASSES + 1) + events.action_class[at]
    )
    pair, action_class = np.divmod(ranked, MAX_CLASSES + 1)
    # The slice is for no pairs at all, of which `append` would make one.
    best = np.append(pair[1:] != pair[:-1], True)[: len(pair)]
    row, category = np.divmod(pair[best], span)
    indptr = np.searchsorted(row, np.arange(len(customer) + 1))
    return Labels(
        indptr.astype(np.int64), category.astype(np.uint32), action_class[best].astype(np.uint8)
    )


def dense_labels(rows: LabelledRows, category_index: Int64) -> UInt8:
    """(R, N) uint8 classes of the N categories `category_index` (indices into the vocabulary)."""
    size = int(max(category_index.max(initial=-1), rows.label_category.max(initial=0))) + 1
    position = np.full(size, NULL, np.int64)
    position[category_index] = np.arange(len(category_index))
    column = position[rows.label_category]
    row = np.repeat(np.arange(len(rows)), np.diff(rows.label_indptr))
    dense = np.zeros((len(rows), len(category_index)), np.uint8)
    known = column != NULL
    dense[row[known], column[known]] = rows.label_class[known]
    return dense


class ActingCustomers:
    """Counts the customers that acted on each category, exactly, in one pass over rows.

    A customer counts where a row has a label of the category, or an entry in one of its own columns
    that only label events feed. A category is dropped from the books as soon as it has `enough`
    customers, so memory is at most so many entries for each.
    """

    def __init__(self, space: FeatureSpace, rule: LabelRule, enough: int) -> None:
        self._width = len(space.vocabularies[rule.by])
        self._least = enough
        wanted = {event_type for group in rule.actions for event_type in group}
        # A column that other events feed as well does not show that the customer acted.
        self._blocks = [
            b
            for b in space.blocks
            if b.fields == (rule.by,) and not b.buckets
            and b.kind not in ("calendar", "trend")
            and space.features[b.feature].on and wanted.issuperset(space.features[b.feature].on)
        ]  # fmt: skip
        self._numbers: dict[str, int] = {}
        self._pairs = np.zeros(0, np.int64)
        self.enough = np.zeros(self._width, np.bool_)  # (V,) whether so many customers acted

    def add(self, rows: LabelledRows) -> None:
        """Count the customers of these rows."""
        # Most categories have enough after the first of many rows, and then cost nothing.
        for first in range(0, len(rows), ROWS_TOGETHER):
            self._add(rows, first, min(first + ROWS_TOGETHER, len(rows)))

    def _add(self, rows: LabelledRows, first: int, last: int) -> None:
        """Count the customers of the rows [first, last)."""
        customer_ids = rows.customer_ids[first:last]
        numbers = [self._numbers.setdefault(c, len(self._numbers)) for c in customer_ids]
        owner, width = np.array(numbers, np.int64), self._width
        labels = slice(rows.label_indptr[first], rows.label_indptr[last])
        lengths = np.diff(rows.label_indptr[first : last + 1])
        category = rows.label_category[labels]
        found = [self._pairs, _pairs(owner, lengths, category, width, self.enough)]
        matrix = rows.matrix[first:last]
        for b in self._blocks:
            own = matrix[:, b.start : b.stop]
            found.append(_pairs(owner, np.diff(own.indptr), own.indices, width, self.enough))
        pairs = np.unique(np.concatenate(found))
        self.enough |= np.bincount(pairs % width, minlength=width) >= self._least
        self._pairs = pairs[~self.enough[pairs % width]]

    @property
    def customers(self) -> int:
        """How many different customers the rows are of."""
        return len(self._numbers)

    def too_few(self) -> Int64:
        """(V,) how many customers acted on each category that has not enough; 0 for the others."""
        return np.bincount(self._pairs % self._width, minlength=self._width).astype(np.int64)


def choose_categories(
    shards: Iterable[LabelledRows], space: FeatureSpace, rule: LabelRule, min_customers: int
) -> Int64:
    """(N,) ascending vocabulary indices of the categories that enough training customers acted on.

    Who counts is what `ActingCustomers` says. Raises InputError where none has enough.
    """
    acting = ActingCustomers(space, rule, min_customers)
    for shard in shards:
        acting.add(shard)
    if not acting.enough.any():
        remedy = "no category was acted on by so many customers of the training data; lower it"
        raise InputError("training.min_customers", min_customers, remedy)
    return np.flatnonzero(acting.enough)


def _pairs(
    owner: Int64, lengths: npt.NDArray[Any], category: npt.NDArray[Any],
    width: int, enough: npt.NDArray[np.bool_],
) -> Int64:  # fmt: skip
    needed = ~enough[category]
    pairs: Int64 = np.repeat(owner, lengths)[needed] * width + category[needed]
    return pairs


def _table(values: list[int], null: int) -> Int64:
    """`values` by code; the last entry answers code `NULL`."""
    return np.array([*values, null], np.int64)


def _joined(parts: list[LabelEvents]) -> LabelEvents:
    if not parts:
        return LabelEvents(
            np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32),
            np.zeros(0, np.uint8),
        )  # fmt: skip
    return LabelEvents(*(np.concatenate(column) for column in zip(*parts, strict=True)))
