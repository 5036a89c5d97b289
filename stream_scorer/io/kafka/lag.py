"""How far a partition is behind: in records, and in seconds.

In **records**: how many the log holds beyond the last one that was read. Offsets without a record,
as the end of a transaction leaves one, do not count where they are the log's last: the client says
where it reached the end.

In **seconds**: no unread record has waited for longer. The unread ones were written after the last
record that was read, and after the moment when the partition was last seen without any, so the time
from the later of these two until now is a bound; 0 where none is unread. The first moment is the
record's own timestamp. With the topic's default, `CreateTime`, it is what the producer's clock said
or what a producer of past events wrote; the second one is by this process's clock. What is unread
is known as of the client's last fetch, half a second ago at most, and this is asked every few
seconds: a bound below that says no more than "just now". It is not known of a partition that was
begun, or sought to another offset, of which nothing was read and that was never seen at its end.

Of a partition that was begun just now the client does not know the end before its first fetch was
answered. Its lag is not known then, which is not the same as no lag: who takes it for none believes
that all is read, and counts the seconds from that moment instead of from the oldest unread record.

A member that waits for Redis fetches nothing, and what its client knows would stay as it was: the
group would seem to have no lag for as long as Redis is away. There the brokers are asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from confluent_kafka import Consumer, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import NO_TIMESTAMP, TopicPartition
from stream_scorer.io.kafka.messages import partition_of

ASK_SECONDS = 1.0  # one question to a broker, of which at most one in a row is not answered


class Lag:
    """`ends`: by partition, where the log ended when it was read up to there."""

    def __init__(self) -> None:
        self.ends: dict[TopicPartition, int] = {}
        # When the oldest unread record was not there yet, in ms since 1970 UTC.
        self._complete_ms: dict[TopicPartition, int] = {}

    def reached(self, message: Message) -> None:
        """For the client's message that there are no further records."""
        self.ends[partition_of(message)] = message.offset() or 0

    def read(self, partition: TopicPartition, time_ms: int) -> None:
        """The last record that was read has this timestamp, or `NO_TIMESTAMP`."""
        if time_ms != NO_TIMESTAMP:
            known = self._complete_ms.get(partition, time_ms)
            self._complete_ms[partition] = max(known, time_ms)

    def begin_anew(self, partitions: Iterable[TopicPartition]) -> None:
        """These are read from another offset now."""
        for tp in partitions:
            self.ends.pop(tp, None)
            self._complete_ms.pop(tp, None)

    def of(
        self,
        consumer: Consumer,
        next_offsets: Mapping[TopicPartition, int],
        held: Collection[TopicPartition],
        *,
        paused: bool = False,
    ) -> dict[TopicPartition, int]:
        """The lag in records of each partition of `next_offsets` whose end is known. held: those of
        which records were received that are not handed out yet. paused: nothing was fetched lately;
        as long as a broker answers, it is asked."""
        found = {}
        for tp, following in next_offsets.items():
            partition = KafkaPartition(*tp)
            # cached: as of the last fetch, so that asking costs no round trip for each partition.
            _, end = consumer.get_watermark_offsets(partition, cached=True)
            if paused:
                try:
                    _, now = consumer.get_watermark_offsets(partition, ASK_SECONDS)
                    end = max(end, now)
                except KafkaException:
                    paused = False  # of the other partitions as well what is known
            if end < 0:  # OFFSET_INVALID: nothing was fetched yet
                continue
            reached = 0 if tp in held else self.ends.get(tp, 0)
            found[tp] = max(end - max(following, reached), 0)
        return found

    def seconds(
        self, lag: Mapping[TopicPartition, int], now_ms: int
    ) -> dict[TopicPartition, float]:
        """The same in seconds, of those partitions where it is known. lag: as of `of`, just now."""
        found = {}
        for tp, records in lag.items():
            if not records:
                self._complete_ms[tp] = max(now_ms, self._complete_ms.get(tp, now_ms))
                found[tp] = 0.0
            elif tp in self._complete_ms:
                found[tp] = max(now_ms - self._complete_ms[tp], 0) / 1000
        return found
