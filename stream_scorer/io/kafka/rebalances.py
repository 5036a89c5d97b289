"""Rebalances as this member sees them: log lines, counts, and how long they kept events waiting.

Nobody processes a partition from the moment that its former owner gave it up, or died, until its
new one reads it. The new one cannot know when that began, but it knows what it cost: how long the
first event that nobody had published yet had waited, by its record's time, when it was read here.
An event that came after the partition was begun had not to wait, and a partition without events
kept nobody waiting: of those nothing is told. What waited is no less than the silence, and more
where the former owner was behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import NO_TIMESTAMP, RecordBatch, TopicPartition
from stream_scorer.log_events import event

log = logging.getLogger(__name__)


class _Begun(NamedTuple):
    """A partition that was begun, of which no event to publish was read yet."""

    publishes_from: int
    at_ms: int


class Rebalances:
    """on_change is called with "assigned", "revoked" or "lost" for each change; on_silence with the
    seconds that the first event of a partition had waited. now_ms: since 1970 UTC."""

    def __init__(
        self,
        now_ms: Callable[[], int],
        on_change: Callable[[str], None] = lambda _kind: None,
        on_silence: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._now_ms, self._on_change, self._on_silence = now_ms, on_change, on_silence
        self._begun: dict[TopicPartition, _Begun] = {}

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """The group gave these to this member."""
        self._on_change("assigned")
        log.info(
            "partitions assigned: %s", _listing(partitions),
            extra=event("partitions_assigned", **_fields(partitions)),
        )  # fmt: skip

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """The group asked for these; what was done of them is committed."""
        self._on_change("revoked")
        log.info(
            "partitions revoked: %s", _listing(partitions),
            extra=event("partitions_revoked", **_fields(partitions)),
        )  # fmt: skip

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """The group had taken these away."""
        self._on_change("lost")
        log.warning(
            "partitions lost before their offsets were committed, so that the next owner reads "
            "some events again: %s",
            _listing(partitions),
            extra=event("partitions_lost", **_fields(partitions)),
        )

    def evicted(self, partitions: Collection[TopicPartition]) -> None:
        """The group had taken these away and gave them back at once, without a revocation."""
        self._on_change("lost")
        log.warning(
            "the consumer group had evicted this member, and others may have read its "
            "partitions: it looks up again where to start %s",
            _listing(partitions),
            extra=event("member_evicted", **_fields(partitions)),
        )

    def gone(self, partitions: Collection[TopicPartition]) -> None:
        """These are not read any more."""
        for tp in partitions:
            self._begun.pop(tp, None)

    def begun(self, publishes_from: Mapping[TopicPartition, int]) -> None:
        """Partitions that came are read now; from which offset on nobody has published them."""
        now_ms = self._now_ms()
        self._begun |= {tp: _Begun(offset, now_ms) for tp, offset in publishes_from.items()}

    def read(self, batch: RecordBatch) -> None:
        """These records were handed out."""
        if not self._begun:
            return
        for number, tp in enumerate(batch.partitions):
            begun = self._begun.get(tp)
            if begun is None:
                continue
            of_partition = batch.partition_index == number
            rows = np.flatnonzero(of_partition & (batch.offsets >= begun.publishes_from))
            if len(rows):
                del self._begun[tp]
                time_ms = int(batch.timestamps_ms[rows[0]])
                if time_ms != NO_TIMESTAMP and time_ms <= begun.at_ms:
                    self._on_silence((self._now_ms() - time_ms) / 1000)


def _fields(partitions: Collection[TopicPartition]) -> dict[str, str | list[int]]:
    """topic and partitions of a log event; all are of one topic."""
    topic = next((topic for topic, _ in partitions), "")
    return {"topic": topic, "partitions": sorted(number for _, number in partitions)}


def _listing(partitions: Collection[TopicPartition]) -> str:
    return ", ".join(f"{topic}[{n}]" for topic, n in sorted(partitions)) or "nothing"
