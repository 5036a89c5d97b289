"""A group's committed offsets, and the namespace that they belong to.

An offset says up to where the records of one namespace were brought and published. So each commit
names its namespace in the offset's metadata, and a member that finds another one there is refused:
with members of two namespaces in one group each namespace would get a part of the events. The same
name may be used in two databases of Redis, so a namespace's identity, which the store draws once,
stands behind it. Offsets without a name or without an identity, as earlier versions and other tools
commit them, are taken as they are.

While a roll-out moves members to a new namespace, two namespaces share the group on purpose (the
store names the `partner`). Each partition has one reader at a time, and its committed offset says
up to where either has published, so nothing is left out or repeated; and whoever gets a partition
brings its own namespace's records up to that offset first. The new reader commits the offset that
it finds anew, under its own name, so that the metadata always say who reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import FRESH_START, BusUnavailable, InputError
from stream_scorer.io.kafka.errors import GROUP_IS_REBALANCING, ask, translate_error
from stream_scorer.io.kafka.leader_epochs import LeaderEpochs

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0  # one question to a broker; well below max.poll.interval.ms
_MARK = "stream-scorer namespace "


class Owner(NamedTuple):
    """Whose an offset is: a namespace, "" for nobody's, and its identity, "" where unknown."""

    namespace: str = ""
    identity: str = ""

    def agrees(self, other: Owner) -> bool:
        """Whether both may be the same one."""
        if not self.namespace or not other.namespace:
            return True
        unknown = not self.identity or not other.identity
        return self.namespace == other.namespace and (unknown or self.identity == other.identity)


NOBODY = Owner()


def metadata_of(owner: Owner) -> str:
    """What a committed offset of `owner` has as its metadata."""
    return f"{_MARK}{' '.join(owner).rstrip()}" if owner.namespace else ""


def owner_in(metadata: str | None) -> Owner:
    """Whom an offset's metadata names."""
    text = metadata or ""
    namespace, _, identity = text[len(_MARK) :].partition(" ")
    return Owner(namespace, identity) if text.startswith(_MARK) else NOBODY


def other_owner(mine: Owner, theirs: Owner) -> InputError:
    """What to raise where the group's offsets belong to `theirs`."""
    if mine.namespace == theirs.namespace:
        return InputError(
            "store.namespace", mine.namespace,
            "the consumer group reads for the namespace of this name in another Redis database, "
            "and each of the two would get a part of the events; stop the group's other members "
            f"first, or correct redis.url, or {FRESH_START}",
        )  # fmt: skip
    return InputError(
        "store.namespace", mine.namespace,
        f"the consumer group reads for namespace {theirs.namespace}, and each of two namespaces "
        f"would get a part of the events; stop the members of {theirs.namespace} first, or set "
        f"store.namespace to {theirs.namespace}, or {FRESH_START}",
    )  # fmt: skip


class GroupOffsets:
    """Committed offsets of the partitions that one member reads, and those still to be committed.

    owner: `NOBODY` where offsets belong to no namespace. partner: asked for the other namespace
    of a roll-out, where an offset names another one; `NOBODY` for none.
    """

    def __init__(self, owner: Owner, partner: Callable[[], Owner] = lambda: NOBODY) -> None:
        self._owner, self._partner = owner, partner
        self.committed: dict[TopicPartition, int] = {}  # all below them is published
        # Of the partitions that `ask` was last asked for, those that the partner read.
        self.partners: set[TopicPartition] = set()
        self._waiting: dict[TopicPartition, int] = {}
        self.epochs = LeaderEpochs()

    def ask(
        self, consumer: Consumer, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """The committed offsets of those partitions that have one.

        Raises InputError where they are another namespace's, BusUnavailable or Halt.
        """
        doing = "reading committed offsets"
        asked = [KafkaPartition(*tp) for tp in partitions]
        answers = ask(doing, consumer.committed, asked, REQUEST_SECONDS)
        for answer in answers:
            if answer.error is not None:
                raise translate_error(answer.error, doing)
        found = [a for a in answers if a.offset >= 0]
        self.partners = set()
        for answer in found:
            self._check(answer)
            self.epochs.know((answer.topic, answer.partition), answer.offset, answer.leader_epoch)
        return {(a.topic, a.partition): a.offset for a in found}

    def _check(self, answer: KafkaPartition) -> None:
        theirs = owner_in(answer.metadata)
        if self._owner.agrees(theirs):
            return
        if self._owner.namespace != theirs.namespace:
            if theirs != self._partner():
                raise other_owner(self._owner, theirs)
            self.partners.add((answer.topic, answer.partition))
            return
        # No refusal: a transaction of before the store was emptied may have ended just now.
        log.warning(
            "%s[%d]: its offset was committed for namespace %s in another Redis database, or in "
            "this one before it was emptied; if the group has members that use another, stop them",
            answer.topic, answer.partition, theirs.namespace,
        )  # fmt: skip

    def add(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Commit these with the next `commit`; one below the committed offset is left out."""
        self._waiting |= self._forward(next_offsets)

    def note(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """A transaction has committed these."""
        for tp, offset in self._forward(next_offsets).items():
            self._committed(tp, offset)

    def waiting(self) -> list[TopicPartition]:
        """The partitions whose offsets are still to be committed."""
        return list(self._waiting)

    def withdraw(self, partitions: Iterable[TopicPartition]) -> None:
        """Do not commit what is still to be committed of these."""
        for tp in partitions:
            self._waiting.pop(tp, None)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """This member no longer reads these."""
        for tp in partitions:
            for known in (self._waiting, self.committed):
                known.pop(tp, None)
        self.epochs.forget(partitions)

    def commit(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        """Commit what waits of these, and wait for the answer. Raises BusUnavailable or Halt.

        Where the group is changing they go on waiting.
        """
        # What was committed meanwhile, by a transaction or by an attempt whose answer was lost,
        # must not be taken back.
        self._waiting = self._forward(self._waiting)
        offsets = self.for_commit(
            {tp: self._waiting[tp] for tp in partitions if tp in self._waiting}
        )
        if not offsets:
            return
        try:
            answers = consumer.commit(offsets=offsets, asynchronous=False)
            errors = [a.error for a in answers if a.error is not None]
            done = [(a.topic, a.partition) for a in answers if a.error is None]
        except KafkaException as error:
            errors, done = [error.args[0]], []
        for tp in done:
            self._committed(tp, self._waiting.pop(tp))
        for trouble in errors:
            if trouble.code() in GROUP_IS_REBALANCING:
                log.info(
                    "the group is rebalancing, so offsets are committed later: %s", trouble.str()
                )
            else:
                raise translate_error(trouble, "committing offsets")

    def commit_starts(
        self, consumer: Consumer, starts: Mapping[TopicPartition, int], *, is_member: bool
    ) -> None:
        """Commit a group's first offsets, where the client `is_member`.

        Raises BusUnavailable, also where they are not committed yet, or Halt.
        """
        self.add(starts)
        if is_member:
            self.commit(consumer, list(starts))
        if not set(self._waiting).isdisjoint(starts):
            raise BusUnavailable(
                "the consumer group is rebalancing: its first offsets are not committed yet"
            )

    def for_commit(self, next_offsets: Mapping[TopicPartition, int]) -> list[KafkaPartition]:
        """These offsets for a commit, with the namespace and what is known of leader epochs."""
        metadata = metadata_of(self._owner)
        return [
            KafkaPartition(*tp, offset, metadata=metadata, leader_epoch=self.epochs.at(tp, offset))
            for tp, offset in next_offsets.items()
        ]

    def _committed(self, tp: TopicPartition, offset: int) -> None:
        self.committed[tp] = offset
        self.epochs.drop_below(tp, offset)

    def _forward(self, next_offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        # Never back: what lies between is published, and the next owner would publish it again.
        return {tp: o for tp, o in next_offsets.items() if o > self.committed.get(tp, -1)}
