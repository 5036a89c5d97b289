"""Events from Kafka: group membership, where to start, and offsets.

A rebalance callback only notes which partitions came and went. Partitions that came are read once
`poll` has found where to start (start_offset.py): outside the callback an error can be raised and
the attempt repeated. `auto.offset.reset` is "error", so nothing is skipped silently. Offsets are
committed by `commit`, which the pipeline calls last, after everything is saved and published; a
commit that a rebalance interrupted is tried again before its partition is given up. Where the group
has no offset yet, the start itself is committed before anything is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.errors import BusUnavailable, Halt
from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.consumer_errors import ConsumerErrors
from stream_scorer.io.kafka.errors import Rights, ask
from stream_scorer.io.kafka.group_offsets import NOBODY, REQUEST_SECONDS, GroupOffsets, Owner
from stream_scorer.io.kafka.lag import Lag
from stream_scorer.io.kafka.leader_epochs import UNKNOWN_EPOCH, seek_with_epochs
from stream_scorer.io.kafka.membership import Membership
from stream_scorer.io.kafka.messages import partition_of, record_batch
from stream_scorer.io.kafka.start_offset import check_in_log, logged_start

log = logging.getLogger(__name__)

WAIT_SLICE_SECONDS = 0.1  # a waiting member serves rebalances this often

FIXED_PROPERTIES: dict[str, str | int] = {
    # An offset may be committed only when the store has the events and the topic the scores.
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    # Says how far a log without further records goes: see `lag`.
    "enable.partition.eof": "true",
    # A member keeps the partitions that it is not asked for, and reads on through a rebalance.
    "partition.assignment.strategy": "cooperative-sticky",
}


class Positions(Protocol):
    """The store's watermarks: the offset up to which it has every event."""

    def watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...
    def watermark_epochs(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]: ...
    def begin(self, offsets: dict[TopicPartition, int]) -> None: ...
    def release(self, partitions: list[TopicPartition]) -> None: ...


class KafkaSource:
    """Records of one topic's partitions that the group gives to this member.

    properties: librdkafka's, with group.id. in_transaction: where transactions carry the offsets,
    commits such offsets in one of its own. owner, partner: as of GroupOffsets. on_error is called
    with each transient error's name, for counting.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        topic: str,
        positions: Positions,
        *,
        max_events: int,
        max_age_ms: int,
        in_transaction: Callable[[dict[TopicPartition, int]], None] | None = None,
        owner: Owner = NOBODY,
        partner: Callable[[], Owner] = lambda: NOBODY,
        on_error: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._positions = positions
        self._max_events, self._max_age_seconds = max_events, max_age_ms / 1000
        self._in_transaction = in_transaction
        self._next: dict[TopicPartition, int] = {}  # by partition, the next offset to hand out
        self._pending: set[TopicPartition] = set()  # assigned, start offset not yet known
        self._offsets = GroupOffsets(owner, partner)
        self._lag = Lag()
        self._held: list[Message] = []  # received by `wait`, which must poll to stay in the group
        self._membership = Membership()
        rights = Rights(
            topic=f"Read on topic {topic}", group=f"Read on group {properties.get('group.id')}"
        )
        self._errors = ConsumerErrors(on_error, rights)
        self._closed = False
        config = {**properties, **FIXED_PROPERTIES}
        self._topic, self._joined = topic, False
        self._consumer = Connected(Consumer, config, self._errors.on_client_error).client

    def join(self) -> None:
        """Subscribe to the topic; does nothing where `poll` has done so already."""
        if not self._joined:
            self._joined = True
            self._consumer.subscribe(
                [self._topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )

    def poll(self) -> RecordBatch:
        """Up to max_events records, or what came within max_age_ms; may be empty.

        Records of partitions that went away meanwhile are left out. Raises BusUnavailable,
        StoreUnavailable (call again), HistoryGone, Halt.
        """
        self.join()
        self._start_pending()
        held, self._held = self._held, []
        messages = held + self._consume(self._max_events - len(held), self._max_age_seconds)
        self._errors.raise_failure()
        if not messages:
            # What a rebalance refused; with the next event it might wait for hours, and all that
            # time the group would seem to lag, and a successor would read it again.
            self._commit_waiting()
        return self._batch(messages)

    def owned(self, records: RecordBatch) -> RecordBatch:
        """Of the batch that `poll` gave last, the records whose partitions are still read here."""
        mine = {
            tp
            for tp, following in records.next_offsets().items()
            if self._next.get(tp) == following
        }
        keep = np.array([tp in mine for tp in records.partitions], np.bool_)
        rows = keep[records.partition_index] if len(records) else np.zeros(0, np.bool_)
        if rows.all():
            return records
        return records.take(np.flatnonzero(rows))

    def committed(self) -> Mapping[TopicPartition, int]:
        """The committed offset of each partition that is read: all below it is published."""
        return self._offsets.committed

    def commit(self, next_offsets: dict[TopicPartition, int]) -> None:
        """Commit, and wait for the answer; only partitions still held. Raises BusUnavailable.

        Where the group is changing the offsets are kept, and committed with the next ones, by a
        `poll` that finds no records, or when their partition is given up. An offset below the
        committed one is left out. Where a transaction has committed them, they are only remembered.
        """
        mine = {tp: o for tp, o in next_offsets.items() if tp in self._next}
        if self._in_transaction is not None:
            self._offsets.note(mine)
            return
        self._offsets.add(mine)
        self._commit_waiting()

    def _commit_waiting(self) -> None:
        # A client that was evicted joins again on a thread of its own, and commits as the new
        # member: the group would accept offsets of partitions that another has read on from.
        if self._membership.is_current(self._consumer):
            self._offsets.commit(self._consumer, self._offsets.waiting())

    def seek(self, next_offsets: dict[TopicPartition, int]) -> None:
        """Read on from `next_offsets`; partitions not held are ignored. Raises HistoryGone."""
        mine = {tp: o for tp, o in next_offsets.items() if tp in self._next}
        for tp, offset in mine.items():
            check_in_log(tp, offset, self._log_range(tp))
        self._held = [m for m in self._held if partition_of(m) not in mine]
        self._offsets.withdraw(mine)
        # Not by the client's own seek: assigning anew also drops what was fetched already.
        ask("seeking", self._consumer.incremental_unassign, [KafkaPartition(*tp) for tp in mine])
        self._read_from(mine)

    def wait(self, seconds: float) -> None:
        """Pause for `seconds`, but keep polling: a member that does not poll is evicted."""
        assigned = [KafkaPartition(*tp) for tp in self._next]
        ask("pausing", self._consumer.pause, assigned)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            # Partitions assigned meanwhile stay in `_pending`: nothing of them can arrive here.
            self._held += self._consume(1, min(left, WAIT_SLICE_SECONDS))
        still = [p for p in assigned if (p.topic, p.partition) in self._next]
        ask("resuming", self._consumer.resume, still)
        self._held = [m for m in self._held if partition_of(m) in self._next]

    def lag(self) -> dict[TopicPartition, int]:
        """For each partition read from, how many records the log holds beyond the last one read."""
        held = {partition_of(message) for message in self._held}
        return self._lag.of(self._consumer, self._next, held)

    def group_metadata(self) -> bytes:
        """What a transaction needs to commit offsets of what `poll` gave. Raises BusUnavailable."""
        return self._membership.metadata()

    def for_commit(self, next_offsets: Mapping[TopicPartition, int]) -> list[KafkaPartition]:
        """These offsets as a transaction commits them."""
        return self._offsets.for_commit(next_offsets)

    def leader_epochs(
        self, next_offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """The leader epoch of the last record before each of these offsets, where it is known."""
        found = {tp: self._offsets.epochs.at(tp, offset) for tp, offset in next_offsets.items()}
        return {tp: epoch for tp, epoch in found.items() if epoch != UNKNOWN_EPOCH}

    def close(self) -> None:
        """Leave the group. Only what was passed to `commit` is committed."""
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def _consume(self, most: int, seconds: float) -> list[Message]:
        if most <= 0:
            return []
        rights = self._errors.rights
        messages = ask("consuming", self._consumer.consume, most, seconds, rights=rights)
        records = []
        for message in messages:
            trouble = message.error()
            if trouble is None:
                records.append(message)
            elif trouble.code() == KafkaError._PARTITION_EOF:
                self._lag.reached(message)
            else:
                self._errors.on_message_error(message, trouble)
        return records

    def _batch(self, messages: list[Message]) -> RecordBatch:
        """Columns of the records whose partitions are still read here, from their next offset on.

        The client may hand out a few records of a partition that was revoked, or that was sought
        to another offset, after they were fetched.
        """
        batch = record_batch(messages)
        top = np.iinfo(np.int64).max  # no record of a partition that is not held reaches it
        least = np.array([self._next.get(tp, top) for tp in batch.partitions], np.int64)
        fresh = batch.offsets >= least[batch.partition_index]
        if not fresh.all():
            rows = np.flatnonzero(fresh)
            batch, messages = batch.take(rows), [messages[i] for i in rows.tolist()]
        following = batch.next_offsets()
        for number, tp in enumerate(batch.partitions):
            rows = np.flatnonzero(batch.partition_index == number).tolist()
            if rows:
                self._offsets.epochs.check(tp, [messages[i] for i in rows])
                self._offsets.epochs.know(tp, following[tp], messages[rows[-1]].leader_epoch())
        self._next |= following
        return batch

    def _start_pending(self) -> None:
        """Find where to start the newly assigned partitions, and read from there."""
        partitions = sorted(self._pending)
        if not partitions:
            return
        marks = self._positions.watermarks(partitions)
        for tp, (offset, epoch) in self._positions.watermark_epochs(partitions).items():
            if marks.get(tp) == offset:
                self._offsets.epochs.know(tp, offset, epoch)
        committed = self._offsets.ask(self._consumer, partitions)
        starts = {
            tp: logged_start(tp, committed.get(tp), marks.get(tp), self._log_range(tp))
            for tp in partitions
        }
        self._positions.begin(starts)
        own = {tp: o for tp, o in committed.items() if tp not in self._offsets.partners}
        self._offsets.committed |= own
        new = {tp: committed.get(tp, o) for tp, o in starts.items() if tp not in own}
        self._commit_starts(new)
        self._read_from(starts)
        self._pending.clear()

    def _commit_starts(self, starts: dict[TopicPartition, int]) -> None:
        """Commit the group's first offsets before anything is read.

        A crash between the first save and the first commit would otherwise leave only the
        watermark to start from, which lies past events whose propensities and dead letters
        nobody has published.
        """
        if self._in_transaction is None:
            # As in `_commit_waiting`: an evicted client may have joined again since the group was
            # asked which offsets it has, and by now it may have others.
            is_member = self._membership.is_current(self._consumer)
            self._offsets.commit_starts(self._consumer, starts, is_member=is_member)
        elif starts:
            # Also a member that is evicted right now must not take later offsets back, and only
            # offsets of a transaction are bound to the membership of the last rebalance.
            self._in_transaction(starts)
            self._offsets.note(starts)

    def _read_from(self, starts: Mapping[TopicPartition, int]) -> None:
        partitions = [KafkaPartition(*tp, offset) for tp, offset in starts.items()]
        ask("assigning", self._consumer.incremental_assign, partitions)
        try:
            seek_with_epochs(self._consumer, starts, self._offsets.epochs)
        except (BusUnavailable, Halt):
            # Not to be read before it was asked: their start is found anew.
            ask("unassigning", self._consumer.incremental_unassign, partitions)
            for tp in starts:
                self._next.pop(tp, None)
            self._pending |= starts.keys()
            raise
        self._next |= starts
        self._lag.begin_anew(starts)

    def _log_range(self, tp: TopicPartition) -> tuple[int, int]:
        query = self._consumer.get_watermark_offsets
        low, high = ask("reading a log's range", query, KafkaPartition(*tp), REQUEST_SECONDS)
        return low, high

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        # An empty assignment ends the rebalance; `_start_pending` adds the real ones.
        consumer.incremental_assign([])
        self._renew_membership(consumer)
        self._pending |= {(p.topic, p.partition) for p in partitions}
        log.info("partitions assigned: %s", _listing(partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        self._renew_membership(consumer)
        mine = [(p.topic, p.partition) for p in partitions]
        try:
            self._offsets.commit(consumer, mine)
        except (BusUnavailable, Halt) as error:
            log.warning("the next owner will read some events again: %s", error)
        self._give_up(consumer, mine)
        log.info("partitions revoked: %s", _listing(partitions))

    def _on_lost(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        self._give_up(consumer, [(p.topic, p.partition) for p in partitions])
        log.warning(
            "partitions lost before their offsets were committed, so that the next owner reads "
            "some events again: %s",
            _listing(partitions),
        )

    def _renew_membership(self, consumer: Consumer) -> None:
        if self._closed:  # leaving the group: nothing more will be read or committed
            return
        if not self._membership.renew(consumer):
            return
        # Another member may have read and committed meanwhile. What still waits, also the start of
        # a partition that is not read yet, would take the group's offsets back.
        self._offsets.withdraw(self._offsets.waiting())
        if self._next:
            # The group assigned the same partitions again without a revocation. Another member may
            # have read and committed them meanwhile, so their start must be found anew.
            held = list(self._next)
            log.warning(
                "the consumer group had evicted this member, and others may have read its "
                "partitions: it looks up again where to start %d of them",
                len(held),
            )
            self._give_up(consumer, held)
            self._pending |= set(held)

    def _give_up(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        reading = [tp for tp in partitions if tp in self._next]
        for tp in partitions:
            self._pending.discard(tp)
            self._next.pop(tp, None)
        self._offsets.forget(partitions)
        left = [KafkaPartition(*tp) for tp in reading]
        try:
            consumer.resume(left)  # else a pause by `wait` would outlast the revocation
            consumer.incremental_unassign(left)
            self._positions.release(partitions)
        except Exception as error:  # an exception must not cross librdkafka; `poll` raises it
            self._errors.keep(error)


def _listing(partitions: list[KafkaPartition]) -> str:
    return ", ".join(f"{p.topic}[{p.partition}]" for p in sorted(partitions)) or "nothing"
