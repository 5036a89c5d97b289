"""Features as of past moments, from a table of events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from scipy import sparse

from stream_scorer.api.events import EventPaths, read_events, valid_batch
from stream_scorer.api.moments import Moment, Pairs, is_moment, moment_ms, pairs_of
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.fold import REMEMBER_ALL
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.as_of import KnownEvents, Moments, at_cutoffs, distinct, rows_at
from stream_scorer.core.trend import DailyCounts, TrendTable, contrast_count, day_of
from stream_scorer.errors import InputError
from stream_scorer.settings.tree import Settings


def features_at(
    events: pa.Table | EventPaths,
    space: FeatureSpace,
    moments: Moment | Pairs,
    *,
    settings: Settings | None = None,
) -> tuple[sparse.csr_matrix, list[str]]:
    """What was known of customers at past moments: (matrix (R, F) float32 CSR, R customer ids).

    A row holds the customer's features as of its moment, made from the events strictly before that
    moment: an event at the very moment, or later, changes nothing. The rows are those that `replay`
    writes into a snapshot with that cut-off, bit for bit, because the same code makes them. For
    that, read the events with `read_events(files, settings)`, which leaves out what `replay` does,
    and give the settings here as well.

    events: a table as `read_events` returns it, in any order; or paths, which are read without
    settings. Events of one millisecond are applied in the order of the table.
    space: `Settings.feature_space()`, or a model's `feature_space`.
    moments: one moment stands for every customer with an event before it, in the order of their
    ids. A table with columns customer_id and as_of, or a sequence of (customer_id, moment) pairs,
    gives exactly those rows, in that order; a customer without an event before its moment, or one
    who is forgotten by then, has no history, and only calendar features can be non-zero in its row.
    A moment is a datetime with a zone, ISO 8601 text with a zone, or integer milliseconds since
    1970 UTC.

    settings: customers are forgotten after their store.time_to_live_seconds, and event ids are
    remembered as they say. Without settings nobody is forgotten.

    Raises InputError for a moment that can't be read and EventFileError for a row that is no event.
    """
    table = events if isinstance(events, pa.Table) else read_events(events)
    batch = valid_batch(table)
    memory = REMEMBER_ALL if settings is None else settings.memory()
    known = KnownEvents.of(batch, batch.occurred_at_ms, memory)
    if is_moment(moments):
        chosen = at_cutoffs(known, [moment_ms(moments)])
        ids = [known.customer_ids[c] for c in chosen.customer.tolist()]
        return _matrix(known, chosen, space), ids
    ids, as_of_ms = pairs_of(moments)
    known, customer = _with_strangers(known, ids)
    chosen = distinct(customer.astype(np.int32), as_of_ms)
    return _matrix(known, chosen, space)[chosen.find(customer.astype(np.int32), as_of_ms)], ids


def shop_trend(
    events: pa.Table | EventPaths, space: FeatureSpace, first: Moment, last: Moment
) -> TrendTable:
    """The shop's trend for rows from the moment `first` to `last`, where a feature declares one.

    `Model.use_trend` and `train` take it for rows that `features_at` made of the same events. It is
    that which `replay` writes into a snapshot, bit for bit: of each UTC day it has what was known
    when the day began. events, space: as of `features_at`.

    Raises InputError where no trend is declared, where last lies before first, or where so many
    days would be too large a table.
    """
    table = events if isinstance(events, pa.Table) else read_events(events)
    first_day, last_day = day_of(moment_ms(first, "first")), day_of(moment_ms(last, "last"))
    if not contrast_count(space):
        raise InputError("space", "no trend", 'declare a feature of kind "trend"')
    if last_day < first_day:
        raise InputError("last", last, "give a moment that is not before first")
    counts = DailyCounts.of(space, valid_batch(table))
    return TrendTable.of(space, counts, first_day, last_day)


def _with_strangers(known: KnownEvents, ids: list[str]) -> tuple[KnownEvents, Int64]:
    """Customers without any event get numbers, too; and the number of each of `ids`."""
    number = {customer: i for i, customer in enumerate(known.customer_ids)}
    customer = np.array([number.setdefault(c, len(number)) for c in ids], np.int64)
    return replace(known, customer_ids=list(number)), customer


def _matrix(known: KnownEvents, moments: Moments, space: FeatureSpace) -> sparse.csr_matrix:
    """The rows of all moments, in their order."""
    positions, parts = [np.zeros(0, np.int64)], []
    for at, rows in rows_at(known, moments, space):
        positions.append(at)
        parts.append(rows)
    if not parts:
        return sparse.csr_matrix((0, space.width), dtype=np.float32)
    stacked = sparse.vstack(parts, format="csr", dtype=np.float32)
    matrix = stacked[np.argsort(np.concatenate(positions))]
    matrix.has_sorted_indices = True
    return matrix
