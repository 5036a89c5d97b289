"""A whole topic, or the part between two moments, read once from start to end, outside any group.

The end of each partition is asked for once, when the reader is made. What is written later is not
read, so reading ends however busy the topic is. Partitions are read one after another and batches
are full, so two readings give the same batches. Partitions are assigned, never subscribed to: no
group is joined and nothing is committed. Only committed transactions are seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import RecordBatch, TopicPartition
from stream_scorer.errors import BusUnavailable, ClientLost, Halt, HistoryGone, InputError
from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import Rights, ask, translate_error
from stream_scorer.io.kafka.messages import record_batch
from stream_scorer.io.kafka.start_offset import check_in_log

REQUEST_SECONDS = 10.0
# `consume` waits this long for a full batch even where it has reached the end of a partition, so a
# larger value is idle time at every end.
POLL_SECONDS = 0.05
SILENT_SECONDS = 30.0  # without any record before the end: the brokers are taken to be away

Range = tuple[int, int]

FIXED_PROPERTIES: dict[str, str | bool | int] = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "enable.partition.eof": True,  # the last offsets may hold no records: compacted, or aborted
    "auto.offset.reset": "error",  # records that retention deletes while we read are missed
    "fetch.wait.max.ms": 10,  # all records exist already: waiting would only cost time
}

# The client looks for the coordinator of the group that it insists on; nothing of it is used here.
_NO_FAILURE = {KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED}


class TopicReader:
    """The records from `ranges[tp][0]` up to, without, `ranges[tp][1]` of each partition.

    `log` has the first offset of each partition's log and the one after its last. A context
    manager; each iteration reads everything again. properties: librdkafka's, with a group.id, which
    the client insists on but which is not used. batch_records: records of a batch,
    fewer in the last. from_ms, to_ms: each partition from its first record of that time or later,
    and up to it; record times, which need not ascend. from_offsets: only these partitions, each
    from its offset on, None for where it would begin otherwise. Raises InputError where there is no
    such topic, BusUnavailable, Halt, HistoryGone where the log no longer has such an offset; so
    does iteration.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        topic: str,
        *,
        batch_records: int,
        from_ms: int | None = None,
        to_ms: int | None = None,
        from_offsets: Mapping[TopicPartition, int | None] | None = None,
    ) -> None:
        self._topic, self._batch_records = topic, batch_records
        self._rights = Rights(topic=f"Read on topic {topic}")
        self._failure: Halt | ClientLost | None = None
        config = {**properties, **FIXED_PROPERTIES}
        self._connected = Connected(Consumer, config, self._on_client_error)
        self._consumer = self._connected.client
        try:
            with self._connected.explained():
                self.log = self._log_ranges()
                self.ranges = self._ranges(from_ms, to_ms)
                if from_offsets is not None:
                    self.ranges = self._from_offsets(from_offsets)
        # A constructor that raises gives its caller nothing to close.
        except BaseException:
            self.close()
            raise

    @property
    def most_records(self) -> int:
        """An upper bound of an iteration's records; offsets without records make it fewer."""
        return sum(end - first for first, end in self.ranges.values())

    def __iter__(self) -> Iterator[RecordBatch]:
        held: list[Message] = []
        for tp, (first, end) in self.ranges.items():
            for messages in self._partition(tp, first, end):
                held += messages
                while len(held) >= self._batch_records:
                    yield record_batch(held[: self._batch_records])
                    held = held[self._batch_records :]
        if held:
            yield record_batch(held)

    def first_record_ms(self, tp: TopicPartition) -> int | None:
        """The time of the oldest record that the partition's log holds, in ms since 1970 UTC.

        None where the log is empty, or its oldest record has no time.
        """
        first, end = self.log[tp]
        for messages in self._partition(tp, first, end):
            for message in messages:
                kind, milliseconds = message.timestamp()
                return None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds
        return None

    def _partition(self, tp: TopicPartition, first: int, end: int) -> Iterator[list[Message]]:
        """The records of one partition from `first` up to `end`."""
        if first >= end:
            return
        what = f"reading {self._topic}"
        ask("assigning", self._consumer.assign, [KafkaPartition(*tp, first)])
        try:
            deadline = time.monotonic() + SILENT_SECONDS
            following = first
            while following < end:
                messages = ask(
                    what, self._consumer.consume, self._batch_records, POLL_SECONDS,
                    rights=self._rights,
                )  # fmt: skip
                if self._failure is not None:
                    raise self._failure
                following = max(following, self._following(messages))
                if messages:
                    deadline = time.monotonic() + SILENT_SECONDS
                elif time.monotonic() > deadline:
                    with self._connected.explained():
                        raise BusUnavailable(f"Kafka, {what}: no answer for {SILENT_SECONDS:.0f} s")
                yield [m for m in messages if m.error() is None and (m.offset() or 0) < end]
        finally:
            ask("unassigning", self._consumer.unassign)

    def close(self) -> None:
        """Close connections."""
        self._consumer.close()

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _log_ranges(self) -> dict[TopicPartition, Range]:
        found = ask("asking for topics", self._consumer.list_topics, None, REQUEST_SECONDS)
        topic = found.topics.get(self._topic)
        if topic is None or not topic.partitions:
            self._raise_where_hidden()
            remedy = "there is no such topic; create it with `stream-scorer topics create`"
            raise InputError("topic", self._topic, remedy)
        query = self._consumer.get_watermark_offsets
        partitions = [(self._topic, number) for number in sorted(topic.partitions)]
        return {
            tp: ask(
                "reading a log's range",
                query,
                KafkaPartition(*tp),
                REQUEST_SECONDS,
                rights=self._rights,
            )
            for tp in partitions
        }

    def _raise_where_hidden(self) -> None:
        """Raises Halt where topics are listed without this one because of this user's rights."""
        doing = f"asking for topic {self._topic}"
        found = ask(doing, self._consumer.list_topics, self._topic, REQUEST_SECONDS)
        error = found.topics[self._topic].error
        if error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise translate_error(error, doing, self._rights)

    def _ranges(self, from_ms: int | None, to_ms: int | None) -> dict[TopicPartition, Range]:
        partitions = list(self.log)
        starts, ends = self._offsets_at(partitions, from_ms), self._offsets_at(partitions, to_ms)
        return {
            tp: (
                low if from_ms is None else min(starts.get(tp, high), high),
                high if to_ms is None else min(ends.get(tp, high), high),
            )
            for tp, (low, high) in self.log.items()
        }

    def _from_offsets(
        self, from_offsets: Mapping[TopicPartition, int | None]
    ) -> dict[TopicPartition, Range]:
        ranges = {}
        for tp in self.ranges.keys() & from_offsets.keys():
            (first, end), offset = self.ranges[tp], from_offsets[tp]
            if offset is not None:
                check_in_log(tp, offset, self.log[tp])
                first = offset
            ranges[tp] = first, max(first, end)
        return dict(sorted(ranges.items()))

    def _offsets_at(
        self, partitions: list[TopicPartition], moment_ms: int | None
    ) -> dict[TopicPartition, int]:
        """The first offset of a record of that time or later, where there is one."""
        if moment_ms is None:
            return {}
        asked = [KafkaPartition(*tp, moment_ms) for tp in partitions]
        query = self._consumer.offsets_for_times
        answers = ask("asking for offsets by time", query, asked, REQUEST_SECONDS)
        for answer in answers:
            if answer.error is not None:
                raise translate_error(answer.error, "asking for offsets by time")
        return {(a.topic, a.partition): a.offset for a in answers if a.offset >= 0}

    def _following(self, messages: list[Message]) -> int:
        """The offset after the last of `messages`; an end of the partition counts as reached."""
        following = -1
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise HistoryGone(
                    f"{self._topic}[{message.partition()}]: Kafka deleted records while they were "
                    "read; run this again, which reads from where the log begins now"
                )
            if error is not None and error.code() not in _NO_FAILURE:
                raise translate_error(error, f"reading {self._topic}", self._rights)
            following = max(following, (message.offset() or 0) + (error is None))
        return following

    def _on_client_error(self, error: KafkaError) -> None:
        if error.code() in _NO_FAILURE:
            return
        failure = translate_error(error, f"reading {self._topic}", self._rights)
        # As of ConsumerErrors: a client that can't go on would otherwise be waited for in vain.
        # What may pass is left to `Connected.explained`, which names it where it did not pass.
        if isinstance(failure, Halt | ClientLost):
            self._failure = failure
