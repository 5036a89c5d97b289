"""`stream-scorer refresh`: the live members score all quiet customers again, at once.

The members do it, because the order of a customer's records in the output topic holds only where
one producer writes them: the one that owns the customer's partition. This verb leaves a request in
Redis, which they find within a second or two, and reads from there how far they are.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.freshness import PartitionFreshness
from stream_scorer.errors import InputError, StoreUnavailable
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.stores.members import Members
from stream_scorer.io.stores.redis import RedisStore
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
    unread: tuple[int, ...] = ()

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
    in the future, and where no member lives; BusUnavailable where Kafka can't be asked, and
    StoreUnavailable where Redis does not take the request or stays away for that long.
    """
    began = time.monotonic()
    asked_ms = now_ms()
    if as_of_ms is not None and as_of_ms > asked_ms:
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
    if not partitions:
        remedy = "there is no such topic; name the one that the members read"
        raise InputError("kafka.input_topic", kafka.input_topic, remedy)
    records = open_store(settings, space)
    store = RefreshStore(records, settings.store.namespace, kafka.input_topic)
    request = RefreshRequest(uuid.uuid4().hex[:16], asked_ms, as_of_ms)
    store.ask(request)
    found, superseded = _wait(store, partitions, request)
    unfinished = tuple(p for p, k in enumerate(found) if k.answered != request.name)
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
        unfinished=unfinished,
        unread=_unread(records, settings.store.namespace, unfinished),
        superseded=superseded,
        seconds=round(time.monotonic() - began, 3),
    )


def _wait(
    store: RefreshStore, partitions: Sequence[TopicPartition], request: RefreshRequest
) -> tuple[list[PartitionFreshness], bool]:
    """What is known of the partitions once all are done or nothing moves, and whether another
    request came meanwhile."""
    found: list[PartitionFreshness] = []
    moved, progress_made = time.monotonic(), list[tuple[object, ...]]()
    away: StoreUnavailable | None = None
    with progress("partitions", len(partitions)) as meter:
        while time.monotonic() < moved + PATIENCE_SECONDS:
            try:
                found, newest = store.partitions(partitions), store.asked()
                if newest is None:
                    store.ask(request)  # Redis has lost it
                away = None
            except StoreUnavailable as error:
                # The members wait for Redis as well, and go on with what was asked for.
                away = error
                time.sleep(LOOK_SECONDS)
                continue
            meter.at(sum(_share(known, request) for known in found))
            if all(known.answered == request.name for known in found):
                return found, False
            if newest is not None and newest.name != request.name:
                return found, True
            before, progress_made = progress_made, [_progress(known, request) for known in found]
            if progress_made != before:
                moved = time.monotonic()
            time.sleep(LOOK_SECONDS)
    if away is not None:
        remedy = "the members go on with this refresh once Redis answers them"
        raise StoreUnavailable(f"{away}; {remedy}") from away
    return found, False


def in_words(done: Refreshed) -> list[str]:
    """The result for people."""
    lines = [
        f"{done.refreshed:,} of {done.customers:,} customers scored again, {done.unmoved:,} would "
        f"have moved too little, the others were fresh"
    ]
    if done.superseded:
        lines.append("another request came meanwhile and took the place of this one")
    elif done.unfinished:
        lines.append(
            f"not done: partitions {_listed(done.unfinished)}; nothing has moved for "
            f"{PATIENCE_SECONDS:g} s. {_why(done)}"
        )
    return lines


def _why(done: Refreshed) -> str:
    if done.unread:
        return (
            f"No member with a heartbeat in Redis reads partitions {_listed(done.unread)}: look at "
            "`stream-scorer models status`, start members, or replace those of a release without "
            "refresh. They take up this request by themselves"
        )
    return (
        "Their members go on, once Kafka and Redis answer them and they have read their "
        "partitions to the end: their logs and `stream-scorer doctor` say what holds them up"
    )


def _listed(partitions: Sequence[int]) -> str:
    return ", ".join(map(str, partitions))


def _unread(store: RedisStore, namespace: str, partitions: tuple[int, ...]) -> tuple[int, ...]:
    """Those that no member reads, as far as the members say it themselves."""
    if not partitions:
        return ()
    members, _ = Members(store.server, namespace).all()
    read = {p for member in members if not member.gone for p in member.partitions}
    return tuple(p for p in partitions if p not in read)


def _progress(known: PartitionFreshness, request: RefreshRequest) -> tuple[object, ...]:
    """Another value where this request got on in the partition: other rounds do not count."""
    if known.answered == request.name:
        return (True,)
    if known.finished or known.began_ms < request.asked_ms:
        return (False,)
    return known.began_ms, known.share, known.read


def _share(known: PartitionFreshness, request: RefreshRequest) -> float:
    """How much of a partition's part is done."""
    if known.answered == request.name:
        return 1.0
    return known.share if known.began_ms >= request.asked_ms and not known.finished else 0.0
