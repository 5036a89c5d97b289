"""`stream-scorer dead-letters list|replay`: records that could not be applied, tried again.

The dead-letter topic is read up to where it ended at the start, outside any group. `replay` reads
it twice: first for the marks that earlier replays left, then for the dead letters. What goes back
has its original key and bytes, an offset of its own and the current time; the live consumer decides
about it as about any other record. Once Kafka has confirmed it, a mark in the dead-letter topic
makes the next `replay` leave it out, since its event would otherwise count twice. A crash before a
commit can leave several dead letters of one position; only one of them goes back.
"""

from __future__ import annotations

import heapq
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_scorer.core.avro.dead_letter_encoder import (
    DeadLetterRecord,
    Position,
    decode_dead_letter,
    marked_position,
    replay_mark,
)
from stream_scorer.core.events.batch import NO_TIMESTAMP, Reason
from stream_scorer.errors import InputError
from stream_scorer.io.kafka.producer import ConfirmedProducer, Oversized
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
        dead_letter = record.letter
        return (
            (not self.reasons or dead_letter.reason in self.reasons)
            and (
                not self.positions or (dead_letter.partition, dead_letter.offset) in self.positions
            )
            and (self.from_ms is None or record.failed_at_ms >= self.from_ms)
            and (self.to_ms is None or record.failed_at_ms < self.to_ms)
        )


@dataclass
class _TopicContents:
    """What else one reading of the topic found."""

    replayed: set[Position]
    unreadable: int = 0


def listing(settings: Settings, choice: Choice, limit: int) -> dict[str, Any]:
    """{"topic", "matched", "replayed", "unreadable", "reasons" {reason: count}, "dead_letters"}.

    matched, replayed and reasons count every chosen dead letter; "dead_letters" has the newest
    `limit` (0: all), oldest first. "unreadable" counts records of the topic that are not dead
    letters.
    """
    read = _TopicContents(set())
    reasons: Counter[str] = Counter()
    positions: list[Position] = []

    def rows(reader: TopicReader) -> Iterator[tuple[int, Position, dict[str, Any]]]:
        for record in _chosen(reader, choice, read):
            reasons[record.letter.reason.value] += 1
            positions.append(record.position)
            yield record.failed_at_ms, record.position, _as_row(record)

    with _reader(settings) as reader:
        found = rows(reader)
        newest = heapq.nlargest(limit, found, key=_by_age) if limit else list(found)
    newest.sort(key=_by_age)
    return {
        "topic": settings.kafka.dead_letter_topic,
        "matched": len(positions),
        "replayed": sum(position in read.replayed for position in positions),
        "unreadable": read.unreadable,
        "reasons": dict(reasons.most_common()),
        "dead_letters": [
            row | {"replayed": position in read.replayed} for _, position, row in newest
        ],
    }


def replay(settings: Settings, choice: Choice) -> dict[str, Any]:
    """{"topic", "matched", "replayed", "already", "repeated", "cut", "foreign", "refused", ...}.

    Of the `matched` dead letters: replayed, and confirmed by Kafka; already replayed earlier;
    repeated, the same position once more; cut, their original bytes were not kept whole; foreign,
    they did not come from the input topic; refused, the input topic takes no record as large.
    """
    started = time.monotonic()
    counts: Counter[str] = Counter()
    with _reader(settings) as reader:
        read = _TopicContents(set())
        for _ in _chosen(reader, choice, read):
            pass
        done = read.replayed.copy()
        sender = _Sender(settings)
        for record in _chosen(reader, choice, read):
            counts["matched"] += 1
            verdict = _verdict(record, settings.kafka.input_topic, done, read.replayed)
            counts[verdict] += 1
            if verdict == "replayed":
                done.add(record.position)
                sender.add(record)
        counts["refused"] = sender.finish()
        counts["replayed"] -= counts["refused"]
    names = ("matched", "replayed", "already", "repeated", "cut", "foreign", "refused")
    return {
        "topic": settings.kafka.input_topic,
        **{name: counts[name] for name in names},
        "seconds": round(time.monotonic() - started, 3),
    }


def listing_in_words(report: dict[str, Any]) -> list[str]:
    """The report of `listing` for people."""
    lines = []
    for row in report["dead_letters"]:
        size = f"{row['bytes']:,} bytes" + (", cut" if row["cut"] else "")
        again = ", replayed" if row["replayed"] else ""
        where = f"{row['topic']} {row['partition']}:{row['offset']}"
        lines.append(f"{row['failed_at']} {where} {row['reason']} ({size}{again}): {row['detail']}")
    shown = len(report["dead_letters"])
    counts = ", ".join(f"{count:,} {reason}" for reason, count in report["reasons"].items())
    total = f"{report['matched']:,} dead letters in {report['topic']}"
    lines.append(f"{total}: {counts}" if counts else total)
    if shown < report["matched"]:
        lines.append(f"the newest {shown:,} are shown; --limit 0 shows all")
    if report["replayed"]:
        lines.append(f"{report['replayed']:,} of them were replayed")
    if report["unreadable"]:
        lines.append(
            f"{report['unreadable']:,} records of the topic are not stream-scorer's dead letters"
        )
    return lines


def replay_in_words(report: dict[str, Any]) -> list[str]:
    """The report of `replay` for people."""
    lines = [f"{report['replayed']:,} of {report['matched']:,} back in {report['topic']}"]
    why = {
        "already": "were replayed before",
        "repeated": "repeat a position that is among the others",
        "cut": "left out: their original bytes were cut (publish.max_dead_letter_bytes)",
        "foreign": f"left out: they did not come from {report['topic']}",
        "refused": f"not taken by {report['topic']}: larger than its max.message.bytes",
    }
    return lines + [f"{report[name]:,} {text}" for name, text in why.items() if report[name]]


class _Sender:
    """Sends records back to the input topic and marks to the dead-letter topic, in batches."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        self._input_topic, self._dead_letter_topic = kafka.input_topic, kafka.dead_letter_topic
        self._producer = ConfirmedProducer(
            # What came as one record goes back as one, however large it was allowed to be.
            {"message.max.bytes": 100_000_000}
            | kafka.client_properties()
            | {"delivery.timeout.ms": kafka.delivery_timeout_ms}
        )
        self._waiting: list[DeadLetterRecord] = []
        self._refused = 0

    def add(self, record: DeadLetterRecord) -> None:
        self._waiting.append(record)
        if len(self._waiting) >= BATCH_RECORDS:
            self._send()

    def finish(self) -> int:
        """Send the rest; how many the input topic refused."""
        self._send()
        self._producer.close()
        return self._refused

    def _send(self) -> None:
        records, self._waiting = self._waiting, []
        dead_letters = [r.letter for r in records]
        self._producer.send(
            self._input_topic, [d.key for d in dead_letters], [d.value for d in dead_letters]
        )
        refused = {(r.key, r.value) for r in self._too_large(self._producer.settle())}
        taken = [r for r in records if (r.letter.key, r.letter.value) not in refused]
        self._refused += len(records) - len(taken)
        marks = [replay_mark(r.position) for r in taken]
        self._producer.send(self._dead_letter_topic, marks, [None] * len(marks))
        self._producer.settle()

    def _too_large(self, doubtful: list[Oversized]) -> list[Oversized]:
        """Of records that were refused, those that are so alone too."""
        certain = [record for record in doubtful if record.certain]
        for record in doubtful:
            if not record.certain:
                certain += self._producer.send_alone(record.topic, record.key, record.value)
        return certain


def _reader(settings: Settings) -> TopicReader:
    kafka = settings.kafka
    return TopicReader(
        kafka.consumer_properties(), kafka.dead_letter_topic, batch_records=BATCH_RECORDS
    )


def _chosen(
    reader: TopicReader, choice: Choice, read: _TopicContents
) -> Iterator[DeadLetterRecord]:
    """The chosen dead letters; marks and unreadable records go into `read`."""
    read.unreadable = 0  # the topic may be read twice
    with progress("dead letters", reader.most_records) as meter:
        for batch in reader:
            for key, value in zip(batch.keys, batch.values, strict=True):
                if value is None:
                    position = marked_position(key)
                    read.unreadable += position is None
                    read.replayed |= set() if position is None else {position}
                    continue
                try:
                    record = decode_dead_letter(value)
                except InputError:
                    read.unreadable += 1
                    continue
                if choice.takes(record):
                    yield record
            meter.advance(len(batch))


def _verdict(
    record: DeadLetterRecord, input_topic: str, done: set[Position], before: set[Position]
) -> str:
    """What becomes of a chosen dead letter, by the names of `replay`'s report."""
    if record.letter.topic != input_topic:
        return "foreign"
    if record.position in before:
        return "already"
    if record.cut:
        return "cut"
    return "repeated" if record.position in done else "replayed"


def _as_row(record: DeadLetterRecord) -> dict[str, Any]:
    dead_letter = record.letter
    stamp = dead_letter.timestamp_ms
    return {
        "topic": dead_letter.topic,
        "partition": dead_letter.partition,
        "offset": dead_letter.offset,
        "time": None if stamp == NO_TIMESTAMP else _iso(stamp),
        "failed_at": _iso(record.failed_at_ms),
        "reason": dead_letter.reason.value,
        "detail": dead_letter.detail,
        "key": None
        if dead_letter.key is None
        else dead_letter.key.decode(errors="backslashreplace"),
        "bytes": record.value_bytes,
        "cut": record.cut,
    }


def _by_age(row: tuple[int, Position, dict[str, Any]]) -> tuple[int, Position]:
    return row[0], row[1]


def _iso(milliseconds: int) -> str:
    return f"{np.datetime64(milliseconds, 'ms')}Z"


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
