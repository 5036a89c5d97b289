"""Propensities and offsets in one Kafka transaction.

The order is: begin, records, offsets, commit. A failure before the commit aborts the transaction,
and the batch is done again. When the commit itself fails, its client can't find out whether it
happened: an abort would be answered as if it had not, and an abort that failed may fail for ever.
Then `ClientLost` is raised. The next client of the same transactional id waits until the
transaction is over, one way or the other, and the group's offsets show what to read next. A member
whose partitions went to another is refused by the group's generation when it sends offsets; one
whose transactional id was taken over is fenced and stops. A broker also fences a producer whose
transaction it has aborted because it was open for too long, as that of a process that was
suspended: that one goes on with a new client.

librdkafka may wait for ever for a group coordinator that restarted, whatever time limit it is given
(librdkafka issues 5456 and 5511). So offsets are sent on a thread of their own. If that does not
come back in time the client is abandoned, `ClientLost` is raised, and the next client of this id
fences it.

A request that was given up on may still reach the broker, where it looks like one of the next
transaction: a late commit would publish half a batch (librdkafka issue 5423: it lacks KIP-890). So
where anything timed out or a connection broke while a transaction was ended, also where the
client's own retry succeeded, that client begins no other one. `ClientLost` is raised instead, and
the producer epoch of the next client fences what is still on its way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import BusUnavailable, ClientLost, Halt, StreamScorerError
from stream_scorer.io.kafka.errors import Fenced, ask, translate_error

log = logging.getLogger(__name__)

# Below transaction.timeout.ms (60 s), after which the broker aborts by itself.
REQUEST_SECONDS = 15.0
COMMIT_SECONDS = 40.0
OVERDUE_SECONDS = REQUEST_SECONDS + 1.0
TIMEOUT_MS = 60_000  # librdkafka's own default of transaction.timeout.ms


def plain_offsets(next_offsets: Mapping[TopicPartition, int]) -> list[KafkaPartition]:
    """Offsets as a transaction commits them, without namespace and leader epochs."""
    return [KafkaPartition(*tp, offset) for tp, offset in next_offsets.items()]


class ConnectionLog:
    """Takes a client's log lines to the log; `broken` counts those of connections that broke.

    A time-out of the transaction coordinator's connection is only logged: the client reports no
    error, asks again, and the call succeeds.
    """

    def __init__(self) -> None:
        self.broken = 0

    def log(self, level: int, message: str, *arguments: object) -> None:
        """As of logging.Logger; the client's arguments are facility, client and text."""
        self.broken += arguments[:1] in (("FAIL",), ("REQTMOUT",))
        logging.getLogger("librdkafka").log(level, message, *arguments)


class Transaction:
    """One transaction at a time of `client`, which has a transactional.id.

    for_commit: gives offsets the form in which they are committed. broken: how often a
    connection of the client broke, or a request timed out. timeout_ms: the client's
    transaction.timeout.ms.
    """

    def __init__(
        self,
        client: Producer,
        group_metadata: Callable[[], bytes],
        for_commit: Callable[[dict[TopicPartition, int]], list[KafkaPartition]] = plain_offsets,
        broken: Callable[[], int] = lambda: 0,
        timeout_ms: int = TIMEOUT_MS,
    ) -> None:
        self._broken, self._timeout_seconds = broken, timeout_ms / 1000
        self._replaced_because = ""  # why the client must be replaced, "" where it need not be
        self._client, self._group_metadata = client, group_metadata
        self._for_commit = for_commit
        self._open = False
        self.stuck = False  # a call never came back, so this client must not be used any more
        # This fences an older producer of the same id, and waits until its transaction is over.
        ask("starting transactions", client.init_transactions, COMMIT_SECONDS)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """A transaction; aborted where what happens in it raises before the commit."""
        if self._replaced_because:
            raise ClientLost(self._replaced_because)
        # Both clocks: the one may stop while the machine is suspended, the other may be set.
        began = time.monotonic(), time.time()
        try:
            with self._begun():
                yield
        except Fenced as error:
            seconds = max(time.monotonic() - began[0], time.time() - began[1])
            if seconds < self._timeout_seconds:
                raise
            raise ClientLost(
                f"a transaction was open for {seconds:.1f} s, so Kafka has aborted it "
                f"(transaction.timeout.ms is {self._timeout_seconds * 1000:.0f})"
            ) from error

    @contextmanager
    def _begun(self) -> Iterator[None]:
        ask("beginning a transaction", self._client.begin_transaction)
        self._open = True
        try:
            yield
        # `close` logs a failure to abort, which would otherwise hide the reason to stop.
        except Halt:
            self.close()
            raise
        except StreamScorerError:
            if self._open:
                self.abort()
            raise

    def commit(self, next_offsets: dict[TopicPartition, int]) -> None:
        """Send the offsets and commit. Raises BusUnavailable, ClientLost or Halt."""
        offsets = self._for_commit(next_offsets)
        send = self._client.send_offsets_to_transaction
        # Of the rebalance that was handled last, never the client's newest: see membership.py.
        metadata = self._group_metadata()
        with self._watched():
            self._in_time(
                lambda: ask("sending offsets", send, offsets, metadata, REQUEST_SECONDS),
                f"Kafka, sending offsets: the client did not answer within {OVERDUE_SECONDS:g} s",
            )
            self._commit()

    def abort(self) -> None:
        """Abort: readers never see what was sent since `begun`. Raises ClientLost or Halt."""
        self._open = False
        try:
            with self._watched():
                ask("aborting a transaction", self._client.abort_transaction, REQUEST_SECONDS)
        # An abort that failed may fail for ever on this client. The next one of its id waits until
        # the transaction is over.
        except BusUnavailable as error:
            raise ClientLost(str(error)) from error

    def close(self) -> None:
        """Abort the transaction that is open, if one is."""
        if self._open:
            try:
                self.abort()
            except StreamScorerError as error:
                log.warning("%s", error)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Notes where a connection broke, or a request timed out, inside this context."""
        poll = self._client.poll  # where the client is lost by now, this raises
        ask("ending a transaction", poll, 0)  # what was reported until now
        before = self._broken()
        yield
        ask("ending a transaction", poll, 0)
        if self._broken() != before and not self._replaced_because:
            self._replaced_because = _request_may_be_late("a connection broke or timed out")

    def _in_time(self, call: Callable[[], object], overdue: str) -> None:
        """Do `call`. Raises what it raises, or ClientLost where it takes too long."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                call()
            except BaseException as error:  # raised again on the caller's thread
                failures.append(error)

        # A daemon, because a call that never comes back would otherwise keep the process alive.
        thread = threading.Thread(target=run, name="transaction", daemon=True)
        thread.start()
        thread.join(OVERDUE_SECONDS)
        if thread.is_alive():
            self._open, self.stuck = False, True
            raise ClientLost(overdue)
        if failures:
            raise failures[0]

    def _commit(self) -> None:
        # From here on an abort would be wrong: the commit may happen even if it fails here.
        self._open = False
        deadline = time.monotonic() + COMMIT_SECONDS
        while True:
            try:
                self._client.commit_transaction(REQUEST_SECONDS)
            except KafkaException as error:
                cause = error.args[0]
                # The client goes on with the same commit; calling again only waits for it again.
                if cause.retriable() and time.monotonic() < deadline:
                    self._replaced_because = _request_may_be_late(cause.str())
                    continue
                failure = translate_error(cause, "committing a transaction")
                raise failure if isinstance(failure, Halt) else ClientLost(str(failure)) from error
            return


def _request_may_be_late(what: str) -> str:
    return (
        f"Kafka, ending a transaction: {what}; a request of it may still be on its way, so the "
        "client is replaced before the next one"
    )
