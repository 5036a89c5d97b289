"""The coordinator of the one consumer group: members, generations, cooperative rebalances.

A rebalance begins when a member joins, leaves or is missed. Every member then joins again with the
partitions that it has; when all have done so, or the slow ones were dropped, there is a new
generation with a sticky assignment. A partition that moves is first taken from its owner, who joins
once more when it has given it up; only then does it get its new owner.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from confluent_kafka import KafkaError
from simulated_log import Broker, CommittedOffset, TopicPartition, failure

SESSION_SECONDS = 45.0
REBALANCE_SECONDS = 60.0


@dataclass
class Member:
    heartbeat_at: float
    joined: bool = True
    claims: set[TopicPartition] = field(default_factory=set)
    claimed_in: int = -1  # the generation in which it was given its claims
    assigned: set[TopicPartition] = field(default_factory=set)
    generation: int = -1


class Group:
    """The group reads `partitions`; offsets are kept by the broker."""

    def __init__(self, broker: Broker, partitions: list[TopicPartition]) -> None:
        self._broker, self._partitions = broker, partitions
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.rebalancing = False
        self._began_at = 0.0
        self._numbers = itertools.count()

    def join(self, member_id: str, claims: set[TopicPartition], generation: int, now: float) -> str:
        """Its id, a new one for ""; raises UNKNOWN_MEMBER_ID."""
        if not member_id:
            member_id = f"member-{next(self._numbers)}"
            self.members[member_id] = Member(now)
        member = self._member(member_id)
        member.heartbeat_at, member.joined = now, True
        member.claims, member.claimed_in = set(claims), generation
        self._begin_rebalance(now, except_for=member_id)
        self._complete_where_all_joined()
        return member_id

    def heartbeat(self, member_id: str, generation: int, now: float) -> None:
        """Raises UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS."""
        member = self._member(member_id)
        member.heartbeat_at = now
        if self.rebalancing:
            if not member.joined:
                raise failure(KafkaError.REBALANCE_IN_PROGRESS)
        elif member.generation not in (generation, self.generation):
            raise failure(KafkaError.ILLEGAL_GENERATION)

    def holds_open(self, member_id: str) -> bool:
        """Whether this member's request to join is not answered yet: others are waited for."""
        member = self.members.get(member_id)
        return self.rebalancing and member is not None and member.joined

    def assignment(self, member_id: str) -> tuple[int, set[TopicPartition]] | None:
        """Generation and partitions, None while a rebalance goes on."""
        if self.rebalancing:
            return None
        member = self._member(member_id)
        return member.generation, set(member.assigned)

    def leave(self, member_id: str, now: float) -> None:
        if self.members.pop(member_id, None) is not None:
            self._begin_rebalance(now)
            self._complete_where_all_joined()

    def expire(self, now: float) -> None:
        """Drop members that were not heard of, or did not join in time."""
        late = self.rebalancing and now > self._began_at + REBALANCE_SECONDS
        for member_id, member in list(self.members.items()):
            silent = now > member.heartbeat_at + SESSION_SECONDS
            if silent or (late and not member.joined):
                self.leave(member_id, now)

    def commit(
        self, offsets: dict[TopicPartition, CommittedOffset], member_id: str, generation: int
    ) -> None:
        """Raises UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION."""
        self.check(member_id, generation)
        self._broker.committed |= offsets

    def check(self, member_id: str, generation: int, transactional: bool = False) -> None:
        """Whether this member may commit in this generation; raises where it may not."""
        # As a client without a group would. In a transaction Kafka takes that from anybody.
        if not member_id and generation < 0 and (transactional or not self.members):
            return
        if self._member(member_id).generation != generation or generation != self.generation:
            raise failure(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True)

    def _member(self, member_id: str) -> Member:
        if member_id not in self.members:
            raise failure(KafkaError.UNKNOWN_MEMBER_ID, txn_requires_abort=True)
        return self.members[member_id]

    def _begin_rebalance(self, now: float, except_for: str = "") -> None:
        if not self.rebalancing:
            self.rebalancing, self._began_at = True, now
            for member_id, member in self.members.items():
                member.joined = member_id == except_for

    def _complete_where_all_joined(self) -> None:
        if not self.rebalancing or not all(m.joined for m in self.members.values()):
            return
        self.rebalancing = False
        self.generation += 1
        if not self.members:
            return
        owner: dict[TopicPartition, str] = {}
        # Of two that claim a partition, the one that was given it later has it.
        for member_id, member in sorted(self.members.items(), key=lambda kv: kv[1].claimed_in):
            owner |= dict.fromkeys(member.claims, member_id)
        wanted = self._balanced(owner)
        for member_id, member in self.members.items():
            # What another still has is left out until that one has given it up.
            member.assigned = {
                tp for tp, m in wanted.items()
                if m == member_id and owner.get(tp, member_id) == member_id
            }  # fmt: skip
            member.generation = self.generation

    def _balanced(self, owner: dict[TopicPartition, str]) -> dict[TopicPartition, str]:
        """Who should have what: as now where that is balanced."""
        members = sorted(self.members)
        most = -(-len(self._partitions) // len(members))
        counts, wanted = dict.fromkeys(members, 0), {}
        for tp in self._partitions:
            current = owner.get(tp)
            if current is not None and counts[current] < most:
                wanted[tp] = current
                counts[current] += 1
        for tp in self._partitions:
            if tp not in wanted:
                wanted[tp] = min(members, key=lambda m: counts[m])
                counts[wanted[tp]] += 1
        return wanted
