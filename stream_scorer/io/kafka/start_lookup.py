"""What the group and the log say of partitions that came, asked for while others are read on.

The group's coordinator may keep such a question waiting: behind a JoinGroup that it holds open
until every member has joined, or where a transaction that a killed member left open still has to
end. So it is asked on a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.io.kafka.errors import ask
from stream_scorer.io.kafka.start_offset import Range

REQUEST_SECONDS = 5.0  # one question to a broker; a stop waits for it


def log_range(consumer: Consumer, tp: TopicPartition) -> Range:
    """The first offset of a partition's log, and the one after its last. Raises BusUnavailable or
    Halt."""
    query = consumer.get_watermark_offsets
    low, high = ask("reading a log's range", query, KafkaPartition(*tp), REQUEST_SECONDS)
    return low, high


class StartLookup:
    """One lookup: `partitions`, of which some may be discarded before it is finished.

    marks: the store's watermarks, read before it.
    """

    def __init__(
        self,
        consumer: Consumer,
        partitions: Collection[TopicPartition],
        marks: Mapping[TopicPartition, int],
    ) -> None:
        self.partitions, self.marks = sorted(partitions), marks
        self._consumer = consumer
        self._answers: list[KafkaPartition] = []
        self._ranges: dict[TopicPartition, Range] = {}
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="start-lookup", daemon=True)
        self._thread.start()

    def finished(self, seconds: float = 0.0) -> bool:
        """Whether it has an answer, waiting for it for up to `seconds`."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        """These were given up: what is found of them may be old when they come back."""
        self.partitions = [tp for tp in self.partitions if tp not in partitions]

    def answers(self) -> tuple[list[KafkaPartition], dict[TopicPartition, Range]]:
        """The group's answer and the log's ranges, of what was not discarded; once it is finished.

        Raises BusUnavailable or Halt.
        """
        if self._error is not None:
            raise self._error
        mine = set(self.partitions)
        answers = [a for a in self._answers if (a.topic, a.partition) in mine]
        return answers, {tp: r for tp, r in self._ranges.items() if tp in mine}

    def _run(self) -> None:
        consumer, asked = self._consumer, [KafkaPartition(*tp) for tp in self.partitions]
        try:
            found = ask("reading committed offsets", consumer.committed, asked, REQUEST_SECONDS)
            ranges = {(p.topic, p.partition): p for p in asked}
            self._ranges = {tp: log_range(consumer, tp) for tp in ranges}
            self._answers = found
        except Exception as error:  # raised again by `answers`
            self._error = error
