"""How many records a partition's log holds beyond the last one that was read.

Offsets without a record, as the end of a transaction leaves one, do not count where they are the
log's last: the client says where it reached the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from confluent_kafka import Consumer, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.io.kafka.messages import partition_of


class Lag:
    """`ends`: by partition, where the log ended when it was read up to there."""

    def __init__(self) -> None:
        self.ends: dict[TopicPartition, int] = {}

    def reached(self, message: Message) -> None:
        """For the client's message that there are no further records."""
        self.ends[partition_of(message)] = message.offset() or 0

    def begin_anew(self, partitions: Iterable[TopicPartition]) -> None:
        """These are read from another offset now."""
        for tp in partitions:
            self.ends.pop(tp, None)

    def of(
        self,
        consumer: Consumer,
        next_offsets: Mapping[TopicPartition, int],
        held: Collection[TopicPartition],
    ) -> dict[TopicPartition, int]:
        """The lag of each partition of `next_offsets`. held: those of which records were received
        that are not handed out yet."""
        found = {}
        for tp, following in next_offsets.items():
            # cached: as of the last fetch, so that asking costs no round trip for each partition.
            _, end = consumer.get_watermark_offsets(KafkaPartition(*tp), cached=True)
            reached = 0 if tp in held else self.ends.get(tp, 0)
            found[tp] = max(end - max(following, reached), 0)
        return found
