"""Whether a partition's log is still the one that was read, by the leader epochs of its records.

Kafka counts the leaders of a partition, and each record carries the number of the leader that wrote
it, its leader epoch; along a log these numbers never fall. Where a broker becomes the leader that
lacks the newest records (an unclean election, power lost before they were on disk, a disk restored
from an older copy), they are gone, and other records get their offsets under a higher epoch. Once
the log has grown beyond an offset again, the offset alone does not show that (KIP-320).

So every offset that says how far this consumer is goes with the epoch of the last record before it:
the group's committed offsets, and the watermarks in the store. Where reading starts at such an
offset, the broker is asked whether that epoch reached up to it. Where it starts below, no record
before that offset may have a newer epoch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import FRESH_START, BusUnavailable, Halt
from stream_scorer.io.kafka.errors import translate_error

UNKNOWN_EPOCH = -1  # of offsets that other tools, earlier releases and old brokers gave
ASSIGNED_SECONDS = 10.0
ASK_AGAIN_SECONDS = 0.02


class LeaderEpochs:
    """By partition and next offset, the leader epoch of the last record before that offset."""

    def __init__(self) -> None:
        self._known: dict[TopicPartition, dict[int, int]] = {}

    def know(self, partition: TopicPartition, next_offset: int, epoch: int | None) -> None:
        """Remember the epoch, where there is one; of two for one offset the newer."""
        if epoch is not None and epoch > self.at(partition, next_offset):
            self._known.setdefault(partition, {})[next_offset] = epoch

    def at(self, partition: TopicPartition, next_offset: int) -> int:
        """The epoch that belongs to this offset, UNKNOWN_EPOCH where it is not known."""
        return self._known.get(partition, {}).get(next_offset, UNKNOWN_EPOCH)

    def drop_below(self, partition: TopicPartition, next_offset: int) -> None:
        """Nothing below this offset will be committed, or read again without another start."""
        known = self._known.get(partition, {})
        for offset in [o for o in known if o < next_offset]:
            del known[offset]

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """This member no longer reads these."""
        for tp in partitions:
            self._known.pop(tp, None)

    def check(self, partition: TopicPartition, messages: Sequence[Message]) -> None:
        """Raises Halt where one of these records of the partition, in ascending order, has the
        offset of another one that was read before."""
        if not messages:
            return
        first = messages[0].offset() or 0
        ahead = [(o, e) for o, e in self._known.get(partition, {}).items() if o > first]
        if not ahead:
            return
        for message in messages:
            offset, epoch = message.offset() or 0, message.leader_epoch()
            if epoch is not None and any(offset < o and epoch > e for o, e in ahead):
                raise log_was_cut(partition, offset)


def log_was_cut(partition: TopicPartition, offset: int | None) -> Halt:
    """What to raise where the log lost records from `offset` on; None where that is not known."""
    where = "its newest records" if offset is None else f"its records from offset {offset} on"
    return Halt(
        f"{partition[0]}[{partition[1]}]: Kafka lost {where} after they were read, and other "
        "records may have got their offsets: a broker without them became the leader, or was "
        f"restored from an older copy; {FRESH_START}"
    )


def is_truncation(error: KafkaError) -> bool:
    """Whether librdkafka says that an epoch did not reach up to its offset."""
    # With auto.offset.reset "error" it hides its own code: only the text has the cause.
    cause = KafkaError(KafkaError._LOG_TRUNCATION).str().removeprefix("Local: ")
    return error.code() == KafkaError._LOG_TRUNCATION or cause in error.str()


def truncation(partition: TopicPartition, error: KafkaError) -> Halt:
    """What to raise for librdkafka's error that an epoch did not reach up to its offset."""
    end = re.search(r"broker end offset is (\d+)", error.str())
    return log_was_cut(partition, int(end[1]) if end else None)


def seek_with_epochs(
    consumer: Consumer, starts: Mapping[TopicPartition, int], epochs: LeaderEpochs
) -> None:
    """Let the client ask, before it hands out a record of these partitions, whether the log still
    has what was read below `starts`; they are assigned already, at these offsets.

    Where it does not, the client hands out the error _LOG_TRUNCATION. Nothing is asked where the
    epoch is not known. Raises BusUnavailable or Halt.
    """
    until = time.monotonic() + ASSIGNED_SECONDS
    for tp, offset in starts.items():
        epoch = epochs.at(tp, offset)
        # librdkafka asks after a seek, never for the epoch that a partition is assigned with
        # (librdkafka issue 5158), unless it hears of a new epoch at that moment.
        while offset > 0 and epoch != UNKNOWN_EPOCH:
            try:
                consumer.seek(KafkaPartition(*tp, offset, leader_epoch=epoch))
                break
            except KafkaException as error:
                trouble: KafkaError = error.args[0]
                # The client's own thread has not begun to fetch the partition yet.
                if trouble.code() != KafkaError._STATE:
                    raise translate_error(trouble, "comparing leader epochs") from error
                if time.monotonic() > until:
                    raise BusUnavailable(
                        f"Kafka: {tp[0]}[{tp[1]}] was assigned, and after {ASSIGNED_SECONDS:g} s "
                        "the client has not begun to read it"
                    ) from error
            time.sleep(ASK_AGAIN_SECONDS)
