"""GroupOffsets: whose committed offsets are taken, and which are committed again."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.errors import InputError
from stream_scorer.io.kafka.group_offsets import GroupOffsets, Owner, metadata_of, owner_in

TP = ("in", 0)
MINE = Owner("mine", "1")


class Group:
    """A consumer client: what the group has committed, and what is committed next."""

    def __init__(self, offset: int = 5, metadata: str = "", epoch: int = -1) -> None:
        self.offset, self.metadata, self.refuses, self.epoch = offset, metadata, False, epoch

    def committed(self, partitions: Any, _timeout: float) -> Any:
        (p,) = partitions
        return [KafkaPartition(p.topic, p.partition, self.offset, self.metadata, self.epoch)]

    def commit(self, *, offsets: Any, asynchronous: bool) -> Any:
        assert not asynchronous
        if self.refuses:
            raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
        (p,) = offsets
        self.offset, self.metadata, self.epoch = p.offset, p.metadata, p.leader_epoch
        return [KafkaPartition(p.topic, p.partition, p.offset)]


@pytest.mark.parametrize(
    "metadata", ["", "of another tool", metadata_of(MINE), metadata_of(Owner("mine"))]
)
def test_offsets_of_this_namespace_or_of_none_are_taken(metadata: str) -> None:
    assert GroupOffsets(MINE).ask(Group(5, metadata), [TP]) == {TP: 5}  # type: ignore[arg-type]


def test_offsets_of_another_namespace_are_refused() -> None:
    with pytest.raises(InputError, match=r"store.namespace: 'mine'.*namespace theirs.*new names"):
        GroupOffsets(MINE).ask(Group(5, metadata_of(Owner("theirs", "1"))), [TP])  # type: ignore[arg-type]


def test_offsets_of_a_namespace_of_this_name_in_another_database_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    group: Any = Group(5, metadata_of(Owner("mine", "2")))
    assert GroupOffsets(MINE).ask(group, [TP]) == {TP: 5}
    assert "namespace mine in another Redis database" in caplog.text


PARTNER = Owner("next", "2")


def test_offsets_of_the_other_namespace_of_a_roll_out_are_taken_and_noted() -> None:
    group: Any = Group(5, metadata_of(PARTNER))
    offsets = GroupOffsets(MINE, lambda: PARTNER)
    assert offsets.ask(group, [TP]) == {TP: 5}
    assert offsets.partners == {TP}
    group.metadata = metadata_of(MINE)  # by now this member has committed it under its own name
    offsets.ask(group, [TP])
    assert offsets.partners == set()


@pytest.mark.parametrize("theirs", [Owner("next", "3"), Owner("next"), Owner("third", "2")])
def test_during_a_roll_out_a_third_namespace_is_refused(theirs: Owner) -> None:
    group: Any = Group(5, metadata_of(theirs))
    with pytest.raises(InputError, match=f"reads for namespace {theirs.namespace}"):
        GroupOffsets(MINE, lambda: PARTNER).ask(group, [TP])


def test_each_commit_names_its_namespace() -> None:
    group, offsets = Group(), GroupOffsets(MINE)
    offsets.add({TP: 7})
    offsets.commit(group, [TP])  # type: ignore[arg-type]
    assert (group.offset, owner_in(group.metadata)) == (7, MINE)
    assert offsets.committed == {TP: 7}


def test_an_offset_below_the_committed_one_is_not_committed() -> None:
    offsets = GroupOffsets(MINE)
    offsets.committed = {TP: 9}
    offsets.add({TP: 7})
    offsets.note({TP: 8})
    assert (offsets.waiting(), offsets.committed) == ([], {TP: 9})


def test_an_offset_waits_while_the_group_is_changing() -> None:
    group, offsets = Group(), GroupOffsets(MINE)
    offsets.add({TP: 7})
    group.refuses = True
    offsets.commit(group, [TP])  # type: ignore[arg-type]
    assert (offsets.waiting(), offsets.committed) == ([TP], {})
    group.refuses = False
    offsets.commit(group, [TP])  # type: ignore[arg-type]
    assert (offsets.waiting(), offsets.committed) == ([], {TP: 7})


def test_a_start_whose_commit_was_not_answered_is_not_committed_over_a_transaction() -> None:
    group, offsets = Group(0), GroupOffsets(MINE)
    offsets.add({TP: 0})
    group.refuses = True
    offsets.commit(group, [TP])  # type: ignore[arg-type]
    group.refuses, group.offset = False, 7
    offsets.note({TP: 7})  # by a transaction
    offsets.commit(group, offsets.waiting())  # type: ignore[arg-type]
    assert group.offset == 7, "the next owner would publish again what lies between"


def test_a_committed_offset_keeps_the_leader_epoch_that_it_was_committed_with() -> None:
    offsets = GroupOffsets(Owner("mine"))
    assert offsets.ask(Group(5, epoch=3), [TP]) == {TP: 5}  # type: ignore[arg-type]
    assert [p.leader_epoch for p in offsets.for_commit({TP: 5})] == [3]
    assert [p.leader_epoch for p in offsets.for_commit({TP: 6})] == [None]


def test_an_offset_that_waited_is_committed_with_its_own_epoch() -> None:
    """Not with that of a record which was read later: the log would look as if it had been cut."""
    group, offsets = Group(), GroupOffsets(Owner("mine"))
    offsets.epochs.know(TP, 7, 3)
    offsets.add({TP: 7})
    group.refuses = True
    offsets.commit(group, [TP])  # type: ignore[arg-type]
    offsets.epochs.know(TP, 9, 4)
    group.refuses = False
    offsets.commit(group, [TP])  # type: ignore[arg-type]
    assert (group.offset, group.epoch) == (7, 3)
    offsets.add({TP: 9})
    offsets.commit(group, [TP])  # type: ignore[arg-type]
    assert (group.offset, group.epoch) == (9, 4)


def test_epochs_below_the_committed_offset_are_forgotten() -> None:
    offsets = GroupOffsets(Owner("mine"))
    for offset in range(1, 100):
        offsets.epochs.know(TP, offset, 3)
        offsets.note({TP: offset})
    assert len(offsets.epochs._known[TP]) == 1
    offsets.forget([TP])
    assert offsets.epochs._known == {}
