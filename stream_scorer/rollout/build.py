"""A new namespace's records, from event files and the topic's log, and kept up with the log.

It is the build of `replay --into` (past/namespaces.py), but it begins at the namespace's own
watermarks: what broke off is gone on with, and nothing is read twice from the start. Keeping up
repeats it with what came meanwhile. Nobody is published to and no group is joined: what the old
namespace's members do is not touched. A partition that a member of the new namespace reads is left
to that member; where both write for a moment, the store refuses whichever record is older.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.moments import moment_text
from stream_scorer.errors import InputError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.past.missing_history import HistoryMissingError
from stream_scorer.past.namespaces import build_namespace, trend_offsets
from stream_scorer.past.sources import TOPIC, PastEvents, open_past
from stream_scorer.runtime import usable_cores
from stream_scorer.settings.tree import Settings

BATCH_RECORDS = 10_000


def check_topic(
    settings: Settings,
    store: RedisStore,
    partitions: Iterable[TopicPartition],
    from_ms: int | None,
    *,
    accept_missing: bool,
) -> None:
    """Raises InputError where the topic lacks records from from_ms on that the namespace lacks as
    well, unless accept_missing."""
    with _topic(settings, store, partitions, from_ms, accept_missing=accept_missing):
        pass


def build_from_files(
    settings: Settings, store: RedisStore, files: Sequence[str], until_ms: int | None
) -> None:
    """Their events before until_ms. Raises InputError, StoreUnavailable, Halt."""
    if list(files) == [TOPIC]:
        raise InputError("EVENTS", TOPIC, f"is read anyhow; a file of this name is ./{TOPIC}")
    with open_past(settings, files, batch_records=BATCH_RECORDS, to_ms=until_ms) as past:
        build_namespace(settings, past, store, usable_cores())


def build_from_topic(
    settings: Settings,
    store: RedisStore,
    partitions: Iterable[TopicPartition],
    from_ms: int | None,
    *,
    accept_missing: bool,
) -> None:
    """The topic's records from from_ms up to its end, of those that the namespace lacks.

    Raises InputError where the topic no longer holds all of them, unless accept_missing.
    """
    with _topic(settings, store, partitions, from_ms, accept_missing=accept_missing) as past:
        build_namespace(settings, past, store, usable_cores(), goes_on=True)


def _from_watermarks(
    settings: Settings, store: RedisStore, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """Where to go on in each partition, None where the namespace has nothing of it."""
    asked = list(partitions)
    marks = store.watermarks(asked)
    # Where the shop's trend was saved before a build broke off, it goes on there.
    counted = trend_offsets(settings, asked)
    return {tp: min(marks[tp], counted.get(tp, marks[tp])) if tp in marks else None for tp in asked}


@contextmanager
def _topic(
    settings: Settings,
    store: RedisStore,
    partitions: Iterable[TopicPartition],
    from_ms: int | None,
    *,
    accept_missing: bool,
) -> Iterator[PastEvents]:
    """From the watermarks on, and from from_ms on where the namespace has nothing."""
    offsets = _from_watermarks(settings, store, partitions)
    # What the watermarks cover is there; what is above them `TopicReader` finds or refuses.
    begun = None not in offsets.values()
    try:
        with open_past(
            settings, [TOPIC], batch_records=BATCH_RECORDS, from_ms=from_ms, from_offsets=offsets,
            missing_history="ignore" if begun else "accept" if accept_missing else "refuse",
        ) as past:  # fmt: skip
            yield past
    except HistoryMissingError as error:
        since = "" if from_ms is None else f" from {moment_text(from_ms)} on"
        raise InputError(
            "topic", settings.kafka.input_topic,
            f"{error.missing}. Vectors of the rest would lack what came before{since}. Give the "
            f"event files, and with --topic-from TIME since when the topic has all"
            f"{error.complete_from}; or take the rest as if it were all, with "
            "--accept-missing-history",
        ) from None  # fmt: skip


def keep_up(settings: Settings, store: RedisStore, partitions: Sequence[TopicPartition]) -> int:
    """Fold what these partitions' log holds beyond the watermarks; how many records that were."""
    if not partitions:
        return 0
    offsets = _from_watermarks(settings, store, partitions)
    try:
        with open_past(
            settings, [TOPIC], batch_records=BATCH_RECORDS, missing_history="ignore",
            from_offsets=offsets,
        ) as past:  # fmt: skip
            if not past.most_records:
                return 0
            build_namespace(settings, past, store, 1, quiet=True, goes_on=True)
            return past.most_records
    finally:
        # A member of the new namespace may get any of them next.
        store.release(list(partitions))
