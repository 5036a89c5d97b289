"""Prepared events into a store: load, apply, save, until the store refuses no record.

The live path and replays fold with this code, which is why a replayed vector has the bits of the
live one. A record is refused where another consumer has written a newer one meanwhile: that record
is loaded, and the events that it lacks are applied to it. Events are skipped by the offsets in the
records, so a batch that is folded again counts nothing twice.
"""

from __future__ import annotations

import logging

import numpy as np

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.events.customer_rates import CustomerRates
from stream_scorer.core.features import fold
from stream_scorer.core.features.fold_plan import APPLIED, ERASED, FORGOTTEN
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import CustomerStates, concatenate_states, take
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.store import Store
from stream_scorer.runtime import Threads

# A save is refused only where another owner of the partition has written in between. Two owners
# overlap for no longer than a rebalance, so a second attempt should succeed.
SAVE_ATTEMPTS = 5

log = logging.getLogger(__name__)


class StoreFold:
    """Folds batches into one store. `applied`, `too_old`, `erased` and `refused_writes` also count
    what attempts did that ended in an error; the owner sets them back when a batch is done.
    """

    def __init__(
        self, store: Store, space: FeatureSpace, *, threads: int = 1,
        rates: CustomerRates | None = None,
    ) -> None:  # fmt: skip
        self._rates = rates or CustomerRates(0)
        self._store, self._space, self._workers = store, space, Threads(threads)
        self.applied = self.too_old = self.erased = self.refused_writes = 0

    def fold(self, prepared: PreparedEvents, report: BatchReport) -> CustomerStates:
        """The states of every customer with an event in the batch, all saved.

        Adds to report's applied, duplicates, too_old, erased_events, extreme_customers and seconds,
        and sets its ignored_events. Customers of extreme rate are logged. Raises StoreUnavailable
        and StoreRewound.
        """
        ids, stream = prepared.customer_ids, prepared.stream
        report.ignored_events = prepared.ignored_events
        with report.stage("load"):
            states = self._store.load(ids)
        rows = np.unique(stream.customer).astype(np.int64)
        for _ in range(SAVE_ATTEMPTS):
            with report.stage("apply"):
                applied = fold.fold_stream(states, stream, self._space, workers=self._workers)
            with report.stage("save"):
                # All of them, also those whose events were applied already, by an attempt that
                # ended in an error: if Redis has lost their records since they were loaded, this
                # writes them again, and the watermark may move over their events.
                refused = self._store.save(applied.states, rows, states)
            # Only what was written counts; the refused customers' events are folded again below.
            written = ~np.isin(stream.customer, refused)
            counted = written & (applied.outcome == APPLIED)
            fresh = int(counted.sum())
            too_old = int((applied.outcome[written] == FORGOTTEN).sum())
            erased = int((applied.outcome[written] == ERASED).sum())
            self.applied += fresh
            self.too_old += too_old
            self.erased += erased
            report.applied += fresh
            report.too_old += too_old
            report.erased_events += erased
            report.duplicates += int(written.sum()) - fresh - too_old - erased
            extreme = self._rates.add(ids, stream.customer[counted], stream.occurred_ms[counted])
            report.extreme_customers += extreme
            for rate in extreme:
                log.warning("%s", rate)
            if not len(refused):
                return applied.states
            self.refused_writes += len(refused)
            rows = refused
            with report.stage("load"):
                newer = self._store.load([ids[i] for i in refused.tolist()])
                states = _replaced(applied.states, refused, newer)
                stream = stream.take(np.flatnonzero(~written))
        raise StoreUnavailable(f"another consumer keeps overwriting {len(refused)} customers")


def _replaced(states: CustomerStates, rows: Int64, by: CustomerStates) -> CustomerStates:
    """`states` with `rows` (k,) replaced by the k rows of `by`."""
    both = concatenate_states(states, by)
    source = np.arange(len(states))
    source[rows] = len(states) + np.arange(len(by))
    return take(both, source)
