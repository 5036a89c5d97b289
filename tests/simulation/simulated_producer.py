"""In place of confluent_kafka's Producer, idempotent or transactional, on the simulated brokers."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import greenlet
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition
from simulated_consumer import SimulatedMessage
from simulated_log import ABORTED, COMMITTED, OPEN, TopicPartition, failure

if TYPE_CHECKING:
    from world import World


# Topic and partition, key, value, and what is called when it is not confirmed.
Queued = tuple[TopicPartition, bytes | None, bytes | None, Callable[..., None]]
_TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)
UNANSWERED_SECONDS = 50.0  # more than the product waits for the end of a transaction


def _message(tp: TopicPartition, key: bytes | None, value: bytes | None) -> SimulatedMessage:
    return SimulatedMessage(tp, -1, (key, value, 0, -1))


class NeverReturns(BaseException):
    """A call that hangs for ever: its thread is abandoned. hanging: the processes, by their
    greenlets, that are in such a call."""

    hanging: ClassVar[set[int]] = set()


class SimulatedProducer:
    """The methods that the product uses."""

    def __init__(self, world: World, config: dict[str, Any], logger: Any) -> None:
        self._logger = logger
        self._world, self._broker = world, world.broker
        self._call = world.client_call
        self._id: str | None = config.get("transactional.id")
        self._epoch = 0
        self._queue: list[Queued] = []
        self._expired: list[Queued] = []  # failed, and not reported yet
        # Partitions that this client believes to be part of the open transaction.
        self._added: set[TopicPartition] = set()
        self._in_transaction = False
        self._must_abort = False  # a record of the transaction failed
        self._unfinished = ""  # the end of a transaction that timed out; only it can be called
        self._silent_until = 0.0  # nothing that ends a transaction is answered

    def produce_batch(
        self,
        topic: str,
        messages: list[dict[str, Any]],
        partition: int = -1,
        *,
        on_delivery: Callable[..., None],
    ) -> int:
        count = self._broker.partitions[topic]
        for message in messages:
            chosen = zlib.crc32(message["key"] or b"") % count if partition < 0 else partition
            record = ((topic, chosen), message["key"], message["value"], on_delivery)
            self._queue.append(record)
        return len(messages)

    def poll(self, timeout: float = 0) -> int:
        self._call("producer poll")
        self._report_expired()
        return 0

    def list_topics(self, topic: str, timeout: float = -1) -> Any:
        """All topics exist."""
        self._call("list topics")
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None)})

    def flush(self, timeout: float = -1) -> int:
        lost = self._call("flush")
        if lost in ("before", "before and late") and self._queue:
            # No broker answers in time. The client goes on trying, in the second case in vain.
            if lost == "before and late":
                self._expired, self._queue = self._expired + self._queue, []
            self._sleep(timeout)
            return len(self._queue) + len(self._expired)
        self._report_expired()
        queue, self._queue = self._queue, []
        for number, record in enumerate(queue):
            if number == len(queue) // 2:
                self._call("between two records")
            if lost == "all" or (lost == "in part" and number >= len(queue) // 2):
                self._fail(record, _TIMED_OUT)
                continue
            try:
                self._send(*record[:3])
            except KafkaException as error:
                self._fail(record, error.args[0])
        if lost == "after" and queue:  # the first of them was written, and its answer got lost
            self._fail(queue[0], _TIMED_OUT)
        self._call("flush answered")
        return 0

    def _fail(self, record: Queued, error: KafkaError) -> None:
        """The delivery report of a record that was not confirmed. Its transaction can't commit."""
        tp, key, value, on_delivery = record
        self._must_abort = self._in_transaction
        on_delivery(error, _message(tp, key, value))

    def _report_expired(self) -> None:
        expired, self._expired = self._expired, []
        for record in expired:
            self._fail(record, _TIMED_OUT)

    def _sleep(self, seconds: float) -> None:
        self._world.scheduler.sleep(max(seconds, 0.0))

    def init_transactions(self, timeout: float = -1) -> None:
        self._call("init transactions")
        assert self._id is not None
        self._epoch = self._broker.initialise(self._id)
        self._call("init transactions answered")

    def begin_transaction(self) -> None:
        self._call("begin transaction")
        self._in_transaction, self._must_abort, self._added = True, False, set()

    def send_offsets_to_transaction(
        self, offsets: Sequence[KafkaPartition], metadata: bytes, timeout: float = -1
    ) -> None:
        lost = self._call("send offsets")
        self._refuse_where_failed()
        if lost == "stuck":
            NeverReturns.hanging.add(id(greenlet.getcurrent()))
            raise NeverReturns
        if lost == "before" or self._world.is_cut_off():
            self._sleep(timeout)
            raise failure(KafkaError._TIMED_OUT, retriable=True, txn_requires_abort=True)
        assert self._id is not None
        transaction = self._broker.transaction_of(self._id, self._epoch)
        generation, _, member_id = metadata.decode().partition("/")
        self._world.group.check(member_id, int(generation), transactional=True)
        self._broker.begin(transaction, self._world.scheduler.now)
        transaction.offsets |= {
            (p.topic, p.partition): (p.offset, -1, p.metadata or "") for p in offsets
        }
        if lost == "after":
            raise failure(KafkaError._TIMED_OUT, retriable=True, txn_requires_abort=True)
        self._call("send offsets answered")

    def commit_transaction(self, timeout: float = -1) -> None:
        for record in self._queue:  # the client sends what is left before it commits
            self._send(*record[:3])
        self._queue = []
        self._report_expired()
        self._refuse_where_failed()
        self._end("commit transaction", COMMITTED, timeout)

    def abort_transaction(self, timeout: float = -1) -> None:
        if self._unfinished == "commit transaction":
            # Whether it happened the client can't know. It refuses, and says so.
            self._world.misused("a transaction was aborted whose commit was not answered")
            raise failure(KafkaError._CONFLICT, retriable=True)
        if not self._in_transaction:
            self._world.misused("a transaction was aborted where none was open")
            raise failure(KafkaError._STATE)
        self._queue, self._expired = [], []  # what is not on its way yet is not sent any more
        self._end("abort transaction", ABORTED, timeout)
        self._must_abort = False

    def _refuse_where_failed(self) -> None:
        if self._must_abort:
            raise failure(KafkaError._MSG_TIMED_OUT, txn_requires_abort=True)

    def _end(self, name: str, state: str, timeout: float) -> None:
        lost, clock = self._call(name), self._world.scheduler
        assert self._id is not None
        self._unfinished = name
        if lost in ("unanswered", "done and unanswered"):
            self._silent_until = clock.now + UNANSWERED_SECONDS
            if lost == "unanswered":
                late = self._late_end(self._id, self._epoch, state)
                self._world.at(self._silent_until, late)
            else:
                self._broker.end(self._id, self._epoch, state)
        if lost == "before" or clock.now < self._silent_until:
            self._sleep(timeout)
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        if lost == "late":
            # It is still on its way; the next attempt overtakes it.
            self._world.later(self._late_end(self._id, self._epoch, state))
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        if lost == "late and logged":
            # As above, but the client itself asks again, and only its log shows it.
            self._world.later(self._late_end(self._id, self._epoch, state))
            self._logger.log(logging.WARNING, "%s [%s] %s", "REQTMOUT", "producer", name)
        self._broker.end(self._id, self._epoch, state)
        if lost == "after":
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        self._in_transaction, self._unfinished = False, ""
        self._call(f"{name} answered")

    def _late_end(self, transactional_id: str, epoch: int, state: str) -> Callable[[], None]:
        def arrive() -> None:
            # Brokers without KIP-890 can't tell it from the end of a later transaction.
            transaction = self._broker.transactions[transactional_id]
            if transaction.epoch == epoch and transaction.is_open:
                self._broker.end(transactional_id, epoch, state)

        return arrive

    def _send(self, tp: TopicPartition, key: bytes | None, value: bytes | None) -> None:
        now_ms = int(self._world.scheduler.now * 1000)
        if self._id is None:
            self._broker.append(tp, key, value, now_ms)
            return
        transaction = self._broker.transaction_of(self._id, self._epoch)
        if tp not in self._added:
            self._broker.begin(transaction, self._world.scheduler.now)
            self._added.add(tp)
        elif not transaction.is_open:
            raise failure(KafkaError.INVALID_TXN_STATE, txn_requires_abort=True)
        record = self._broker.append(tp, key, value, now_ms, OPEN)
        transaction.records.append((tp, record))
