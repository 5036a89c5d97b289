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
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import FRESH_START, BusUnavailable, ClientLost, Halt, InputError
from stream_scorer.io.kafka.errors import GROUP_IS_REBALANCING, ask, translate_error
from stream_scorer.io.kafka.leader_epochs import LeaderEpochs

log = logging.getLogger(__name__)

# Longer than the client itself tries: it always answers at last, unless it is broken.
UNANSWERED_SECONDS = 240.0
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


class _Request(NamedTuple):
    """A commit that is on its way. believed: the offsets whose answer still matters."""

    offsets: dict[TopicPartition, int]
    believed: dict[TopicPartition, int]
    sent_at: float


class GroupOffsets:
    """Committed offsets of the partitions that one member reads, and those still to be committed.

    A commit is sent by `send` and answered while the consumer is polled, by `answered`: the
    coordinator may keep it waiting for as long as the group rebalances, and meanwhile partitions
    are read on. One is on its way at a time, so none can overtake a later one; what is added
    meanwhile goes with the next. Only partitions that are given up have one beside it. Not
    thread-safe.

    owner: `NOBODY` where offsets belong to no namespace. partner: asked for the other namespace
    of a roll-out, where an offset names another one; `NOBODY` for none.
    """

    def __init__(self, owner: Owner, partner: Callable[[], Owner] = lambda: NOBODY) -> None:
        self._owner, self._partner = owner, partner
        self.committed: dict[TopicPartition, int] = {}  # what the group is known to have
        self.published: dict[TopicPartition, int] = {}  # all below these is published
        # Of the partitions that `known` was last given, those that the partner read.
        self.partners: set[TopicPartition] = set()
        self._waiting: dict[TopicPartition, int] = {}
        self._requests: list[_Request] = []  # on their way, oldest first
        self._failure: Halt | BusUnavailable | None = None
        self.epochs = LeaderEpochs()

    def known(self, answers: Iterable[KafkaPartition]) -> dict[TopicPartition, int]:
        """The offsets in the client's answer, of the partitions that have one.

        Raises InputError where they are another namespace's, BusUnavailable or Halt.
        """
        answers = list(answers)
        for answer in answers:
            if answer.error is not None:
                raise translate_error(answer.error, "reading committed offsets")
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

    def begin(self, committed: Mapping[TopicPartition, int]) -> None:
        """The group has these of partitions that this member is about to read."""
        self.committed |= committed
        self.published |= committed

    def add(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """All below these is published: commit them. One below an earlier one is left out."""
        forward = self._forward(next_offsets, self.published)
        self.published |= forward
        self._waiting |= forward

    def add_starts(self, starts: Mapping[TopicPartition, int]) -> None:
        """Commit a group's first offsets, before anything below them or beyond is published."""
        self._waiting |= self._forward(starts, self.committed)

    def note(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """A transaction has committed these."""
        for tp, offset in self._forward(next_offsets, self.committed).items():
            self._confirm(tp, offset)

    def waiting(self) -> list[TopicPartition]:
        """The partitions whose offsets are still to be committed, or on their way."""
        sent = (tp for request in self._requests for tp in request.believed)
        return list(dict.fromkeys([*self._waiting, *sent]))

    def withdraw(self, partitions: Iterable[TopicPartition]) -> None:
        """Do not commit what is still to be committed of these, nor believe an answer."""
        for tp in partitions:
            for known in (self._waiting, *(request.believed for request in self._requests)):
                known.pop(tp, None)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """This member no longer reads these."""
        self.withdraw(partitions)
        for tp in partitions:
            for known in (self.committed, self.published):
                known.pop(tp, None)
        self.epochs.forget(partitions)

    def send(self, consumer: Consumer) -> None:
        """Send what waits, unless a commit is on its way. Raises BusUnavailable or Halt."""
        if not self._requests:
            self._send(consumer, list(self._waiting))

    def send_last(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        """Send what waits, or is on its way, of partitions that are about to be given up.

        The client gives them up only when it has the answer. Raises BusUnavailable or Halt.
        """
        for tp in partitions:
            for request in self._requests:
                # Whether it will be refused is not known, and twice does no harm.
                if tp in request.believed:
                    self._waiting.setdefault(tp, request.believed.pop(tp))
        self._send(consumer, partitions)

    def _send(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        # What was committed meanwhile, by a transaction or by an attempt whose answer was lost,
        # must not be taken back.
        self._waiting = self._forward(self._waiting, self.committed)
        due = {tp: self._waiting[tp] for tp in partitions if tp in self._waiting}
        if due:
            commit = partial(consumer.commit, offsets=self.for_commit(due), asynchronous=True)
            ask("committing offsets", commit)
            for tp in due:
                del self._waiting[tp]
            self._requests.append(_Request(due, dict(due), time.monotonic()))

    def answered(self, error: KafkaError | None, answers: Iterable[KafkaPartition]) -> None:
        """For the client's `on_commit`, which it calls for each commit that was sent."""
        answers = list(answers)
        offsets = {_name(a): a.offset for a in answers}
        # One that timed out may be answered after the one that was sent after it.
        request = next((r for r in self._requests if not answers or r.offsets == offsets), None)
        if request is None:
            log.debug("a commit was answered that was not sent: %s", offsets)
            return
        self._requests.remove(request)
        errors = {_name(a): a.error for a in answers}
        refused = []
        for tp, offset in request.offsets.items():
            trouble = errors.get(tp) or error
            if trouble is not None:
                refused.append(trouble)
            if tp not in request.believed:
                continue
            if trouble is None:
                self._confirm(tp, max(offset, self.committed.get(tp, -1)))
            else:
                self._waiting.setdefault(tp, offset)  # what was added since is newer
        if refused:
            self._note_failure(refused[0])

    def raise_failure(self) -> None:
        """Raise, once, what a commit failed with. Raises BusUnavailable, ClientLost or Halt."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._requests and time.monotonic() > self._requests[0].sent_at + UNANSWERED_SECONDS:
            # Another commit beside it might be overtaken by it, and the offsets go back.
            raise ClientLost(
                f"Kafka, committing offsets: not answered within {UNANSWERED_SECONDS:g} s"
            )

    def for_commit(self, next_offsets: Mapping[TopicPartition, int]) -> list[KafkaPartition]:
        """These offsets for a commit, with the namespace and what is known of leader epochs."""
        metadata = metadata_of(self._owner)
        return [
            KafkaPartition(*tp, offset, metadata=metadata, leader_epoch=self.epochs.at(tp, offset))
            for tp, offset in next_offsets.items()
        ]

    def _note_failure(self, trouble: KafkaError) -> None:
        if trouble.code() in GROUP_IS_REBALANCING:
            log.info("the group is rebalancing, and did not take offsets: %s", trouble.str())
        else:
            self._failure = translate_error(trouble, "committing offsets")

    def _confirm(self, tp: TopicPartition, offset: int) -> None:
        self.committed[tp] = offset
        self.published[tp] = max(offset, self.published.get(tp, -1))
        self.epochs.drop_below(tp, offset)

    @staticmethod
    def _forward(
        next_offsets: Mapping[TopicPartition, int], known: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        # Never back: what lies between is published, and the next owner would publish it again.
        return {tp: o for tp, o in next_offsets.items() if o > known.get(tp, -1)}


def _name(partition: KafkaPartition) -> TopicPartition:
    return partition.topic, partition.partition
