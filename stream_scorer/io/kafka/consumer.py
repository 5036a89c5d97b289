"""Events from Kafka: group membership, records, and offsets.

A rebalance callback only notes which partitions came and went. Partitions that came are read once
`poll` has found where to start (partition_starts.py): outside the callback an error can be raised
and the attempt repeated, and the others are read on meanwhile. `auto.offset.reset` is "error", so
nothing is skipped silently. Offsets are committed by `commit`, which the pipeline calls last, after
everything is saved and published. It does not wait for the answer, since the group's coordinator
may hold it back for as long as the group rebalances. The client itself waits for the answers that
are still to come before it lets a partition go or leaves the group.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.errors import BusUnavailable, Halt
from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.consumer_errors import ConsumerErrors
from stream_scorer.io.kafka.errors import Rights, ask
from stream_scorer.io.kafka.group_offsets import NOBODY, GroupOffsets, Owner
from stream_scorer.io.kafka.group_protocol import CONSUMER
from stream_scorer.io.kafka.lag import Lag
from stream_scorer.io.kafka.leader_epochs import UNKNOWN_EPOCH, seek_with_epochs
from stream_scorer.io.kafka.membership import Membership
from stream_scorer.io.kafka.messages import partition_of, record_batch
from stream_scorer.io.kafka.partition_starts import (
    PartitionStarts,
    Positions,
    ReadsFrom,
    keep_starts,
)
from stream_scorer.io.kafka.rebalances import Rebalances
from stream_scorer.io.kafka.start_lookup import log_range
from stream_scorer.io.kafka.start_offset import check_in_log
from stream_scorer.io.kafka.trace_headers import trace_contexts

log = logging.getLogger(__name__)

WAIT_SLICE_SECONDS = 0.1  # a waiting member serves rebalances this often

FIXED_PROPERTIES: dict[str, str | int] = {
    # An offset may be committed only when the store has the events and the topic the scores.
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    # Says how far a log without further records goes: see `lag`.
    "enable.partition.eof": "true",
}
# A member keeps the partitions that it is not asked for, and reads on through a rebalance. With the
# protocol "consumer" it always does, and there is no strategy to choose.
CLASSIC_PROPERTIES = {"partition.assignment.strategy": "cooperative-sticky"}


class KafkaSource:
    """Records of one topic's partitions that the group gives to this member.

    properties: librdkafka's, with group.id. in_transaction: where transactions carry the offsets,
    commits such offsets in one of its own. owner, partner: as of GroupOffsets. reads_from: as of
    PartitionStarts. on_error is called with each transient error's name, for counting.
    rebalances: is told of each. traced_records: of so many records of a batch the trace contexts
    are read; 0: no header is looked at.
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
        reads_from: ReadsFrom = keep_starts,
        on_error: Callable[[str], None] = lambda _name: None,
        rebalances: Rebalances | None = None,
        traced_records: int = 0,
    ) -> None:
        self._positions = positions
        self._max_events, self._max_age_seconds = max_events, max_age_ms / 1000
        self._in_transaction = in_transaction
        self._next: dict[TopicPartition, int] = {}  # by partition, the next offset to hand out
        self._claims: dict[TopicPartition, int] = {}  # see `claims`
        self._claims_made = count()
        self._offsets = GroupOffsets(owner, partner)
        self._starts = PartitionStarts(positions, self._offsets, in_transaction, reads_from)
        self._lag, self._traced_records = Lag(), traced_records
        self._rebalances = rebalances or Rebalances(lambda: time.time_ns() // 1_000_000)
        # Received and not handed out yet: by `wait`, which must poll to stay in the group, by a
        # `poll` ahead, which hands out complete batches only, or by one that failed.
        self._held: list[Message] = []
        by_epoch = properties.get("group.protocol") == CONSUMER
        self._membership = Membership(by_epoch=by_epoch)
        rights = Rights(
            topic=f"Read on topic {topic}", group=f"Read on group {properties.get('group.id')}"
        )
        self._errors = ConsumerErrors(on_error, rights)
        self._paused = False  # since the last `poll` that waited for records
        self._closed = False
        config = {**properties, **FIXED_PROPERTIES, "on_commit": self._offsets.answered}
        if not by_epoch:
            config |= CLASSIC_PROPERTIES
        self._topic, self._joined = topic, False
        self._answered = False  # whether the group has given partitions, or none
        self._consumer = Connected(Consumer, config, self._errors.on_client_error).client

    def join(self) -> None:
        """Subscribe to the topic; does nothing where `poll` has done so already."""
        if not self._joined:
            self._joined = True
            self._membership.begin(self._consumer)
            self._consumer.subscribe(
                [self._topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )

    def poll(self, *, ahead: bool = False) -> RecordBatch:
        """Up to max_events records, or what came within max_age_ms; may be empty.

        ahead: max_events records if they were received already, otherwise none; does not wait.
        Records of partitions that went away meanwhile are left out. Raises BusUnavailable,
        StoreUnavailable (call again), HistoryGone, Halt.
        """
        self.join()
        self._offsets.raise_failure()
        # Before partitions are begun anew: what was received before may not follow their start.
        self._held = self._still_read(self._held)
        self._start_pending()
        seconds = 0.0 if ahead else self._max_age_seconds
        self._held += self._consume(self._max_events - len(self._held), seconds)
        if not ahead:
            self._paused = False
        self._errors.raise_failure()
        # What a rebalance refused, or what came while another commit was on its way; with the next
        # event it might wait for hours, and all that time the group would seem to lag, and a
        # successor would read it again.
        self._commit_waiting()
        if ahead and len(self._held) < self._max_events:
            return self._batch([])
        messages, self._held = self._held, []
        return self._batch(messages)

    def claims(self) -> Mapping[TopicPartition, int]:
        """A number for each partition that is read: another one each time that its records do not
        follow those before, since it was away or was sought to another offset."""
        return {tp: self._claims[tp] for tp in self._next}

    def committed(self) -> Mapping[TopicPartition, int]:
        """For each partition that is read the offset below which all is published: committed, or
        given to `commit`."""
        return self._offsets.published

    def acknowledged(self) -> Mapping[TopicPartition, int]:
        """As `committed`, without what the group has not confirmed yet."""
        return {tp: o for tp, o in self._offsets.committed.items() if tp in self._next}

    def publishes_from(self) -> Mapping[TopicPartition, int]:
        """Of each partition that is read, from which offset on its events were published by this
        member since it got the partition."""
        begun = self._starts.publishes_from
        return {tp: begun[tp] for tp in self._next if tp in begun}

    def handed_out(self) -> Mapping[TopicPartition, int]:
        """Of each partition that is read, the offset after the last record that `poll` gave."""
        return dict(self._next)

    def commit(self, next_offsets: dict[TopicPartition, int]) -> None:
        """All below these is published: send them; only partitions still held.

        The answer comes with a later `poll`, which raises what a commit failed with. While another
        commit is on its way, and where the group is changing, the offsets are kept: a later `poll`
        sends them, or they are committed when their partition is given up. An offset below an
        earlier one is left out. Where a transaction has committed them, they are only remembered.
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
        if self._offsets.waiting() and self._membership.is_current(self._consumer):
            self._offsets.send(self._consumer)

    def seek(self, next_offsets: dict[TopicPartition, int]) -> None:
        """Read on from `next_offsets`; partitions not held are ignored. Raises HistoryGone."""
        mine = {tp: o for tp, o in next_offsets.items() if tp in self._next}
        for tp, offset in mine.items():
            check_in_log(tp, offset, log_range(self._consumer, tp))
        self._held = [m for m in self._held if partition_of(m) not in mine]
        # Not by the client's own seek: assigning anew also drops what was fetched already.
        ask("seeking", self._consumer.incremental_unassign, [KafkaPartition(*tp) for tp in mine])
        self._read_from(mine)

    def wait(self, seconds: float) -> None:
        """Pause for `seconds`, but keep polling: a member that does not poll is evicted."""
        assigned = [KafkaPartition(*tp) for tp in self._next]
        ask("pausing", self._consumer.pause, assigned)
        self._paused = True
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            # Partitions assigned meanwhile are not read yet: nothing of them can arrive here.
            self._held += self._consume(1, min(left, WAIT_SLICE_SECONDS))
        still = [p for p in assigned if (p.topic, p.partition) in self._next]
        ask("resuming", self._consumer.resume, still)
        self._held = self._still_read(self._held)

    def _still_read(self, messages: list[Message]) -> list[Message]:
        return [m for m in messages if partition_of(m) in self._next]

    def lag(self) -> dict[TopicPartition, int]:
        """How many records the log holds beyond the last one that was read, of each partition that
        is read and whose end is known (lag.py)."""
        held = {partition_of(message) for message in self._held}
        return self._lag.of(self._consumer, self._next, held, paused=self._paused)

    def lag_seconds(
        self, lag: Mapping[TopicPartition, int], now_ms: int
    ) -> dict[TopicPartition, float]:
        """The lag that was found just now in seconds, where it is known (lag.py)."""
        return self._lag.seconds(lag, now_ms)

    def assignment(self) -> tuple[int | None, int]:
        """How many partitions are read, None before the group has given any or none; and of how
        many that came the start is not known yet."""
        answered = self._answered or self._membership.was_taken_in(self._consumer)
        return (len(self._next) if answered else None), self._starts.waiting

    def group_metadata(self) -> bytes:
        """What a transaction needs to commit offsets of what `poll` gave. Raises BusUnavailable."""
        return self._membership.metadata(self._consumer)

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
            self._starts.close()
            if self._membership.is_current(self._consumer):
                self._send_last(self._offsets.waiting())
            self._offsets.withdraw(self._offsets.waiting())
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
                self._lag.read(tp, int(batch.timestamps_ms[rows[-1]]))
        self._rebalances.read(batch)
        if self._traced_records:
            contexts = trace_contexts(messages, self._traced_records)
            batch = replace(batch, trace_contexts=contexts)
        self._next |= following
        return batch

    def _start_pending(self) -> None:
        """Read from the partitions that came whose start is known."""
        ready = self._starts.ready(self._consumer, reading=bool(self._next))
        if ready:
            self._read_from(ready)
            begun = self._starts.publishes_from
            self._rebalances.begun({tp: begun[tp] for tp in ready})
        self._commit_waiting()

    def _read_from(self, starts: Mapping[TopicPartition, int]) -> None:
        partitions = [KafkaPartition(*tp, offset) for tp, offset in starts.items()]
        # Until all went well: where a call fails, their start is found anew.
        self._starts.add(starts)
        for tp in starts:
            self._next.pop(tp, None)
        ask("assigning", self._consumer.incremental_assign, partitions)
        try:
            seek_with_epochs(self._consumer, starts, self._offsets.epochs)
        except (BusUnavailable, Halt):
            # Not to be read before the broker was asked.
            ask("unassigning", self._consumer.incremental_unassign, partitions)
            raise
        self._starts.discard(starts)
        self._next |= starts
        self._claims |= {tp: next(self._claims_made) for tp in starts}
        self._lag.begin_anew(starts)

    def _on_assign(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        # An empty assignment ends the rebalance; `_read_from` adds the real ones.
        consumer.incremental_assign([])
        self._answered = True
        self._renew_membership(consumer)
        mine = [(p.topic, p.partition) for p in partitions]
        self._starts.add(mine)
        self._rebalances.assigned(mine)

    def _on_revoke(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        self._renew_membership(consumer)
        mine = [(p.topic, p.partition) for p in partitions]
        self._send_last(mine)
        self._give_up(consumer, mine)
        self._rebalances.revoked(mine)

    def _on_lost(self, consumer: Consumer, partitions: list[KafkaPartition]) -> None:
        self._answered = False
        mine = [(p.topic, p.partition) for p in partitions]
        self._give_up(consumer, mine)
        self._rebalances.lost(mine)

    def _send_last(self, partitions: list[TopicPartition]) -> None:
        """Commit what is still to be committed of partitions that are given up."""
        try:
            self._offsets.send_last(self._consumer, partitions)
        except (BusUnavailable, Halt) as error:
            log.warning("the next owner will read some events again: %s", error)

    def _renew_membership(self, consumer: Consumer) -> None:
        if self._closed:  # leaving the group: nothing more will be read or committed
            return
        if not self._membership.renew(consumer):
            return
        # Another member may have read and committed meanwhile. What still waits, also the start of
        # a partition that is not read yet, would take the group's offsets back.
        self._offsets.withdraw(self._offsets.waiting())
        self._starts.find_anew()
        if self._next:
            # The group assigned the same partitions again without a revocation. Another member may
            # have read and committed them meanwhile, so their start must be found anew.
            held = list(self._next)
            self._rebalances.evicted(held)
            self._give_up(consumer, held)
            self._starts.add(held)

    def _give_up(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        reading = [tp for tp in partitions if tp in self._next]
        for tp in partitions:
            self._next.pop(tp, None)
        self._starts.discard(partitions)
        self._rebalances.gone(partitions)
        self._offsets.forget(partitions)
        left = [KafkaPartition(*tp) for tp in reading]
        try:
            consumer.resume(left)  # else a pause by `wait` would outlast the revocation
            consumer.incremental_unassign(left)
            self._positions.release(partitions)
        except Exception as error:  # an exception must not cross librdkafka; `poll` raises it
            self._errors.keep(error)
