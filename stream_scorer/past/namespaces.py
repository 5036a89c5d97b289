"""Past events into a new namespace in Redis, from which `run` goes on.

Watermarks move as they do live, so a build that broke off is taken up by repeating it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.trend_record import TrendPlan
from stream_scorer.errors import BusUnavailable, Halt, InputError, StoreRewound
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.live.consumer import open_trend, redis_client
from stream_scorer.live.trend_keeper import TrendKeeper
from stream_scorer.past.sources import PastEvents
from stream_scorer.past.vectors import PastFold
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)


def build_namespace(
    settings: Settings,
    past: PastEvents,
    store: RedisStore,
    threads: int,
    *,
    quiet: bool = False,
    goes_on: bool = False,
) -> PastFold:
    """All events of `past` into `store`, which is that of the namespace that `settings` name.

    quiet, goes_on: as of PastFold.

    Raises InputError where events between those of the namespace and those of `past` would be
    missing, and where a file of a directory begins elsewhere than it did before; Halt where Redis
    lost writes meanwhile, or the topic was created again since the namespace was begun; and as
    `PastFold.run`.
    """
    settings.redis.needs_one_server("a replay into a namespace")
    namespace = settings.store.namespace
    if past.ranges:
        _recognise_topic(settings, store)
    # A partition that starts at 5 must not look as if 0 to 4 were stored.
    _begin(store, namespace, {tp: first for tp, (first, _) in past.ranges.items()})
    firsts = {tp: first for tp, (first, _) in past.ranges.items()}
    ends = {tp: end for tp, (_, end) in past.ranges.items()}
    noted = replace(past, batches=_with_files_noted(past, store))
    try:
        with _trend_kept(settings, store) as trend:
            if trend is not None:
                trend.begin(firsts, firsts)
            fold = PastFold(
                settings, noted, store, threads, quiet=quiet, goes_on=goes_on, trend=trend
            )
            fold.run()
            # The ends, though the last offsets may hold no record (compaction, transactions).
            store.advance(ends)
            if trend is not None:
                trend.reach(ends)
                trend.save()
    except StoreRewound:
        raise Halt(
            f"Redis lost writes while namespace {namespace} was built; run the same command "
            "again: it skips what is stored"
        ) from None
    return fold


@contextmanager
def _trend_kept(settings: Settings, store: RedisStore) -> Iterator[TrendKeeper | None]:
    """What counts the shop's trend; None where the declaration has none."""
    # On connections of its own: the store must see every error of its own ones.
    server = RedisServer(redis_client(settings))
    try:
        trend = open_trend(settings, settings.feature_space(), server, store)
        yield None if trend is None else trend.keeper
    finally:
        server.close()


def trend_offsets(
    settings: Settings, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Up to which offset the namespace's trend has each of these partitions, where it has a record
    of it. Raises StoreUnavailable and InputError."""
    plan = TrendPlan.of(settings.feature_space())
    if plan is None:
        return {}
    server = RedisServer(redis_client(settings))
    try:
        records = TrendStore(server, settings.store.namespace, plan).load(partitions)
    finally:
        server.close()
    return {tp: record.next_offset for tp, record in records.items()}


def _recognise_topic(settings: Settings, store: RedisStore) -> None:
    """Raises Halt where the namespace was begun with an earlier topic of the same name: events at
    the offsets of that one would be skipped, as if they were stored."""
    topic = settings.kafka.input_topic
    try:
        identity = KafkaAdmin(settings.kafka.client_properties()).identity(topic)
    except BusUnavailable as error:
        log.info(
            "whether topic %s was created again is left to `run` to find out: %s", topic, error
        )
        return
    if identity:
        store.recognise(topic, identity)


def _begin(store: RedisStore, namespace: str, firsts: dict[TopicPartition, int]) -> None:
    """Begin the partitions of a topic. Raises InputError where an earlier replay ended before their
    first offsets: watermarks would move over events that nobody has read."""
    try:
        store.begin(firsts)
    except StoreRewound as gap:
        missing = ", ".join(
            f"{topic}[{partition}] from {offset} to {firsts[topic, partition] - 1}"
            for (topic, partition), offset in sorted(gap.offsets.items())
        )
        remedy = (
            f"what it holds of the topic ends before this replay begins, so it would lack {missing}"
        )
        raise InputError(
            "--into", namespace, f"{remedy}; begin the replay there, or name a new namespace"
        ) from None


def _with_files_noted(past: PastEvents, store: RedisStore) -> Iterator[DecodedBatch]:
    """The batches, each given on when the namespace knows where its files begin.

    Raises InputError where a file of a directory began elsewhere when the namespace was built.
    """
    noted: set[str] = set()
    for batch in past.batches:
        numbering = past.numbering
        if numbering is not None:
            for file in [f for f in numbering.begins if f not in noted]:
                noted.add(file)
                if numbering.source_of[file] != file:  # a file of a directory
                    store.remember_file_start(file, numbering.begins[file])
        yield batch
