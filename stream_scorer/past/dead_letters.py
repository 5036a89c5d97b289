"""The dead-letter topic, read up to where it ended at the start, outside any group.

It holds dead letters and, without a value, marks of those that were replayed. A mark comes after
its dead letter, so what was replayed is known only when the topic has been read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stream_scorer.core.avro.dead_letter_encoder import (
    DeadLetterRecord,
    Position,
    decode_dead_letter,
    marked_position,
)
from stream_scorer.core.events.batch import Reason
from stream_scorer.errors import InputError
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings

# Half a megabyte each at most, so a batch is a hundred megabytes at most.
BATCH_RECORDS = 200


@dataclass(frozen=True)
class Choice:
    """Which dead letters: those that fit every condition that is given.

    positions: (partition, offset) in the input topic. Times of failure, from_ms inclusive, to_ms
    exclusive.
    """

    reasons: frozenset[Reason] = frozenset()
    positions: frozenset[tuple[int, int]] = frozenset()
    from_ms: int | None = None
    to_ms: int | None = None

    @classmethod
    def of(
        cls,
        reasons: Sequence[str] = (),
        positions: Sequence[str] = (),
        from_ms: int | None = None,
        to_ms: int | None = None,
    ) -> Choice:
        """From texts: names of reasons, PARTITION:OFFSET. Raises InputError."""
        return cls(
            frozenset(_reason(text) for text in reasons),
            frozenset(_position(text) for text in positions),
            from_ms,
            to_ms,
        )

    def takes(self, record: DeadLetterRecord) -> bool:
        """Whether `record` is chosen."""
        dead_letter = record.dead_letter
        return (
            (not self.reasons or dead_letter.reason in self.reasons)
            and (
                not self.positions or (dead_letter.partition, dead_letter.offset) in self.positions
            )
            and (self.from_ms is None or record.failed_at_ms >= self.from_ms)
            and (self.to_ms is None or record.failed_at_ms < self.to_ms)
        )


class DeadLetterTopic:
    """replayed: positions that have a mark. unreadable: how many records are not dead letters.

    Both are of what was read so far. Raises InputError where the topic does not exist, and
    BusUnavailable and Halt; so does reading.
    """

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        self._reader = TopicReader(
            kafka.consumer_properties(), kafka.dead_letter_topic, batch_records=BATCH_RECORDS
        )
        self.replayed: set[Position] = set()
        self.unreadable = 0

    def close(self) -> None:
        """Close connections."""
        self._reader.close()

    def chosen(self, choice: Choice) -> Iterator[DeadLetterRecord]:
        """Read the topic from its beginning: the dead letters that `choice` takes."""
        self.unreadable = 0  # the topic may be read twice
        with progress("dead letters", self._reader.most_records) as meter:
            for batch in self._reader:
                for key, value in zip(batch.keys, batch.values, strict=True):
                    record = self._dead_letter(key, value)
                    if record is not None and choice.takes(record):
                        yield record
                meter.advance(len(batch))

    def _dead_letter(self, key: bytes | None, value: bytes | None) -> DeadLetterRecord | None:
        """None for a mark, and for what is neither."""
        if value is None:
            position = marked_position(key)
            self.unreadable += position is None
            self.replayed |= set() if position is None else {position}
            return None
        try:
            return decode_dead_letter(value)
        except InputError:
            self.unreadable += 1
            return None


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        known = ", ".join(reason.value for reason in Reason)
        raise InputError("--reason", text, f"the reasons are {known}") from None


def _position(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d+:\d+", text):
        remedy = "write PARTITION:OFFSET, as `dead-letters list` shows them"
        raise InputError("--at", text, remedy)
    partition, _, offset = text.partition(":")
    return int(partition), int(offset)
