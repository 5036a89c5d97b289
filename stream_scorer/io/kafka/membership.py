"""Who this member is in its group, as of the last rebalance that was handled.

Lives here: the group metadata that a transaction carries. Must not live here: partitions and
offsets (kafka_consumer.py).

How it works: librdkafka joins, is thrown out and joins again on a thread of its own, while a
micro-batch is on its way. Asked at the commit it would name the newest generation, and the group
would take offsets of partitions that went to another member and came back meanwhile. So the
metadata is taken where a rebalance is handled, between micro-batches: a commit for an older
generation is refused. A new member id tells that the group had forgotten this member; what it held
may have been read by others.
"""

from __future__ import annotations

from confluent_kafka import Consumer

from stream_scorer.errors import BusUnavailable


class Membership:
    """Group metadata that changes only when `renew` is called. Not thread-safe."""

    def __init__(self) -> None:
        self._member_id = ""
        self._metadata: bytes | None = None

    def renew(self, consumer: Consumer) -> bool:
        """Take today's metadata; whether this member had been forgotten since the last time."""
        try:
            member_id, metadata = consumer.memberid() or "", consumer.consumer_group_metadata()
        except RuntimeError:  # there is none: the group is being left
            member_id, metadata = "", b""
        known, self._member_id = self._member_id, member_id
        # Thrown out between the two calls or before: without a member id nothing would be checked.
        valid = member_id and member_id.encode() in metadata
        self._metadata = metadata if valid else None
        return bool(known) and known != member_id

    def metadata(self) -> bytes:
        """For send_offsets_to_transaction. Raises BusUnavailable where the group is changing."""
        if self._metadata is None:
            raise BusUnavailable("this member is not in the group at the moment")
        return self._metadata
