"""The records of the dead-letter topic: to Avro bytes, and back for readers.

A mark is a record without a value whose key says which dead letter's original bytes went back into
the input topic: "replayed TOPIC[PARTITION]@OFFSET".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import fastavro

from stream_scorer.core.avro.event_encoder import framed
from stream_scorer.core.avro.schemas import frame_bytes, parsed, single_object_prefix
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter, Reason
from stream_scorer.errors import InputError

Position = tuple[str, int, int]  # topic, partition, offset

_MARK = re.compile(rb"replayed (.+)\[(-?\d+)\]@(-?\d+)")


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A dead letter as its topic keeps it; value_bytes: how long the original value was."""

    dead_letter: DeadLetter
    failed_at_ms: int
    value_bytes: int

    @property
    def cut(self) -> bool:
        """Whether original bytes are missing."""
        return self.value_bytes > len(self.dead_letter.value or b"")

    @property
    def position(self) -> Position:
        """Where the record stood that could not be applied."""
        return self.dead_letter.topic, self.dead_letter.partition, self.dead_letter.offset


def encode_dead_letters(
    dead_letters: Sequence[DeadLetter],
    failed_at_ms: int,
    max_value_bytes: int,
    prefix: bytes | None = None,
) -> list[bytes]:
    """Framed records of the dead-letter topic; values are cut after max_value_bytes."""
    if prefix is None:
        prefix = single_object_prefix("dead_letter")
    schema = parsed("dead_letter")
    return [
        framed(prefix, schema, _row(dead_letter, failed_at_ms, max_value_bytes))
        for dead_letter in dead_letters
    ]


def decode_dead_letter(value: bytes) -> DeadLetterRecord:
    """A record that `encode_dead_letters` made, in any frame. Raises InputError.

    A value that was cut when it was written stays cut.
    """
    try:
        stream = BytesIO(value[frame_bytes(value) :])
        row: Any = fastavro.schemaless_reader(stream, parsed("dead_letter"), None)
        dead_letter = DeadLetter(
            row["topic"], row["partition"], row["offset"],
            NO_TIMESTAMP if row["timestamp"] is None else row["timestamp"],
            Reason(row["reason"]), row["detail"], row["key"], row["value"],
        )  # fmt: skip
        return DeadLetterRecord(dead_letter, row["failed_at"], row["value_bytes"])
    except (EOFError, IndexError, ValueError) as error:
        raise InputError(
            "dead letter",
            value[:40],
            f"is no dead letter as stream-scorer writes them ({error}); read the topic that "
            "kafka.dead_letter_topic names",
        ) from error


def decode_dead_letters(values: Iterable[bytes]) -> list[DeadLetter]:
    """Only the dead letters of such records. Raises InputError."""
    return [decode_dead_letter(value).dead_letter for value in values]


def replay_mark(position: Position) -> bytes:
    """The key of the record without a value that says: this one was replayed."""
    topic, partition, offset = position
    return f"replayed {topic}[{partition}]@{offset}".encode()


def marked_position(key: bytes | None) -> Position | None:
    """Which dead letter a mark's key names; None where it is no mark."""
    found = _MARK.fullmatch(key or b"")
    if found is None:
        return None
    return found[1].decode(errors="replace"), int(found[2]), int(found[3])


def _row(dead_letter: DeadLetter, failed_at_ms: int, max_value_bytes: int) -> dict[str, Any]:
    value = dead_letter.value
    return {
        "topic": dead_letter.topic,
        "partition": dead_letter.partition,
        "offset": dead_letter.offset,
        "timestamp": None if dead_letter.timestamp_ms == NO_TIMESTAMP else dead_letter.timestamp_ms,
        "reason": dead_letter.reason.value,
        "detail": dead_letter.detail,
        "failed_at": failed_at_ms,
        "key": dead_letter.key,
        "value": None if value is None else value[:max_value_bytes],
        "value_bytes": 0 if value is None else len(value),
    }
