"""`stream-scorer dead-letters list|replay`: records that could not be applied, tried again.

`replay` reads the dead-letter topic twice: first for the marks that earlier replays left, then for
the dead letters. What goes back has its original key, bytes and partition, an offset of its own and
the current time; the live consumer decides about it as about any other record. Once Kafka has
confirmed it, a mark in the dead-letter topic makes the next `replay` leave it out, since its event
would otherwise count twice. A crash before a commit can leave several dead letters of one position;
only one of them goes back.
"""

from __future__ import annotations

import dataclasses
import heapq
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_scorer.core.avro.dead_letter_encoder import (
    DeadLetterRecord,
    Position,
    replay_mark,
)
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter
from stream_scorer.errors import BusUnavailable, NotAllowed
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.producer import BY_KEY, ConfirmedProducer, Oversized
from stream_scorer.past.dead_letters import BATCH_RECORDS, Choice, DeadLetterTopic
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings


@dataclass(frozen=True)
class ListedDeadLetter(Result):
    """Where the record stood in the input topic, and why it could not be applied.

    time: of the record, None where it had none. key: as text. bytes: of its value, of which not
    all were kept where it is `cut`. replayed: whether it was sent back. Times are ISO 8601 in UTC.
    """

    topic: str
    partition: int
    offset: int
    time: str | None
    failed_at: str
    reason: str
    detail: str
    key: str | None
    bytes: int
    cut: bool
    replayed: bool


@dataclass(frozen=True)
class DeadLetterList(Result):
    """matched, replayed and reasons (how many of each) count every dead letter that was chosen.

    unreadable: records of the topic that are not dead letters. dead_letters: the newest of those
    chosen, oldest first.
    """

    topic: str
    matched: int
    replayed: int
    unreadable: int
    reasons: Mapping[str, int]
    dead_letters: tuple[ListedDeadLetter, ...]


@dataclass(frozen=True)
class ReplayedDeadLetters(Result):
    """What became of the `matched` dead letters; the other counts add up to it.

    replayed: back in `topic`, confirmed by Kafka. already: replayed earlier. repeated: the same
    position once more. cut: their original bytes were not kept whole. foreign: they did not come
    from the input topic. refused: the input topic takes no record as large.
    """

    topic: str
    matched: int
    replayed: int
    already: int
    repeated: int
    cut: int
    foreign: int
    refused: int
    seconds: float


class _Dated(NamedTuple):
    failed_at_ms: int
    position: Position
    listed: ListedDeadLetter


def listing(settings: Settings, choice: Choice, limit: int) -> DeadLetterList:
    """Count the chosen dead letters, and list the newest `limit` of them (0: all).

    Raises InputError where the topic does not exist, and BusUnavailable and Halt.
    """
    reasons: Counter[str] = Counter()
    positions: list[Position] = []

    def dated() -> Iterator[_Dated]:
        for record in topic.chosen(choice):
            reasons[record.dead_letter.reason.value] += 1
            positions.append(record.position)
            yield _Dated(record.failed_at_ms, record.position, _listed(record))

    with closing(DeadLetterTopic(settings)) as topic:
        found = dated()
        newest = heapq.nlargest(limit, found, key=_by_age) if limit else list(found)
    newest.sort(key=_by_age)
    return DeadLetterList(
        topic=settings.kafka.dead_letter_topic,
        matched=len(positions),
        replayed=sum(position in topic.replayed for position in positions),
        unreadable=topic.unreadable,
        reasons=dict(reasons.most_common()),
        dead_letters=tuple(
            # A mark may come after its dead letter, so this is known at the end.
            dataclasses.replace(listed, replayed=position in topic.replayed)
            for _, position, listed in newest
        ),
    )


def replay(settings: Settings, choice: Choice) -> ReplayedDeadLetters:
    """Send the chosen dead letters back to the input topic, each once.

    Raises InputError where the topic does not exist or this user may not do it, and BusUnavailable
    and Halt.
    """
    started = time.monotonic()
    counts: Counter[str] = Counter()
    _check_rights(settings)
    with closing(DeadLetterTopic(settings)) as topic:
        for _ in topic.chosen(choice):  # for the marks
            pass
        done = topic.replayed.copy()
        sender = _Sender(settings)
        for record in topic.chosen(choice):
            counts["matched"] += 1
            verdict = _verdict(record, settings.kafka.input_topic, done, topic.replayed)
            counts[verdict] += 1
            if verdict == "replayed":
                done.add(record.position)
                sender.add(record)
        counts["refused"] = sender.finish()
        counts["replayed"] -= counts["refused"]
    return ReplayedDeadLetters(
        topic=settings.kafka.input_topic,
        matched=counts["matched"],
        replayed=counts["replayed"],
        already=counts["already"],
        repeated=counts["repeated"],
        cut=counts["cut"],
        foreign=counts["foreign"],
        refused=counts["refused"],
        seconds=round(time.monotonic() - started, 3),
    )


def listing_in_words(found: DeadLetterList) -> list[str]:
    """The result of `listing` for people."""
    lines = []
    for d in found.dead_letters:
        size = f"{d.bytes:,} bytes" + (", cut" if d.cut else "")
        again = ", replayed" if d.replayed else ""
        where = f"{d.topic} {d.partition}:{d.offset}"
        lines.append(f"{d.failed_at} {where} {d.reason} ({size}{again}): {d.detail}")
    shown = len(found.dead_letters)
    counts = ", ".join(f"{count:,} {reason}" for reason, count in found.reasons.items())
    total = f"{found.matched:,} dead letters in {found.topic}"
    lines.append(f"{total}: {counts}" if counts else total)
    if shown < found.matched:
        lines.append(f"the newest {shown:,} are shown; --limit 0 shows all")
    if found.replayed:
        lines.append(f"{found.replayed:,} of them were replayed")
    if found.unreadable:
        lines.append(
            f"{found.unreadable:,} records of the topic are not stream-scorer's dead letters"
        )
    return lines


def replay_in_words(done: ReplayedDeadLetters) -> list[str]:
    """The result of `replay` for people."""
    lines = [f"{done.replayed:,} of {done.matched:,} back in {done.topic}"]
    cut = "left out: their original bytes were cut (publish.max_dead_letter_bytes)"
    others = (
        (done.already, "were replayed before"),
        (done.repeated, "repeat a position that is among the others"),
        (done.cut, cut),
        (done.foreign, f"left out: they did not come from {done.topic}"),
        (done.refused, f"not taken by {done.topic}: larger than its max.message.bytes"),
    )
    return lines + [f"{count:,} {words}" for count, words in others if count]


def _check_rights(settings: Settings) -> None:
    """Raises NotAllowed where this user may not write to both topics.

    Noticed at the first mark it would be too late: the next replay would send the same records.
    """
    kafka = settings.kafka
    admin = KafkaAdmin(kafka.client_properties())
    for topic in (kafka.input_topic, kafka.dead_letter_topic):
        if not _may_write(admin, topic):
            found = f"Kafka: this user may not write to topic {topic}, so nothing was replayed"
            raise NotAllowed(found, f"allow this user Write on topic {topic}")


def _may_write(admin: KafkaAdmin, topic: str) -> bool:
    try:
        allowed = admin.operations(topic)
    except NotAllowed:
        return False
    except BusUnavailable:
        return True  # that it is away or does not exist is said by what reads or writes it
    return allowed is None or "WRITE" in allowed


class _Sender:
    """Sends records back to the input topic and marks to the dead-letter topic, in batches."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        self._input_topic, self._dead_letter_topic = kafka.input_topic, kafka.dead_letter_topic
        self._producer = ConfirmedProducer(
            # What came as one record goes back as one, however large it was allowed to be.
            {"message.max.bytes": 100_000_000} | kafka.sender_properties()
        )
        self._waiting: list[DeadLetterRecord] = []
        self._refused = 0
        self._partitions = self._producer.partitions(self._input_topic)

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
        dead_letters = [r.dead_letter for r in records]
        # To its own partition, whoever sent it there: the customer's other events are there.
        by_partition: dict[int, list[DeadLetter]] = {}
        for dead_letter in dead_letters:
            partition = dead_letter.partition
            known = partition if partition < self._partitions else BY_KEY
            by_partition.setdefault(known, []).append(dead_letter)
        for partition, group in by_partition.items():
            keys, values = [d.key for d in group], [d.value for d in group]
            self._producer.send(self._input_topic, keys, values, partition)
        refused = {(r.key, r.value) for r in self._too_large(self._producer.settle())}
        taken = [r for r in records if (r.dead_letter.key, r.dead_letter.value) not in refused]
        self._refused += len(records) - len(taken)
        marks = [replay_mark(r.position) for r in taken]
        self._producer.send(self._dead_letter_topic, marks, [None] * len(marks))
        self._producer.settle()

    def _too_large(self, doubtful: list[Oversized]) -> list[Oversized]:
        """Of records that were refused, those that are so alone too."""
        certain = [record for record in doubtful if record.certain]
        for record in doubtful:
            if not record.certain:
                certain += self._producer.send_alone(
                    record.topic, record.key, record.value, record.partition
                )
        return certain


def _verdict(
    record: DeadLetterRecord, input_topic: str, done: set[Position], before: set[Position]
) -> str:
    """What becomes of a chosen dead letter: the name of a field of `ReplayedDeadLetters`."""
    if record.dead_letter.topic != input_topic:
        return "foreign"
    if record.position in before:
        return "already"
    if record.cut:
        return "cut"
    return "repeated" if record.position in done else "replayed"


def _listed(record: DeadLetterRecord) -> ListedDeadLetter:
    dead_letter = record.dead_letter
    stamp, key = dead_letter.timestamp_ms, dead_letter.key
    return ListedDeadLetter(
        topic=dead_letter.topic,
        partition=dead_letter.partition,
        offset=dead_letter.offset,
        time=None if stamp == NO_TIMESTAMP else _iso(stamp),
        failed_at=_iso(record.failed_at_ms),
        reason=dead_letter.reason.value,
        detail=dead_letter.detail,
        key=None if key is None else key.decode(errors="backslashreplace"),
        bytes=record.value_bytes,
        cut=record.cut,
        replayed=False,
    )


def _by_age(dated: _Dated) -> tuple[int, Position]:
    return dated.failed_at_ms, dated.position


def _iso(milliseconds: int) -> str:
    return f"{np.datetime64(milliseconds, 'ms')}Z"
