"""In place of confluent_kafka's Consumer: what librdkafka does, on the simulated brokers.

`background` is its own thread: it sends heartbeats, joins again when the group changes and leaves
when the application has not polled for too long, while the application is busy. Callbacks wait
until the application polls. A commit that is not waited for is sent by that thread as well: with
the member id and generation of that moment, behind a request to join that the coordinator holds
open, and later where the coordinator is out of reach. Its answer, too, waits until the application
polls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_INVALID, TIMESTAMP_CREATE_TIME, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from simulated_group import Group
from simulated_log import COMMITTED, OPEN, Broker, TopicPartition, failure

if TYPE_CHECKING:
    from world import World

COMMIT_SENT_AT_ONCE = 0.7  # how often, before the application goes on
HANDED_OUT_PAUSED = 0.3  # how often
EVICTED_MEANWHILE = 0.2
COMMIT_SECONDS = 10.0  # after which a commit gives up
DEFERRED_SECONDS = 45.0  # so long a commit waits for the coordinator to come back
Callback = Callable[[Any, list[KafkaPartition]], None]


def _epoch(partition: KafkaPartition) -> int:
    epoch: int | None = partition.leader_epoch
    return -1 if epoch is None else epoch


@dataclass(frozen=True)
class SimulatedMessage:
    """In place of confluent_kafka's Message."""

    tp: TopicPartition
    at: int
    content: tuple[bytes | None, bytes | None, int, int] | None
    trouble: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.trouble

    def topic(self) -> str:
        return self.tp[0]

    def partition(self) -> int:
        return self.tp[1]

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return self.content[0] if self.content else None

    def value(self) -> bytes | None:
        return self.content[1] if self.content else None

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_CREATE_TIME, self.content[2] if self.content else 0

    def leader_epoch(self) -> int | None:
        return self.content[3] if self.content else None

    def headers(self) -> None:
        return None


@dataclass
class Commit:
    """One that is on its way, until `answer` says how it ended."""

    offsets: dict[TopicPartition, tuple[int, int, str]]
    sent_at: float
    lost: str | None  # as of World.client_call
    member: tuple[str, int] | None = None  # once it is sent: whose it is
    answer: KafkaError | None = None


class SimulatedConsumer:
    """The methods that the product uses."""

    def __init__(self, world: World, config: dict[str, Any]) -> None:
        self._world, self._broker, self._group = world, world.broker, world.group
        self._call = world.client_call
        self.process = world.scheduler.current
        self._poll_limit = int(config.get("max.poll.interval.ms", 300_000)) / 1000
        self._callbacks: dict[str, Callback] = {}
        self._subscribed = self._closed = self._left = False
        self._member_id, self._generation = "", -1
        self._in_group: set[TopicPartition] = set()  # given by the group
        self._positions: dict[TopicPartition, int] = {}  # the next offset to fetch
        self._paused: set[TopicPartition] = set()
        self._waiting: list[tuple[str, list[TopicPartition]]] = []  # callbacks to come
        self._messages: list[SimulatedMessage] = []  # errors to come
        self._rejoin = False
        self._on_commit = config.get("on_commit", lambda *_: None)
        self._commits: list[Commit] = []  # in the order in which they reach the coordinator
        self._answered: list[Commit] = []  # callbacks to come
        self._polled_at = world.scheduler.now
        self.cut_off_until = 0.0  # from the group's coordinator
        world.clients.append(self)

    @property
    def group(self) -> Group:
        return self._group

    @property
    def broker(self) -> Broker:
        return self._broker

    # What the application calls.

    def subscribe(
        self, topics: list[str], *, on_assign: Callback, on_revoke: Callback, on_lost: Callback
    ) -> None:
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}
        self._subscribed, self._polled_at = True, self._world.scheduler.now

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[SimulatedMessage]:
        self._call("consume")
        clock = self._world.scheduler
        until = clock.now + timeout
        found: list[SimulatedMessage] = []
        while True:
            self._polled_at, self._left = clock.now, False
            self._serve_commits()
            self._serve_callbacks()
            found += self._messages
            self._messages = []
            self._fetch(found, num_messages)
            if len(found) >= num_messages or clock.now >= until:
                return found
            clock.sleep(min(until - clock.now, timeout / 2))

    def poll(self, timeout: float = -1) -> SimulatedMessage | None:
        return next(iter(self.consume(1, timeout)), None)

    def incremental_assign(self, partitions: Sequence[KafkaPartition]) -> None:
        for p in partitions:
            self._positions[p.topic, p.partition] = p.offset

    def incremental_unassign(self, partitions: Sequence[KafkaPartition]) -> None:
        for p in partitions:
            if self._positions.pop((p.topic, p.partition), None) is None:
                raise failure(KafkaError._INVALID_ARG, "not assigned")
            self._paused.discard((p.topic, p.partition))
            # Assigning anew also drops what was fetched already.
            self._messages = [m for m in self._messages if m.tp != (p.topic, p.partition)]

    def seek(self, partition: KafkaPartition) -> None:
        """With a leader epoch librdkafka asks whether the log was cut; logs here never are."""
        if (partition.topic, partition.partition) not in self._positions:
            raise failure(KafkaError._STATE, "not assigned")
        self._positions[partition.topic, partition.partition] = partition.offset

    def pause(self, partitions: Sequence[KafkaPartition]) -> None:
        # What the client had fetched it may hand out all the same. librdkafka is not known to do
        # it in this case; the product promises to hold either way.
        found: list[SimulatedMessage] = []
        if self._world.random.random() < HANDED_OUT_PAUSED:
            self._fetch(found, 1)
        self._messages += found
        self._paused |= {(p.topic, p.partition) for p in partitions}

    def resume(self, partitions: Sequence[KafkaPartition]) -> None:
        self._paused -= {(p.topic, p.partition) for p in partitions}

    def assignment(self) -> list[KafkaPartition]:
        return [KafkaPartition(*tp) for tp in sorted(self._positions)]

    def committed(
        self, partitions: Sequence[KafkaPartition], timeout: float = -1
    ) -> list[KafkaPartition]:
        if self._call("committed") == "before" or self.is_cut_off():
            self._world.scheduler.sleep(timeout)
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        names = [(p.topic, p.partition) for p in partitions]
        until = self._world.scheduler.now + timeout
        while any(self._broker.has_pending_offsets(tp) for tp in names):
            if self._world.scheduler.now >= until:
                raise failure(KafkaError._TIMED_OUT, retriable=True)
            self._world.scheduler.sleep(timeout / 4)
        found = [self._broker.committed.get(tp, (OFFSET_INVALID, -1, "")) for tp in names]
        answer = [
            KafkaPartition(*tp, offset, leader_epoch=epoch, metadata=metadata)
            for tp, (offset, epoch, metadata) in zip(names, found, strict=True)
        ]
        self._call("committed answered")
        return answer

    def get_watermark_offsets(
        self, partition: KafkaPartition, timeout: float = -1, cached: bool = False
    ) -> tuple[int, int]:
        if not cached and self._call("watermark offsets") == "before":
            self._world.scheduler.sleep(timeout)
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        log = self._broker.logs[partition.topic, partition.partition]
        return log.first, log.stable_end

    def commit(self, *, offsets: Sequence[KafkaPartition], asynchronous: bool = True) -> None:
        """Fails as a whole: the group does not know the member, or its generation is over."""
        named = {(p.topic, p.partition): (p.offset, _epoch(p), p.metadata or "") for p in offsets}
        lost = self._call("commit")
        commit = Commit(named, self._world.scheduler.now, lost)
        self._commits.append(commit)
        if not asynchronous:
            self._world.misused("a commit was waited for")
        if self._world.random.random() < COMMIT_SENT_AT_ONCE:
            self.send_commits()
        self._call("commit sent")

    def memberid(self) -> str:
        found = self._member_id
        if self._world.random.random() < EVICTED_MEANWHILE:
            self.background()  # on its own thread: the next call may see another member
        return found

    def consumer_group_metadata(self) -> bytes:
        return f"{self._generation}/{self._member_id}".encode()

    def close(self) -> None:
        self._call("close")
        self._serve_commits()
        if self._in_group:
            self._callbacks["revoke"](self, self._partitions(self._in_group))
        while self._commits:  # it waits for their answers
            self.send_commits()
            if self._commits:
                self._world.scheduler.sleep(0.2)
        self._closed = True
        self._group.leave(self._member_id, self._world.scheduler.now)

    # What its own thread does.

    def background(self) -> None:
        process, now = self.process, self._world.scheduler.now
        alive = process is None or not (process.ended or process.dead)
        if not alive or self._closed or not self._subscribed:
            return
        if process is not None and process.suspended_until > now:
            return
        self.send_commits()
        if self.is_cut_off():
            return
        try:
            self._keep_membership(now)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.REBALANCE_IN_PROGRESS:
                if not self._waiting:
                    self._join(now)
                return
            # The group knows this member no more.
            self._member_id, self._generation = "", -1
            # librdkafka finds out by a heartbeat, or by joining: then nobody is called back.
            if self._in_group and self._world.random.random() < 0.5:
                self._lose()

    def send_commits(self) -> None:
        """Bring the commits that are due to the coordinator, each after the ones before it."""
        while self._commits:
            commit, now = self._commits[0], self._world.scheduler.now
            away = self.is_cut_off() or commit.lost == "before"
            if away and commit.member is None and now < commit.sent_at + DEFERRED_SECONDS:
                if commit.lost != "before":
                    return  # not sent yet: it will be that of the member of then
                if now < commit.sent_at + COMMIT_SECONDS:
                    return
            if away:
                commit.answer = KafkaError(KafkaError._TIMED_OUT)
            else:
                if commit.member is None:
                    commit.member = self._member_id, self._generation
                if self._group.holds_open(commit.member[0]):
                    return  # the broker answers a connection's requests one after the other
                try:
                    self._group.commit(commit.offsets, *commit.member)
                    if commit.lost == "after":
                        commit.answer = KafkaError(KafkaError._TIMED_OUT)
                except KafkaException as error:
                    commit.answer = error.args[0]
            self._answered.append(self._commits.pop(0))

    def _serve_commits(self) -> None:
        while self._answered:
            commit = self._answered.pop(0)
            offsets = [
                KafkaPartition(topic, number, offset, leader_epoch=epoch, metadata=metadata)
                for (topic, number), (offset, epoch, metadata) in commit.offsets.items()
            ]
            self._on_commit(commit.answer, offsets)

    def is_cut_off(self) -> bool:
        return self.cut_off_until > self._world.scheduler.now

    def _keep_membership(self, now: float) -> None:
        if self._left:
            return
        if now - self._polled_at > self._poll_limit:
            self._left = True
            self._group.leave(self._member_id, now)
            self._member_id, self._generation = "", -1
            self._lose()
            trouble = KafkaError(KafkaError._MAX_POLL_EXCEEDED)
            self._messages.append(SimulatedMessage(("", 0), 0, None, trouble))
            return
        if self._member_id:
            self._group.heartbeat(self._member_id, self._generation, now)
        # What it gave up it lets go only when its commits were answered.
        if not self._waiting and not self._commits and (self._rejoin or not self._member_id):
            self._join(now)
        if self._waiting or not self._member_id:
            return
        answer = self._group.assignment(self._member_id)
        if answer is not None and answer[0] != self._generation:
            self._generation, assigned = answer
            taken, added = self._in_group - assigned, assigned - self._in_group
            if taken:
                self._waiting.append(("revoke", sorted(taken)))
            self._waiting.append(("assign", sorted(added)))

    def _join(self, now: float) -> None:
        self._rejoin = False
        self._member_id = self._group.join(self._member_id, self._in_group, self._generation, now)

    def _lose(self) -> None:
        self._waiting = [("lost", sorted(self._in_group))] if self._in_group else []
        self._rejoin = True

    def _serve_callbacks(self) -> None:
        while self._waiting:
            self._call("rebalance callback")
            if not self._waiting:
                return
            name, partitions = self._waiting[0]
            self._callbacks[name](self, self._partitions(partitions))
            if self._waiting and self._waiting[0] == (name, partitions):
                self._waiting.pop(0)
            if name == "assign":
                self._in_group |= set(partitions)
            else:
                self._in_group -= set(partitions)
                self._rejoin = True

    def _fetch(self, found: list[SimulatedMessage], most: int) -> None:
        for tp in self._world.shuffled(sorted(self._positions)):
            while tp in self._positions and tp not in self._paused and len(found) < most:
                offset, log = self._positions[tp], self._broker.logs[tp]
                if not log.first <= offset <= log.end:
                    trouble = KafkaError(KafkaError._AUTO_OFFSET_RESET)
                    found.append(SimulatedMessage(tp, offset, None, trouble))
                    self._paused.add(tp)
                    break
                if offset == log.end or log.records[offset].state == OPEN:
                    break
                record = log.records[offset]
                self._positions[tp] = offset + 1
                if record.state == COMMITTED:
                    content = (record.key, record.value, record.timestamp_ms, record.epoch)
                    found.append(SimulatedMessage(tp, offset, content))

    @staticmethod
    def _partitions(names: Sequence[TopicPartition] | set[TopicPartition]) -> list[KafkaPartition]:
        return [KafkaPartition(*tp) for tp in sorted(names)]
