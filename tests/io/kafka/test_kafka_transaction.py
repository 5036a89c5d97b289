"""Transaction and Membership: what each failure means, of clients made to fail as they seldom do.

The errors are librdkafka's own; how a broker brings them about is tested in tests/containers.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream_scorer.errors import BusUnavailable, ClientLost, Halt
from stream_scorer.io.kafka.group_offsets import GroupOffsets, Owner
from stream_scorer.io.kafka.membership import Membership
from stream_scorer.io.kafka.transaction import Transaction

TIMED_OUT = KafkaError(KafkaError._TIMED_OUT, retriable=True)
REFUSED = KafkaError(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True)
UNKNOWN = KafkaError(KafkaError.UNKNOWN, txn_requires_abort=True)
FENCED = KafkaError(KafkaError._FENCED, fatal=True)
OFFSETS_REFUSED = {"send_offsets_to_transaction": REFUSED}


class Failing:
    """A transactional client that raises the given errors, once each, and keeps the calls.

    After a fatal one it raises that from every `poll`, as the client does.
    """

    def __init__(self, **failures: KafkaError) -> None:
        self.failures = failures
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def answer(*_arguments: object) -> None:
            if name != "poll":
                self.asked.append(name)
            if name in self.failures:
                error = self.failures.pop(name)
                if error.fatal():
                    self.failures["poll"] = self.failures["abort_transaction"] = error
                raise KafkaException(error)

        return answer


def commit(client: Any) -> Transaction:
    transaction = Transaction(client, lambda: b"generation 1")
    with transaction.begun():
        transaction.commit({("in", 0): 10})
    return transaction


def test_commit_that_timed_out_is_asked_for_again() -> None:
    client = Failing(commit_transaction=TIMED_OUT)
    commit(client)
    assert client.asked.count("commit_transaction") == 2
    assert "abort_transaction" not in client.asked


def test_client_whose_commit_timed_out_begins_no_other_transaction() -> None:
    """Though the commit came through when it was asked for again: the first request may be late."""
    transaction = commit(client := Failing(commit_transaction=TIMED_OUT))
    with pytest.raises(ClientLost, match="may still be on its way"), transaction.begun():
        pass
    assert client.asked.count("begin_transaction") == 1


@pytest.mark.parametrize("ending", ["commit_transaction", "abort_transaction"])
def test_client_whose_connection_broke_while_it_ended_begins_no_other_transaction(
    ending: str,
) -> None:
    """The client asks again by itself and reports no failure of the call."""
    client = Failing(**({} if ending == "commit_transaction" else OFFSETS_REFUSED))
    transaction = Transaction(
        client,  # type: ignore[arg-type]
        lambda: b"generation 1",
        broken=lambda: client.asked.count(ending),
    )
    with suppress(BusUnavailable), transaction.begun():
        transaction.commit({("in", 0): 10})
    with pytest.raises(ClientLost, match="may still be on its way"), transaction.begun():
        pass


def test_client_without_trouble_goes_on() -> None:
    transaction = commit(client := Failing())
    with transaction.begun():
        transaction.commit({("in", 0): 11})
    assert client.asked.count("commit_transaction") == 2


def test_commit_of_unknown_outcome_is_neither_undone_nor_done_again() -> None:
    client = Failing(commit_transaction=UNKNOWN)
    with pytest.raises(ClientLost, match="committing a transaction"):
        commit(client)
    assert client.asked[-1] == "commit_transaction"


def test_refused_offsets_undo_what_was_sent() -> None:
    client = Failing(send_offsets_to_transaction=REFUSED)
    with pytest.raises(BusUnavailable, match="sending offsets") as raised:
        commit(client)
    assert not isinstance(raised.value, ClientLost)
    assert client.asked[-1] == "abort_transaction"


def test_offsets_are_sent_in_the_form_that_the_source_gives_them() -> None:
    sent: list[tuple[int, str | None, int | None]] = []

    class Sending(Failing):
        def send_offsets_to_transaction(self, offsets: Any, *_rest: object) -> None:
            sent.extend((p.offset, p.metadata, p.leader_epoch) for p in offsets)

    offsets = GroupOffsets(Owner("mine"))
    offsets.epochs.know(("in", 0), 10, 3)
    transaction = Transaction(Sending(), lambda: b"generation 1", offsets.for_commit)  # type: ignore[arg-type]
    with transaction.begun():
        transaction.commit({("in", 0): 10})
    assert sent == [(10, "stream-scorer namespace mine", 3)]


def test_transaction_that_cannot_be_undone_takes_a_new_client() -> None:
    client = Failing(send_offsets_to_transaction=REFUSED, abort_transaction=TIMED_OUT)
    with pytest.raises(ClientLost, match="aborting a transaction"):
        commit(client)


@pytest.mark.parametrize("call", ["send_offsets_to_transaction", "commit_transaction"])
def test_member_that_was_fenced_halts(call: str) -> None:
    client = Failing(**{call: FENCED})
    with pytest.raises(Halt, match="another member took over"):
        commit(client)


def test_client_whose_transaction_was_open_for_too_long_is_replaced_and_no_member_is_blamed() -> (
    None
):
    """Kafka aborts it, and then answers as to a producer of which a newer one exists."""

    def metadata() -> bytes:
        time.sleep(0.002)
        return b"generation 1"

    client: Any = Failing(commit_transaction=FENCED)
    transaction = Transaction(client, metadata, timeout_ms=1)
    with pytest.raises(ClientLost, match="so Kafka has aborted it"), transaction.begun():
        transaction.commit({("in", 0): 10})


class Group:
    """The two answers of a consumer that a membership asks for."""

    def __init__(self, member_id: str | None, metadata: bytes | None) -> None:
        self.member_id, self.metadata = member_id, metadata

    def memberid(self) -> str | None:
        return self.member_id

    def consumer_group_metadata(self) -> bytes:
        if self.metadata is None:
            raise RuntimeError("Consumer group metadata not available")
        return self.metadata


def test_metadata_is_of_the_rebalance_that_was_handled_last() -> None:
    membership, group = Membership(), Group("m1", b"group 4 m1")
    assert not membership.renew(group)  # type: ignore[arg-type]
    group.metadata = b"group 5 m1"
    assert membership.metadata(group) == b"group 4 m1"  # type: ignore[arg-type]
    assert not membership.renew(group)  # type: ignore[arg-type]
    assert membership.metadata(group) == b"group 5 m1"  # type: ignore[arg-type]


def test_metadata_follow_an_epoch_that_moves_without_a_rebalance() -> None:
    """The broker takes the newest epoch only, and no callback says that it moved."""
    membership, group = Membership(by_epoch=True), Group("m1", b"group 4 m1")
    assert not membership.renew(group)  # type: ignore[arg-type]
    group.metadata = b"group 5 m1"
    assert membership.metadata(group) == b"group 5 m1"  # type: ignore[arg-type]


@pytest.mark.parametrize("metadata", [None, b"group -1 "])
@pytest.mark.parametrize("by_epoch", [False, True])
def test_without_a_member_id_nothing_may_be_committed(
    metadata: bytes | None, by_epoch: bool
) -> None:
    membership, group = Membership(by_epoch=by_epoch), Group(None, metadata)
    membership.renew(Group("m1", b"group 4 m1"))  # type: ignore[arg-type]
    assert membership.renew(group)  # type: ignore[arg-type]
    with pytest.raises(BusUnavailable, match="not in its consumer group"):
        membership.metadata(group)  # type: ignore[arg-type]


def test_new_member_id_shows_that_the_group_had_forgotten_the_member() -> None:
    membership = Membership()
    assert not membership.renew(Group("m1", b"group 4 m1"))  # type: ignore[arg-type]
    assert membership.renew(Group("m2", b"group 6 m2"))  # type: ignore[arg-type]
    assert not membership.renew(Group("m2", b"group 7 m2"))  # type: ignore[arg-type]
