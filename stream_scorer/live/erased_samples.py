"""Samples for drift of customers who were erased on request: taken out of the lines in Redis.

The customers have to be listed as erased before (io/stores/erasures.py). Then each line is either
written already, and is looked through here, or its writer has to know of them before it may write
(io/stores/drift_store.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stream_scorer.core.drift.followed import Boundaries, boundaries_by_hash
from stream_scorer.core.drift.hour import HOUR_MS, without_erased
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.settings.tree import Settings

# Members' clocks may be ahead, and an earlier config may have kept samples for longer. An hour of
# which there is nothing costs Redis next to nothing.
HOURS_AHEAD, LONGEST_HOURS = 24, 400 * 24


@dataclass
class ErasedSamples:
    """samples: scores and actions of the customers that were found. unread: lines that another
    release wrote, so that nobody knows whose samples they hold."""

    samples: int = 0
    unread: int = 0


def kept_ms(settings: Settings) -> int:
    """For how long samples are kept: a day more than they are looked at, since a horizon is judged
    some time after it is over."""
    horizon_hours = -(-settings.label_rule().horizon_ms // HOUR_MS)
    return (max(settings.drift.window_hours, horizon_hours) + 24) * HOUR_MS


def remove_samples(
    store: DriftStore, settings: Settings, erased_customers: Mapping[str, int], now_ms: int
) -> ErasedSamples:
    """Take out what was sampled of these customers up to their boundaries, by id in ms since 1970
    UTC. Raises StoreUnavailable."""
    return _looked_through(store, settings, erased_customers, now_ms, remove=True)


def count_samples(
    store: DriftStore, settings: Settings, erased_customers: Mapping[str, int], now_ms: int
) -> ErasedSamples:
    """As `remove_samples`, and changes nothing."""
    return _looked_through(store, settings, erased_customers, now_ms, remove=False)


def _looked_through(
    store: DriftStore, settings: Settings, erased_customers: Mapping[str, int], now_ms: int,
    *, remove: bool,
) -> ErasedSamples:  # fmt: skip
    erased = boundaries_by_hash(erased_customers)
    found = ErasedSamples()
    hours = max(kept_ms(settings) // HOUR_MS, LONGEST_HOURS)
    newest = now_ms // HOUR_MS + HOURS_AHEAD
    for hour, name, text in store.lines(newest - hours, newest) if erased else ():
        _look(store, (hour, name, text), erased, found, remove=remove)
    return found


def _look(
    store: DriftStore, line: tuple[int, str, bytes], erased: Boundaries, found: ErasedSamples,
    *, remove: bool,
) -> None:  # fmt: skip
    hour, name, text = line
    try:
        without, removed = without_erased(text, erased)
    except ValueError:
        found.unread += 1
        return
    if not removed:
        return
    # Where the line is another one by now, its writer knew of these customers.
    if not remove or store.replace(hour, name, text.decode("ascii"), without):
        found.samples += removed
