"""Customers forgotten on request, from the request to the receipt.

The order is: look at everything that may refuse the request; replace the records by boundaries and
list them (io/stores/erasures.py); send tombstones and wait until they are the last word
(tombstones.py); take out what was sampled of them for drift (live/erased_samples.py); say what is
out of reach. From the second step on all that comes again stays out, so a request that broke off
later is made whole by making it again: its moments only move forward.

While a roll-out lasts, two namespaces may score these customers, so both are asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features.state import topic_hash
from stream_scorer.customers.dead_letters_named import count_dead_letters
from stream_scorer.customers.erasure_receipt import (
    ErasedPosition,
    ErasureReceipt,
    ForgottenCustomer,
    NamedDeadLetters,
    PlannedErasure,
    TombstoneSent,
)
from stream_scorer.customers.still_held import still_held
from stream_scorer.customers.tombstones import SentTombstone, Tombstones
from stream_scorer.customers.valid_ids import require_ids
from stream_scorer.errors import InputError, StoreUnavailable, StreamScorerError, Unavailable
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.io.stores.erasures import ErasedRecord, Erasures, joined
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.live.consumer import clock_ms as system_clock_ms
from stream_scorer.live.consumer import open_store
from stream_scorer.live.erased_samples import ErasedSamples, remove_samples
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings

MOST_CUSTOMERS = 200_000  # of one request: some minutes, and a receipt of about 100 MB
CUSTOMERS_PER_STEP = 5_000
WAIT_SECONDS = 60.0


def planned(settings: Settings, customer_ids: Sequence[str]) -> PlannedErasure:
    """What `erase` would delete. Raises as `erase` does, and changes nothing."""
    settings.redis.needs_one_server("forgetting customers")
    require_ids(customer_ids, settings.events.max_record_bytes, MOST_CUSTOMERS)
    with closing(open_store(settings, settings.feature_space())) as store:
        spaces = _erasures(settings, store)
        known = 0
        for first in range(0, len(customer_ids), CUSTOMERS_PER_STEP):
            states = store.load(list(customer_ids[first : first + CUSTOMERS_PER_STEP]))
            known += int((states.arrays.newest_ms >= 0).sum())
        tombstones = Tombstones(settings)
        return PlannedErasure(tuple(spaces), len(customer_ids), known, tombstones.members)


def erase(
    settings: Settings,
    customers: Mapping[str, int | None],
    *,
    version: str,
    scan_dead_letters: bool = False,
    wait_seconds: float = WAIT_SECONDS,
    clock_ms: Callable[[], int] = system_clock_ms,
) -> ErasureReceipt:
    """Forget these customers, each up to its moment in ms since 1970 UTC; None: now.

    version: of this package, for the receipt. Raises InputError for ids that are none and for
    moments to come, FingerprintMismatch, StoreUnavailable, and BusUnavailable or Halt where Kafka
    refuses before anything was deleted; afterwards the receipt's `problem` says what is open.
    """
    settings.redis.needs_one_server("forgetting customers")
    started, now_ms = time.monotonic(), clock_ms()
    require_ids(list(customers), settings.events.max_record_bytes, MOST_CUSTOMERS)
    _refuse_future(settings, customers, now_ms)
    with closing(open_store(settings, settings.feature_space())) as store:
        spaces = _erasures(settings, store)
        # Both may refuse, and nothing is deleted yet.
        tombstones = Tombstones(settings)
        announced = Announcements(store.server, settings.store.namespace).current()
        boundaries = {i: now_ms if at is None else at for i, at in customers.items()}
        erased = _erased(list(spaces.values()), boundaries)
        problem, sent = "", dict[str, SentTombstone]()
        samples: ErasedSamples | None = None
        dead_letters: NamedDeadLetters | None = None
        try:
            sent, problem = tombstones.send(erased, wait_seconds)
            if scan_dead_letters:
                dead_letters = count_dead_letters(settings, list(customers))
        except StreamScorerError as error:
            problem = f"records are deleted, but {error}; run this again"
        try:
            samples = _samples(settings, store, spaces, erased, now_ms)
        except StreamScorerError as error:
            problem = problem or f"samples for drift are not deleted: {error}; run this again"
        held = still_held(settings, store.server, erased.values(), samples, scan_dead_letters)
    hashes = {topic_hash(settings.kafka.input_topic): settings.kafka.input_topic}
    output = settings.kafka.output_topic
    return ErasureReceipt(
        done=not problem,
        problem=problem,
        time=moment_text(now_ms),
        namespaces=tuple(spaces),
        redis=settings.redis.shown_url,
        output_topic=output,
        model_version=None if announced is None else announced.model.model_version,
        customers=tuple(
            _forgotten(i, record, sent.get(i), output, hashes) for i, record in erased.items()
        ),
        drift_samples=None if samples is None else samples.samples,
        dead_letters=dead_letters,
        still_held=held,
        stream_scorer=version,
        seconds=round(time.monotonic() - started, 3),
    )


def _refuse_future(settings: Settings, customers: Mapping[str, int | None], now_ms: int) -> None:
    """A boundary is never taken back, so one of a mistyped year would leave a customer out until
    then. Events may be so far ahead, and so a receipt may be."""
    latest_ms = now_ms + settings.event_rules().allowed_skew_ms
    for customer, at_ms in customers.items():
        if at_ms is not None and at_ms > latest_ms:
            remedy = (
                f"{customer!r} would be left out until then, which can't be undone; give a moment "
                "that is over"
            )
            raise InputError("forgotten_at", moment_text(at_ms), remedy)


def listed(settings: Settings) -> dict[str, int]:
    """Who was forgotten in the settings' namespace, up to which moment in ms since 1970 UTC."""
    space = settings.feature_space()
    with closing(open_store(settings, space)) as store:
        return Erasures(store.server, settings.store.namespace, space.fingerprint).listed()


def _erasures(settings: Settings, store: RedisStore) -> dict[str, Erasures]:
    """Of the settings' namespace, and of the one that shares its group during a roll-out."""
    own = settings.store.namespace
    store.claim()
    found = {own: Erasures(store.server, own, settings.feature_space().fingerprint)}
    other, _ = store.shares_group_with()
    if other:
        text = store.ask(lambda: store.server.client.get(f"{other}:fingerprint"))
        if text is not None:
            found[other] = Erasures(store.server, other, int(text, 16))
    return found


def _erased(spaces: Sequence[Erasures], boundaries: Mapping[str, int]) -> dict[str, ErasedRecord]:
    """Of each customer what was in these namespaces, and the latest boundary, which all get.

    Raises StoreUnavailable where a part of them may be erased.
    """
    ids, found = list(boundaries), dict[str, ErasedRecord]()
    with progress("deleting records", len(ids)) as meter:
        for first in range(0, len(ids), CUSTOMERS_PER_STEP):
            some = {i: boundaries[i] for i in ids[first : first + CUSTOMERS_PER_STEP]}
            try:
                found |= _erased_in_all(spaces, some)
            except Unavailable as error:
                until = min(first + CUSTOMERS_PER_STEP, len(ids))
                raise StoreUnavailable(
                    f"{error}; the records of up to {until:,} of the {len(ids):,} customers are "
                    "deleted, and no tombstone is sent: run this again"
                ) from error
            meter.advance(len(some))
    return found


def _erased_in_all(
    spaces: Sequence[Erasures], boundaries: Mapping[str, int]
) -> dict[str, ErasedRecord]:
    done = [erasures.erase(boundaries) for erasures in spaces]
    found = {i: joined([of_space[i] for of_space in done]) for i in boundaries}
    # A namespace that is behind has not seen an event whose clock was ahead.
    for erasures, of_space in zip(spaces, done, strict=True):
        behind = [i for i, r in found.items() if of_space[i].boundary_ms < r.boundary_ms]
        erasures.erase({i: found[i].boundary_ms for i in behind})
    return found


def _samples(
    settings: Settings, store: RedisStore, namespaces: Iterable[str],
    erased: Mapping[str, ErasedRecord], now_ms: int,
) -> ErasedSamples:  # fmt: skip
    """What was sampled of them for drift, taken out of these namespaces. They are listed already,
    so that members leave them out of what they have not written yet."""
    boundaries = {i: record.boundary_ms for i, record in erased.items()}
    total = ErasedSamples()
    for namespace in namespaces:
        found = remove_samples(DriftStore(store.server, namespace), settings, boundaries, now_ms)
        total.samples += found.samples
        total.unread += found.unread
    return total


def _forgotten(
    customer: str, record: ErasedRecord, sent: SentTombstone | None, output: str,
    topics: Mapping[int, str],
) -> ForgottenCustomer:  # fmt: skip
    tombstone = None
    if sent is not None:
        tombstone = TombstoneSent(output, sent.partition, sent.offset, sent.sent)
    return ForgottenCustomer(
        customer_id=customer,
        forgotten_at=moment_text(record.boundary_ms),
        known=record.newest_ms is not None,
        record_bytes=record.bytes if record.newest_ms is not None else 0,
        values=record.values,
        newest_event=None if record.newest_ms is None else moment_text(record.newest_ms),
        positions=tuple(
            ErasedPosition(topics.get(hashed, f"files or a topic of hash {hashed:08x}"), p, offset)
            for (hashed, p), offset in sorted(record.sources.items())
        ),
        forgotten_before=None if record.before_ms is None else moment_text(record.before_ms),
        tombstone=tombstone,
    )
