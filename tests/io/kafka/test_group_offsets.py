"""GroupOffsets: whose committed offsets are taken, and which are committed again."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.errors import BusUnavailable, ClientLost, InputError
from stream_scorer.io.kafka import group_offsets
from stream_scorer.io.kafka.errors import GROUP_IS_REBALANCING
from stream_scorer.io.kafka.group_offsets import GroupOffsets, Owner, metadata_of, owner_in

TP = ("in", 0)
MINE = Owner("mine", "1")


class Group:
    """A consumer client: what the group has committed, and what is committed next.

    A commit is on its way until `answer`.
    """

    def __init__(self) -> None:
        self.offset, self.metadata, self.epoch = 5, "", -1
        self.refuses: KafkaError | None = None
        self.on_its_way: list[list[KafkaPartition]] = []

    def commit(self, *, offsets: Any, asynchronous: bool) -> None:
        assert asynchronous
        self.on_its_way.append(offsets)

    def answer(self, offsets: GroupOffsets) -> None:
        """Give the answer to the oldest commit that is on its way."""
        partitions = self.on_its_way.pop(0)
        if self.refuses is None:
            self._take(partitions)
        offsets.answered(self.refuses, partitions)

    def _take(self, partitions: list[KafkaPartition]) -> None:
        for p in partitions:
            self.offset, self.metadata, self.epoch = p.offset, p.metadata or "", p.leader_epoch


def answers(offset: int = 5, metadata: str = "", epoch: int = -1) -> list[KafkaPartition]:
    return [KafkaPartition(*TP, offset, metadata, epoch)]


@pytest.mark.parametrize(
    "metadata", ["", "of another tool", metadata_of(MINE), metadata_of(Owner("mine"))]
)
def test_offsets_of_this_namespace_or_of_none_are_taken(metadata: str) -> None:
    assert GroupOffsets(MINE).known(answers(5, metadata)) == {TP: 5}


def test_offsets_of_another_namespace_are_refused() -> None:
    with pytest.raises(InputError, match=r"store.namespace: 'mine'.*namespace theirs.*new names"):
        GroupOffsets(MINE).known(answers(5, metadata_of(Owner("theirs", "1"))))


def test_offsets_of_a_namespace_of_this_name_in_another_database_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = answers(5, metadata_of(Owner("mine", "2")))
    assert GroupOffsets(MINE).known(found) == {TP: 5}
    assert "namespace mine in another Redis database" in caplog.text


PARTNER = Owner("next", "2")


def test_offsets_of_the_other_namespace_of_a_roll_out_are_taken_and_noted() -> None:
    offsets = GroupOffsets(MINE, lambda: PARTNER)
    assert offsets.known(answers(5, metadata_of(PARTNER))) == {TP: 5}
    assert offsets.partners == {TP}
    offsets.known(answers(5, metadata_of(MINE)))  # by now committed under this member's own name
    assert offsets.partners == set()


@pytest.mark.parametrize("theirs", [Owner("next", "3"), Owner("next"), Owner("third", "2")])
def test_during_a_roll_out_a_third_namespace_is_refused(theirs: Owner) -> None:
    with pytest.raises(InputError, match=f"reads for namespace {theirs.namespace}"):
        GroupOffsets(MINE, lambda: PARTNER).known(answers(5, metadata_of(theirs)))


def begun(owner: Owner = MINE) -> tuple[Any, GroupOffsets]:
    return Group(), GroupOffsets(owner)


def given_up_with_a_commit_on_its_way() -> tuple[Any, GroupOffsets]:
    """Offset 7 was sent and not answered when the partition was given up at 9."""
    group, offsets = begun()
    offsets.add({TP: 7})
    offsets.send(group)
    offsets.add({TP: 9})
    offsets.send_last(group, [TP])
    return group, offsets


def test_each_commit_names_its_namespace() -> None:
    group, offsets = begun()
    offsets.add({TP: 7})
    offsets.send(group)
    group.answer(offsets)
    assert (group.offset, owner_in(group.metadata)) == (7, MINE)
    assert offsets.committed == {TP: 7}


def test_what_is_added_is_published_before_the_group_has_it() -> None:
    group, offsets = begun()
    offsets.begin({TP: 5})
    offsets.add({TP: 7})
    offsets.send(group)
    assert (offsets.published, offsets.committed) == ({TP: 7}, {TP: 5})


def test_one_commit_is_on_its_way_and_what_is_added_meanwhile_goes_together_with_the_next() -> None:
    group, offsets = begun()
    for offset in (7, 8, 9):
        offsets.add({TP: offset})
        offsets.send(group)
    assert [p.offset for (p,) in group.on_its_way] == [7]
    group.answer(offsets)
    assert (offsets.committed, offsets.waiting()) == ({TP: 7}, [TP])
    offsets.send(group)
    group.answer(offsets)
    assert (group.offset, offsets.committed, offsets.waiting()) == (9, {TP: 9}, [])


def test_an_offset_below_the_committed_one_is_not_committed() -> None:
    _, offsets = begun()
    offsets.begin({TP: 9})
    offsets.add({TP: 7})
    offsets.add_starts({TP: 9})
    offsets.note({TP: 8})
    assert (offsets.waiting(), offsets.committed) == ([], {TP: 9})


@pytest.mark.parametrize("code", sorted(GROUP_IS_REBALANCING))
def test_an_offset_waits_while_the_group_is_changing(code: int) -> None:
    group, offsets = begun()
    offsets.add({TP: 7})
    offsets.send(group)
    group.refuses = KafkaError(code)
    group.answer(offsets)
    offsets.raise_failure()
    assert (offsets.waiting(), offsets.committed) == ([TP], {})
    group.refuses = None
    offsets.send(group)
    group.answer(offsets)
    assert (offsets.waiting(), offsets.committed) == ([], {TP: 7})


def test_a_refused_offset_does_not_replace_the_newer_one_that_waits() -> None:
    group, offsets = begun()
    offsets.add({TP: 7})
    offsets.send(group)
    offsets.add({TP: 9})
    group.refuses = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    group.answer(offsets)
    group.refuses = None
    offsets.send(group)
    group.answer(offsets)
    assert group.offset == 9


def test_what_a_commit_failed_with_is_raised_once_and_its_offset_waits() -> None:
    group, offsets = begun()
    offsets.add({TP: 7})
    offsets.send(group)
    group.refuses = KafkaError(KafkaError._TRANSPORT)
    group.answer(offsets)
    with pytest.raises(BusUnavailable, match="committing offsets"):
        offsets.raise_failure()
    offsets.raise_failure()
    assert offsets.waiting() == [TP]


def test_a_client_that_never_answers_a_commit_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    group, offsets = begun()
    offsets.add({TP: 7})
    offsets.send(group)
    offsets.raise_failure()
    monkeypatch.setattr(group_offsets, "UNANSWERED_SECONDS", -1.0)
    with pytest.raises(ClientLost, match="not answered"):
        offsets.raise_failure()


def test_a_partition_that_is_given_up_is_committed_though_its_commit_is_on_its_way() -> None:
    """Whether that one will be refused is not known yet."""
    group, offsets = given_up_with_a_commit_on_its_way()
    assert [p.offset for (p,) in group.on_its_way] == [7, 9]
    group.answer(offsets)
    assert offsets.committed == {}, "the answer to the last one counts"
    group.answer(offsets)
    assert (group.offset, offsets.committed, offsets.waiting()) == (9, {TP: 9}, [])


def test_a_commit_that_is_answered_after_a_later_one_takes_nothing_back() -> None:
    group, offsets = given_up_with_a_commit_on_its_way()
    group.on_its_way.reverse()
    group.answer(offsets)
    group.answer(offsets)
    assert (offsets.committed, offsets.waiting()) == ({TP: 9}, [])


def test_the_answer_for_a_partition_that_was_given_up_and_came_back_is_not_believed() -> None:
    """Another member may have committed meanwhile, and the answer is of before."""
    group, offsets = begun()
    offsets.add({TP: 7})
    offsets.send(group)
    offsets.forget([TP])
    offsets.begin({TP: 5})
    group.answer(offsets)
    assert (offsets.committed, offsets.published) == ({TP: 5}, {TP: 5})


def test_a_start_whose_commit_was_not_answered_is_not_committed_over_a_transaction() -> None:
    group, offsets = begun()
    offsets.add_starts({TP: 0})
    offsets.send(group)
    group.refuses = KafkaError(KafkaError._TIMED_OUT)
    group.answer(offsets)
    group.refuses, group.offset = None, 7
    offsets.note({TP: 7})  # by a transaction
    offsets.send(group)
    assert not group.on_its_way, "the next owner would publish again what lies between"


def test_a_committed_offset_keeps_the_leader_epoch_that_it_was_committed_with() -> None:
    offsets = GroupOffsets(Owner("mine"))
    assert offsets.known(answers(5, epoch=3)) == {TP: 5}
    assert [p.leader_epoch for p in offsets.for_commit({TP: 5})] == [3]
    assert [p.leader_epoch for p in offsets.for_commit({TP: 6})] == [None]


def test_an_offset_that_waited_is_committed_with_its_own_epoch() -> None:
    """Not with that of a record which was read later: the log would look as if it had been cut."""
    group, offsets = begun()
    offsets.epochs.know(TP, 7, 3)
    offsets.add({TP: 7})
    offsets.send(group)
    group.refuses = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    group.answer(offsets)
    offsets.epochs.know(TP, 9, 4)
    group.refuses = None
    offsets.send(group)
    group.answer(offsets)
    assert (group.offset, group.epoch) == (7, 3)
    offsets.add({TP: 9})
    offsets.send(group)
    group.answer(offsets)
    assert (group.offset, group.epoch) == (9, 4)


def test_epochs_below_the_committed_offset_are_forgotten() -> None:
    offsets = GroupOffsets(Owner("mine"))
    for offset in range(1, 100):
        offsets.epochs.know(TP, offset, 3)
        offsets.note({TP: offset})
    assert len(offsets.epochs._known[TP]) == 1
    offsets.forget([TP])
    assert offsets.epochs._known == {}
