"""`stream-scorer refresh`: the live members score all quiet customers again, at once.

The members do it, because the order of a customer's records in the output topic holds only where
one producer writes them: the one that owns the customer's partition. This verb leaves a request in
Redis, which they find within a second or two, and reads from there how far they are.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.freshness import PartitionFreshness
from stream_scorer.errors import InputError
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.stores.refresh_store import RefreshRequest, RefreshStore
from stream_scorer.live.consumer import clock_ms, open_store
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings

LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 60.0  # without any progress: as long as a member that was killed may count


@dataclass(frozen=True)
class Refreshed(Result):
    """What the members did.

    as_of: the moment that customers were scored as of, "" for that of their scoring. customers: who
    was looked at; unmoved: whose score moves by less than refresh.least_change. unfinished: the
    partitions whose customers are not all done yet; superseded: another request came meanwhile.
    """

    as_of: str
    partitions: int
    customers: int
    refreshed: int
    unmoved: int
    unfinished: tuple[int, ...]
    superseded: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all were refreshed."""
        return not self.unfinished


def refresh(
    settings: Settings,
    as_of_ms: int | None = None,
    now_ms: Callable[[], int] = clock_ms,
) -> Refreshed:
    """Ask for a refresh and wait until it is done, or nothing moves for `PATIENCE_SECONDS`.

    as_of_ms: the moment to score as of, None for that of scoring. Raises InputError where it lies
    in the future, and where no member lives.
    """
    began = time.monotonic()
    asked_ms = now_ms()
    if as_of_ms is not None and as_of_ms > asked_ms + 1000 * settings.events.allowed_skew_seconds:
        remedy = (
            "lies in the future, and nobody knows today's vectors then; give a moment until now"
        )
        raise InputError("--as-of", moment_text(as_of_ms), remedy)
    kafka, space = settings.kafka, settings.feature_space()
    admin = KafkaAdmin(kafka.client_properties())
    if not admin.members(kafka.group_id):
        raise InputError(
            "kafka.group_id", kafka.group_id,
            "has no live members, and they are the ones who refresh; start one with "
            "`stream-scorer run`",
        )  # fmt: skip
    partitions = [(kafka.input_topic, p) for p in range(admin.partitions(kafka.input_topic))]
    store = RefreshStore(open_store(settings, space), settings.store.namespace, kafka.input_topic)
    request = RefreshRequest(uuid.uuid4().hex[:16], asked_ms, as_of_ms)
    store.ask(request)
    found: list[PartitionFreshness] = []
    moved, superseded = time.monotonic(), False
    with progress("partitions", len(partitions)) as meter:
        while not superseded and time.monotonic() < moved + PATIENCE_SECONDS:
            before, found = found, store.partitions(partitions)
            meter.at(sum(_share(known, request) for known in found))
            if all(known.answered == request.name for known in found):
                break
            if found != before:
                moved = time.monotonic()
            newest = store.asked()
            superseded = newest is not None and newest.name != request.name
            time.sleep(LOOK_SECONDS)
    mine = [
        k.answer if k.answered == request.name else (k.read, k.refreshed, k.unmoved)
        for k in found
        if k.answered == request.name or k.began_ms >= asked_ms
    ]
    return Refreshed(
        as_of="" if as_of_ms is None else moment_text(as_of_ms),
        partitions=len(partitions),
        customers=sum(read for read, _, _ in mine),
        refreshed=sum(refreshed for _, refreshed, _ in mine),
        unmoved=sum(unmoved for _, _, unmoved in mine),
        unfinished=tuple(p for p, k in enumerate(found) if k.answered != request.name),
        superseded=superseded,
        seconds=round(time.monotonic() - began, 3),
    )


def in_words(done: Refreshed) -> list[str]:
    """The result for people."""
    lines = [
        f"{done.refreshed:,} of {done.customers:,} customers scored again, {done.unmoved:,} would "
        f"have moved too little, the others were fresh"
    ]
    if done.superseded:
        lines.append("another request came meanwhile and took the place of this one")
    elif done.unfinished:
        listing = ", ".join(map(str, done.unfinished))
        lines.append(
            f"not done: partitions {listing}. Their members go on, once they have read their "
            "partitions to the end; their logs and `stream-scorer doctor` say what holds them up. "
            "Members of a release without refresh do nothing: replace them"
        )
    return lines


def _share(known: PartitionFreshness, request: RefreshRequest) -> float:
    """How much of a partition's part is done."""
    if known.answered == request.name:
        return 1.0
    return known.share if known.began_ms >= request.asked_ms and not known.finished else 0.0
