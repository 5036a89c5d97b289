"""Where reading starts of partitions that came: from the rebalance until they are read.

A rebalance callback only notes which partitions came and went (`add`, `discard`). Where to start is
asked for on a thread (start_lookup.py) while others are read, and decided in start_offset.py. Where
the group has no offset yet, the start itself is committed, and the answer awaited, before anything
is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from confluent_kafka import Consumer

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import BusUnavailable, ClientLost
from stream_scorer.io.kafka.group_offsets import GroupOffsets
from stream_scorer.io.kafka.start_lookup import StartLookup
from stream_scorer.io.kafka.start_offset import logged_start

log = logging.getLogger(__name__)

# A coordinator in good health answers sooner, and what else is read may wait so long.
LOOKUP_SECONDS = 0.1
LOOKUP_AGAIN_SECONDS = 0.5  # after a lookup that failed
CLOSE_SECONDS = 12.0  # a lookup ends before, by its own time limits


class Positions(Protocol):
    """The store's watermarks: the offset up to which it has every event."""

    def watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...
    def watermark_epochs(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]: ...
    def begin(self, offsets: dict[TopicPartition, int]) -> None: ...
    def release(self, partitions: list[TopicPartition]) -> None: ...


Offsets = Mapping[TopicPartition, int]
ReadsFrom = Callable[[Offsets, Offsets], Offsets]


def keep_starts(starts: Offsets, _firsts: Offsets) -> Offsets:
    """Read from where each partition starts."""
    return starts


class PartitionStarts:
    """Partitions that are assigned and not read yet. Not thread-safe.

    offsets: of the group, to which starts are added. in_transaction: where transactions carry the
    offsets, commits starts in one of its own. reads_from: by partition from which offset to read
    where it would start at the first argument's, and its log begins at the second's; no later one.
    What lies between is read again for something else that is made of the events: it is not
    published again.
    """

    def __init__(
        self,
        positions: Positions,
        offsets: GroupOffsets,
        in_transaction: Callable[[dict[TopicPartition, int]], None] | None,
        reads_from: ReadsFrom = keep_starts,
    ) -> None:
        self._positions, self._offsets = positions, offsets
        self._in_transaction, self._reads_from = in_transaction, reads_from
        self._pending: set[TopicPartition] = set()
        self._lookup: StartLookup | None = None  # of some of them
        self._next_lookup = 0.0
        # Of those, where the start is known and the group does not have it yet.
        self._first: dict[TopicPartition, int] = {}
        # By partition that was begun, the offset from which on this member publishes.
        self.publishes_from: dict[TopicPartition, int] = {}

    @property
    def waiting(self) -> int:
        """How many partitions are not read yet."""
        return len(self._pending)

    def add(self, partitions: Collection[TopicPartition]) -> None:
        """These came, or have to be begun anew."""
        self._pending |= set(partitions)

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        """These went."""
        self._pending -= set(partitions)
        for tp in partitions:
            self._first.pop(tp, None)
        if self._lookup is not None:
            self._lookup.discard(partitions)

    def find_anew(self) -> None:
        """What was found is not used: other members may have read on from there."""
        self._first.clear()
        if self._lookup is not None:
            self._lookup.discard(self._pending)

    def ready(self, consumer: Consumer, *, reading: bool) -> dict[TopicPartition, int]:
        """Partitions that can be read now, and from which offset; they are not kept here any more.

        reading: others are read. Then it waits for `LOOKUP_SECONDS` at most, and what Kafka fails
        with is only logged and asked again. Raises BusUnavailable, StoreUnavailable (call again),
        HistoryGone, Halt.
        """
        unknown = self._pending - self._first.keys()
        if unknown and self._lookup is None and time.monotonic() >= self._next_lookup:
            # The store before the log: what another member saves and the log gets afterwards would
            # look like records that the log has lost.
            marks = self._positions.watermarks(sorted(unknown))
            self._lookup = StartLookup(consumer, unknown, marks)
            self._lookup.finished(LOOKUP_SECONDS)
        found: dict[TopicPartition, int] = {}
        if self._lookup is not None and self._lookup.finished():
            lookup, self._lookup = self._lookup, None
            try:
                found = self._found(lookup)
            except BusUnavailable as error:
                self._next_lookup = time.monotonic() + LOOKUP_AGAIN_SECONDS
                # Where nothing else is read, the loop waits and tries again.
                if not reading or isinstance(error, ClientLost):
                    raise
                log.warning("%s; partitions that came are not read yet", error)
        # Those whose first offset the group has by now.
        found |= {tp: o for tp, o in self._first.items() if tp in self._offsets.committed}
        self._pending -= found.keys()
        for tp in found:
            self._first.pop(tp, None)
        return found

    def close(self) -> None:
        """Wait for what is still asked: the client may not be closed meanwhile."""
        if self._lookup is not None:
            self._lookup.finished(CLOSE_SECONDS)

    def _found(self, lookup: StartLookup) -> dict[TopicPartition, int]:
        partitions = lookup.partitions
        answers, ranges = lookup.answers()
        if not partitions:
            return {}
        marks = lookup.marks
        for tp, (offset, epoch) in self._positions.watermark_epochs(partitions).items():
            if marks.get(tp) == offset:
                self._offsets.epochs.know(tp, offset, epoch)
        committed = self._offsets.known(answers)
        starts = {
            tp: logged_start(tp, committed.get(tp), marks.get(tp), ranges[tp]) for tp in partitions
        }
        self._positions.begin(starts)
        reads = self._reads_from(starts, {tp: ranges[tp][0] for tp in starts})
        own = {tp: o for tp, o in committed.items() if tp not in self._offsets.partners}
        self._offsets.begin(own)
        new = {tp: committed.get(tp, o) for tp, o in starts.items() if tp not in own}
        self.publishes_from |= {tp: max(o, committed.get(tp, 0)) for tp, o in starts.items()}
        if self._in_transaction is None:
            # Before anything is read: a crash between the first save and the first commit would
            # otherwise leave only the watermark to start from, which lies past events whose
            # propensities and dead letters nobody has published.
            self._offsets.add_starts(new)
            self._first |= {tp: reads[tp] for tp in new}
        elif new:
            # Also a member that is evicted right now must not take later offsets back, and only
            # offsets of a transaction are bound to the membership of the last rebalance.
            self._in_transaction(new)
            self._offsets.note(new)
        return {tp: o for tp, o in reads.items() if tp not in self._first}
