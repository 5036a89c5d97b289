"""Topics, transactions and committed offsets of the simulated brokers.

A model of what the consumer can see of Apache Kafka: an offset for each record and each
transaction's marker, the last stable offset, fencing by producer epoch, offsets that become
committed with their transaction, and retention.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException

TopicPartition = tuple[str, int]
COMMITTED, OPEN, ABORTED, MARKER = "committed", "open", "aborted", "marker"
TRANSACTION_TIMEOUT_SECONDS = 60.0


def failure(code: int, text: str = "", **flags: bool) -> KafkaException:
    """What a client raises."""
    return KafkaException(KafkaError(code, text or None, **flags))


CommittedOffset = tuple[int, int, str]  # offset, leader epoch, metadata


@dataclass
class Record:
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    state: str
    epoch: int  # of the partition's leader


@dataclass
class Log:
    """One partition. The offset of a record is its position in `records`."""

    records: list[Record] = field(default_factory=list)
    first: int = 0
    epoch: int = 0  # of its leader, which stays the same

    @property
    def end(self) -> int:
        return len(self.records)

    @property
    def stable_end(self) -> int:
        """The offset below which every transaction is over."""
        states = (r.state for r in self.records)
        return next((i for i, state in enumerate(states) if state == OPEN), self.end)


@dataclass
class Transaction:
    """What the coordinator knows of one transactional id."""

    epoch: int = 0
    is_open: bool = False
    began_at: float = 0.0
    last_end: str = ""  # COMMITTED or ABORTED
    records: list[tuple[TopicPartition, Record]] = field(default_factory=list)
    offsets: dict[TopicPartition, CommittedOffset] = field(default_factory=dict)


class Broker:
    """All partitions of all topics, and the committed offsets of the one group."""

    def __init__(self, partitions: dict[str, int]) -> None:
        self.partitions = partitions
        self.logs = {(t, p): Log() for t, count in partitions.items() for p in range(count)}
        self.committed: dict[TopicPartition, CommittedOffset] = {}
        self.transactions: dict[str, Transaction] = {}

    def append(
        self, tp: TopicPartition, key: bytes | None, value: bytes | None, at_ms: int,
        state: str = COMMITTED,
    ) -> Record:  # fmt: skip
        log = self.logs[tp]
        record = Record(key, value, at_ms, state, log.epoch)
        log.records.append(record)
        return record

    def initialise(self, transactional_id: str) -> int:
        """A new producer of this id: its epoch. An older one is fenced, what it began is undone."""
        transaction = self.transactions.setdefault(transactional_id, Transaction())
        if transaction.is_open:
            self._finish(transaction, ABORTED)
        transaction.epoch += 1
        return transaction.epoch

    def transaction_of(self, transactional_id: str, epoch: int) -> Transaction:
        transaction = self.transactions[transactional_id]
        if transaction.epoch != epoch:
            raise failure(KafkaError._FENCED, "a newer producer took over", fatal=True)
        return transaction

    def begin(self, transaction: Transaction, now: float) -> None:
        """A transaction begins with the first thing that is added to it."""
        if not transaction.is_open:
            transaction.is_open, transaction.began_at, transaction.last_end = True, now, ""

    def end(self, transactional_id: str, epoch: int, state: str) -> None:
        transaction = self.transaction_of(transactional_id, epoch)
        if transaction.is_open:
            self._finish(transaction, state)
        elif transaction.last_end and transaction.last_end != state:
            raise failure(KafkaError.INVALID_TXN_STATE, "the transaction is over", fatal=True)

    def expire_transactions(self, now: float) -> None:
        for transaction in self.transactions.values():
            over = transaction.began_at + TRANSACTION_TIMEOUT_SECONDS
            if transaction.is_open and now > over:
                self._finish(transaction, ABORTED)
                transaction.epoch += 1

    def has_pending_offsets(self, tp: TopicPartition) -> bool:
        return any(t.is_open and tp in t.offsets for t in self.transactions.values())

    def _finish(self, transaction: Transaction, state: str) -> None:
        for _, record in transaction.records:
            record.state = state
        for tp in sorted({tp for tp, _ in transaction.records}):
            self.append(tp, None, None, 0, MARKER)
        if state == COMMITTED:
            self.committed |= transaction.offsets
        transaction.records, transaction.offsets = [], {}
        transaction.is_open, transaction.last_end = False, state
