"""Who this member is in its group, as of the last rebalance that was handled.

A transaction carries the group's metadata, by which the broker refuses offsets of a member whose
partitions went to another. librdkafka joins, is evicted and joins again on a thread of its own,
while a micro-batch is being worked on. If it were asked at the commit it would name the newest
generation, and the broker would accept offsets of partitions that went to another member and came
back meanwhile. So the metadata is taken where a rebalance is handled, between micro-batches: a
commit for an older generation is refused. A changed member id shows that the group had evicted this
member, and that others may have read its partitions.

With the protocol "consumer" (KIP-848) a member draws its id once and keeps it. Instead of a
generation it has an epoch, which also moves where none of its partitions do, so without a callback;
and a broker takes the newest one only. There the client is asked at the commit. That is safe, since
an evicted client joins again only when its partitions were reported as lost, between
micro-batches: until then it has the epoch of before, which the broker refuses.
"""

from __future__ import annotations

from confluent_kafka import Consumer

from stream_scorer.errors import BusUnavailable


class Membership:
    """Group metadata that changes only when `renew` is called. Not thread-safe.

    by_epoch: the group has the protocol "consumer", and metadata are always the newest.
    """

    def __init__(self, *, by_epoch: bool = False) -> None:
        self._by_epoch = by_epoch
        self._member_id = ""
        self._metadata: bytes | None = None
        self._outside: bytes | None = None  # the metadata before the group has answered

    def begin(self, consumer: Consumer) -> None:
        """The group is about to be asked for partitions."""
        if self._by_epoch:
            self._outside = consumer.consumer_group_metadata()

    def was_taken_in(self, consumer: Consumer) -> bool:
        """Whether the group has answered, where only the epoch shows it: with the protocol
        "consumer" the client calls back where it was given partitions, and only there."""
        if not self._by_epoch:
            return False
        try:
            return bool(consumer.consumer_group_metadata() != self._outside)
        except RuntimeError:  # the group is being left
            return False

    def renew(self, consumer: Consumer) -> bool:
        """Take the current metadata; True where the group evicted this member since last time."""
        try:
            member_id, metadata = consumer.memberid() or "", consumer.consumer_group_metadata()
        except RuntimeError:  # no metadata: the group is being left
            member_id, metadata = "", b""
        known, self._member_id = self._member_id, member_id
        # The member may be evicted between the two calls. Metadata without a member id must not be
        # used: the broker would then accept the offsets unchecked.
        valid = member_id and member_id.encode() in metadata
        self._metadata = metadata if valid else None
        return bool(known) and known != member_id

    def is_current(self, consumer: Consumer) -> bool:
        """Whether the client is still the member that it was at the last rebalance handled."""
        if not self._member_id:  # evicted when it was handled
            return False
        try:
            return (consumer.memberid() or "") == self._member_id
        except RuntimeError:  # the group is being left
            return False

    def metadata(self, consumer: Consumer) -> bytes:
        """For send_offsets_to_transaction. Raises BusUnavailable where the group is changing."""
        if self._by_epoch:
            self.renew(consumer)
        if self._metadata is None:
            raise BusUnavailable("this member is not in its consumer group at the moment")
        return self._metadata
